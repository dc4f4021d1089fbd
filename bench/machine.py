"""On what a benchmark ran: processor, memory, versions.

Owns: reading them. Nothing that names the machine or its owner is taken.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Final

from uservlm.bench.results import Machine

PACKAGES: Final = ("uservlm", "llama-cpp-python", "onnxruntime", "numpy", "torch", "transformers")
DECISIVE: Final = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16",
    "amx_int8", "amx_bf16", "asimddp", "i8mm", "sve",
)  # fmt: skip
"""Instruction sets that decide speed here, as Linux names them."""


def this_machine(threads: int) -> Machine:
    """Describe the machine we run on.

    Args:
        threads: that ours computes with.
    """
    about = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    name = re.search(r"^(?:model name|CPU part)\s*:\s*(.*)$", about, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", about, re.MULTILINE)
    has = set(flags.group(1).split()) if flags else set()
    versions = {package: metadata.version(package) for package in PACKAGES}
    return Machine(
        processor=name.group(1).strip() if name else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        threads=threads,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=f"{platform.system()} {platform.release().partition('-')[0]}",
        instructions=tuple(flag for flag in DECISIVE if flag in has),
        load=os.getloadavg()[0],
        packages={"python": platform.python_version(), **versions},
    )


def commit(root: Path) -> str:
    """Give the commit of a checkout, with a + where files were changed; `unknown` without git."""
    try:
        short = _git(root, "rev-parse", "--short=10", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return short + ("+" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return found.stdout.strip()
