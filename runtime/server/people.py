"""One person as the API and the page show them.

Owns: the form, when somebody who is kept in memory only came and was last seen, and when pictures
of people whom nobody named began to gather. Knows nothing of tiers: the engine's roster says those.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from threading import Lock
from time import monotonic
from typing import Any

from uservlm.runtime.profiles import Consent
from uservlm.runtime.roster import Entry


@dataclass(frozen=True)
class UserInfo:
    """One person."""

    id: str
    entry: Entry
    since: datetime
    """When they were first kept."""
    seen: datetime
    """When they were last kept or asked about."""
    expires: datetime | None
    """When they are forgotten by themselves; None: when somebody says so."""

    def record(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        profile = self.entry.profile
        return {
            "id": self.id,
            "in_memory": self.entry.digest is not None,
            "resident": self.entry.cell_bytes > 0,
            "bytes": {
                "embedding": self.entry.embedding_bytes,
                "cells": self.entry.cell_bytes,
                "disk": self.entry.disk_bytes,
            },
            "since": _iso(self.since),
            "seen": _iso(self.seen),
            "consent": profile and _consent(profile.consent),
            "expires": _iso(self.expires),
        }


class Times:
    """When people came and were seen, for as long as they are kept."""

    def __init__(self, unseen_s: float) -> None:
        """Know nobody.

        Args:
            unseen_s: how long who agreed to nothing stays after they were last seen.
        """
        self._unseen_s = unseen_s
        self._times: dict[str, _Visit] = {}
        self._gathering: float | None = None
        """`monotonic()` of the first picture since pictures were last let go of."""
        self._lock = Lock()

    def note(self, user: str) -> None:
        """Somebody is there now."""
        with self._lock:
            before = self._times.get(user)
            now = datetime.now(timezone.utc)
            self._times[user] = _Visit(before.since if before else now, now, monotonic())

    def forget(self, user: str) -> None:
        """Know nothing of them."""
        with self._lock:
            self._times.pop(user, None)

    def overdue(self, user: str) -> bool:
        """Whether they were not seen for so long, whatever they agreed to."""
        with self._lock:
            visit = self._times.get(user)
        return visit is not None and monotonic() - visit.moment >= self._unseen_s

    def note_picture(self) -> None:
        """A picture was looked at; nobody may have named whom it shows."""
        with self._lock:
            if self._gathering is None:
                self._gathering = monotonic()

    def begin_gathering_anew(self) -> bool:
        """Give whether pictures gathered for so long that those of strangers are to go now."""
        with self._lock:
            since = self._gathering
            overdue = since is not None and monotonic() - since >= self._unseen_s
            if overdue:
                self._gathering = None
        return overdue

    def describe(self, roster: tuple[Entry, ...], asked: float) -> tuple[UserInfo, ...]:
        """Put times to people.

        Args:
            roster: who is kept; others are forgotten here too, unless they came since.
            asked: `monotonic()` before the roster was read.
        """
        here = {entry.name for entry in roster}
        with self._lock:
            for user, visit in list(self._times.items()):
                if user not in here and visit.moment < asked:
                    del self._times[user]
            now = datetime.now(timezone.utc)
            for user in here - self._times.keys():
                self._times[user] = _Visit(now, now, monotonic())
            times = dict(self._times)
        people = [self._described(entry, times[entry.name]) for entry in roster]
        return tuple(sorted(people, key=lambda one: (one.since, one.id)))

    def _described(self, entry: Entry, visit: _Visit) -> UserInfo:
        profile = entry.profile
        if profile is None:
            expires = visit.seen + timedelta(seconds=self._unseen_s)
            return UserInfo(entry.name, entry, visit.since, visit.seen, expires)
        seen = max(profile.seen, visit.seen) if entry.digest is not None else profile.seen
        return UserInfo(entry.name, entry, profile.created, seen, profile.expires)


@dataclass(frozen=True)
class _Visit:
    since: datetime
    seen: datetime
    moment: float
    """`monotonic()` when they were seen: clocks are set right, and nobody is to go for that."""


def _consent(consent: Consent) -> dict[str, Any]:
    return {
        "how": consent.how,
        "given": consent.given.isoformat(),
        "keeps": consent.keeps,
        "days": consent.days,
    }


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
