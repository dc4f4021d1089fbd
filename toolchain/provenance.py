"""The manifest of a runtime: each file's digest and origin, each origin's version and licence.

Owns: how origins are described and the form of the file. Knows nothing of how the tree is filled.
`integrity.py` owns the check.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from uservlm.toolchain import integrity

ROOT: Final = Path(__file__).resolve().parents[1]
LICENCES: Final = "licences"
"""The folder of licence texts in a runtime; a text is of the origin that it is about."""


@dataclass(frozen=True)
class Origin:
    """A package that files are from."""

    kind: str
    """"debian", "wheel" or "ours"."""
    name: str
    version: str
    file: str
    """The package's file name, or the commit."""
    sha256: str | None
    """Of that file; None of a commit."""
    licence: str
    """Names of licences, as the package spells them."""
    texts: tuple[str, ...]
    """Paths in the runtime."""

    @property
    def key(self) -> str:
        """How the manifest's files name it."""
        return f"{self.kind}:{self.name}={self.version}"


NOT_INSIDE: Final = ":!toolchain/proofs"
"""Left out where git is asked whether the tree has changes."""


@dataclass(frozen=True)
class Commit:
    """What the tree was at when a runtime was built."""

    name: str
    """Of the commit, with "+changes" where the tree had some; "unknown" without git."""
    time: int
    """Seconds since 1970: SOURCE_DATE_EPOCH, or the commit's."""


def commit(root: Path = ROOT) -> Commit:
    """Ask git, and the environment, what is being built."""
    command = ("git", "-C", str(root), "log", "-1", "--format=%H %ct")
    given = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        # What was found out about an archive before, and written down, is in none.
        status = ("git", "-C", str(root), "status", "--porcelain", "--", ".", NOT_INSIDE)
        changed = subprocess.run(status, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # no git, or an export of the tree
        return Commit("unknown", int(given or 0))
    name, time = told
    return Commit(f"{name}+changes" if changed else name, int(given or time))


def describe(
    folder: Path,
    files: Mapping[str, str],
    origins: Sequence[Origin],
    facts: Mapping[str, object],
) -> bytes:
    """Give the manifest's bytes, the same for the same files.

    Args:
        folder: the runtime.
        files: by path in it, the key of each file's origin.
        origins: all that are named.
        facts: what else is said of it, at the top.
    """
    by_key = {origin.key: origin for origin in origins}
    used = sorted(set(files.values()))
    told = {
        "format": integrity.FORMAT,
        **facts,
        "origins": {key: asdict(by_key[key]) for key in used},
        "files": {
            path: {**integrity.described(folder / path), "origin": files[path]}
            for path in sorted(files)
        },
    }
    return (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode()
