"""The token that a server asks for: where it lies, and that nobody else can read it.

Owns: the file and its rights. Knows nothing of requests.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Final

import platformdirs

from uservlm.runtime.durable import Draft, disk_errors, locked, make_folder
from uservlm.runtime.errors import StoreError
from uservlm.runtime.secretfile import read_secret

BYTES: Final = 32
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]{16,256}")


def token_path(given: str | None) -> Path:
    """Say where the token lies: as given, else the system's place for configuration."""
    return Path(given) if given else Path(platformdirs.user_config_dir("uservlm")) / "token"


def read_or_make(path: Path) -> str:
    """Read a token, or make one (mode 0600) where there is none.

    Raises:
        StoreError: others can read it, it is no token, or the disk refuses.
    """
    with disk_errors(f"the token {path} cannot be used"):
        try:
            return _read(path)
        except FileNotFoundError:
            make_folder(path.parent)
            token = secrets.token_urlsafe(BYTES)
            with locked(path.parent), Draft(path.parent, "token") as draft:
                draft.write([token.encode() + b"\n"])
                draft.place(path.name)
            return token


def _read(path: Path) -> str:
    text = read_secret(path)
    if not _TOKEN.fullmatch(text):
        raise StoreError(f"{path} holds no token of 16 to 256 letters and digits: remove the file")
    return text
