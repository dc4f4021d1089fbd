"""A GGUF file in pieces: its header first, then the bytes of each tensor as they come.

Owns: how these are put together, sizes and alignment. gguf's own writer wants each tensor whole.
Knows nothing of what a file describes, nor of values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFWriter

from uservlm.converters.quantise import bytes_of

Packed = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Stored:
    """One tensor of a file."""

    name: str
    shape: tuple[int, ...]
    """As numpy counts, rows first."""
    kind: GGMLQuantizationType

    @property
    def bytes(self) -> int:
        """Its size."""
        return bytes_of(self.shape, self.kind)


@contextmanager
def behind_header(
    writer: GGUFWriter, path: Path, tensors: Iterable[Stored]
) -> Iterator[Callable[[Packed], None]]:
    """Write the header that `writer` has gathered, and lend what appends the bytes of the tensors.

    Args:
        writer: nothing is written yet; it is closed.
        path: its file.
        tensors: in order; each comes in one piece or several, no piece is of two.
    """
    sizes = []
    for one in tensors:
        dtype = np.dtype(np.float32)
        writer.add_tensor_info(one.name, one.shape, dtype, one.bytes, raw_dtype=one.kind)
        sizes.append(one.bytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    alignment = writer.data_alignment
    writer.close()
    with path.open("ab") as file:
        body = _Body(file, alignment, iter(sizes))
        yield body.append
        assert body.is_whole


class _Body:
    """Knows where a tensor ends, behind which the file is filled up with zeros."""

    def __init__(self, file: BinaryIO, alignment: int, sizes: Iterator[int]) -> None:
        self._file, self._alignment, self._sizes = file, alignment, sizes
        self._next()

    def append(self, piece: Packed) -> None:
        piece.tofile(self._file)
        self._left -= piece.nbytes
        assert self._left >= 0
        if self._left == 0:
            self._next()

    @property
    def is_whole(self) -> bool:
        return self._left == 0

    def _next(self) -> None:
        self._file.write(bytes(-self._file.tell() % self._alignment))
        self._left = next(self._sizes, 0)
