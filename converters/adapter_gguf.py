"""A LoRA adapter as a GGUF file that llama.cpp adds to the language model while it computes.

Owns: tensor names, PEFT's scale in llama.cpp's terms, and which adapters can be kept apart at all.
Knows nothing of how it is switched on; `adapters.py` reads the matrices.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter, Keys

from uservlm.converters import names
from uservlm.converters.adapters import LoraAdapter
from uservlm.converters.checkpoint import Checkpoint
from uservlm.converters.errors import ConversionError
from uservlm.converters.language_gguf import Entry, Values, convert, query_factor, tensors

ADAPTER_TYPE = "lora"


def write_adapter(adapter: LoraAdapter, checkpoint: Checkpoint, path: Path) -> None:
    """Write the adapter, float32, in the order of the language model's tensors.

    llama.cpp multiplies B @ A by alpha / rank, one alpha for all (src/llama-adapter.h, get_scale).
    Where PEFT's scale is another (patterns, rsLoRA), B carries the difference; so it does the
    query factor of `language_gguf.convert`.

    float32, as llama.cpp's own converter writes. ✔ float16 halves the file and is as close to
    transformers (logits within 0.0028 against 0.0023), but never faster: rank 16 beside q4_0 at the
    3B's width, prefill of 512 rows 5.4 s against 3.0 s (2.6 s without), decoding alike. And a
    preference-tuned B may be as small as 1e-5, where float16 has two digits.

    Args:
        adapter: opened for this checkpoint's shape.
        checkpoint: gives the shape and the query factor; its tensors are not read.
        path: the GGUF file to write.

    Raises:
        ConversionError: it changes something that is not a matrix of a language-model layer.
        CheckpointError: a value is not finite.
    """
    entries = _check_kept(adapter, checkpoint.shape)
    first = adapter.pairs[entries[0].source]
    alpha = first.scale * first.rank
    writer = GGUFWriter(path, "gemma2")
    writer.add_type("adapter")
    writer.add_name(adapter.source)
    writer.add_string(Keys.Adapter.TYPE, ADAPTER_TYPE)
    writer.add_float32(Keys.Adapter.LORA_ALPHA, alpha)
    factor = query_factor(
        checkpoint.shape, float(checkpoint.config.text_config.query_pre_attn_scalar)
    )
    for entry in entries:
        pair = adapter.pairs[entry.source]
        down, up = _matrices(adapter, entry, pair.scale * pair.rank / alpha, factor)
        writer.add_tensor(f"{entry.target}.lora_a", down)
        writer.add_tensor(f"{entry.target}.lora_b", up)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def check_kept(adapter: LoraAdapter, shape: names.Shape) -> None:
    """Make sure an adapter can be kept apart, by its headers alone.

    Raises:
        ConversionError: it changes something that is not a matrix of a language-model layer.
    """
    _check_kept(adapter, shape)


def _check_kept(adapter: LoraAdapter, shape: names.Shape) -> list[Entry]:
    entries = [entry for entry in tensors(shape) if entry.source in adapter.pairs]
    _refuse_others(adapter, {entry.source for entry in entries if len(entry.shape) == 2})
    return entries


def _matrices(
    adapter: LoraAdapter, entry: Entry, more: float, factor: float
) -> tuple[Values, Values]:
    """Give A [rank, in] and B [out, rank] so that llama.cpp's alpha / rank makes PEFT's product."""
    factors = adapter.factors(entry.source)
    assert factors is not None  # the caller chose entries that have a pair
    down, up = (matrix.numpy() for matrix in factors)
    return np.ascontiguousarray(down), convert(entry, up * np.float32(more), factor)


def _refuse_others(adapter: LoraAdapter, fits: set[str]) -> None:
    others = sorted(set(adapter.targets) - fits)
    if others or not fits:
        more = f" and {len(others) - 6} more" if len(others) > 6 else ""
        raise ConversionError(
            f"{adapter.source} also changes {', '.join(others[:6])}{more}: only matrices of the "
            "language model's layers can be switched at run time; merge it with --adapter instead"
        )
