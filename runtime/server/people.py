"""One person as the API and the page show them.

Owns: the form, and when somebody who is kept in memory only came and was last seen. Knows nothing
of tiers: the engine's roster says those.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from threading import Lock
from typing import Any

from uservlm.runtime.profiles import Consent
from uservlm.runtime.roster import Entry


@dataclass(frozen=True)
class UserInfo:
    """One person."""

    id: str
    entry: Entry
    since: datetime | None
    """When they were first kept."""
    seen: datetime | None
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
    """When people came and were seen, for as long as they are in memory."""

    def __init__(self, unseen_s: float) -> None:
        """Know nobody.

        Args:
            unseen_s: how long who agreed to nothing stays after they were last seen.
        """
        self._stay = timedelta(seconds=unseen_s)
        self._times: dict[str, tuple[datetime, datetime]] = {}
        self._lock = Lock()

    def note(self, user: str) -> None:
        """Somebody is there now."""
        now = datetime.now(timezone.utc)
        with self._lock:
            self._times[user] = self._times.get(user, (now, now))[0], now

    def forget(self, user: str) -> None:
        """Know nothing of them."""
        with self._lock:
            self._times.pop(user, None)

    def overdue(self) -> tuple[str, ...]:
        """Give who was not seen for so long, whatever they agreed to."""
        last = datetime.now(timezone.utc) - self._stay
        with self._lock:
            return tuple(user for user, (_, seen) in self._times.items() if seen <= last)

    def describe(self, roster: tuple[Entry, ...]) -> tuple[UserInfo, ...]:
        """Put times to people; those who are kept no more are forgotten here too."""
        with self._lock:
            for user in self._times.keys() - {entry.name for entry in roster}:
                del self._times[user]
            times = dict(self._times)
        return tuple(self._described(entry, times.get(entry.name)) for entry in roster)

    def _described(self, entry: Entry, times: tuple[datetime, datetime] | None) -> UserInfo:
        since, seen = times or (None, None)
        profile = entry.profile
        if profile is None:
            return UserInfo(entry.name, entry, since, seen, seen and seen + self._stay)
        seen = max(profile.seen, seen or profile.seen)
        return UserInfo(entry.name, entry, profile.created, seen, profile.expires)


def _consent(consent: Consent) -> dict[str, Any]:
    return {
        "how": consent.how,
        "given": consent.given.isoformat(),
        "keeps": consent.keeps,
        "days": consent.days,
    }


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
