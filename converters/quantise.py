"""Which GGUF type each tensor of the language model gets and why, and ggml's own quantiser.

Owns: the mixtures and the call that turns float32 rows into quantised ones. Knows nothing of
checkpoints or files: rows go in, bytes come out, so the whole model is never in one place.

The mixtures are llama.cpp's own (`llama_tensor_get_type_impl` in src/llama-quant.cpp, as 0.3.36
vendors it), written out so that they can be read; a test holds every tensor against what
`llama_model_quantize` makes of the same weights, byte for byte.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from uservlm.converters.errors import ConversionError
from uservlm.runtime.manifest import Higher, LanguageWeights

Kind = GGMLQuantizationType
Rows = npt.NDArray[np.float32]
Packed = npt.NDArray[np.uint8]

HEAD = "token_embd.weight"


@dataclass(frozen=True)
class Mixture:
    """What one `--quant` means."""

    file_type: LlamaFileType
    base: Kind
    """Of most matrices."""
    head: Kind
    """Of the token embeddings, which Gemma also uses as the output head."""
    finer: Kind | None = None
    """Of `attn_v` and `ffn_down` in the layers where `more_bits` says so."""


MIXTURES: dict[str, Mixture] = {
    "q4_k_m": Mixture(LlamaFileType.MOSTLY_Q4_K_M, Kind.Q4_K, Kind.Q6_K, Kind.Q6_K),
    "q4_0": Mixture(LlamaFileType.MOSTLY_Q4_0, Kind.Q4_0, Kind.Q6_K),
    "q8_0": Mixture(LlamaFileType.MOSTLY_Q8_0, Kind.Q8_0, Kind.Q8_0),
    "f16": Mixture(LlamaFileType.MOSTLY_F16, Kind.F16, Kind.F16),
    "f32": Mixture(LlamaFileType.ALL_F32, Kind.F32, Kind.F32),
}
"""f32 is for tests."""
QUANTISATIONS = tuple(MIXTURES)
FALLBACKS: dict[Kind, Kind] = {Kind.Q4_K: Kind.Q5_0, Kind.Q6_K: Kind.Q8_0}
"""Where a row is not a multiple of a K-quant's 256 weights."""

HEAD_REASON = "token embeddings and output head in one: their error reaches every logit"
FINER_REASON = (
    "what they give goes straight into the residual stream; first and last eighth of the layers "
    "and every third between"
)
ODD_REASON = "rows are no multiple of the type's block"
LARGEST = 65504.0
"""Of float16, in which f16 tensors and the scales of all quantised blocks are kept."""


def kind_of(name: str, shape: tuple[int, ...], layers: int, quant: str) -> Kind:
    """Give the type of one tensor.

    Args:
        name: in the GGUF.
        shape: as numpy counts, rows first.
        layers: how many the model has.
        quant: one of QUANTISATIONS.
    """
    if len(shape) == 1:
        return Kind.F32
    wanted = _wanted(name, layers, MIXTURES[quant])
    for kind in (wanted, FALLBACKS.get(wanted, wanted)):
        if shape[-1] % GGML_QUANT_SIZES[kind][0] == 0:
            return kind
    return Kind.F16


def more_bits(layer: int, layers: int) -> bool:
    """Tell whether llama.cpp's "M" mixtures spend more on this layer (`use_more_bits`)."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def bytes_of(shape: tuple[int, ...], kind: Kind) -> int:
    """Give the size of a tensor, in bytes."""
    block, size = GGML_QUANT_SIZES[kind]
    return math.prod(shape) // block * size


def describe_mixture(
    tensors: Sequence[tuple[str, tuple[int, ...]]],
    layers: int,
    quant: str,
    importance: int,
    largest_error: float,
) -> LanguageWeights:
    """Say what a mixture does to the tensors (name, shape) of a model, for the manifest.

    `importance` and `largest_error` are written into it as they are.
    """
    mixture = MIXTURES[quant]
    kinds = {name: kind_of(name, shape, layers, quant) for name, shape in tensors}
    groups: dict[tuple[Kind, str], list[str]] = {}
    for name, shape in tensors:
        if len(shape) > 1 and kinds[name] is not mixture.base:
            reason = _reason(name, kinds[name], _wanted(name, layers, mixture))
            groups.setdefault((kinds[name], reason), []).append(name)
    stored = sum(bytes_of(shape, kinds[name]) for name, shape in tensors)
    weights = sum(math.prod(shape) for _, shape in tensors)
    higher = tuple(
        Higher(tuple(names), kind.name, reason) for (kind, reason), names in groups.items()
    )
    return LanguageWeights(
        mixture.base.name, round(8 * stored / weights, 3), higher, largest_error, importance
    )


def quantise_rows(rows: Rows, kind: Kind, importance: Rows | None = None) -> Packed:
    """Turn float32 [n, k] into uint8 [n, bytes of a row] by ggml's reference quantiser.

    Args:
        rows: finite values.
        kind: target type.
        importance: float32 [k], mean square of what each column is multiplied with.

    Raises:
        ConversionError: a value is larger than the type can hold.
    """
    largest = float(np.abs(rows).max(initial=0))
    if kind is not Kind.F32 and largest > LARGEST:
        raise ConversionError(f"holds {largest:.4g}, more than float16 can ({LARGEST:.0f})")
    if kind is Kind.F32 or kind is Kind.F16:
        dtype = np.float32 if kind is Kind.F32 else np.float16
        return np.ascontiguousarray(rows, dtype=dtype).view(np.uint8)
    data = np.ascontiguousarray(rows, dtype=np.float32)
    block, size = GGML_QUANT_SIZES[kind]
    packed = np.empty((len(data), data.shape[1] // block * size), dtype=np.uint8)
    weights = None if importance is None else np.ascontiguousarray(importance, dtype=np.float32)
    written = _ggml_quantize_chunk()(
        int(kind),
        data.ctypes.data,
        packed.ctypes.data,
        0,
        *data.shape,
        None if weights is None else weights.ctypes.data,
    )
    if written != packed.nbytes:
        raise ConversionError(f"ggml wrote {written} bytes of {kind.name}, not {packed.nbytes}")
    return packed


@cache
def _ggml_quantize_chunk() -> Any:
    """Give `ggml_quantize_chunk` (ggml/include/ggml.h), which llama-cpp-python ships unwrapped."""
    from llama_cpp import llama_cpp as lib

    function = lib._lib.ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    function.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
        ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    return function


def _wanted(name: str, layers: int, mixture: Mixture) -> Kind:
    if name == HEAD:
        return mixture.head
    layer = re.fullmatch(r"blk\.(\d+)\.(attn_v|ffn_down)\.weight", name)
    if mixture.finer is not None and layer is not None and more_bits(int(layer[1]), layers):
        return mixture.finer
    return mixture.base


def _reason(name: str, kind: Kind, wanted: Kind) -> str:
    if kind is not wanted:
        return ODD_REASON
    return HEAD_REASON if name == HEAD else FINER_REASON
