"""Which bundles were found whole on this machine, so that a start need not read 2 GB to hash them.

Owns: a small file in the user's cache folder for each bundle. Knows nothing of hashes. What it says
holds as long as no file was touched: size, inode, and the times of the last write and the last
change must be what they were, and the last of these nobody can set back. It does not see bits that
rot in silence: `uservlm inspect` reads every byte.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import TypeAlias

import platformdirs

_LOG = logging.getLogger("uservlm.bundle")


Stamp: TypeAlias = "dict[str, list[int]]"
"""Of each file: size, inode, and when it was last written and last changed, in ns."""


def stamp(folder: Path, names: Iterable[str]) -> Stamp:
    """Take the stamp of a bundle's files; take it before they are read."""
    found = {name: (folder / name).stat() for name in sorted(names)}
    return {
        name: [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]
        for name, stat in found.items()
    }


def was_verified(folder: Path, found: Stamp) -> bool:
    """Say whether exactly these files of a bundle were verified and not touched since."""
    try:
        return bool(json.loads(_place(folder).read_text(encoding="utf-8")) == found)
    except (OSError, ValueError):  # never verified, or the note is damaged: verify
        return False


def note_verified(folder: Path, found: Stamp) -> None:
    """Remember that these files are whole; a cache that cannot be written costs time, no more."""
    place = _place(folder)
    part = place.with_suffix(f".{os.getpid()}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(found), encoding="utf-8")
        part.replace(place)
    except OSError as error:
        _LOG.info("it is not remembered that %s is whole: %s", folder, error)


def _place(folder: Path) -> Path:
    name = blake2b(str(folder.resolve()).encode(), digest_size=16).hexdigest()
    return cache_folder() / "verified" / f"{name}.json"


def cache_folder() -> Path:
    """Give the folder for what can be made again; it need not be there."""
    return Path(platformdirs.user_cache_dir("uservlm"))
