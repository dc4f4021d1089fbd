"""What a type is called in the qi protocol: `(ss)`, `{sm}`, `[i]`, with names where it has any.

Owns: the letters and brackets, how deep and long a signature may be, and the fewest bytes that a
value takes. Knows nothing of values. A signature comes from strangers too: it is bounded here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from uservlm.pepper_app.service import RobotError

MOST_CHARACTERS: Final = 4096
"""libqi's longest own, of a metaobject, has 290."""
DEEPEST: Final = 24
_CACHED: Final = 256
_SIZES: Final = {
    **{"b": 1, "c": 1, "C": 1, "w": 2, "W": 2, "i": 4, "I": 4, "l": 8, "L": 8, "f": 4, "d": 8},
    **{"s": 4, "r": 4, "m": 4, "o": 12, "v": 0, "_": 0},
}
"""Letters, and the fewest bytes of each; the rest are brackets and prefixes."""
_CLOSE: Final = {"[": "]", "{": "}", "(": ")"}
_PREFIXES: Final = "+#~"
"""An optional value; lists and maps at the end of a call's arguments."""


class CodecError(RobotError):
    """What came is not in the form of the protocol, or is beyond what is taken."""


@dataclass(frozen=True)
class Type:
    """One type."""

    kind: str
    """Its letter, opening bracket or prefix."""
    parts: tuple[Type, ...] = ()
    names: tuple[str, ...] = ()
    """Of a struct's members; empty for a plain tuple."""
    least: int = 0
    """The fewest bytes that a value takes."""


@lru_cache(_CACHED)
def parse(signature: str) -> Type:
    """Read a signature.

    Raises:
        CodecError: it is none, or too long or deep.
    """
    if len(signature) > MOST_CHARACTERS:
        raise CodecError(f"a signature of {len(signature)} characters is too long")
    found, place = _type(signature, 0, 0)
    if place != len(signature):
        raise CodecError("a signature has something behind its end")
    return found


_SCALARS: Final = {letter: Type(letter, least=size) for letter, size in _SIZES.items()}


def _type(text: str, place: int, depth: int) -> tuple[Type, int]:
    """Give the type at a place, and where it ends.

    Raises:
        CodecError: there is none.
    """
    if depth > DEEPEST:
        raise CodecError("a signature is too deep")
    letter = text[place : place + 1]
    if letter in _SCALARS:
        found, place = _SCALARS[letter], place + 1
    elif letter and letter in _CLOSE:
        return _bracketed(text, place, depth)
    elif letter and letter in _PREFIXES:
        part, place = _type(text, place + 1, depth + 1)
        found = Type(letter, (part,), least=1 if letter == "+" else 4)
    else:
        raise CodecError(f"a signature has {letter!r} where a type should be")
    return found, _annotation(text, place)[1]


def _bracketed(text: str, place: int, depth: int) -> tuple[Type, int]:
    """Likewise, at an opening bracket."""
    letter, parts = text[place], []
    place += 1
    while text[place : place + 1] != _CLOSE[letter]:
        part, place = _type(text, place, depth + 1)
        parts.append(part)
    names, place = _annotation(text, place + 1)
    count = {"[": 1, "{": 2}.get(letter, len(parts))
    if len(parts) != count:
        raise CodecError(f"a signature has {len(parts)} types between {letter} and its end")
    if letter == "{" and parts[0].kind not in "bcCwWiIlLfdsm":
        raise CodecError("a map's keys are numbers or text")
    least = sum(part.least for part in parts) if letter == "(" else 4
    return Type(letter, tuple(parts), names[1:] if len(names) == count + 1 else (), least), place


def _annotation(text: str, place: int) -> tuple[tuple[str, ...], int]:
    """Give what is named between angle brackets, and where that ends."""
    if text[place : place + 1] != "<":
        return (), place
    depth = 0
    for end in range(place, len(text)):
        depth += {"<": 1, ">": -1}.get(text[end], 0)
        if depth == 0:
            return tuple(text[place + 1 : end].split(",")), end + 1
    raise CodecError("a signature's names have no end")
