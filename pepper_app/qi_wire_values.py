"""Plain Python values as the qi protocol writes them, and back.

Owns: how each type is laid out, what plain Python becomes where its type is left open, and how much
one message may make of us. Knows nothing of messages. All numbers are little-endian; text, bytes,
lists and maps have their length in front; a dynamic value has its signature in front.

What comes is from strangers: every length is compared with what is there, a message has a budget of
values (an empty list takes four bytes there, and fifty here), and nesting has an end.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from uservlm.pepper_app.qi_wire_signature import DEEPEST, CodecError, Type, parse
from uservlm.pepper_app.service import Value

MOST_VALUES: Final = 200_000
"""In one message; raw bytes and text count as one."""
_NUMBERS: Final = {
    **{"b": struct.Struct("<?"), "c": struct.Struct("<b"), "C": struct.Struct("<B")},
    **{"w": struct.Struct("<h"), "W": struct.Struct("<H"), "i": struct.Struct("<i")},
    **{"I": struct.Struct("<I"), "l": struct.Struct("<q"), "L": struct.Struct("<Q")},
    **{"f": struct.Struct("<f"), "d": struct.Struct("<d")},
}
_LENGTH: Final = struct.Struct("<I")
_INT32: Final = range(-(2**31), 2**31)
_INT64: Final = range(-(2**63), 2**63)
META: Final = (
    "({I(Issss[(ss)<MetaMethodParameter,name,description>]s)<MetaMethod,uid,returnSignature,name,"
    "parametersSignature,description,parameters,returnDescription>}"
    "{I(Iss)<MetaSignal,uid,name,signature>}{I(Iss)<MetaProperty,uid,name,signature>}s)"
    "<MetaObject,methods,signals,properties,description>"
)
"""The signature of what describes an object."""


@dataclass(frozen=True)
class Reference:
    """An object that somebody passed: what it has, and where it is on the connection it came by."""

    meta: dict[str, Value]
    service: int
    object: int


def decode(signature: str, payload: bytes) -> Value:
    """Read a value; what is behind it is left alone.

    Raises:
        CodecError: it is none of that type, or beyond what is taken.
    """
    return _Reader(payload).value(parse(signature), 0)


def encode(signature: str, value: Value) -> bytes:
    """Write a value.

    Raises:
        TypeError: it is none of that type.
    """
    out: list[bytes] = []
    _write(parse(signature), value, out, 0)
    return b"".join(out)


class _Reader:
    def __init__(self, payload: bytes) -> None:
        self._payload, self._place, self._budget = payload, 0, MOST_VALUES

    def value(self, kind: Type, depth: int) -> Value:
        if depth > DEEPEST:
            raise CodecError("a message is too deep")
        self._budget -= 1
        if self._budget < 0:
            raise CodecError(f"a message has more than {MOST_VALUES} values")
        letter = kind.kind
        number = _NUMBERS.get(letter)
        if number is not None:
            return number.unpack(self._take(number.size))[0]
        if letter == "s":
            return self._text()
        if letter == "m":
            signature = self._text()
            self._budget -= len(signature)  # reading it takes as long as reading so many values
            return self.value(parse(signature), depth + 1) if signature else None
        if letter in "(+":
            return self._members(kind, depth)
        if letter in "[#{~":
            return self._many(kind, depth)
        return self._rest(letter, depth)

    def _rest(self, letter: str, depth: int) -> Value:
        if letter == "r":
            return self._take(self._length(1))
        if letter == "o":
            return Reference(
                self.value(parse(META), depth + 1),
                _LENGTH.unpack(self._take(4))[0],
                _LENGTH.unpack(self._take(4))[0],
            )
        return None  # v and _

    def _members(self, kind: Type, depth: int) -> Value:
        if kind.kind == "+":
            there = self._take(1) != b"\0"
            return self.value(kind.parts[0], depth + 1) if there else None
        values = tuple(self.value(part, depth + 1) for part in kind.parts)
        return dict(zip(kind.names, values, strict=True)) if kind.names else values

    def _many(self, kind: Type, depth: int) -> Value:
        if kind.kind in "[#":
            count = self._length(kind.parts[0].least)
            return [self.value(kind.parts[0], depth + 1) for _ in range(count)]
        key, value = kind.parts if kind.kind == "{" else (parse("s"), kind.parts[0])
        made: dict[Value, Value] = {}
        for _ in range(self._length(key.least + value.least)):
            name = self.value(key, depth + 1)
            if not isinstance(name, bool | int | float | str):
                raise CodecError("a map's keys are numbers or text")
            made[name] = self.value(value, depth + 1)
        return made

    def _text(self) -> str:
        return self._take(self._length(1)).decode("utf-8", "replace")

    def _length(self, least: int) -> int:
        """Take how many come, of which each has so many bytes."""
        count: int = _LENGTH.unpack(self._take(4))[0]
        if count * least > len(self._payload) - self._place:
            raise CodecError("a message ends before it should")
        return count

    def _take(self, count: int) -> bytes:
        end = self._place + count
        if end > len(self._payload):
            raise CodecError("a message ends before it should")
        taken = self._payload[self._place : end]
        self._place = end
        return taken


def _write(kind: Type, value: Value, out: list[bytes], depth: int) -> None:
    """Write a value behind others.

    Raises:
        TypeError: it is none of that type.
    """
    if depth > DEEPEST:
        raise TypeError("a value is too deep, or holds itself")
    letter = kind.kind
    if letter in _NUMBERS:
        out.append(_number(letter, value))
    elif letter == "m":
        signature = _signature_of(value)
        _append(out, signature.encode())
        _write(parse(signature), value, out, depth + 1)
    elif letter == "s" and isinstance(value, str):
        _append(out, value.encode("utf-8", "replace"))
    elif letter == "r" and isinstance(value, bytes | bytearray | memoryview):
        _append(out, bytes(value))
    elif (letter == "[" and isinstance(value, list | tuple)) or (
        letter == "{" and isinstance(value, dict)
    ):
        _write_many(kind, value, out, depth)
    elif letter in "(+":
        _write_members(kind, value, out, depth)
    elif letter not in "v_" or value is not None:
        raise TypeError(f"a {type(value).__name__} cannot be sent as {letter!r}")


def _write_many(kind: Type, value: Value, out: list[bytes], depth: int) -> None:
    out.append(_LENGTH.pack(len(value)))
    for one in value:
        _write(kind.parts[0], one, out, depth + 1)
        if kind.kind == "{":
            _write(kind.parts[1], value[one], out, depth + 1)


def _write_members(kind: Type, value: Value, out: list[bytes], depth: int) -> None:
    if kind.kind == "+":
        out.append(b"\0" if value is None else b"\1")
        if value is not None:
            _write(kind.parts[0], value, out, depth + 1)
        return
    if isinstance(value, dict) and set(value) == set(kind.names):
        value = [value[name] for name in kind.names]
    if not isinstance(value, list | tuple) or len(value) != len(kind.parts):
        raise TypeError(f"a tuple of {len(kind.parts)} values is wanted")
    for part, one in zip(kind.parts, value, strict=True):
        _write(part, one, out, depth + 1)


def _number(letter: str, value: Value) -> bytes:
    fits = {"b": bool, "f": int | float, "d": int | float}.get(letter, int)
    if not isinstance(value, fits):
        raise TypeError(f"a {type(value).__name__} cannot be sent as {letter!r}")
    try:
        return _NUMBERS[letter].pack(value)
    except (struct.error, OverflowError) as error:
        raise TypeError(f"{letter!r}: {error}") from error


def _append(out: list[bytes], data: bytes) -> None:
    out += (_LENGTH.pack(len(data)), data)


def _signature_of(value: Value) -> str:
    """Give the type as which a value is sent where that is left open.

    Raises:
        TypeError: it cannot be sent.
    """
    if value is None:
        return "v"
    if isinstance(value, bool):
        return "b"
    if isinstance(value, int):
        return "i" if value in _INT32 else "l" if value in _INT64 else "L"
    for kinds, signature in (
        (float, "d"),
        (str, "s"),
        (bytes | bytearray | memoryview, "r"),
        (list, "[m]"),
    ):
        if isinstance(value, kinds):
            return signature
    if isinstance(value, tuple):
        return f"({'m' * len(value)})"
    if isinstance(value, dict):
        return "{sm}" if all(isinstance(key, str) for key in value) else "{mm}"
    raise TypeError(f"a {type(value).__name__} is no plain value")
