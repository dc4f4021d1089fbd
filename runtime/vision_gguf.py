"""A `vision.gguf` from the outside: the tensors of SigLIP and its projector, named and checked.

Owns: the file's names, sizes and types, written by `converters/vision_gguf.py` and checked here
before ggml sees them: it ends the process where a shape does not fit. Knows nothing of ggml.

Names are those of llama.cpp's own vision files (gguf/constants.py, MODEL_ARCH.MMPROJ), as far as it
has them; its clip.cpp has no PaliGemma and does not read this one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uservlm.runtime.errors import BundleError
from uservlm.runtime.manifest import Architecture
from uservlm.runtime.weights import Tensor, Weights

ARCHITECTURE: Final = "clip"
PROJECTOR: Final = "paligemma"
F32, Q8_0 = 0, 8
"""GGMLQuantizationType; no other is read."""
BLOCK: Final = 32
"""Values of a row that share a scale in Q8_0."""
ALIGNMENT: Final = 32
"""Bytes; ggml's TENSOR_ALIGNMENT, and gguf's default."""
CHANNELS: Final = 3


@dataclass(frozen=True)
class Tower:
    """The sizes of SigLIP and projector."""

    image_size: int
    patch_size: int
    width: int
    feed_forward: int
    """Of the MLPs as they are stored: zeros may fill it up to a multiple of BLOCK."""
    layers: int
    heads: int
    projection: int
    """Width of what comes out, d."""
    epsilon: float
    """Of the layer norms."""

    @property
    def tokens(self) -> int:
        """N, the number of patches."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def patch(self) -> int:
        """Values of one patch: 3 · p · p."""
        return CHANNELS * self.patch_size**2


KEYS: Final = {
    "image_size": "clip.vision.image_size",
    "patch_size": "clip.vision.patch_size",
    "width": "clip.vision.embedding_length",
    "feed_forward": "clip.vision.feed_forward_length",
    "layers": "clip.vision.block_count",
    "heads": "clip.vision.attention.head_count",
    "projection": "clip.vision.projection_dim",
    "epsilon": "clip.vision.attention.layer_norm_epsilon",
}
"""Field of `Tower` -> key of the header."""


def expected_tensors(tower: Tower) -> dict[str, tuple[int, ...]]:
    """Give every tensor and its shape, rows first: what `vision_ggml.py` computes with.

    The patch embedding is a matrix [width, 3 · p · p], so that a convolution is a product.
    """
    w, inner = tower.width, tower.feed_forward
    linears = {
        "attn_q": (w, w), "attn_k": (w, w), "attn_v": (w, w), "attn_out": (w, w),
        "ffn_up": (inner, w), "ffn_down": (w, inner),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"v.position_embd.weight": (tower.tokens, w)}
    whole = {"v.patch_embd": (w, tower.patch), "mm.0": (tower.projection, w)}
    layers = {f"v.blk.{i}.{k}": shape for i in range(tower.layers) for k, shape in linears.items()}
    for name, shape in {**whole, **layers}.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]
    norms = [f"v.blk.{i}.{norm}" for i in range(tower.layers) for norm in ("ln1", "ln2")]
    for name in ("v.post_ln", *norms):
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (w,)
    return shapes


def may_shrink(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor may be stored in Q8_0: matrices of the layers and the projector.

    Patch and position embeddings are half a percent of the weights, and added up.
    """
    return len(shape) == 2 and name.startswith(("v.blk.", "mm.")) and shape[1] % BLOCK == 0


def open_tower(path: Path, architecture: Architecture) -> tuple[Weights, Tower]:
    """Map the file and check all that ggml would trust: milliseconds, no weight is read.

    Raises:
        BundleError: no GGUF, damaged, or not the encoder of a bundle of these sizes.
    """
    weights = Weights(path)
    tower = _tower(weights)
    for what, found, wanted in (
        ("image_size", tower.image_size, architecture.image_size),
        ("patch_size", tower.patch_size, architecture.patch_size),
        ("projection", tower.projection, architecture.width),
    ):
        if found != wanted:
            raise _foreign(path, f"{KEYS[what]} is {found}, the manifest says {wanted}")
    if tower.layers > len(weights.tensors):
        raise _foreign(path, f"{KEYS['layers']} is {tower.layers}: it has fewer tensors than that")
    shapes = expected_tensors(tower)
    if strange := sorted(shapes.keys() ^ weights.tensors.keys()):
        raise _foreign(path, f"{strange[0]} is missing, or one too many")
    for name, shape in shapes.items():
        _check_tensor(path, name, weights.tensors[name], shape)
    return weights, tower


def _tower(weights: Weights) -> Tower:
    """Read the header's sizes."""
    values, path = weights.values, weights.path
    for key, wanted in (
        ("general.architecture", ARCHITECTURE),
        ("clip.projector_type", PROJECTOR),
        ("clip.use_gelu", True),
    ):
        if values.get(key) != wanted:
            raise _foreign(path, f"{key} is {values.get(key)!r}, not {wanted!r}")
    sizes: dict[str, int] = {}
    for field, key in KEYS.items():
        found = values.get(key)
        if field == "epsilon":
            continue
        if type(found) is not int or found < 1:
            raise _foreign(path, f"{key} is {found!r}, not a size")
        sizes[field] = found
    epsilon = values.get(KEYS["epsilon"])
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise _foreign(path, f"{KEYS['epsilon']} is {epsilon!r}, not a small number")
    tower = Tower(**sizes, epsilon=epsilon)
    if tower.width % tower.heads or tower.image_size % tower.patch_size:
        raise _foreign(path, f"its sizes do not divide: {tower}")
    return tower


def _check_tensor(path: Path, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    kinds = (F32, Q8_0) if may_shrink(name, shape) else (F32,)
    if tensor.shape != shape or tensor.kind not in kinds:
        raise _foreign(
            path, f"{name} is of type {tensor.kind} {tensor.shape}, not of one of {kinds} {shape}"
        )
    size = math.prod(shape) * 4 if tensor.kind == F32 else math.prod(shape) // BLOCK * (BLOCK + 2)
    if tensor.bytes != size or tensor.offset % ALIGNMENT:
        raise _foreign(path, f"{name} lies at {tensor.offset}, {tensor.bytes} bytes of {size}")


def _foreign(path: Path, why: str) -> BundleError:
    return BundleError(
        f"{path} is not this bundle's vision encoder: {why}; export the bundle again"
    )
