"""A GGUF file made smaller by llama.cpp's own quantiser.

Owns: which quantisations there are and how llama.cpp is asked for them. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gguf import LlamaFileType

from uservlm.converters.errors import ConversionError
from uservlm.runtime.language import LOG_ERROR, LOG_WARNING

FILE_TYPES: dict[str, LlamaFileType] = {
    "q4_k_m": LlamaFileType.MOSTLY_Q4_K_M,
    "q4_0": LlamaFileType.MOSTLY_Q4_0,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
}
UNQUANTISED = ("f16", "f32")
"""Written by `language_gguf.py` itself; f32 is for tests."""
QUANTISATIONS = (*FILE_TYPES, *UNQUANTISED)


def quantise(source: Path, target: Path, kind: str, threads: int = 0) -> None:
    """Quantise a float GGUF into `target`; rows no K-quant fits get another type from llama.cpp.

    Args:
        source: GGUF of float16 or float32.
        target: file to write.
        kind: a key of FILE_TYPES.
        threads: 0 means all processors.

    Raises:
        ConversionError: llama.cpp refused; its last words are in the message.
    """
    import ctypes

    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = int(FILE_TYPES[kind])
    params.nthread = threads
    with _heard() as said:
        code = llama_cpp.llama_model_quantize(bytes(source), bytes(target), ctypes.byref(params))
    if code != 0 or not target.is_file():
        last = " ".join("".join(said).split()[-40:])
        raise ConversionError(f"llama.cpp could not quantise to {kind} (code {code}): {last}")


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Collect llama.cpp's warnings and errors instead of its chatter on stderr."""
    import ctypes

    import llama_cpp

    said: list[str] = []

    def listen(level: int, text: bytes, _data: object) -> None:
        if level in (LOG_WARNING, LOG_ERROR):
            said.append(text.decode("utf-8", "replace"))

    callback = llama_cpp.llama_log_callback(listen)
    before, before_data = llama_cpp.llama_log_callback(), ctypes.c_void_p()
    llama_cpp.llama_log_get(ctypes.byref(before), ctypes.byref(before_data))
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    try:
        yield said
    finally:
        llama_cpp.llama_log_set(before, before_data)
