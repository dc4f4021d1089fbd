"""`uservlm audit`: whether who is in view changes answers only where it should.

Owns: the command's options. What it does is `uservlm.bench.audit`'s, which a robot's runtime leaves
out; it is imported when the command runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from uservlm.runtime.errors import RequestError
from uservlm.runtime.extras import way_to
from uservlm.runtime.vision_choice import VisionChoice

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

PEOPLE: Final = 80
"""Drawn people by default."""


def add_parser(commands: Commands) -> None:
    """Add `audit` to a command line; it sets `run`, which gives the exit code."""
    parser = commands.add_parser(
        "audit", help="is it fair, and still personal?", description=audit.__doc__
    )
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="folder made by converters/export.py")
    add("--adapter", metavar="NAME", help="one that the bundle keeps apart; default: none")
    add("--attention", default="auto", choices=("auto", "exact", "resident"))
    add(
        "--vision", default="auto", choices=get_args(VisionChoice), help="default: onnx if possible"
    )
    add("--people", type=int, default=PEOPLE, help="drawn people; default: %(default)s")
    add("--seed", type=int, metavar="N", help="of these people; default: the audit's own")
    add("--out", type=Path, metavar="DIR", help="default: audit-NAME-ADAPTER here")
    add("--pictures", type=Path, metavar="DIR", help="own pictures, besides the drawn people")
    add("--attributes", type=Path, metavar="CSV", help="who and what is in them")
    add("--keep-pictures", action="store_true", help="they may stand in the page: with consent")
    add("--probes", type=Path, metavar="FILE", help="own questions, in the form of probes.toml")
    add("--threads", type=int, metavar="N", help="default: as `tune` found, else one a core")
    add("--json", action="store_true", help="print the verdict as one line of JSON")
    add("--no-record", dest="record", action="store_false", help="leave the manifest as it is")
    add("--no-verify", dest="verify", action="store_false", help="skip the SHA-256 of the files")
    parser.set_defaults(run=audit)


def audit(options: argparse.Namespace) -> int:
    """Audit a bundle, or one adapter of it, and record the verdict; 0 passed, 1 failed."""
    try:
        from uservlm.bench.audit.command import run
    except ModuleNotFoundError as error:
        raise RequestError(f"{error}: {way_to('bench')}") from error
    return run(options)
