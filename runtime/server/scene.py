"""Who is in view: the last picture the brain was shown, and who it is believed to show.

Owns: what the page shows of a camera, and that it goes after a while and when its person is
forgotten. In memory only. Knows nothing of identification: it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from threading import Lock
from time import monotonic
from typing import Any, Literal, TypeAlias

from uservlm.runtime.identity import Identification
from uservlm.runtime.image import Picture

Belief: TypeAlias = Literal["known", "new", "unsure", "told", "unasked"]
"""As `identify` found, as the caller said, or nobody asked."""


@dataclass(frozen=True)
class View:
    """One look at somebody."""

    version: int
    """Another one for each change."""
    seen: datetime
    kind: Belief
    user: str | None
    """Kept under this id."""
    name: str | None
    """Of whom it is known or told to show."""
    similarity: float | None
    picture: Picture = field(repr=False)

    def record(self) -> dict[str, Any]:
        """Give it as the page reads it, the picture apart."""
        return {
            "version": self.version,
            "seen": self.seen.isoformat(),
            "user": self.user,
            "kind": self.kind,
            "name": self.name,
            "similarity": self.similarity,
        }


class Scene:
    """The latest view; safe to use from several threads."""

    def __init__(self, stays_s: float, changed: Callable[[View | None], None]) -> None:
        """See nobody.

        Args:
            stays_s: how long a picture stays.
            changed: told of every change.
        """
        self._stays_s, self._changed = stays_s, changed
        self._view: View | None = None
        self._version, self._until = 0, 0.0
        self._lock = Lock()

    @property
    def view(self) -> View | None:
        """Who is in view; nobody when the last look is too long ago."""
        with self._lock:
            gone = self._view is not None and monotonic() > self._until
            if gone:
                self._view = None
            view = self._view
        if gone:
            self._changed(None)
        return view

    def show(self, picture: Picture, user: str | None = None, told: bool = False) -> None:
        """Take a picture.

        Args:
            picture: of somebody.
            user: the id they are kept under.
            told: whether the caller said who it is.
        """
        kind: Belief = "told" if told else "unasked"
        self._put(picture, kind, user, user if told else None, None)

    def identified(self, picture: Picture, found: Identification) -> None:
        """Take a picture, with what comparing it gave."""
        self._put(picture, found.kind, found.name, found.name, found.similarity)

    def forget(self, user: str | None = None) -> None:
        """Look away, if it is them or may be; None: whoever it is."""
        with self._lock:
            shown = None if self._view is None else self._view.user or self._view.name
            gone = self._view is not None and (user is None or shown in (user, None))
            if gone:
                self._view = None
        if gone:
            self._changed(None)

    def _put(
        self,
        picture: Picture,
        kind: Belief,
        user: str | None,
        name: str | None,
        similarity: float | None,
    ) -> None:
        with self._lock:
            self._version += 1
            self._until = monotonic() + self._stays_s
            now = datetime.now(timezone.utc)
            view = View(self._version, now, kind, user, name, similarity, picture)
            self._view = view
        self._changed(view)
