"""Freed memory, back to the system: less of it is taken, and none of it holds a person.

Owns: how the C library is asked. Knows nothing of who freed what.
"""

from __future__ import annotations

import ctypes
from typing import Final

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
"""M_MMAP_THRESHOLD and M_ARENA_MAX (malloc.h)."""
_LARGE: Final = 1 << 16


def trim() -> None:
    """Let glibc hand freed memory to the system; other C libraries do so unasked, or not at all.

    The system gives pages out again filled with zeros, so what was in them is gone.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def settle() -> None:
    """Have glibc give back what is freed; for the whole process, best before it has threads.

    Large blocks are taken from the system one by one and given back when freed.

    Left alone it raises that limit with each large block that is freed: contexts that are made anew
    then land in the heap and leave holes (✔ 71 to 91 MB over 900 turns of the pocket, instead of
    70), and what was in a freed block stays there until another takes its place. And all threads
    share one heap: each with its own, they grew by 2.4 % in 600 turns instead of 0.8 (a run each).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_ARENA_MAX, 1)
