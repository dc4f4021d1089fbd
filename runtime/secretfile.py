"""A secret in a file that nobody else can read.

Owns: the rights of such a file, and that it is a plain one. Knows nothing of what the secret opens.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from uservlm.runtime.durable import plain_file
from uservlm.runtime.errors import SealError, StoreError

LONGEST: Final = 1024
"""Bytes that are read."""


def read_secret(path: Path) -> str:
    """Read a secret without the white space around it.

    Raises:
        StoreError: it is no plain file, or others can read it.
        FileNotFoundError: there is none.
        OSError: the disk refuses.
    """
    try:
        with plain_file(path) as (stream, _):
            found = os.fstat(stream.fileno())
            text = (stream.read(LONGEST) or b"").decode("utf-8", "replace").strip()
    except SealError as error:
        raise StoreError(f"{path} cannot be used: {error}") from error
    if stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid != os.geteuid():
        raise StoreError(
            f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o}, user "
            f"{found.st_uid}): chmod 600 it, and if others use this machine take it for known"
        )
    return text
