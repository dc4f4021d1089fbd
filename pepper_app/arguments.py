"""What strangers send as arguments, checked; pure.

Owns: the types of the service's parameters, which libqi does not enforce: a caller who sends
anything else gets here with it. Knows nothing of what an argument is for, and repeats none.
"""

from __future__ import annotations

from datetime import datetime, timezone

from uservlm.pepper_app.frames import Pixels, to_rgb
from uservlm.pepper_app.service import Value
from uservlm.runtime.errors import RequestError
from uservlm.runtime.profiles import KEEPS, YEAR, Consent


def text(value: Value, name: str) -> str:
    """Take text.

    Raises:
        RequestError: it is none.
    """
    if not isinstance(value, str):
        raise RequestError(f"{name}: give text, not {_kind(value)}")
    return value


def optional(value: Value, name: str) -> str | None:
    """Take text; none of it stands for nothing.

    Raises:
        RequestError: it is no text.
    """
    return text(value, name) or None


def number(value: Value, name: str) -> int:
    """Take a whole number.

    Raises:
        RequestError: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise RequestError(f"{name}: give a whole number, not {_kind(value)}")
    return value


def real(value: Value, name: str) -> float:
    """Take a number, whole or not.

    Raises:
        RequestError: it is none.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise RequestError(f"{name}: give a number, not {_kind(value)}")
    return float(value)


def raw(value: Value, name: str) -> bytes:
    """Take bytes. As text they have been spoilt on the way, so text is refused.

    Raises:
        RequestError: no bytes.
    """
    if not isinstance(value, bytes):
        raise RequestError(f"{name}: give a raw buffer, not {_kind(value)}")
    return value


def picture(*arguments: Value) -> bytes | Pixels:
    """Take an encoded picture (one argument), or a frame (width, height, colour space, pixels).

    Raises:
        RequestError: another type, or a frame that is none.
    """
    if len(arguments) == 1:
        return raw(arguments[0], "picture")
    width, height, space, pixels = arguments
    return to_rgb(
        number(width, "width"),
        number(height, "height"),
        number(space, "colorSpace"),
        raw(pixels, "pixels"),
    )


def consent(how: Value, keeps: Value, days: Value) -> Consent:
    """Take what somebody agrees to now.

    Args:
        how: they said so, in words.
        keeps: the most that may be written: profile, embedding or state.
        days: it holds; 0 for a year.

    Raises:
        RequestError: another type, or nothing that can be agreed to.
    """
    level = next((one for one in KEEPS if one == text(keeps, "keeps")), None)
    if level is None:
        raise RequestError(f"keeps: give one of {', '.join(KEEPS)}")
    lasts = real(days, "days") or YEAR
    return Consent(datetime.now(timezone.utc), text(how, "how"), level, lasts)


def _kind(value: Value) -> str:
    """Name a type as a caller knows it."""
    names = {str: "text", int: "a number", float: "a number with a point", bytes: "a raw buffer"}
    return names.get(type(value), f"a {type(value).__name__}" if value is not None else "nothing")
