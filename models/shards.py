"""Safetensors shards written in place: their layout is known before the first value is.

Owns: the file format and how tensors are dealt to files. Knows nothing of values or of models.
Format: 8 bytes header length (little-endian), a JSON header, the data
(github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

KINDS = {"bfloat16": ("BF16", 2), "float16": ("F16", 2), "float32": ("F32", 4)}
"""Name and bytes per value of the supported types of weights."""
INDEX = "model.safetensors.index.json"

Blocks = Callable[[str], Iterable[NDArray[np.float32]]]
"""Gives a tensor's values by its stored name, in order."""


@dataclass(frozen=True)
class Slot:
    """Where a tensor goes."""

    name: str
    file: str
    begin: int
    """Byte of the file at which its data begins."""
    end: int


@dataclass(frozen=True)
class Layout:
    """All files of a checkpoint's weights."""

    dtype: str
    headers: dict[str, bytes]
    """By file name: what stands before the data, its length included."""
    slots: tuple[Slot, ...]

    @property
    def data_bytes(self) -> int:
        """Of all tensors."""
        return sum(slot.end - slot.begin for slot in self.slots)

    @property
    def file_bytes(self) -> int:
        """Of all files."""
        return self.data_bytes + sum(map(len, self.headers.values()))


def plan(shapes: Mapping[str, tuple[int, ...]], dtype: str, shard_bytes: int) -> Layout:
    """Deal tensors to files of at most `shard_bytes` of data, in order, as transformers does.

    A tensor larger than that gets a file of its own. ValueError if the dtype is not one of KINDS.
    """
    if dtype not in KINDS:
        raise ValueError(f"weights cannot be stored as {dtype!r}: choose one of {', '.join(KINDS)}")
    groups: list[list[str]] = [[]]
    filled = 0
    for name, size in shapes.items():
        count = _bytes(size, dtype)
        if groups[-1] and filled + count > shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += count
    headers: dict[str, bytes] = {}
    slots: list[Slot] = []
    for number, group in enumerate(groups, 1):
        file = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        file = "model.safetensors" if len(groups) == 1 else file
        headers[file] = _header({name: shapes[name] for name in group}, dtype)
        begin = len(headers[file])
        for name in group:
            end = begin + _bytes(shapes[name], dtype)
            slots.append(Slot(name, file, begin, end))
            begin = end
    return Layout(dtype, headers, tuple(slots))


def write(
    folder: Path, layout: Layout, blocks: Blocks, done: Callable[[int], object] = lambda _: None
) -> None:
    """Write every shard, two tensors at a time, then the index if there are several.

    Args:
        folder: where; it must exist.
        layout: from `plan`.
        blocks: the values.
        done: called with the number of bytes written since the last call, from either thread.
    """
    ends = {slot.file: slot.end for slot in layout.slots}
    for file, header in layout.headers.items():
        with (folder / file).open("wb") as out:
            out.write(header)
            out.truncate(ends[file])

    def fill(slot: Slot) -> None:
        with (folder / slot.file).open("r+b") as out:
            out.seek(slot.begin)
            for block in blocks(slot.name):
                done(out.write(as_bytes(block, layout.dtype)))
            if out.tell() != slot.end:
                raise ValueError(f"{slot.name} ends at byte {out.tell()} instead of {slot.end}")

    # The large first, or the table of embeddings would be left to one thread at the end.
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(fill, sorted(layout.slots, key=lambda slot: slot.begin - slot.end)):
            pass
    if len(layout.headers) > 1:
        _write_index(folder, layout)


def as_bytes(values: NDArray[np.float32], dtype: str) -> memoryview:
    """Round finite float32 to nearest, ties to even, and lay the bytes out little-endian."""
    if dtype == "float32":
        return values.astype("<f4", copy=False).data.cast("B")
    if dtype == "float16":
        return values.astype("<f2").data.cast("B")
    bits = values.view(np.uint32)
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    bits >>= np.uint32(16)
    return bits.astype("<u2").data.cast("B")


def _header(shapes: Mapping[str, tuple[int, ...]], dtype: str) -> bytes:
    described = dict(_described(shapes, dtype))
    text = json.dumps({"__metadata__": {"format": "pt"}, **described}, separators=(",", ":"))
    raw = text.encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


def _described(
    shapes: Mapping[str, tuple[int, ...]], dtype: str
) -> Iterator[tuple[str, dict[str, object]]]:
    begin = 0
    for name, size in shapes.items():
        end = begin + _bytes(size, dtype)
        yield name, {"dtype": KINDS[dtype][0], "shape": size, "data_offsets": [begin, end]}
        begin = end


def _bytes(size: tuple[int, ...], dtype: str) -> int:
    return math.prod(size) * KINDS[dtype][1]


def _write_index(folder: Path, layout: Layout) -> None:
    index = {
        "metadata": {"total_size": layout.data_bytes},
        "weight_map": {slot.name: slot.file for slot in sorted(layout.slots, key=lambda s: s.name)},
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
