"""Where a bundle goes: what may be replaced, what the disk can take, and how it appears whole.

Owns: the names beside `out`, the lock that keeps two exports apart, the swap that puts a bundle in
place, and the sentences about disks. Knows nothing of steps (`workbench.py`), nor of what is inside
a bundle but its manifest.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from uservlm.converters.errors import OutputError
from uservlm.runtime.manifest import MANIFEST_FILE

BUNDLE_FOLDER = "bundle"
"""Inside the work folder: what becomes `out`. Not there any more: it went into place."""
FULL_BYTES = 1 << 20
"""Less than this is free: the disk is full, and that is why a library failed."""
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_FOLDER = (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)


def work_folder(out: Path) -> Path:
    """Name the folder in which the bundle of `out` is made; killed runs leave their steps there."""
    return _beside(out.resolve(), "partial")


def refuse_taken(out: Path) -> None:
    """Make sure nobody's work is lost: `out` is nothing yet, an empty folder or a bundle.

    Raises:
        OutputError: it is something else, or a folder that could not be replaced.
    """
    with disk_errors(out):
        if out.exists() and not out.is_dir():
            raise OutputError(f"{out} is a file: choose a folder with --out")
        if not out.is_dir():
            return
        if not (out / MANIFEST_FILE).is_file() and any(out.iterdir()):
            raise OutputError(
                f"{out} is not empty and holds no bundle: choose another folder with --out"
            )
        if os.path.ismount(out):
            raise OutputError(f"{out} is a mount point: choose a folder inside it with --out")
        if not os.access(out, os.W_OK):
            raise OutputError(f"{out} may not be replaced: choose another folder with --out")


def check_disk(folder: Path, need_bytes: int, what: str) -> None:
    """Make sure the disk of `folder`, which need not exist yet, has `need_bytes` free.

    Raises:
        OutputError: names the need, what is free, and the way out.
    """
    free = _free(folder)
    if free < need_bytes:
        raise OutputError(
            f"{what} needs {_size(need_bytes)} at {folder}, {_size(free)} are free: "
            "make room or choose another disk with --out"
        )


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Say in one sentence that the disk of `out` is full or that writing beside it is forbidden.

    A library in C++ fails in its own words on a full disk, so any failure on one counts as that.

    Raises:
        OutputError: as above; errors of another kind or place pass unchanged.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        sentence = _sentence(error, out)
        if sentence is None:
            raise
        raise OutputError(sentence) from error
    except Exception as error:
        if _free(out) >= FULL_BYTES:
            raise
        raise OutputError(f"{_no_space(out)} ({error})") from error


@contextmanager
def locked(out: Path) -> Iterator[Path]:
    """Hold the work folder of `out`, made when missing, and give it; the kernel lets go at death.

    A swap that a killed run began is ended first. Folders above that had to be made are removed
    again when the block leaves them empty.

    Raises:
        OutputError: another process holds it, or it cannot be made.
    """
    folder = work_folder(out)
    missing = [path for path in folder.parents if not path.exists()]
    try:
        with disk_errors(out):
            handle = _make(folder, out)
        try:
            _mend(out)
            yield folder
        finally:
            os.close(handle)
    finally:
        with suppress(OSError):
            for path in missing:
                path.rmdir()


def place(folder: Path, out: Path) -> None:
    """Make `folder` durable and put it where `out` is; the caller holds the lock.

    Killed at any moment, `out` holds the old bundle, the new one or nothing; where it holds
    nothing the old one lies beside it until the next run puts it back.
    """
    for path in [*folder.rglob("*"), folder]:
        sync(path)
    try:
        if out.exists():
            out.rename(_beside(out, "old"))
        folder.rename(out)
        sync(out.parent)
    finally:
        _mend(out)


def sync(path: Path) -> None:
    """Have the disk hold what was written to the file, or which names the folder lists."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def tidy(out: Path) -> None:
    """End the swap of a killed run and remove what no run can use; finished steps stay.

    Raises:
        OutputError: another export is writing `out`.
    """
    out = out.resolve()
    with disk_errors(out):
        _remove_numbered(out)
        if not work_folder(out).exists() and not _beside(out, "old").exists():
            return
        with locked(out) as folder:
            if not (folder / BUNDLE_FOLDER).is_dir():
                shutil.rmtree(folder)


def _mend(out: Path) -> None:
    """End a swap that was cut in two: the old bundle returns unless the new one is there."""
    old = _beside(out, "old")
    if not old.exists():
        return
    if out.is_dir() and any(out.iterdir()):
        shutil.rmtree(old)
    else:
        old.rename(out)


def _make(folder: Path, out: Path) -> int:
    """Make the work folder and lock it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return _lock(folder, out)
    except FileNotFoundError as error:
        # As /proc says it.
        raise OutputError(
            f"cannot write {folder}: no folder can be made there; choose another folder with --out"
        ) from error


def _lock(folder: Path, out: Path) -> int:
    """Lock the folder itself; one that its owner removed meanwhile is made again."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), folder.stat()):
                return handle
        except BlockingIOError as error:
            os.close(handle)
            raise OutputError(
                f"another run is writing {out}: wait for it or choose another --out"
            ) from error
        except FileNotFoundError:
            pass
        os.close(handle)


def _beside(out: Path, kind: str) -> Path:
    return out.parent / f".{out.name}.{kind}"


def _sentence(error: OSError, out: Path) -> str | None:
    """Explain an error of the disk; None when it is about something else."""
    if error.errno == errno.ENOSPC:
        return _no_space(out)
    if error.errno == errno.EDQUOT:
        return f"the disk quota is used up while writing {out}: make room or choose another --out"
    if error.errno == errno.EFBIG:
        return (
            f"the disk, or a limit set with ulimit -f, refuses files as large as {out} needs: "
            "choose another disk with --out"
        )
    if not isinstance(error.filename, (str, os.PathLike)):
        return None
    path, out = Path(error.filename).absolute(), out.absolute()
    work = work_folder(out)
    above = path in (out, work, *out.parents)
    if (error.errno in REFUSED and (above or path.is_relative_to(work))) or (
        error.errno in NO_FOLDER and above
    ):
        # mkdir says of a file in the way that it exists.
        code = errno.ENOTDIR if error.errno == errno.EEXIST else error.errno
        return f"cannot write {path}: {os.strerror(code)}; choose another folder with --out"
    return None


def _no_space(out: Path) -> str:
    full = min((out.parent, Path(tempfile.gettempdir())), key=_free)
    return (
        f"no space left while writing {out}: {_size(_free(full))} free in {full}; "
        "make room or choose another disk with --out"
    )


def _free(path: Path) -> int:
    """Give the bytes this user may still write at the nearest folder above that exists."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def _size(count: int) -> str:
    for unit, name in ((10**9, "GB"), (10**6, "MB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1000:.0f} kB"


# Exports of before the workbench: `.NAME.partial-PID`, `.NAME.old-PID`.


def _remove_numbered(out: Path) -> None:
    for old in _left_behind(out, "old"):
        if out.exists():
            shutil.rmtree(old)
        else:
            old.rename(out)
    for partial in _left_behind(out.parent / "*", "partial"):
        shutil.rmtree(partial)


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
