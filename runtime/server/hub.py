"""From whoever knows something to whoever watches.

Owns: the list of watchers. Knows nothing of what is told, nor of event loops: a watcher is a
function that must return at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from threading import Lock
from typing import Any, Literal, TypeAlias, get_args

EventName: TypeAlias = Literal["turn", "turns", "token", "view", "users", "load"]
"""`turn` is one that changed, `turns` are all of them."""
Watcher: TypeAlias = Callable[[EventName, Any], None]
"""Gets the name of an event and what JSON can hold of it."""


class Hub:
    """Tells everybody who watches, in the order of telling; safe to use from several threads."""

    def __init__(self) -> None:
        self._watchers: tuple[tuple[Watcher, Collection[EventName]], ...] = ()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._watchers)

    def watch(
        self, watcher: Watcher, names: Collection[EventName] = get_args(EventName)
    ) -> Callable[[], None]:
        """Tell this one too what has one of these names, until what is given back is called."""
        entry = (watcher, names)
        with self._lock:
            self._watchers += (entry,)

        def leave() -> None:
            with self._lock:
                self._watchers = tuple(one for one in self._watchers if one is not entry)

        return leave

    def watched(self, name: EventName) -> bool:
        """Whether anybody wants to hear of this."""
        return any(name in names for _, names in self._watchers)

    def tell(self, name: EventName, what: Callable[[], Any]) -> None:
        """Tell an event.

        Args:
            name: of it.
            what: gives it; asked only if somebody watches, and right before it is told, so that
                the last word is the latest. Must be quick, and tell nothing itself.
        """
        with self._lock:
            if self.watched(name):
                event = what()
                for watcher, names in self._watchers:
                    if name in names:
                        watcher(name, event)
