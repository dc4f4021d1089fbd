"""Random weights as a GGUF file holds them, drawn already quantised.

Owns: random blocks of each type and their way into the file. No float matrix is made of what is
quantised: bytes are drawn, with scales that give every matrix a standard deviation of 1/√columns,
so that activations stay finite. A tensor depends on the seed and its name alone. Knows nothing of
any model.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter

from uservlm.converters.gguf_file import Stored, behind_header

Bytes = npt.NDArray[np.uint8]
Kind = GGMLQuantizationType

WEIGHTS: Final = 1 << 22
"""That are drawn at once; a multiple of every type's block."""


def append(writer: GGUFWriter, path: Path, tensors: Sequence[Stored], seed: int) -> None:
    """Write the header that `writer` has gathered, and behind it random tensors.

    Args:
        writer: not written yet; it is closed.
        path: its file.
        tensors: in the order of the file; of a kind in BLOCKS, F32 if there are no columns.
        seed: of all of them.
    """
    with behind_header(writer, path, tensors) as put:
        for tensor in tensors:
            for block in draw(tensor, seed):
                put(block)


def draw(tensor: Stored, seed: int) -> Iterator[Bytes]:
    """Draw a tensor's bytes in order: matrices around 0, norms 1, biases 0."""
    if len(tensor.shape) == 1:
        value = 0.0 if tensor.name.endswith(".bias") else 1.0
        yield np.full(tensor.shape, value, np.float32).view(np.uint8)
        return
    name = np.frombuffer(hashlib.sha256(tensor.name.encode()).digest(), np.uint32)
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, *name.tolist()])))
    deviation = math.prod(tensor.shape[1:]) ** -0.5
    weights, block = math.prod(tensor.shape), GGML_QUANT_SIZES[tensor.kind][0]
    for start in range(0, weights, WEIGHTS):
        count = min(WEIGHTS, weights - start) // block
        yield BLOCKS[tensor.kind](rng, count, deviation).reshape(-1)


def _q4_0(rng: np.random.Generator, count: int, deviation: float) -> Bytes:
    """uint8 [count, 18]: a float16 scale of either sign, 32 levels 0 … 15 that count from -8."""
    packed = _noise(rng, count, 18)
    scale = np.float16(deviation / math.sqrt(21.5))  # the levels' mean square
    packed[:, :2] = _signed(rng, count, scale).view(np.uint8).reshape(-1, 2)
    return packed


def _q6_k(rng: np.random.Generator, count: int, deviation: float) -> Bytes:
    """uint8 [count, 210]: 256 levels 0 … 63 that count from -32, 16 int8 scales, their float16."""
    packed = _noise(rng, count, 210)
    packed[:, 192:208] = _signed(rng, 16 * count, np.int8(64)).view(np.uint8).reshape(-1, 16)
    scale = np.float16(deviation / 64 / math.sqrt(341.5))
    packed[:, 208:] = np.full(count, scale).view(np.uint8).reshape(-1, 2)
    return packed


def _f16(rng: np.random.Generator, count: int, deviation: float) -> Bytes:
    return _normal(rng, count, deviation).astype(np.float16).view(np.uint8)


def _f32(rng: np.random.Generator, count: int, deviation: float) -> Bytes:
    return _normal(rng, count, deviation).view(np.uint8)


BLOCKS: Final[Mapping[Kind, Callable[[np.random.Generator, int, float], Bytes]]] = {
    Kind.Q4_0: _q4_0,
    Kind.Q6_K: _q6_k,
    Kind.F16: _f16,
    Kind.F32: _f32,
}
"""Draws so many blocks of a type (layouts: ggml/src/ggml-common.h), with that deviation."""


def _noise(rng: np.random.Generator, count: int, size: int) -> Bytes:
    words = rng.integers(0, 1 << 64, -(-count * size // 8), dtype=np.uint64)
    return words.view(np.uint8)[: count * size].reshape(count, size)


def _signed(
    rng: np.random.Generator, count: int, value: np.float16 | np.int8
) -> npt.NDArray[np.float16 | np.int8]:
    return np.where(rng.integers(0, 2, count, dtype=np.bool_), value, -value)


def _normal(rng: np.random.Generator, count: int, deviation: float) -> npt.NDArray[np.float32]:
    return rng.standard_normal(count, dtype=np.float32) * np.float32(deviation)
