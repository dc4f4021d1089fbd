"""How what an installation lacks is had: by pip, or, in a self-contained runtime, not at all.

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
    if (Path(sys.prefix) / CHECK).is_file():
        return f"this runtime leaves it out: use a PC with uservlm[{extra}] installed"
    return f"pip install 'uservlm[{extra}]'"
