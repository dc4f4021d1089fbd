"""The options by which a command opens a bundle for asking.

Owns: their names, and how they reach `UserVLM.load`. Knows nothing of what is asked.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from uservlm.runtime.engine import UserVLM
from uservlm.runtime.vault import FOLDER_VARIABLE
from uservlm.runtime.vision_choice import VisionChoice


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add them to a command that has BUNDLE and --no-verify of its own."""
    add = parser.add_argument
    add("--users", metavar="DIR", help=f"default: {FOLDER_VARIABLE}, else the system's place")
    add("--attention", default="auto", choices=("auto", "exact", "resident"))
    add("--adapter", metavar="NAME", help="one that the bundle keeps apart; default: none")
    add("--threads", type=int, metavar="N", help="default: as `tune` found, else one a core")
    add("--context", type=int, metavar="N", help="KV cells; default: enough for a long question")
    add(
        "--vision", default="auto", choices=get_args(VisionChoice), help="default: onnx if possible"
    )
    add("--memory-mb", type=int, metavar="N", help="the most the process may take; default: any")


def load(options: argparse.Namespace, users: Path | None) -> UserVLM:
    """Open the bundle that the options name; `users` is where people are kept, None for nowhere."""
    return UserVLM.load(
        options.bundle,
        users=users,
        attention=options.attention,
        adapter=options.adapter,
        threads=options.threads,
        context=options.context,
        memory_mb=options.memory_mb,
        vision=options.vision,
        verify=options.verify,
    )
