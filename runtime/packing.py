"""Where llama.cpp puts weights in memory: once, and in which order.

Owns: how the file is read, which of ggml's buffer types may be used, and that ggml has its code for
this processor. `language.py` knows llama.cpp too, and `vision_ggml.py` its ggml; nobody else does.

ggml can keep matrices in an order made for this processor: AMX tiles, or interleaved rows. Mapping
the file and repacking would hold everything twice (✔ 3.2 GB instead of 2.1 GB, 3B Q4_0), so
weights are either read straight into the new order or mapped as they lie. The token table is the
output head too, and as the table it must stay in plain order; AMX would take it a second time as
the head (0.5 GB) and be slower there, so AMX gets the matrices of the layers by name. llama.cpp
does not check what it is told by name, and a matrix that AMX cannot multiply would end the process:
so that is checked here.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from uservlm.runtime.errors import EngineError
from uservlm.runtime.weights import Tensor

_LOG = logging.getLogger("uservlm.llama")

LAYERS: Final = rb"blk\.\d+\.(attn_(q|k|v|output)|ffn_(gate|up|down))\.weight"
"""The matrices of a layer; its norms stay where they are."""
WHOLE: Final = "uservlm_amx_is_whole"
"""What a build declares whose AMX code does not crash (toolchain/llama_cpp_fixes.h)."""
_AMX_COLUMNS: Final = {
    "F16": 16, "Q4_0": 32, "Q4_1": 32, "Q8_0": 32, "Q4_K": 256, "Q5_K": 256, "Q6_K": 256,
}  # fmt: skip
_ORDERED: Final = (b"AVX2 = 1", b"DOTPROD = 1", b"MATMUL_INT8 = 1")
"""Instructions for which ggml interleaves rows (ggml-cpu/repack.cpp, where it chooses a type)."""
_AMX_ROWS: Final = 32
"""What rows and columns must be multiples of (ggml-cpu/amx/amx.cpp, `supports_op`)."""
_CPU_DEVICE: Final = 0
"""GGML_BACKEND_DEVICE_TYPE_CPU."""


class _Override(ctypes.Structure):
    """llama_model_tensor_buft_override."""

    _fields_ = [("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p)]


class _Place(ctypes.Structure):
    """Dl_info: where an address lies (dlfcn.h)."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


def place_weights(
    lib: ModuleType, params: Any, repack: bool, tensors: Mapping[str, Tensor]
) -> object:
    """Set where `llama_model_load_from_file` puts weights.

    Args:
        lib: `llama_cpp.llama_cpp`.
        params: llama_model_params, changed in place.
        repack: read them into an order made for this processor; else map the file.
        tensors: of the file, by name.

    Returns:
        What must live until the model is loaded.
    """
    amx = b"AMX_INT8 = 1" in lib.llama_print_system_info()
    if repack and amx and not hasattr(_processor_library(lib), WHOLE):
        # GCC 12 miscompiles ggml's AMX code: the first quantised block would end the process
        # (docs/decisions/0003). toolchain/bootstrap.py mends that; other builds may not.
        _LOG.warning("this llama.cpp was built with AMX: weights stay unpacked, prefill is slower")
        repack = False
    tiles = _buffer_types(lib).get("AMX") if repack and amx and suits_amx(tensors) else None
    params.use_extra_bufts = repack and tiles is None
    params.load_mode = lib.LLAMA_LOAD_MODE_NONE if repack else lib.LLAMA_LOAD_MODE_MMAP
    if tiles is None:
        return None
    overrides = (_Override * 2)(_Override(LAYERS, tiles), _Override(None, None))
    params.tensor_buft_overrides = ctypes.cast(overrides, ctypes.c_void_p).value
    return overrides


def repacks(lib: ModuleType) -> bool:
    """Say whether ggml knows an order of weights for this processor.

    Without one, as on SSE4.2, reading them into memory gains nothing, and their pages could not be
    given back to the system: ✔ 1.8 GB of a process's own instead of 0.2, 3B Q4_0 on 32 bits.
    """
    return has_order(lib.llama_print_system_info())


def has_order(features: bytes) -> bool:
    """Read that from what llama.cpp says of the processor's features."""
    return any(feature in features for feature in _ORDERED)


def suits_amx(tensors: Mapping[str, Tensor]) -> bool:
    """Say whether ggml's AMX code can multiply every layer's matrices."""
    from gguf import GGMLQuantizationType

    layers = re.compile(LAYERS.decode())
    found = [tensor for name, tensor in tensors.items() if layers.fullmatch(name)]
    columns = [_AMX_COLUMNS.get(GGMLQuantizationType(one.kind).name) for one in found]
    return bool(found) and all(
        multiple is not None and one.shape[1] % multiple == 0 and one.shape[0] % _AMX_ROWS == 0
        for one, multiple in zip(found, columns, strict=True)
    )


def _buffer_types(lib: ModuleType) -> dict[str, int]:
    """Give the extra buffer types this build of ggml has for this processor, by name."""
    base, device = ggml_library(lib, "ggml-base"), processor_device(lib)
    for function in (base.ggml_backend_dev_backend_reg, base.ggml_backend_reg_get_proc_address):
        function.restype = ctypes.c_void_p
    base.ggml_backend_buft_name.restype = ctypes.c_char_p
    registry = ctypes.c_void_p(base.ggml_backend_dev_backend_reg(ctypes.c_void_p(device)))
    wanted = b"ggml_backend_dev_get_extra_bufts"
    address = base.ggml_backend_reg_get_proc_address(registry, wanted)
    if not address:
        return {}
    give = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(address)
    found, types = give(device), dict[str, int]()
    while (buffer_type := found[len(types)]) is not None:
        name = base.ggml_backend_buft_name(ctypes.c_void_p(buffer_type)).decode()
        types[name] = buffer_type
    return types


def load_processor(lib: ModuleType) -> None:
    """Let ggml load the code it has for this processor, where that is one library among several.

    So are the builds of toolchain/ for many processors. ggml itself looks for such libraries beside
    the program only, which is Python.

    Args:
        lib: `llama_cpp.llama_cpp`, before any model is loaded.

    Raises:
        EngineError: there is none for this processor.
    """
    if processor_device(lib) is None:
        load = ggml_library(lib, "ggml").ggml_backend_load_all_from_path
        load.restype = None
        load(str(_folder(lib)).encode())
        if processor_device(lib) is None:
            raise EngineError(
                f"{_folder(lib)} has no code for this processor: install llama-cpp-python anew"
            )


def processor_device(lib: ModuleType) -> int | None:
    """Give the address of ggml's device that computes on the processor."""
    find = ggml_library(lib, "ggml").ggml_backend_dev_by_type
    find.restype = ctypes.c_void_p
    found: int | None = find(_CPU_DEVICE)
    return found


def _processor_library(lib: ModuleType) -> ctypes.CDLL:
    """Give the library in which ggml's code for this processor lies: the one that was loaded."""
    found = _Place()
    if not ctypes.CDLL(None).dladdr(ctypes.c_void_p(processor_device(lib)), ctypes.byref(found)):
        raise EngineError("ggml's code for this processor is in no library")
    return ctypes.CDLL(os.fsdecode(found.file))


def ggml_library(lib: ModuleType, name: str) -> ctypes.CDLL:
    """Give one of ggml's libraries that llama.cpp is linked to; they lie beside its own.

    A wheel may hold each under several names, as copies: only the name that others link to is the
    one that is loaded already.
    """
    folder = _folder(lib)
    linked = sorted(folder.glob(f"lib{name}.so.?")) or sorted(folder.glob(f"lib{name}.*"))
    return ctypes.CDLL(str(linked[0]))


def _folder(lib: ModuleType) -> Path:
    assert lib.__file__ is not None
    return Path(lib.__file__).parent / "lib"
