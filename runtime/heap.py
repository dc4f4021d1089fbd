"""Freed memory, back to the system: less of it is taken, and none of it holds a person.

Owns: how the C library is asked. Knows nothing of who freed what.
"""

from __future__ import annotations

import ctypes


def trim() -> None:
    """Let glibc hand freed memory to the system; other C libraries do so unasked, or not at all.

    The system gives pages out again filled with zeros, so what was in them is gone.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
