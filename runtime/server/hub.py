"""From whoever knows something to whoever watches.

Owns: the list of watchers. Knows nothing of what is told, nor of event loops: a watcher is a
function that must return at once.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, Literal, TypeAlias

EventName: TypeAlias = Literal["state", "turn", "token", "view", "users", "load"]
Watcher: TypeAlias = Callable[[EventName, Any], None]
"""Gets the name of an event and what JSON can hold of it."""


class Hub:
    """Tells everybody who watches, in the order of telling; safe to use from several threads."""

    def __init__(self) -> None:
        self._watchers: tuple[Watcher, ...] = ()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._watchers)

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Tell this one too, until what is given back is called."""
        with self._lock:
            self._watchers += (watcher,)

        def leave() -> None:
            with self._lock:
                self._watchers = tuple(one for one in self._watchers if one is not watcher)

        return leave

    def tell(self, name: EventName, what: Callable[[], Any]) -> None:
        """Tell an event; `what` is asked only if somebody watches."""
        if not self._watchers:
            return
        event = what()
        with self._lock:  # one event behind the other, for all of them
            for watcher in self._watchers:
                watcher(name, event)
