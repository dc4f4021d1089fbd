"""The values of a random checkpoint, tensor by tensor, in blocks of rows.

Owns: how every kind of weight is drawn, so that the answer depends on picture and question, and
the outliers trained weights have. Knows nothing of files. A tensor depends on the seed and its
canonical name alone: neither order nor the size of blocks changes it.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from uservlm.converters.names import VISION

BLOCK = 1 << 21
"""Values drawn at once; two matrices of this size are all that is held."""
FEEDS = {
    "layer_norm1": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "layer_norm2": ("mlp.fc1",),
    "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "pre_feedforward_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
}
"""Which matrices read a norm's output; the first two are SigLIP's, the others Gemma's."""
MASSIVE_LAYER = 2
"""Layer whose feed-forward writes the massive channels, as in trained ones an early one does."""

Floats: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Outliers:
    """What makes trained weights hard to quantise; the zeros of `NONE` leave plain noise."""

    channels: int = 4
    """Loud channels of every norm that feeds matrices."""
    gains: tuple[float, float] = (5.0, 30.0)
    """Their gains are drawn log-uniformly between these; columns reading them shrink by the root,
    so that a loud channel counts for more without drowning the others."""
    spread: float = 0.3
    """Standard deviation of the logarithm of a matrix row's scale."""
    massive: float = 40.0
    """Size of the massive channels of both residual streams."""
    massive_channels: int = 3
    planted: tuple[int, ...] = ()
    """SigLIP layers whose `planted_channels` channels before fc1 are louder by `planted_gain` and
    read by columns as much smaller: exact in floating point, ruin for one scale per tensor."""
    planted_channels: int = 3
    planted_gain: float = 2048.0
    """A power of two, so that bfloat16 and float32 round as they would without."""


NONE = Outliers(channels=0, spread=0.0, massive_channels=0)
REALISTIC = Outliers()


def draw(
    name: str, size: tuple[int, ...], seed: int, outliers: Outliers = NONE
) -> Iterator[Floats]:
    """Draw a tensor in blocks of whole rows.

    Args:
        name: canonical (`converters.names`).
        size: its shape.
        seed: of the checkpoint, not negative.
        outliers: what to put on top of the noise.

    Yields:
        (n, …): float32, the next rows, contiguous.
    """
    rng = _generator(seed, name)
    if len(size) == 1:
        yield _vector(name, size[0], rng, seed, outliers)
        return
    columns = math.prod(size[1:])
    per_row = np.full(size[0], _spread(name, columns), np.float32)
    if outliers.spread:
        logs = _generator(seed, name + "/rows").standard_normal(size[0]) * outliers.spread
        per_row *= np.exp(logs - outliers.spread**2).astype(np.float32)
    shrink = _column_factors(name, columns, seed, outliers)
    step = max(1, BLOCK // columns)
    for start in range(0, size[0], step):
        block = rng.standard_normal((min(step, size[0] - start), columns), dtype=np.float32)
        block *= per_row[start : start + step, None]
        if shrink is not None:
            block *= shrink
        yield block.reshape(-1, *size[1:])


def _vector(
    name: str, length: int, rng: np.random.Generator, seed: int, outliers: Outliers
) -> Floats:
    values = rng.standard_normal(length, dtype=np.float32) * np.float32(0.1) + _centre(name)
    layer, part = _parts(name)
    norm, kind = part.rsplit(".", 1)
    offset = 0.0 if VISION in name else 1.0  # Gemma adds 1 itself
    if norm in FEEDS:
        gains, planted = _gains(layer, norm, length, seed, outliers)
        values = (values + offset) * gains * planted - offset
    massive = _massive_channels(name, length, seed, outliers)
    if layer.endswith(f".{MASSIVE_LAYER}.") and part == "mlp.fc2.bias":
        values[massive] = outliers.massive * np.where(values[massive] < 0, -1, 1)
    elif layer.endswith(f".{MASSIVE_LAYER}.") and norm == "post_feedforward_layernorm":
        values[massive] = (values[massive] + offset) * outliers.massive - offset
    elif name == f"{VISION}post_layernorm.{kind}":
        # Else a constant would hide from the projector, and from any cosine, what layers compute.
        values[massive] /= outliers.massive
    return values.astype(np.float32, copy=False)


def _spread(name: str, columns: int) -> float:
    if "position_embedding" in name:
        return 0.5
    # Matrices: more would let attention magnify every rounding, as trained weights do not.
    # Embeddings: the head is tied and fed rows of length √width, so the logits' std is about 1.
    return float(columns**-0.5)


def _centre(name: str) -> np.float32:
    if not name.endswith("norm.weight") and "layer_norm" not in name:
        return np.float32(0)
    if "vision_tower" in name:
        return np.float32(1 if name.endswith("weight") else 0)
    # What layers add to the stream is trebled (1 is added by Gemma itself), or the tied head would
    # only ever repeat the last token of the prompt.
    return np.float32(2 if "post_" in name else 0)


def _column_factors(name: str, columns: int, seed: int, outliers: Outliers) -> Floats | None:
    layer, part = _parts(name)
    for norm in ("layer_norm1", "layer_norm2") if VISION in name else tuple(FEEDS)[2:]:
        if part.rsplit(".", 1)[0] in FEEDS[norm]:
            gains, planted = _gains(layer, norm, columns, seed, outliers)
            return (1 / (np.sqrt(gains) * planted)).astype(np.float32)
    return None


def _gains(
    layer: str, norm: str, width: int, seed: int, outliers: Outliers
) -> tuple[Floats, Floats]:
    """Factors of a norm's channels: of its own, and planted; a channel is of one kind at most."""
    rng = _generator(seed, f"{layer}{norm}/gains")
    low, high = (math.log(gain) for gain in outliers.gains)
    own, planted = np.ones(width, np.float32), np.ones(width, np.float32)
    order = rng.permutation(width)
    loud, hidden = np.split(
        order[: outliers.channels + outliers.planted_channels], [outliers.channels]
    )
    own[loud] = np.exp(rng.uniform(low, high, len(loud)))
    if norm == "layer_norm2" and layer in {
        f"{VISION}encoder.layers.{number}." for number in outliers.planted
    }:
        planted[hidden] = outliers.planted_gain
    return own, planted


def _massive_channels(name: str, width: int, seed: int, outliers: Outliers) -> NDArray[np.int64]:
    stream = "vision" if VISION in name else "language"
    return _generator(seed, f"{stream}/massive").permutation(width)[: outliers.massive_channels]


def _parts(name: str) -> tuple[str, str]:
    """Split `….layers.3.mlp.fc1.weight` behind the number; the first part is empty without one."""
    found = re.match(r"(.*\.layers\.\d+\.)(.*)", name)
    return (found[1], found[2]) if found else ("", name)


def _generator(seed: int, name: str) -> np.random.Generator:
    digest = np.frombuffer(hashlib.sha256(name.encode()).digest(), np.uint32)
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, *digest.tolist()])))
