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
from pathlib import Path

from uservlm.runtime.durable import Draft
from uservlm.runtime.errors import StoreError
from uservlm.runtime.sealing import KEY_BYTES
from uservlm.runtime.secretfile import read_secret

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
        return _decoded(read_secret(path), str(path))
    except FileNotFoundError:
        if not new:
            raise StoreError(
                f"{path} is gone, and {KEY_VARIABLE} is not set: without its key nobody in "
                f"{folder} can be read; bring the key back, or remove the folder"
            ) from None
    return _make(folder)


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
