"""A small model with a bundle's own matrix shapes and random weights, to time formats with.

Owns: which layers and rows are left out so that the rest takes a known share of the time, and
writing it. Its answers mean nothing; its matrices are as wide, and as many a layer, as the real.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter

from uservlm.runtime.manifest import Architecture
from uservlm.runtime.weights import ARCHITECTURE, EMBEDDING_TABLE, expected_tensors

Kind = GGMLQuantizationType

FORMATS: Final[dict[str, tuple[Kind, Kind, Kind]]] = {
    "q4_0": (Kind.Q4_0, Kind.Q4_0, Kind.Q6_K),
    "q4_k_m": (Kind.Q4_K, Kind.Q6_K, Kind.Q6_K),
    "q8_0": (Kind.Q8_0, Kind.Q8_0, Kind.Q8_0),
    "f16": (Kind.F16, Kind.F16, Kind.F16),
}
"""Of most matrices; of `attn_v` and `ffn_down` in every second layer; of the output head."""
_SCALES: Final[dict[Kind, tuple[int, ...]]] = {
    Kind.Q4_0: (0,),
    Kind.Q5_0: (0,),
    Kind.Q8_0: (0,),
    Kind.Q4_K: (0, 2),
    Kind.Q6_K: (208,),
}
"""Where a block's float16 scales lie, in bytes: random bits there could be infinite."""
_FALLBACKS: Final = {Kind.Q4_K: Kind.Q5_0, Kind.Q6_K: Kind.Q8_0}
"""For rows that are no multiple of a K-quant's 256 weights, as converters/quantise.py does."""
LAYERS: Final = 2
"""Of the small model, where the real has more: one of each kind."""


@dataclass(frozen=True)
class Sample:
    """A small model on disk."""

    path: Path
    share: float
    """Of the real model's layers and output head."""


def write_sample(folder: Path, architecture: Architecture, quant: str) -> Sample:
    """Write the small model as `folder/QUANT.gguf`.

    Args:
        folder: exists.
        architecture: of the bundle.
        quant: one of FORMATS.
    """
    layers = min(LAYERS, architecture.layers)
    share = layers / architecture.layers
    rows = max(256, round(architecture.vocabulary * share) // 64 * 64)
    path = folder / f"{quant}.gguf"
    writer = GGUFWriter(path, ARCHITECTURE)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(rows)
    _write_parameters(writer, architecture, layers)
    rng = np.random.default_rng(0)
    for name, shape in expected_tensors(architecture).items():
        if name == EMBEDDING_TABLE:
            shape = (rows, shape[1])
        elif name.startswith("blk.") and int(name.split(".")[1]) >= layers:
            continue
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, dtype=np.float32))
        else:
            kind = _kind(name, shape, quant)
            writer.add_tensor(name, _random(rng, shape, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Sample(path, share)


def _kind(name: str, shape: tuple[int, ...], quant: str) -> Kind:
    base, finer, head = FORMATS[quant]
    if name == EMBEDDING_TABLE:
        kind = head
    else:
        _, layer, matrix, _ = name.split(".")
        kind = finer if matrix in ("attn_v", "ffn_down") and int(layer) % 2 == 0 else base
    if shape[-1] % GGML_QUANT_SIZES[kind][0]:
        kind = _FALLBACKS.get(kind, Kind.F16)
    return kind if shape[-1] % GGML_QUANT_SIZES[kind][0] == 0 else Kind.F16


def _random(rng: np.random.Generator, shape: tuple[int, ...], kind: Kind) -> npt.NDArray[np.uint8]:
    """Give uint8 [rows, bytes of a row]; rows repeat, since nobody looks at their values."""
    block, size = GGML_QUANT_SIZES[kind]
    columns = shape[1] // block
    few = min(shape[0], 64)
    if kind is Kind.F16:
        values = rng.normal(0, 0.02, (few, columns)).astype(np.float16).view(np.uint8)
    else:
        values = rng.integers(0, 256, (few, columns, size), dtype=np.uint8)
        scale = np.frombuffer(np.float16(0.002).tobytes(), dtype=np.uint8)
        for offset in _SCALES[kind]:
            values[:, :, offset : offset + 2] = scale
        values = values.reshape(few, columns * size)
    return np.resize(values, (shape[0], values.shape[1]))


def _write_parameters(writer: GGUFWriter, architecture: Architecture, layers: int) -> None:
    writer.add_context_length(architecture.context)
    writer.add_embedding_length(architecture.width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(architecture.feed_forward)
    writer.add_head_count(architecture.heads)
    writer.add_head_count_kv(architecture.kv_heads)
    writer.add_key_length(architecture.head_dim)
    writer.add_value_length(architecture.head_dim)
    writer.add_rope_dimension_count(architecture.head_dim)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_attn_logit_softcapping(50.0)
    writer.add_final_logit_softcapping(30.0)
    writer.add_sliding_window(architecture.context)
