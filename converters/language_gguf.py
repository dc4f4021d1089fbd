"""The language model of a checkpoint as a GGUF file of llama.cpp's architecture "gemma2".

Owns: hyper-parameters, tensor names, and what must be done to values so that llama.cpp's graph
computes what transformers does (norms stored as 1+w, the query scale folded into q_proj).
Knows nothing of pictures; the checkpoint gives the tensors, `quantise.py` makes them smaller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType

from uservlm.converters import names
from uservlm.converters.checkpoint import Checkpoint
from uservlm.converters.errors import ConversionError
from uservlm.converters.tokenizer_gguf import read_vocabulary, write_vocabulary

if TYPE_CHECKING:
    from transformers import Gemma2Config

Values = npt.NDArray[np.float32]

WHOLE: tuple[tuple[str, str], ...] = (
    ("embed_tokens.weight", "token_embd.weight"),
    ("norm.weight", "output_norm.weight"),
)
LAYER: tuple[tuple[str, str], ...] = (
    ("input_layernorm.weight", "attn_norm.weight"),
    ("self_attn.q_proj.weight", "attn_q.weight"),
    ("self_attn.k_proj.weight", "attn_k.weight"),
    ("self_attn.v_proj.weight", "attn_v.weight"),
    ("self_attn.o_proj.weight", "attn_output.weight"),
    ("post_attention_layernorm.weight", "post_attention_norm.weight"),
    ("pre_feedforward_layernorm.weight", "ffn_norm.weight"),
    ("mlp.gate_proj.weight", "ffn_gate.weight"),
    ("mlp.up_proj.weight", "ffn_up.weight"),
    ("mlp.down_proj.weight", "ffn_down.weight"),
    ("post_feedforward_layernorm.weight", "post_ffw_norm.weight"),
)
"""Canonical name and GGUF name; within a layer `language_model.layers.i.` becomes `blk.i.`."""

LARGEST_F16 = 65504.0
LAYERS_OF_27B = 46
"""llama.cpp takes a gemma2 of so many layers for the 27B, whose query scale is another."""
UNCAPPED = 10000.0
"""Softcap for a checkpoint that has none, since llama.cpp always caps: at 10⁴ by less than 4e-3 for
values below 100. A larger one would lose more to the rounding of tanh than it gains."""
QUESTION_ROOM = 1024
"""Tokens a prompt may have beside the picture before a sliding window would cut into it."""


@dataclass(frozen=True)
class Entry:
    """One tensor to be written."""

    source: str
    """Canonical name in the checkpoint."""
    target: str
    """Name in the GGUF."""
    shape: tuple[int, ...]


def write_language(
    checkpoint: Checkpoint,
    path: Path,
    *,
    half: bool = True,
    advance: Callable[[int], None] = lambda done: None,
) -> None:
    """Write the language model, tensor by tensor; norms stay float32.

    Args:
        checkpoint: where the values come from.
        path: the GGUF file to write.
        half: matrices as float16, otherwise float32.
        advance: called after each tensor with the number of its weights.

    Raises:
        ConversionError: a value does not fit into float16.
        TokenizerError: see `read_vocabulary`.
    """
    writer = GGUFWriter(path, "gemma2")
    _write_parameters(writer, checkpoint, half)
    write_vocabulary(writer, read_vocabulary(checkpoint.folder, checkpoint.shape.rows))
    entries = list(tensors(checkpoint.shape))
    for entry in entries:
        kind = (
            GGMLQuantizationType.F16 if half and len(entry.shape) > 1 else GGMLQuantizationType.F32
        )
        dtype = np.dtype(np.float16 if kind is GGMLQuantizationType.F16 else np.float32)
        writer.add_tensor_info(
            entry.target, entry.shape, dtype, math.prod(entry.shape) * dtype.itemsize
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for entry in entries:
        writer.write_tensor_data(_stored(checkpoint, entry, half))
        advance(math.prod(entry.shape))
    writer.close()


def tensors(shape: names.Shape) -> Iterator[Entry]:
    """List what a GGUF of this shape holds, in the order of the file."""
    sizes = names.expected(shape)
    for source, target in WHOLE:
        yield Entry(names.LANGUAGE + source, target, sizes[names.LANGUAGE + source])
    for layer in range(shape.layers):
        for source, target in LAYER:
            name = f"{names.LANGUAGE}layers.{layer}.{source}"
            yield Entry(name, f"blk.{layer}.{target}", sizes[name])


def query_factor(shape: names.Shape, query_pre_attn_scalar: float) -> float:
    """Give the factor for q_proj after which llama.cpp's fixed scale equals the checkpoint's.

    transformers divides scores by √query_pre_attn_scalar; llama.cpp (gemma2) by √head_dim, or by
    √(width / heads) where it sees the 27B.
    """
    fixed = shape.width / shape.heads if shape.layers == LAYERS_OF_27B else shape.head_dim
    return math.sqrt(fixed / query_pre_attn_scalar)


def convert(entry: Entry, values: Values, factor: float) -> Values:
    """Change checkpoint values into what llama.cpp's graph expects, float32 in and out."""
    if entry.source.endswith("norm.weight"):
        return values + np.float32(1)
    if entry.source.endswith("self_attn.q_proj.weight") and factor != 1:
        return values * np.float32(factor)
    return values


def _stored(checkpoint: Checkpoint, entry: Entry, half: bool) -> npt.NDArray[np.floating]:
    scalar = float(checkpoint.config.text_config.query_pre_attn_scalar)
    values = checkpoint.read(entry.source).numpy()
    changed = convert(entry, values, query_factor(checkpoint.shape, scalar))
    if not half or changed.ndim == 1:
        return changed
    largest = float(np.abs(changed).max())
    if largest > LARGEST_F16:
        raise ConversionError(
            f"{entry.source} holds {largest:.4g}, more than float16 can ({LARGEST_F16:.0f})"
        )
    return changed.astype(np.float16)


def _write_parameters(writer: GGUFWriter, checkpoint: Checkpoint, half: bool) -> None:
    shape, text = checkpoint.shape, checkpoint.config.text_config
    writer.add_name(checkpoint.origin.model)
    writer.add_file_type(LlamaFileType.MOSTLY_F16 if half else LlamaFileType.ALL_F32)
    writer.add_context_length(text.max_position_embeddings)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(text.rope_theta)
    writer.add_layer_norm_rms_eps(text.rms_norm_eps)
    writer.add_attn_logit_softcapping(text.attn_logit_softcapping or UNCAPPED)
    writer.add_final_logit_softcapping(text.final_logit_softcapping or UNCAPPED)
    writer.add_sliding_window(_window(text, shape))


def _window(text: Gemma2Config, shape: names.Shape) -> int:
    """Give the sliding window, widened where it would cut the prefix.

    The prefix is one block in which all see all, whatever the window (transformers overlays the
    block; 4.57 does not slide at all here); llama.cpp slides in any case, which matters at 896 px.
    """
    roomy = shape.image_tokens + QUESTION_ROOM <= text.sliding_window
    return int(
        text.sliding_window if roomy else max(text.sliding_window, text.max_position_embeddings)
    )
