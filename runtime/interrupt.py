"""A flag that native code can read: how a computation in another thread is told to stop.

Owns: two bytes of memory and what they mean. Knows nothing of who computes. llama.cpp asks before
every node of its graph whether to go on, some hundred times a token; a Python function would have
to wait for the interpreter's lock each time, so the question goes to C's own `strlen`: the bytes
are a C string, and an empty one means go on.
"""

from __future__ import annotations

import ctypes


class Stopped(Exception):
    """Raised where a computation was told to stop; whoever told it knows why."""


class Interrupt:
    """Raised from any thread, read by one computation."""

    def __init__(self) -> None:
        """Start lowered."""
        self._bytes = (ctypes.c_char * 2)()
        self.address = ctypes.addressof(self._bytes)
        """Of a C string whose length is 1 while the flag is raised, else 0."""

    @property
    def raised(self) -> bool:
        """Whether the computation should stop."""
        return self._bytes[0] != b"\0"

    def raise_(self) -> None:
        """Ask the computation to stop at its next node."""
        self._bytes[0] = b"\1"

    def lower(self) -> None:
        """Let the next computation run."""
        self._bytes[0] = b"\0"
