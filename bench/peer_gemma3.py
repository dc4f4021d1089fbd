"""Gemma 3 4B in llama.cpp as a peer: its files are made if they are missing, and kept.

Owns: where they lie, and whether this machine can hold the model. `gemma3_model.py` writes them,
`side_gemma3.py` computes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from uservlm.bench.peer_environment import PeerError, Progress
from uservlm.bench.side import Side
from uservlm.runtime.verified import cache_folder

NAME: Final = "gemma3-llama.cpp"
WORDS: Final = (
    "Gemma 3 4B (4.30 G random weights), Q4_0 with a Q6_K head, and its own vision in float16, "
    "which takes pictures at 896 px and makes 256 tokens of them; llama.cpp's multimodal library "
    "as it comes"
)
MODULE: Final = "uservlm.bench.side_gemma3"
NEEDS: Final = 4.5e9
"""Bytes of memory that cannot be given back: repacked text, vision, what is computed."""
_MEMORY: Final = Path("/proc/meminfo")


def open_side(threads: int, progress: Progress) -> Side:
    """Start llama.cpp with Gemma 3 4B; random weights in its real shape.

    Args:
        threads: for text and vision.
        progress: told what is being done.

    Raises:
        PeerError: neither the disk nor the memory has room for it.
        SideError: llama.cpp could not load it.
    """
    from uservlm.bench.gemma3_model import make

    if (free := available_memory()) < NEEDS:
        raise PeerError(f"{NAME}: {NEEDS / 1e9:.1f} GB of memory wanted, {free / 1e9:.1f} left")
    return Side(MODULE, str(make(folder(), say=progress)), str(threads))


def folder() -> Path:
    """Give the place of the files."""
    return cache_folder() / "peers" / "gemma3-4b"


def available_memory() -> float:
    """Bytes that a new process can have without swapping (proc(5), MemAvailable)."""
    lines = _MEMORY.read_text(encoding="ascii").splitlines()
    found = next(line for line in lines if line.startswith("MemAvailable:"))
    return float(found.split()[1]) * 1024
