"""The safetensors files of a folder: which tensors lie where, and their values, block by block.

Owns: that index and shards agree, that values are finite, and saying what a file that cannot be
read is instead. Knows nothing of what the tensors mean.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from uservlm.converters.errors import CheckpointError
from uservlm.converters.files import is_there, read_json, reading, refuse_pointer

if TYPE_CHECKING:
    import torch

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
KINDS = ("BF16", "F16", "F32")
"""Stored number formats that are read, by the names of safetensors."""
BLOCK = 1 << 24
"""Values that are in memory twice at once, as stored and as float32."""
FOREIGN = (".bin", ".pt", ".pth", ".ckpt", ".npz", ".msgpack", ".h5", ".gguf")
"""How weights that are not read end: pickles, big_vision's arrays, Flax, Keras, llama.cpp."""
SAVE = "load it with transformers and save it with save_pretrained(…, safe_serialization=True)"
QUANTISED = (".absmax", ".quant_map", ".SCB", ".qweight", ".qzeros", ".weight_scale", ".g_idx")
"""How tensors end that bitsandbytes, AWQ, GPTQ and compressed-tensors store beside a weight."""


@dataclass(frozen=True)
class Place:
    """Where a tensor lies."""

    file: Path
    key: str
    """Its name in that file."""


@dataclass(frozen=True)
class Stored:
    """What a file's header says about one tensor."""

    place: Place
    shape: tuple[int, ...]
    kind: str
    """Number format, by the names of safetensors."""


def list_stored(folder: Path) -> list[Stored]:
    """Read the headers of all weight files of a checkpoint; no values, and no torch.

    Raises:
        CheckpointError: no safetensors, a damaged or missing file, or index and shards disagree.
    """
    index = folder / INDEX_FILE
    indexed = is_there(index)
    shards = _shards(folder, index) if indexed else {}
    files = sorted({folder / name for name in shards.values()}) if indexed else [_single(folder)]
    _refuse_doubt(folder, files, indexed)
    stored = [tensor for file in files for tensor in list_file(file)]
    if indexed:
        _compare(index, shards, stored)
    _refuse_kinds(folder, stored)
    return stored


def list_file(file: Path) -> list[Stored]:
    """Read the header of one safetensors file.

    Raises:
        CheckpointError: it cannot be read, and what it is instead.
    """
    from safetensors import SafetensorError, safe_open

    refuse_pointer(file)
    try:
        with reading(file), safe_open(file, framework="np") as tensors:
            slices = {key: tensors.get_slice(key) for key in tensors.keys()}  # noqa: SIM118
            return [
                Stored(Place(file, key), tuple(part.get_shape()), str(part.get_dtype()))
                for key, part in slices.items()
            ]
    except SafetensorError as error:
        raise CheckpointError(f"{file} {_diagnosis(file, error)}") from error


def read(place: Place, start: int = 0, stop: int | None = None) -> torch.Tensor:
    """Read a tensor as float32, or its rows [start, stop).

    The file is opened anew for every block: pages of a memory map count as this process's memory
    until the map goes, and a map kept open had 5.3 GB of a 5.2 GB file at the end (0.5 ms each).

    Raises:
        CheckpointError: a value is not finite, or the file cannot be read any more.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with reading(place.file), safe_open(place.file, framework="pt") as tensors:
            shape = tensors.get_slice(place.key).get_shape()
            if not shape:
                return _checked(place, tensors.get_tensor(place.key).float())
        stop = shape[0] if stop is None else min(stop, shape[0])
        values = torch.empty(max(0, stop - start), *shape[1:])
        step = max(1, BLOCK // max(1, math.prod(shape[1:])))
        for at in range(start, stop, step):
            with reading(place.file), safe_open(place.file, framework="pt") as tensors:
                block = tensors.get_slice(place.key)[at : min(at + step, stop)]
                _checked(place, values[at - start : at - start + len(block)].copy_(block))
    except SafetensorError as error:
        raise CheckpointError(f"{place.file} {_diagnosis(place.file, error)}") from error
    return values


def equal(one: Place, other: Place) -> bool:
    """Compare two matrices of one shape, block by block."""
    import torch

    shape = next(tensor.shape for tensor in list_file(one.file) if tensor.place == one)
    step = max(1, BLOCK // math.prod(shape[1:]))
    return all(
        torch.equal(read(one, at, at + step), read(other, at, at + step))
        for at in range(0, shape[0], step)
    )


def is_quantised(key: str) -> bool:
    """Tell whether a name is of a tensor that only quantised checkpoints store."""
    return key.endswith(QUANTISED) or ".quant_state." in key


def _checked(place: Place, values: torch.Tensor) -> torch.Tensor:
    """Stop on NaN and infinity.

    A sum is finite only if all it sums is, and far quicker than looking at each value; that is
    done only when the sum is not finite, as finite values may overflow together.
    """
    if not values.sum().isfinite() and not values.isfinite().all():
        raise CheckpointError(
            f"{place.key} in {place.file.name} holds NaN or infinity: the training diverged or the "
            "file is damaged; take an earlier state or fetch it again"
        )
    return values


def _single(folder: Path) -> Path:
    """Give the one weight file of a folder without index, or say what is there instead."""
    file = folder / WEIGHTS_FILE
    if is_there(file):
        return file
    with reading(folder):
        held = sorted(path.name for path in folder.iterdir())
    foreign = [name for name in held if name.endswith(FOREIGN) and name != "training_args.bin"]
    other = [name for name in held if name.endswith(".safetensors")]
    if foreign:
        files = ", ".join(foreign[:4])
        what = f"{files}, which is not read (a pickle could run any program): {SAVE}"
    elif other:
        files = ", ".join(other[:4])
        what = f"{files}, but no {INDEX_FILE} that says what is in them: fetch it too"
    else:
        what = f"neither {WEIGHTS_FILE} nor {INDEX_FILE}: give a folder in Hugging Face layout"
    raise CheckpointError(f"{folder} holds {what}")


def _shards(folder: Path, index: Path) -> dict[str, str]:
    """Read which shard holds which tensor."""
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise CheckpointError(f"{index} is damaged: it holds no weight_map; fetch it again")
    for name in shards.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(f"{index} is damaged: {name!r} is no file of its folder")
    missing = sorted({name for name in shards.values() if not (folder / name).is_file()})
    if missing:
        raise CheckpointError(
            f"{folder} lacks {', '.join(missing)}, which {INDEX_FILE} names: "
            "fetch what is missing, e.g. start the download again"
        )
    return shards


def _refuse_doubt(folder: Path, files: list[Path], indexed: bool) -> None:
    """Refuse weight files that are not used: one of two saves would be read, perhaps the wrong."""
    numbered = set(folder.glob("model-*-of-*.safetensors"))
    single = {folder / WEIGHTS_FILE} if (folder / WEIGHTS_FILE).is_file() else set()
    stray = sorted(path.name for path in (numbered | single) - set(files))
    if stray:
        named = INDEX_FILE if indexed else WEIGHTS_FILE
        raise CheckpointError(
            f"{folder} holds {', '.join(stray[:4])} beside the weights of {named}: "
            "two saves are mixed, move away the one that is not meant"
        )


def _compare(index: Path, shards: dict[str, str], stored: list[Stored]) -> None:
    """Check that every shard holds what the index says, and nothing else."""
    found: dict[str, list[str]] = defaultdict(list)
    for tensor in stored:
        found[tensor.place.key].append(tensor.place.file.name)
    for key in sorted({*shards, *found}):
        named, held = shards.get(key, "no file"), found.get(key, ["no file"])
        if held != [named]:
            raise CheckpointError(
                f"{index.name} says {key} is in {named}, and it is in {' and '.join(held)}: "
                f"index and shards of {index.parent} are of different saves, fetch both again"
            )


def _refuse_kinds(folder: Path, stored: Iterable[Stored]) -> None:
    for tensor in stored:
        key = tensor.place.key
        if is_quantised(key):
            raise CheckpointError(f"{folder} is quantised (it holds {key}): {way_from_quantised()}")
        if tensor.kind not in KINDS:
            raise CheckpointError(
                f"{key} in {tensor.place.file} is stored as {tensor.kind}, supported are "
                f"{', '.join(KINDS)}: {way_from_quantised()}"
            )


def way_from_quantised() -> str:
    """Say what to do with a quantised checkpoint."""
    return (
        "give the checkpoint it was made from, or undo it with transformers "
        "(model.dequantize(), then save_pretrained)"
    )


def _diagnosis(file: Path, error: Exception) -> str:
    """Say what a file is that safetensors does not take."""
    with reading(file), file.open("rb") as stream:
        start = stream.read(8)
        size, length = file.stat().st_size, int.from_bytes(start, "little")
        header = stream.read(length) if length < size else b""
    if size == 0:
        return "is empty: fetch it again"
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")):
        return f"is a pickle, not safetensors: {SAVE}"
    try:
        tensors = json.loads(header)
        ends = [entry["data_offsets"][1] for key, entry in tensors.items() if key != "__metadata__"]
        whole = 8 + length + max(ends)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return f"is damaged: it does not begin as safetensors do ({error}); fetch it again"
    if whole > size:
        return f"is cut off: it has {size:,} of {whole:,} bytes; fetch it again"
    return f"is damaged: {error}; fetch it again"
