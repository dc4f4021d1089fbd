"""The master key of a users' store: where it comes from, and that nobody else can read it.

Owns: the environment variable, the key file and its rights. Knows nothing of what a key is used
for. In this order: the caller's bytes, USERVLM_KEY, the file `key` in the store; only a new store
gets a new key. A key is written as base64 or hexadecimal text of 32 random bytes.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import stat
from io import FileIO
from pathlib import Path

from uservlm.runtime.durable import Draft, plain_file
from uservlm.runtime.errors import SealError, StoreError
from uservlm.runtime.sealing import KEY_BYTES

KEY_VARIABLE = "USERVLM_KEY"
KEY_FILE = "key"
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_BASE64 = re.compile(r"[0-9A-Za-z+/_-]{43}=?")


def master_key(folder: Path, given: bytes | None, new: bool) -> bytes:
    """Find the key of a store, or make one.

    Args:
        folder: the store's; the caller holds it.
        given: by the caller; nothing else is asked then.
        new: the store holds nothing yet, so that a missing key file may be made.

    Raises:
        StoreError: not 32 bytes, no key file, or one that others can read.
    """
    if given is not None:
        if len(given) != KEY_BYTES:
            raise StoreError(f"a key has {KEY_BYTES} bytes; {len(given)} were given")
        return bytes(given)
    text = os.environ.get(KEY_VARIABLE, "").strip()
    if text:
        return _decoded(text, KEY_VARIABLE)
    path = folder / KEY_FILE
    try:
        return _read(path)
    except FileNotFoundError:
        if not new:
            raise StoreError(
                f"{path} is gone, and {KEY_VARIABLE} is not set: without its key nobody in "
                f"{folder} can be read; bring the key back, or remove the folder"
            ) from None
    return _make(folder)


def _read(path: Path) -> bytes:
    try:
        with plain_file(path) as (stream, _):
            check_private(path, stream)
            text = (stream.read(1024) or b"").decode("ascii", "replace").strip()
    except SealError as error:
        raise StoreError(f"{path} cannot be used as key: {error}") from error
    return _decoded(text, str(path))


def check_private(path: Path, stream: FileIO) -> None:
    """Make sure that nobody else can read a secret.

    Raises:
        StoreError: others can.
    """
    found = os.fstat(stream.fileno())
    if stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid != os.geteuid():
        raise StoreError(
            f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o}, user "
            f"{found.st_uid}): chmod 600 it, and if others use this machine take it for known"
        )


def _decoded(text: str, where: str) -> bytes:
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    if _BASE64.fullmatch(text):
        return base64.urlsafe_b64decode(text.rstrip("=").translate({43: "-", 47: "_"}) + "=")
    raise StoreError(f"{where} is no key: write {KEY_BYTES} bytes as base64 or hexadecimal")


def _make(folder: Path) -> bytes:
    key = secrets.token_bytes(KEY_BYTES)
    with Draft(folder, "store") as draft:
        draft.write([base64.b64encode(key) + b"\n"])
        draft.place(KEY_FILE)
    return key
