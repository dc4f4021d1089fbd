"""Whether an unpacked runtime is still what was built: each file against the manifest's SHA-256.

    python -m uservlm.toolchain.integrity [FOLDER]     without FOLDER: the runtime that runs this

Owns: the manifest's name and format, and the comparison. Knows nothing of how a runtime is made.
Needs the standard library alone, so that it runs wherever a Python does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

MANIFEST_FILE: Final = "MANIFEST.json"
FORMAT: Final = 1
_CHUNK: Final = 1 << 20


class ManifestError(Exception):
    """There is no manifest, or it is none of ours; the message says where."""


def check(folder: Path) -> list[str]:
    """Compare a folder with its manifest; gives one line a problem, none when it is whole.

    Raises:
        ManifestError: the manifest is missing, or cannot be read.
    """
    files = read(folder)["files"]
    found = set(listed(folder)) - {MANIFEST_FILE}
    problems = [f"{path}: not in the manifest" for path in sorted(found - set(files))]
    for path, told in sorted(files.items()):
        if path not in found:
            problems.append(f"{path}: missing")
        elif (now := described(folder / path)) != {key: told.get(key) for key in now}:
            wrong = ", ".join(key for key in now if now[key] != told.get(key))
            problems.append(f"{path}: another {wrong} than in the manifest")
    return problems


def read(folder: Path) -> dict[str, Any]:
    """Read a folder's manifest.

    Raises:
        ManifestError: it is missing, or cannot be read.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        known = manifest["format"] == FORMAT and isinstance(manifest["files"], dict)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"{path}: no manifest of a runtime ({error})") from error
    if not known:
        raise ManifestError(f"{path}: format {manifest['format']}, and {FORMAT} is known here")
    return dict(manifest)


def listed(folder: Path) -> Iterator[str]:
    """Give the path of every file and link below a folder, relative to it, with slashes."""
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in (*files, *links):
            yield os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/")


def described(file: Path) -> dict[str, Any]:
    """Say what a file is: its digest, size in bytes and whether it can be run; or a link's aim."""
    status = file.lstat()
    if stat.S_ISLNK(status.st_mode):
        return {"link": os.readlink(file)}
    if not stat.S_ISREG(status.st_mode):
        return {"link": None, "sha256": None}
    runs = bool(status.st_mode & stat.S_IXUSR)
    return {"sha256": digest(file), "size": status.st_size, "executable": runs}


def digest(file: Path) -> str:
    """Give a file's SHA-256 in hexadecimal digits."""
    found = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the problems: 0 when there are none, 1 when there are, 2 without a manifest."""
    parser = argparse.ArgumentParser(prog="uservlm-check", description=check.__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(sys.prefix))
    folder = parser.parse_args(arguments).folder
    try:
        problems = check(folder)
        count = len(read(folder)["files"])
    except ManifestError as error:
        print(f"uservlm-check: {error}", file=sys.stderr)
        return 2
    for problem in problems:
        print(problem)
    print(f"{folder}: {count} files, {len(problems)} problems", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
