"""The GGUF file from the outside: a checked header, and rows of its token-embedding table.

Owns: reading the header with every offset checked against the file's size, so that a damaged file
is a `BundleError` here and not an abort inside llama.cpp, and dequantising single rows. Knows
nothing of llama.cpp's runtime. gguf-py's own `GGUFReader` makes several numpy views for each
vocabulary entry: ✔ 13 s and 680 MB for Gemma's 257 216 tokens; this reader steps over them.
"""

from __future__ import annotations

import mmap
import os
import struct
import weakref
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from uservlm.runtime.errors import BundleError, EngineError
from uservlm.runtime.manifest import Architecture

Value: TypeAlias = "bool | int | float | str | Array"

EMBEDDING_TABLE: Final = "token_embd.weight"
ARCHITECTURE: Final = "gemma2"
HEADER_BYTES: Final = 64 << 20
"""More than any header: with Gemma's 257 216 pieces it is about 7 MB."""
_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_STRING, _ARRAY = 8, 9
_SCALARS: Final = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i",
    6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
"""GGUF value type -> struct format (gguf/constants.py, GGUFValueType)."""


@dataclass(frozen=True)
class Array:
    """An array of the header; only its length is kept."""

    length: int


@dataclass(frozen=True)
class Tensor:
    """Where one tensor lies."""

    shape: tuple[int, ...]
    """As numpy counts: rows first."""
    kind: int
    """GGMLQuantizationType."""
    offset: int
    """From the start of the file, in bytes."""
    bytes: int


class Weights:
    """A GGUF file whose header has been read and found whole.

    Of the file, the token-embedding table stays mapped, and nothing else: llama.cpp has the weights
    once, and a 3B's twice are more than the 3 GB of addresses that a 32-bit robot has.
    """

    def __init__(self, path: Path) -> None:
        """Open the file and read its header.

        Raises:
            BundleError: not there, not a GGUF file, truncated, or with parts that overlap its end.
            EngineError: there is no room for it among the process's addresses.
        """
        self.path = path
        self._file = _open(path)
        weakref.finalize(self, os.close, self._file)
        self._table: npt.NDArray[np.uint8] | None = None
        size = os.fstat(self._file).st_size
        # Not the whole file: what is allocated meanwhile would stay in the middle of the addresses,
        # and on 32 bits leave no room in one piece for a 3B (✔ 1.61 GB of the 1.66 needed).
        with closing(_map(self._file, path, min(size, HEADER_BYTES))) as data:
            cursor = _Cursor(data, path)
            self.values, records = _read_header(cursor)
        alignment = self.values.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0:
            raise BundleError(f"{path}: alignment {alignment!r}; export the bundle again")
        start = -(-cursor.position // alignment) * alignment
        self.tensors = {name: _place(path, name, record, start) for name, record in records.items()}
        for name, tensor in self.tensors.items():
            if tensor.offset + tensor.bytes > size:
                raise BundleError(f"{path} ends inside {name}: it is cut off; export it again")

    @property
    def mapped(self) -> npt.NDArray[np.uint8]:
        """The whole file, uint8 [bytes], as pages that nobody may write; tensors say where.

        Mapped for as long as what is given here is held.
        """
        return np.frombuffer(_map(self._file, self.path), np.uint8)

    def rows(self, numbers: Sequence[int], name: str = EMBEDDING_TABLE) -> npt.NDArray[np.float32]:
        """Dequantise rows of a tensor: float32 [rows, columns]; a vector is one row.

        By default of the token-embedding table, by token, not scaled by √d.
        """
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        table = self.tensors[name]
        count = table.shape[0] if len(table.shape) > 1 else 1
        stride = table.bytes // count
        chosen = self._pages(name).reshape(count, stride)[np.asarray(numbers, dtype=np.int64)]
        kind = GGMLQuantizationType(table.kind)
        plain = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}
        data = chosen.view(plain[kind]) if kind in plain else chosen
        rows: npt.NDArray[np.float32] = dequantize(data, kind)
        return np.ascontiguousarray(rows, dtype=np.float32)

    def _pages(self, name: str) -> npt.NDArray[np.uint8]:
        """Map one tensor, uint8 [bytes]; the table once and for all."""
        if name == EMBEDDING_TABLE and self._table is not None:
            return self._table
        tensor = self.tensors[name]
        before = tensor.offset % mmap.ALLOCATIONGRANULARITY
        data = _pages_of(self._file, self.path, before + tensor.bytes, tensor.offset - before)
        pages = np.frombuffer(data, np.uint8, tensor.bytes, before)
        if name == EMBEDDING_TABLE:
            self._table = pages
        return pages

    def expect(self, architecture: Architecture) -> None:
        """Compare with the manifest, so that llama.cpp never sees a model of another shape.

        Raises:
            BundleError: names the first field or tensor that disagrees.
        """
        for key, wanted in _expected_values(architecture).items():
            found = self.values.get(key)
            if found != wanted:
                raise BundleError(
                    f"{self.path}: {key} is {found!r}, the manifest says {wanted!r}; "
                    "export the bundle again"
                )
        for name, shape in expected_tensors(architecture).items():
            tensor = self.tensors.get(name)
            if tensor is None or tensor.shape != shape:
                found_shape = None if tensor is None else tensor.shape
                raise BundleError(
                    f"{self.path}: {name} has shape {found_shape}, not {shape}; "
                    "export the bundle again"
                )


def _expected_values(a: Architecture) -> dict[str, Value]:
    words = Array(a.vocabulary)
    return {
        "general.architecture": ARCHITECTURE,
        f"{ARCHITECTURE}.embedding_length": a.width,
        f"{ARCHITECTURE}.block_count": a.layers,
        f"{ARCHITECTURE}.feed_forward_length": a.feed_forward,
        f"{ARCHITECTURE}.attention.head_count": a.heads,
        f"{ARCHITECTURE}.attention.head_count_kv": a.kv_heads,
        f"{ARCHITECTURE}.attention.key_length": a.head_dim,
        f"{ARCHITECTURE}.attention.value_length": a.head_dim,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.scores": words,
        "tokenizer.ggml.token_type": words,
    }


def expected_tensors(a: Architecture) -> dict[str, tuple[int, ...]]:
    """Give the tensors llama.cpp's gemma2 graph asks for (src/models/gemma2.cpp)."""
    norm, queries, keys = (a.width,), a.heads * a.head_dim, a.kv_heads * a.head_dim
    layer = {
        "attn_norm": norm,
        "attn_q": (queries, a.width),
        "attn_k": (keys, a.width),
        "attn_v": (keys, a.width),
        "attn_output": (a.width, queries),
        "post_attention_norm": norm,
        "ffn_norm": norm,
        "ffn_gate": (a.feed_forward, a.width),
        "ffn_up": (a.feed_forward, a.width),
        "ffn_down": (a.width, a.feed_forward),
        "post_ffw_norm": norm,
    }
    layers = {f"blk.{i}.{k}.weight": v for i in range(a.layers) for k, v in layer.items()}
    return {EMBEDDING_TABLE: (a.vocabulary, a.width), "output_norm.weight": norm, **layers}


class _Cursor:
    """Reads forward and refuses to leave the file."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._data, self._path, self.position = data, path, 0

    def skip(self, count: int) -> int:
        start, end = self.position, self.position + count
        if end > len(self._data):
            raise BundleError(
                f"{self._path} ends inside its header, or that is longer than "
                f"{HEADER_BYTES >> 20} MiB: it is cut off; export it again"
            )
        self.position = end
        return start

    def take(self, count: int) -> bytes:
        start = self.skip(count)
        return self._data[start : start + count]

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def text(self) -> str:
        return self.take(self.number("<Q")).decode("utf-8")


def _map(file: int, path: Path, count: int = 0) -> mmap.mmap:
    if os.pread(file, len(_MAGIC), 0) != _MAGIC:
        raise BundleError(f"{path} is not a GGUF file; export the bundle again")
    return _pages_of(file, path, count)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read ({error.strerror}); export the bundle again"
        ) from error


def _pages_of(file: int, path: Path, count: int = 0, offset: int = 0) -> mmap.mmap:
    """Map a part of a file, or all of it."""
    try:
        return mmap.mmap(file, count, access=mmap.ACCESS_READ, offset=offset)
    except OSError as error:  # no addresses left, on 32 bits
        raise EngineError(f"{path} cannot be mapped: {error.strerror}") from error


def _read_header(cursor: _Cursor) -> tuple[dict[str, Value], dict[str, tuple[list[int], int, int]]]:
    path = cursor._path
    cursor.skip(len(_MAGIC))
    version = cursor.number("<I")
    if version not in _VERSIONS:
        raise BundleError(f"{path}: GGUF version {version}, this runtime reads {_VERSIONS}")
    tensors, pairs = cursor.number("<Q"), cursor.number("<Q")
    try:
        values = {cursor.text(): _read_value(cursor, cursor.number("<I")) for _ in range(pairs)}
        records = {cursor.text(): _read_record(cursor) for _ in range(tensors)}
    except (UnicodeDecodeError, KeyError) as error:
        raise BundleError(f"{path}: the header is damaged ({error}); export it again") from error
    return values, records


def _read_value(cursor: _Cursor, kind: int) -> Value:
    if kind == _STRING:
        return cursor.text()
    if kind == _ARRAY:
        return _skip_array(cursor)
    form = _SCALARS[kind]
    value: bool | int | float = struct.unpack(form, cursor.take(struct.calcsize(form)))[0]
    return value


def _skip_array(cursor: _Cursor) -> Array:
    kind, length = cursor.number("<I"), cursor.number("<Q")
    if kind == _STRING:
        for _ in range(length):
            cursor.skip(cursor.number("<Q"))
    else:
        cursor.skip(length * struct.calcsize(_SCALARS[kind]))
    return Array(length)


def _read_record(cursor: _Cursor) -> tuple[list[int], int, int]:
    """Give (dimensions, kind, offset into the data) of one tensor."""
    dimensions = [cursor.number("<Q") for _ in range(cursor.number("<I"))]
    return dimensions, cursor.number("<I"), cursor.number("<Q")


def _place(path: Path, name: str, record: tuple[list[int], int, int], start: int) -> Tensor:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    dimensions, kind, offset = record
    try:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (KeyError, ValueError) as error:
        raise BundleError(f"{path}: {name} is of unknown type {kind}; export it again") from error
    return Tensor(
        tuple(reversed(dimensions)), kind, start + offset, prod(dimensions) * size // block
    )
