"""A folder as one .tar.xz that depends on its files alone, so that two builds can be compared.

Owns: the order, what is written of a file beside its bytes, and how it is compressed: in pieces, on
all processors at once, whose number changes no byte. Knows nothing of what is in it.
"""

from __future__ import annotations

import lzma
import os
import tarfile
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO, Final

from uservlm.toolchain.integrity import listed

PRESET: Final = 6
"""Of xz: whoever unpacks it needs 9 MB of memory."""
PIECE: Final = 32 << 20
"""Bytes that are compressed by themselves; an .xz file may be several, one after the other."""


def pack(folder: Path, archive: Path, *, name: str, time: int) -> None:
    """Write a folder's files and links into an archive, which appears there only when it is whole.

    Args:
        folder: what is packed; empty folders are left out.
        archive: the .tar.xz, replaced when it is there.
        name: of the one folder in it.
        time: of every file, in seconds since 1970.

    Raises:
        OSError: there is no room, or a file is gone.
    """
    made = archive.with_name(f"{archive.name}.making")
    try:
        with made.open("wb") as file, _Pieces(file) as packed:
            with tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT) as tar:
                for path in sorted(listed(folder)):
                    _add(tar, folder / path, f"{name}/{path}", time)
        made.replace(archive)
    finally:
        made.unlink(missing_ok=True)  # where it did not come to an end


class _Pieces(RawIOBase):
    """Compresses what is written into it, with as many threads as there are processors."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._piece = file, bytearray()
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._waiting: deque[Future[bytes]] = deque()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        self._piece += data
        while len(self._piece) >= PIECE:
            self._send(bytes(self._piece[:PIECE]))
            del self._piece[:PIECE]
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._send(bytes(self._piece))
            self._take(0)
            self._pool.shutdown()
        super().close()

    def _send(self, piece: bytes) -> None:
        self._waiting.append(self._pool.submit(lzma.compress, piece, preset=PRESET))
        self._take(2 * (os.cpu_count() or 1))

    def _take(self, waiting: int) -> None:
        while len(self._waiting) > waiting:
            self._file.write(self._waiting.popleft().result())


def _add(tar: tarfile.TarFile, file: Path, name: str, time: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.mtime = time
    if file.is_symlink():
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, os.readlink(file), 0o777
        tar.addfile(entry)
        return
    status = file.stat()
    entry.size, entry.mode = status.st_size, 0o755 if status.st_mode & 0o100 else 0o644
    with file.open("rb") as opened:
        tar.addfile(entry, opened)
