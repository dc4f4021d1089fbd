"""Files that are either old or new, never half: temporary, fsync, rename, fsync of the folder.

Owns: how a file of the users' store reaches the disk and leaves it, who may write at a time, and
what is a plain file. Knows nothing of keys, consent or contents.

A file on its way is called `.OWNER.RANDOM.partial` and locked by its writer (`flock`), so that
whoever sweeps leaves the files of the living alone; the kernel lets go of a lock when its process
dies, however it dies. The folder itself is locked the same way for the short moments in which
something is begun, put in place or removed (as in docs/decisions/0006).
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from uservlm.runtime.errors import SealError, StoreError

PATIENCE = 30.0
"""Seconds to wait for another process; only a stopped one holds the folder that long."""
_PARTIAL = re.compile(r"\.[0-9a-z]+\.[0-9a-f]{16}\.partial")
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Turn the system's refusals into StoreError; `doing` begins the message."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{doing}: {error.strerror or error}") from error


@contextmanager
def locked(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the folder alone, among threads and processes; not twice in one thread.

    Raises:
        StoreError: somebody else holds it for longer than `patience` seconds.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + patience
        while not _try_lock(handle):
            if time.monotonic() > until:
                raise StoreError(
                    f"{folder} has been held by another process for {patience:g} s: end it"
                )
            time.sleep(0.002)
        yield
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder that is ours alone (0700), if there is none.

    Raises:
        StoreError: it belongs to somebody else.
    """
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync(folder.parent)
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise StoreError(
            f"{folder} belongs to user {found.st_uid}, this process to {os.geteuid()}: "
            "run it as the folder's owner"
        )


def close_to_others(folder: Path) -> None:
    """Let nobody else in (0700), whatever the umask was."""
    if stat.S_IMODE(folder.stat().st_mode) != 0o700:
        folder.chmod(0o700)


class Draft:
    """A file on its way, locked by us; used as a context, it is gone at the end if not placed."""

    def __init__(self, folder: Path, owner: str) -> None:
        """Begin, in a folder the caller has locked; `owner` is lower-case letters and digits."""
        self._folder = folder
        self._path = folder / f".{owner}.{secrets.token_hex(8)}.partial"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._handle = os.open(self._path, flags, 0o600)
        fcntl.flock(self._handle, fcntl.LOCK_EX)

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *_: object) -> None:
        # In this order: once the lock is let go a sweeper may take the name away first.
        with suppress(FileNotFoundError):
            self._path.unlink()
        os.close(self._handle)

    def write(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Write all of it and wait until the disk has it."""
        os.fchmod(self._handle, 0o600)  # whatever the umask
        for piece in pieces:
            rest = memoryview(piece)
            while rest.nbytes:
                rest = rest[os.write(self._handle, rest) :]
        os.fsync(self._handle)

    def place(self, name: str) -> None:
        """Give it its name, instead of what had it; the caller holds the folder.

        Raises:
            FileNotFoundError: it was removed meanwhile: its owner was forgotten.
        """
        self._path.replace(self._folder / name)
        sync(self._folder)


@contextmanager
def plain_file(path: Path) -> Iterator[tuple[FileIO, int]]:
    """Open a file to read, with its size in bytes; never follows a link, never waits.

    Raises:
        SealError: a link, folder, pipe, socket or device, or one we may not read.
        FileNotFoundError: there is none.
    """
    try:
        handle = os.open(path, _READ)
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise SealError("it may not be read") from error
    except OSError:
        if stat.S_ISREG(path.lstat().st_mode):
            raise  # out of handles, a failing disk: no fault of the file
        raise SealError("it is no plain file") from None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise SealError("it is no plain file")
        yield FileIO(handle, closefd=False), found.st_size
    finally:
        os.close(handle)


def remove(paths: Iterable[Path]) -> int:
    """Remove files, links unfollowed, folders with what is in them; gives how many there were."""
    count = 0
    for path in paths:
        with suppress(FileNotFoundError):
            if stat.S_ISDIR(path.lstat().st_mode):
                shutil.rmtree(path)
            else:
                path.unlink()
            count += 1
    return count


def sweep(folder: Path) -> None:
    """Remove what dead writers left behind; the caller holds the folder."""
    for entry in os.listdir(folder):
        if is_partial(entry) and _abandoned(folder / entry):
            remove([folder / entry])


def is_partial(name: str) -> bool:
    """Whether a file of that name is on its way, or was."""
    return _PARTIAL.fullmatch(name) is not None


def sync(folder: Path) -> None:
    """Wait until the disk knows the folder's names."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _abandoned(path: Path) -> bool:
    try:
        with plain_file(path) as (stream, _):
            return _try_lock(stream.fileno())
    except SealError:
        return True
    except FileNotFoundError:
        return False


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
