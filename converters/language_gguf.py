"""The language model of a checkpoint as a GGUF file of llama.cpp's architecture "gemma2".

Owns: hyper-parameters, tensor names, and what must be done to values so that llama.cpp's graph
computes what transformers does (norms stored as 1+w, the query scale folded into q_proj).
Knows nothing of pictures; the checkpoint gives the rows, `quantise.py` makes them smaller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFWriter

from uservlm.converters import names
from uservlm.converters.checkpoint import Checkpoint
from uservlm.converters.errors import ConversionError
from uservlm.converters.gguf_file import Packed, Stored, behind_header
from uservlm.converters.in_order import in_order
from uservlm.converters.quantise import MIXTURES, kind_of, quantise_rows
from uservlm.converters.tokenizer_gguf import read_vocabulary, write_vocabulary

if TYPE_CHECKING:
    from transformers import Gemma2Config

Values = npt.NDArray[np.float32]
Importance = Mapping[str, Values]
"""By canonical name of a matrix: mean square of each column's input, float32 [columns]."""
NO_IMPORTANCE: Importance = MappingProxyType({})

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

BLOCK = 1 << 23
"""Weights that are read and quantised at once: 32 MB as float32."""
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


@dataclass(frozen=True)
class Job:
    """Some rows of one tensor, to be read and quantised."""

    entry: Entry
    kind: GGMLQuantizationType
    start: int
    """First row."""
    importance: Values | None

    @property
    def rows(self) -> int:
        """How many."""
        return min(_step(self.entry.shape), self.entry.shape[0] - self.start)


def write_language(
    checkpoint: Checkpoint,
    path: Path,
    quant: str,
    *,
    importance: Importance = NO_IMPORTANCE,
    advance: Callable[[int], None] = lambda done: None,
    threads: int = 2,
) -> None:
    """Write the language model block by block, each quantised as it is read; norms stay float32.

    Neither the checkpoint nor the GGUF is ever whole in memory, and no float copy of the model is
    written on the way: beside `threads` blocks of BLOCK weights nothing is held.

    Args:
        checkpoint: where the values come from.
        path: the GGUF file to write.
        quant: one of QUANTISATIONS.
        importance: per canonical name, float32 [columns]; see `reference.Importance`.
        advance: called after each block with the number of its weights.
        threads: blocks that are worked on at once.

    Raises:
        ConversionError: a value does not fit into float16.
        CheckpointError: a value is not finite.
        TokenizerError: see `read_vocabulary`.
    """
    entries = list(tensors(checkpoint.shape))
    kinds = [kind_of(e.target, e.shape, checkpoint.shape.layers, quant) for e in entries]
    writer = GGUFWriter(path, "gemma2")
    _write_parameters(writer, checkpoint, quant)
    write_vocabulary(writer, read_vocabulary(checkpoint.folder, checkpoint.shape.rows))
    stored = [Stored(e.target, e.shape, kind) for e, kind in zip(entries, kinds, strict=True)]
    jobs = (
        Job(entry, kind, start, importance.get(entry.source))
        for entry, kind in zip(entries, kinds, strict=True)
        for start in _starts(entry.shape)
    )
    with behind_header(writer, path, stored) as append:
        for job, packed in in_order(lambda job: _packed(checkpoint, job), jobs, threads):
            append(packed)
            advance(job.rows * math.prod(job.entry.shape[1:]))


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


def converted_rows(checkpoint: Checkpoint, entry: Entry, start: int, stop: int) -> Values:
    """Read rows [start, stop) of a tensor as llama.cpp expects them, float32."""
    scalar = float(checkpoint.config.text_config.query_pre_attn_scalar)
    values = checkpoint.read_rows(entry.source, start, stop).numpy()
    return convert(entry, values, query_factor(checkpoint.shape, scalar))


def _starts(shape: tuple[int, ...]) -> range:
    """Give the first rows of the blocks a tensor is cut into."""
    return range(0, shape[0], _step(shape))


def _step(shape: tuple[int, ...]) -> int:
    return max(1, BLOCK // math.prod(shape[1:])) if len(shape) > 1 else shape[0]


def _packed(checkpoint: Checkpoint, job: Job) -> Packed:
    """Read, change and quantise one block."""
    values = converted_rows(checkpoint, job.entry, job.start, job.start + job.rows)
    try:
        return quantise_rows(values, job.kind, job.importance)
    except ConversionError as error:
        raise ConversionError(f"{job.entry.source} {error}") from error


def _write_parameters(writer: GGUFWriter, checkpoint: Checkpoint, quant: str) -> None:
    shape, text = checkpoint.shape, checkpoint.config.text_config
    writer.add_name(checkpoint.origin.model)
    writer.add_file_type(MIXTURES[quant].file_type)
    writer.add_quantization_version(GGML_QUANT_VERSION)
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
