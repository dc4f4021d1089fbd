"""One message of the qi protocol: 28 bytes that say what it is, and what it carries.

Owns: the layout of the header, the kinds of messages, and that none is larger than libqi takes
here. Knows nothing of sockets or of what a message carries.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from uservlm.pepper_app.qi_session import MESSAGE_BYTES
from uservlm.pepper_app.qi_wire_signature import CodecError
from uservlm.pepper_app.qi_wire_values import encode

HEADER: Final = struct.Struct("<4sIIHBBIII")
_MAGIC: Final = b"\x42\xde\xad\x42"
_VERSION: Final = 0

DYNAMIC: Final = 1
"""Flag: what is carried is one dynamic value."""
RETURN_TYPE: Final = 2
"""Flag: behind the arguments comes the signature that the caller wants of the answer."""


class Kind(IntEnum):
    """What a message is."""

    CALL = 1
    REPLY = 2
    ERROR = 3
    POST = 4
    """A call that nobody waits for."""
    EVENT = 5
    CAPABILITY = 6
    CANCEL = 7
    CANCELED = 8


@dataclass(frozen=True)
class Message:
    """A message."""

    kind: int
    number: int
    """A reply has its call's."""
    service: int
    object: int
    action: int
    """Which method, signal or property."""
    payload: bytes = b""
    flags: int = 0

    def packed(self) -> bytes:
        """Give it as it is sent."""
        head = HEADER.pack(
            _MAGIC,
            self.number,
            len(self.payload),
            _VERSION,
            self.kind,
            self.flags,
            self.service,
            self.object,
            self.action,
        )
        return head + self.payload

    def answer(self, kind: Kind, payload: bytes = b"", flags: int = 0) -> Message:
        """Make a reply to it."""
        return Message(kind, self.number, self.service, self.object, self.action, payload, flags)

    def refusal(self, text: str) -> Message:
        """Make an error in reply to it."""
        return self.answer(Kind.ERROR, encode("m", text))


def unpack(data: bytearray, place: int) -> tuple[Message | None, int]:
    """Read the message at a place.

    Returns:
        It, or None while a part is missing; and how many bytes it takes, as far as that is known.

    Raises:
        CodecError: there is none, or one that is too large.
    """
    if len(data) - place < HEADER.size:
        return None, HEADER.size
    magic, number, size, version, kind, flags, service, thing, action = HEADER.unpack_from(
        data, place
    )
    if magic != _MAGIC or version != _VERSION or not Kind.CALL <= kind <= Kind.CANCELED:
        raise CodecError("what comes is no qi message")
    if size > MESSAGE_BYTES:
        raise CodecError(f"a message of {size} bytes is too large")
    end = place + HEADER.size + size
    if len(data) < end:
        return None, HEADER.size + size
    payload = bytes(memoryview(data)[place + HEADER.size : end])
    return Message(kind, number, service, thing, action, payload, flags), HEADER.size + size
