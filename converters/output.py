"""A bundle's folder that appears whole or not at all.

Owns: the temporary sibling a bundle is written into, the swap that puts it in place, and what is
left lying about when a run is killed. Knows nothing of what is inside a bundle but its manifest.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uservlm.converters.errors import OutputError
from uservlm.runtime.bundle import MANIFEST_FILE

PARTIAL, OLD = "partial", "old"


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Give an empty folder beside `out` that takes its place when the block ends without an error.

    Killed at any moment, `out` holds the old bundle, the new one or nothing; a run killed in the
    middle of the swap leaves the old one beside it, and the next run puts it back.

    Raises:
        OutputError: `out` holds something that is no bundle, or its parent cannot be written.
    """
    tidy(out)
    refuse_taken(out)
    folder = _sibling(out, PARTIAL)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"cannot write beside {out}: {error.strerror}") from error
    try:
        yield folder
        _swap(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tidy(out: Path) -> None:
    """Remove what killed runs left beside `out`; folders of runs still alive are not touched.

    A half-made bundle is removed whatever it was to become; an old one is put back in its place.
    """
    for old in _left_behind(out, OLD):
        if out.exists():
            shutil.rmtree(old)
        else:
            old.rename(out)
    for partial in _left_behind(out.with_name("*"), PARTIAL):
        shutil.rmtree(partial)


def refuse_taken(out: Path) -> None:
    """Make sure nobody's work is lost: `out` is nothing yet, an empty folder or a bundle.

    Raises:
        OutputError: it is something else.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file: choose a folder with --out")
    if out.is_dir() and not (out / MANIFEST_FILE).is_file() and any(out.iterdir()):
        raise OutputError(
            f"{out} is not empty and holds no bundle: choose another folder with --out"
        )


def _swap(folder: Path, out: Path) -> None:
    old = _sibling(out, OLD)
    if out.exists():
        out.rename(old)
    folder.rename(out)
    if old.exists():
        shutil.rmtree(old)


def _sibling(out: Path, kind: str) -> Path:
    return out.with_name(f".{out.name}.{kind}-{os.getpid()}")


def _left_behind(out: Path, kind: str) -> list[Path]:
    found = sorted(out.parent.glob(f".{out.name}.{kind}-*"))
    return [path for path in found if path.is_dir() and not _alive(path.name.rpartition("-")[2])]


def _alive(pid: str) -> bool:
    if not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
