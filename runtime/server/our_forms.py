"""What requests and responses of our own API look like: people, turns, ears and health.

Owns: their fields. Knows nothing of routes or engines, nor of OpenAI's API (`forms.py`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from uservlm.runtime.profiles import LONGEST, YEAR, Keeps
from uservlm.runtime.server.forms import LIMITS, DataUrl, OurForm, UserId


class ConsentForm(OurForm):
    """What somebody agreed to, now."""

    how: Annotated[
        str, StringConstraints(min_length=1, max_length=LIMITS.how_characters, pattern=r"\S")
    ]
    """How they said so, in words: it is recorded."""
    keeps: Keeps = "embedding"
    days: Annotated[float, Field(gt=0, le=LONGEST)] | None = YEAR
    """None: until they are forgotten."""


class EncodeRequest(OurForm):
    """Look at somebody and keep them, in memory unless they agreed to more."""

    image: DataUrl
    user: UserId | None = None
    """None: a guest's id is made."""
    consent: ConsentForm | None = None


class IdentifyRequest(OurForm):
    """Find out who is in view."""

    image: DataUrl


class Found(BaseModel):
    """Who is in view, as far as it can be told."""

    kind: Literal["known", "new", "unsure"]
    name: str | None
    similarity: float | None


class Sizes(BaseModel):
    """In bytes."""

    embedding: int
    cells: int
    disk: int


class ConsentShown(BaseModel):
    """What somebody agreed to."""

    how: str
    given: str
    keeps: Keeps
    days: float | None


class UserShown(BaseModel):
    """Somebody who is kept; times in ISO 8601."""

    id: str
    in_memory: bool
    resident: bool
    bytes: Sizes
    since: str | None
    seen: str | None
    consent: ConsentShown | None
    expires: str | None


class UserList(BaseModel):
    """Everybody who is kept."""

    object: Literal["list"] = "list"
    data: list[UserShown]


class Cancelled(BaseModel):
    """A turn that was told to end."""

    id: str
    cancelled: bool = True


class CancelledAll(BaseModel):
    """How many turns were told to end."""

    cancelled: int


class ForgottenAll(BaseModel):
    """How many people were erased."""

    forgotten: int


class HeardShown(BaseModel):
    """What was understood of the sound so far."""

    heard: list[str]
    """Whole, in order, since the last request."""
    partial: str
    """What has been said since; it may still change."""


class Health(BaseModel):
    """That the server lives."""

    status: Literal["ok", "draining"]
