"""A profile: who a person is to us, what they agreed to, and until when it holds.

Owns: the consent, its levels and its arithmetic, and the profile's JSON. Knows nothing of files,
keys or models. All times are aware; they are kept in UTC.

    agreed = Consent(now, "said yes to the robot", keeps="embedding", days=30)
    ada = Profile("Ada", agreed, created=now, seen=now)
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Literal, get_args

from uservlm.runtime.errors import RequestError

Keeps = Literal["profile", "embedding", "state"]
"""What may be written, each level including those before it."""
KEEPS: tuple[Keeps, ...] = get_args(Keeps)
YEAR = 365.0
LONGEST = 100 * YEAR
"""Days; who wants more gives None, until forgotten."""
NAME_BYTES = 1024


@dataclass(frozen=True)
class Consent:
    """What a person agreed to, as the caller records it.

    Raises:
        RequestError: a time without a zone, no word on how, an unknown level, or an odd duration.
    """

    given: datetime
    """When; aware, kept in UTC."""
    how: str
    """Free text: "said yes to the robot", "signed form 12"."""
    keeps: Keeps
    """The most that may be written."""
    days: float | None = YEAR
    """From `given` to expiry; None holds until the person is forgotten."""

    def __post_init__(self) -> None:
        """Refuse what cannot be kept to."""
        object.__setattr__(self, "given", _utc(self.given, "consent's time"))
        if not self.how.strip():
            raise RequestError("a consent must say how it was given: fill in `how`")
        if self.keeps not in KEEPS:
            raise RequestError(f"a consent keeps one of {', '.join(KEEPS)}; got {self.keeps!r}")
        if self.days is not None and not 0 < self.days <= LONGEST:
            raise RequestError(
                f"a consent lasts more than 0 and at most {LONGEST:.0f} days, or None until "
                f"forgotten; got {self.days}"
            )

    def covers(self, kind: Keeps) -> bool:
        """Whether this much may be written."""
        return KEEPS.index(kind) <= KEEPS.index(self.keeps)


@dataclass(frozen=True)
class Profile:
    """Tier 3: the person as the store knows them, valid with any bundle.

    Raises:
        RequestError: the name is blank or longer than 1 kB, or a time has no zone.
    """

    name: str
    """As the caller writes it; case and accents count."""
    consent: Consent
    created: datetime
    seen: datetime
    """Last time; aware, kept in UTC."""

    def __post_init__(self) -> None:
        """Refuse what names nobody."""
        check_name(self.name)
        for field in ("created", "seen"):
            object.__setattr__(self, field, _utc(getattr(self, field), f"profile's `{field}`"))

    @property
    def expires(self) -> datetime | None:
        """When the consent runs out; None: never."""
        if self.consent.days is None:
            return None
        return self.consent.given + timedelta(days=self.consent.days)

    def expired(self, now: datetime) -> bool:
        """Whether the consent has run out, to the moment."""
        return self.expires is not None and now >= self.expires


def check_name(name: str) -> None:
    """Make sure that a name can be a person's.

    Raises:
        RequestError: it is blank or longer than 1 kB.
    """
    if not name.strip():
        raise RequestError("a user's name is blank: give one")
    if len(name.encode("utf-8", "surrogatepass")) > NAME_BYTES:
        raise RequestError(f"a user's name is longer than {NAME_BYTES} bytes: {name[:20]!r}…")


def as_record(profile: Profile) -> dict[str, Any]:
    """Give the profile as JSON has it: times as ISO 8601 text, the consent as an object."""

    def plain(fields: list[tuple[str, Any]]) -> dict[str, Any]:
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in fields
        }

    return asdict(profile, dict_factory=plain)


def to_bytes(profile: Profile) -> bytes:
    """Give the profile as the UTF-8 of its JSON."""
    return json.dumps(as_record(profile)).encode()


def from_bytes(data: bytes | bytearray) -> Profile:
    """Read a profile back.

    Raises:
        ValueError: not the JSON of a profile; an unknown or missing field counts.
        RequestError: a field is out of its range.
    """
    try:
        record = json.loads(data)
        consent = dict(record.pop("consent"))
        consent["given"] = datetime.fromisoformat(consent["given"])
        for field in ("created", "seen"):
            record[field] = datetime.fromisoformat(record[field])
        return Profile(consent=Consent(**consent), **record)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a profile: {error}") from error


def _utc(time: datetime, what: str) -> datetime:
    if time.utcoffset() is None:
        raise RequestError(f"a {what} needs a time zone; got {time.isoformat()}")
    return time.astimezone(timezone.utc)
