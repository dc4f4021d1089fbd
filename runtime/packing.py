"""Where llama.cpp puts weights in memory: once, and in which order.

Owns: how the file is read, and which of ggml's buffer types may be used. Beside `language.py` the
only file that knows llama.cpp.

ggml can keep matrices in an order made for this processor: AMX tiles, or interleaved rows. Mapping
the file and repacking would hold everything twice (✔ 3.2 GB instead of 2.1 GB, 3B Q4_0), so
weights are either read straight into the new order or mapped as they lie. The token table is the
output head too and must stay in plain order as the table; in another order it would be there twice
(0.5 GB), and in AMX's the head was slower, so it is kept plain.
"""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path
from types import ModuleType
from typing import Any, Final

_LOG = logging.getLogger("uservlm.llama")

TABLE: Final = rb"token_embd\.weight"
WHOLE: Final = "uservlm_amx_is_whole"
"""What a build declares whose AMX code does not crash (toolchain/llama_cpp_fixes.h)."""


class _Override(ctypes.Structure):
    """llama_model_tensor_buft_override."""

    _fields_ = [("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p)]


def place_weights(lib: ModuleType, params: Any, repack: bool) -> object:
    """Set where `llama_model_load_from_file` puts weights.

    Args:
        lib: `llama_cpp.llama_cpp`.
        params: llama_model_params, changed in place.
        repack: read them into an order made for this processor; else map the file.

    Returns:
        What must live until the model is loaded.
    """
    if repack and b"AMX_INT8 = 1" in lib.llama_print_system_info() and not _has_whole_amx(lib):
        # GCC 12 miscompiles ggml's AMX code: the first quantised block would end the process
        # (docs/decisions/0003). toolchain/bootstrap.py mends that; other builds may not.
        _LOG.warning("this llama.cpp was built with AMX: weights stay unpacked, prefill is slower")
        repack = False
    params.use_extra_bufts = repack
    params.load_mode = lib.LLAMA_LOAD_MODE_NONE if repack else lib.LLAMA_LOAD_MODE_MMAP
    if not repack:
        return None
    plain = _library(lib, "ggml-base").ggml_backend_cpu_buffer_type
    plain.restype = ctypes.c_void_p
    overrides = (_Override * 2)(_Override(TABLE, plain()), _Override(None, None))
    params.tensor_buft_overrides = ctypes.cast(overrides, ctypes.c_void_p).value
    return overrides


def _has_whole_amx(lib: ModuleType) -> bool:
    return hasattr(_library(lib, "ggml-cpu"), WHOLE)


def _library(lib: ModuleType, name: str) -> ctypes.CDLL:
    """Give one of ggml's libraries, which lie beside llama.cpp's own.

    A wheel holds each under several names, as copies: only the name that others link to is the one
    that is loaded already.
    """
    assert lib.__file__ is not None
    folder = Path(lib.__file__).parent / "lib"
    linked = sorted(folder.glob(f"lib{name}.so.?")) or sorted(folder.glob(f"lib{name}.*"))
    return ctypes.CDLL(str(linked[0]))
