"""SigLIP and the projector of a checkpoint as the GGUF file that the runtime's ggml graph reads.

Owns: which tensor of the checkpoint becomes which of the file, how small, and the gate behind it.
One tensor is held at a time. `runtime/vision_gguf.py` has the file's names and sizes.

Q8_0 keeps 32 values of a row with one scale, and SigLIP So400m's MLPs are 4304 wide, no multiple of
32: they are filled up with zeros to 4320. gelu(0) is 0, so that nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFWriter

from uservlm.converters import names
from uservlm.converters.checkpoint import Checkpoint
from uservlm.converters.errors import ConversionError, ParityError
from uservlm.converters.gguf_file import Packed, Stored, behind_header
from uservlm.converters.quantise import quantise_rows
from uservlm.converters.vision_onnx import (
    INT8_COSINE,
    Features,
    Pixels,
    lowest,
    token_cosines,
)
from uservlm.converters.vision_weights import vision_weights
from uservlm.runtime.manifest import Architecture
from uservlm.runtime.vision_figures import GgmlVisionWeights
from uservlm.runtime.vision_ggml import GgmlVision
from uservlm.runtime.vision_gguf import (
    ARCHITECTURE,
    BLOCK,
    KEYS,
    PROJECTOR,
    Tower,
    expected_tensors,
    may_shrink,
)

Kind = GGMLQuantizationType
Values = npt.NDArray[np.float32]

COSINE: dict[str, float] = {"q8_0": INT8_COSINE, "f32": 0.9999}
"""Lowest mean-token cosine against float32 that a kind of weights may have."""
WHOLE = {
    "v.patch_embd": f"{names.VISION}embeddings.patch_embedding",
    "v.position_embd": f"{names.VISION}embeddings.position_embedding",
    "v.post_ln": f"{names.VISION}post_layernorm",
    "mm.0": f"{names.PROJECTOR}linear",
}
LAYER = {
    "ln1": "layer_norm1",
    "ln2": "layer_norm2",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_out": "self_attn.out_proj",
    "ffn_up": "mlp.fc1",
    "ffn_down": "mlp.fc2",
}
"""GGUF name and name in the checkpoint; within a layer `v.blk.i.` stands for its layers.i."""


def write_vision(
    checkpoint: Checkpoint, path: Path, quant: str, done: Callable[[int], None]
) -> tuple[str, ...]:
    """Write `vision.gguf` and give the matrices that stay in float32.

    Args:
        checkpoint: with its adapters merged.
        path: the file.
        quant: "q8_0" or "f32".
        done: called with the number of weights written since the last call.

    Raises:
        CheckpointError: see `Checkpoint.read`.
        ConversionError: a value does not fit into the type, or a tensor has no place.
    """
    tower = tower_of(checkpoint, quant)
    shapes = expected_tensors(tower)
    sources = {target: source_of(target) for target in shapes}
    if strange := sorted(set(sources.values()) ^ set(vision_weights(checkpoint))):
        raise ConversionError(f"{strange[0]} has no place in {path.name}")
    stored = [Stored(name, shape, kind_of(name, shape, quant)) for name, shape in shapes.items()]
    writer = GGUFWriter(path, ARCHITECTURE)
    _write_sizes(writer, checkpoint, tower)
    with behind_header(writer, path, stored) as append:
        for one in stored:
            values = fitted(checkpoint.read(sources[one.name]).numpy(), one.shape)
            append(_packed(one.name, values, one.kind))
            done(values.size)
    return tuple(
        sources[one.name] for one in stored if len(one.shape) == 2 and one.kind is Kind.F32
    )


def tower_of(checkpoint: Checkpoint, quant: str) -> Tower:
    """Give the sizes that the file will have."""
    shape, vision = checkpoint.shape, checkpoint.config.vision_config
    inner = shape.vision_feed_forward
    return Tower(
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        width=shape.vision_width,
        feed_forward=inner + (-inner % BLOCK if quant == "q8_0" else 0),
        layers=shape.vision_layers,
        heads=vision.num_attention_heads,
        projection=shape.width,
        epsilon=vision.layer_norm_eps,
    )


def source_of(target: str) -> str:
    """Give the checkpoint's name of a tensor of the file."""
    stem, _, part = target.rpartition(".")
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{part}"
    layer, _, name = stem.removeprefix("v.blk.").partition(".")
    return f"{names.VISION}encoder.layers.{layer}.{LAYER[name]}.{part}"


def kind_of(name: str, shape: tuple[int, ...], quant: str) -> Kind:
    """Give the type of one tensor."""
    return Kind.Q8_0 if quant == "q8_0" and may_shrink(name, shape) else Kind.F32


def fitted(values: Values, shape: tuple[int, ...]) -> Values:
    """Lay a kernel's values in one row, and fill an MLP up with zeros: float32 in and out."""
    flat = values.reshape(len(values), -1) if len(shape) == 2 else values
    missing = [(0, wanted - there) for wanted, there in zip(shape, flat.shape, strict=True)]
    return np.pad(flat, missing)


def measure(
    path: Path,
    architecture: Architecture,
    pictures: Sequence[Pixels],
    expected: Sequence[Features],
    threads: int,
    done: Callable[[int], None],
) -> tuple[float, float]:
    """Run the file on pictures and compare: the lowest mean-token cosine, and the worst token's.

    Args:
        path: `vision.gguf`.
        architecture: of the bundle.
        pictures: float32 [1, 3, S, S] each, at least one.
        expected: float32 features [N, d] or [1, N, d] of each, by the original.
        threads: to compute with.
        done: called with 1 after each picture.

    Raises:
        BundleError, EngineError: see `GgmlVision`.
    """
    encoder, found = GgmlVision(path, architecture, threads), []
    for pixels, wanted in zip(pictures, expected, strict=True):
        found.append(token_cosines(wanted.reshape(encoder.shape), encoder.encode(pixels)))
        done(1)
    return lowest(found), min(float(tokens.min()) for tokens in found)


def check_gate(found: GgmlVisionWeights) -> None:
    """Stop an encoder that is not good enough.

    Raises:
        ParityError: says by how much.
    """
    # Written so that a NaN fails.
    if not found.cosine >= found.threshold:
        raise ParityError(
            f"vision.gguf in {found.kind} has a mean-token cosine of {found.cosine:.4f} against "
            f"the checkpoint, needed at least {found.threshold:g}. Try --vision-gguf f32, or "
            "--vision-gguf none"
        )


def _packed(name: str, values: Values, kind: Kind) -> Packed:
    try:
        return quantise_rows(values, kind)
    except ConversionError as error:
        raise ConversionError(f"{source_of(name)} {error}") from error


def _write_sizes(writer: GGUFWriter, checkpoint: Checkpoint, tower: Tower) -> None:
    writer.add_name(checkpoint.origin.model)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_string("clip.projector_type", PROJECTOR)
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.use_gelu", True)
    for field, key in KEYS.items():
        value = getattr(tower, field)
        if isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
