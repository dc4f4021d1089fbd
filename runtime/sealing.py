"""A sealed file: AES-256-GCM around one payload, bound to whom and what it is for.

Owns: the file's layout, the keys derived from the master key, and the refusal of anything that is
not exactly what was sealed. Knows nothing of folders, of consent, or of what a payload means.

    offset  bytes   what
    0       8       magic with the format's version, "uservlm1"
    8       12      nonce of the head
    20      56      head, sealed: HMAC of the fit (32), payload bytes (8, little endian), tag (16)
    76      12      nonce of the body
    88      n       body, encrypted
    88 + n  16      tag of the body

The head's associated data is the magic, kind, owner and slot; the body's is all of that and the
first 88 bytes. A file moved to another name, kind or slot, cut, lengthened, joined from two or
changed in any bit is therefore refused. The head is opened first: nothing is allocated because of
a length that was not authenticated. Payloads stream through GCM in pieces of 1 MiB, so that sealing
needs no second copy of a user's state; what is decrypted leaves here only after its tag was found
right. GCM hides the content, not its length.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import FileIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from uservlm.runtime.errors import SealError

MAGIC = b"uservlm1"
KEY_BYTES = 32
NONCE, TAG = 12, 16
PIECE = 1 << 20
ROOM = 15
"""Bytes of a buffer behind what is written into it: cryptography 38 insists on them."""
_HEAD = struct.Struct("<32sQ")
_START = struct.Struct(f"<{len(MAGIC)}s{NONCE}s{_HEAD.size + TAG}s{NONCE}s")
OVERHEAD = _START.size + TAG
"""Bytes a sealed file is longer than its payload."""


@dataclass(frozen=True)
class Label:
    """What a sealed file is; it opens only under the label it was sealed with."""

    kind: str
    owner: str
    """`Keys.owner` of the user; never the name itself."""
    slot: str = ""
    """`Keys.slot` of the adapter."""

    @property
    def data(self) -> bytes:
        """What GCM authenticates; the parts hold no NUL."""
        return b"\0".join([MAGIC, self.kind.encode(), self.owner.encode(), self.slot.encode()])


@dataclass(frozen=True)
class Keys:
    """One key to seal with and one to make names with, both derived from the master key."""

    sealing: bytes = field(repr=False)
    naming: bytes = field(repr=False)

    @staticmethod
    def derive(master: bytes) -> Keys:
        """Derive both from 32 random bytes by HKDF-SHA256.

        Raises:
            ValueError: not 32 bytes.
        """
        if len(master) != KEY_BYTES:
            raise ValueError(f"a master key has {KEY_BYTES} bytes; got {len(master)}")
        made = (
            HKDF(SHA256(), KEY_BYTES, salt=None, info=b"uservlm users " + use).derive(master)
            for use in (b"sealing", b"naming")
        )
        return Keys(*made)

    def owner(self, name: str) -> str:
        """Name a user's files without naming the user: 32 hexadecimal digits."""
        return self._digest("owner", name)[:16].hex()

    def slot(self, slot: str) -> str:
        """Name a slot: 16 hexadecimal digits, or nothing for the empty slot."""
        return self._digest("slot", slot)[:8].hex() if slot else ""

    def fit(self, fit: str) -> bytes:
        """Name what a payload was made for: 32 bytes."""
        return self._digest("fit", fit)

    def _digest(self, use: str, text: str) -> bytes:
        message = use.encode() + b"\0" + text.encode("utf-8", "surrogatepass")
        return hmac.digest(self.naming, message, hashlib.sha256)


def sealed(keys: Keys, label: Label, fit: str, payload: memoryview) -> Iterator[bytes | memoryview]:
    """Seal a payload, piece by piece.

    Args:
        keys: of the store.
        label: what the file is.
        fit: what the payload was made for.
        payload: bytes, contiguous.

    Yields:
        The file's bytes; each piece must be written before the next is asked for.
    """
    first, second = os.urandom(NONCE), os.urandom(NONCE)
    head = _HEAD.pack(keys.fit(fit), payload.nbytes)
    start = _START.pack(MAGIC, first, AESGCM(keys.sealing).encrypt(first, head, label.data), second)
    yield start
    cipher = Cipher(algorithms.AES(keys.sealing), modes.GCM(second)).encryptor()
    cipher.authenticate_additional_data(label.data + start)
    scratch = memoryview(bytearray(min(PIECE, payload.nbytes) + ROOM))
    for place in range(0, payload.nbytes, PIECE):
        yield scratch[: cipher.update_into(payload[place : place + PIECE], scratch)]
    cipher.finalize()
    yield cipher.tag


def unseal(stream: FileIO, size: int, keys: Keys, label: Label, fit: str) -> bytearray | None:
    """Open a sealed file.

    Args:
        stream: at its beginning.
        size: bytes of the file.
        keys: of the store.
        label: what the file has to be.
        fit: what the payload must have been made for.

    Returns:
        The payload, authentic to the last bit; None when it was made for another fit.

    Raises:
        SealError: it is not a sealed file of this label and these keys, or was changed.
    """
    start = stream.read(_START.size) or b""
    if len(start) < _START.size or not start.startswith(MAGIC):
        raise SealError(f"no sealed file of this version: {size} bytes")
    _, nonce, head, second = _START.unpack(start)
    try:
        made_for, length = _HEAD.unpack(AESGCM(keys.sealing).decrypt(nonce, head, label.data))
    except InvalidTag:
        raise SealError("its head is damaged, or sealed by another key or for another") from None
    if size != length + OVERHEAD:
        raise SealError(f"it has {size} bytes instead of {length + OVERHEAD}")
    if made_for != keys.fit(fit):
        return None
    return _opened(stream, length, keys, second, label.data + start)


def _opened(stream: FileIO, length: int, keys: Keys, nonce: bytes, data: bytes) -> bytearray:
    cipher = Cipher(algorithms.AES(keys.sealing), modes.GCM(nonce)).decryptor()
    cipher.authenticate_additional_data(data)
    payload = bytearray(length + ROOM)
    scratch = memoryview(bytearray(min(PIECE, length)))
    done = 0
    with memoryview(payload) as view:
        while done < length:
            got = stream.readinto(scratch[: length - done])
            if not got:
                raise SealError(f"it ends after {done} of {length} bytes")
            done += cipher.update_into(scratch[:got], view[done:])
    try:
        cipher.finalize_with_tag(stream.read(TAG) or b"")
    except (InvalidTag, ValueError):
        raise SealError("its body is damaged") from None
    del payload[length:]
    return payload
