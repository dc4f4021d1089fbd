"""One person as the API and the page show them.

Owns: the form, and when somebody who is kept in memory only came and was last seen. Knows nothing
of tiers: the engine's roster says those.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
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

    def record(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        profile = self.entry.profile
        expires = profile.expires if profile else None
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
            "expires": _iso(expires),
        }


class Times:
    """When people came and were seen, for as long as they are in memory."""

    def __init__(self) -> None:
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

    def describe(self, roster: tuple[Entry, ...]) -> tuple[UserInfo, ...]:
        """Put times to people; those who are kept no more are forgotten here too."""
        with self._lock:
            for user in self._times.keys() - {entry.name for entry in roster}:
                del self._times[user]
            times = dict(self._times)
        return tuple(_described(entry, times.get(entry.name)) for entry in roster)


def _described(entry: Entry, times: tuple[datetime, datetime] | None) -> UserInfo:
    since, seen = times or (None, None)
    if entry.profile is not None:
        since = entry.profile.created
        seen = max(entry.profile.seen, seen or entry.profile.seen)
    return UserInfo(entry.name, entry, since, seen)


def _consent(consent: Consent) -> dict[str, Any]:
    return {
        "how": consent.how,
        "given": consent.given.isoformat(),
        "keeps": consent.keeps,
        "days": consent.days,
    }


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
