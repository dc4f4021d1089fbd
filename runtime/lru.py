"""A bounded mapping that lets go of what was used longest ago.

Owns: order and bound. Knows nothing of what is kept; whoever must clean up after an entry passes
`dropped`. Safe to use from several threads.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import RLock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Kept = TypeVar("Kept")


class Lru(Generic[Key, Kept]):
    """At most `bound` entries; reading one makes it the newest."""

    def __init__(self, bound: int, dropped: Callable[[Kept], None] = lambda _: None) -> None:
        if bound < 1:
            raise ValueError(f"bound {bound}: keep at least one entry")
        self._bound, self._dropped = bound, dropped
        self._kept: OrderedDict[Key, Kept] = OrderedDict()
        self._lock = RLock()

    def get(self, key: Key) -> Kept | None:
        """Find an entry and make it the newest."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Key, value: Kept) -> None:
        """Keep an entry; one of the same key and the oldest ones beyond the bound are dropped."""
        with self._lock:
            gone = [self._kept.pop(key)] if key in self._kept else []
            self._kept[key] = value
            while len(self._kept) > self._bound:
                gone.append(self._kept.popitem(last=False)[1])
        for old in gone:
            if old is not value:
                self._dropped(old)

    def remove(self, matches: Callable[[Key, Kept], bool]) -> int:
        """Drop every entry that matches; gives how many."""
        with self._lock:
            keys = [key for key, value in self._kept.items() if matches(key, value)]
            gone = [self._kept.pop(key) for key in keys]
        for old in gone:
            self._dropped(old)
        return len(gone)

    def keys(self) -> tuple[Key, ...]:
        """Give the keys, oldest first."""
        with self._lock:
            return tuple(self._kept)

    def items(self) -> tuple[tuple[Key, Kept], ...]:
        """Give keys and what is kept, oldest first."""
        with self._lock:
            return tuple(self._kept.items())

    def values(self) -> tuple[Kept, ...]:
        """Give what is kept, oldest first."""
        with self._lock:
            return tuple(self._kept.values())
