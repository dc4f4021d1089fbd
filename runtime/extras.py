"""How what an installation lacks, or has damaged, is had: by pip, or from a runtime's archive.

Owns: these words, and the sign by which a runtime of toolchain/build.py is known. Knows nothing of
what is left out.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

CHECK: Final = Path("bin", "uservlm-check")
"""Lies in every self-contained runtime, and nowhere else."""


def way_to(extra: str) -> str:
    """Say how to get an extra of ours; in a runtime there is no pip, and it was left out for size.

    Args:
        extra: as in setup.py, such as "bench".
    """
    if _self_contained():
        return f"this runtime leaves it out: use a PC with uservlm[{extra}] installed"
    return f"pip install 'uservlm[{extra}]'"


def again(project: str) -> str:
    """Say how to get a package that is damaged whole again.

    Args:
        project: as pip knows it.
    """
    if _self_contained():
        return f"{Path(sys.prefix) / CHECK} says what is damaged; unpack the runtime again"
    return (
        f"install it again (pip install --force-reinstall {project}; in a checkout rm -r .venv, "
        "then make bootstrap)"
    )


def _self_contained() -> bool:
    return (Path(sys.prefix) / CHECK).is_file()
