"""Tokens and rows in, logits and text out, by llama.cpp.

Owns: the model, its context and KV cache, tokenising, decoding and sampling, with every return code
checked. `packing.py` knows llama.cpp too, and `vision_ggml.py` the ggml below it; nobody else does.
Knows nothing of prompts, pictures or users; a sequence is a number to it. llama.cpp guards its own
invariants with aborts that end the process, so what could trip them is checked here first. Not safe
to use from several threads at once, except `tokenize` and `piece`.
"""

from __future__ import annotations

import ctypes
import logging
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uservlm.runtime.answers import GenerationOptions
from uservlm.runtime.errors import BundleError, EngineError
from uservlm.runtime.heap import trim
from uservlm.runtime.interrupt import Interrupt, Stopped
from uservlm.runtime.native import loading
from uservlm.runtime.packing import load_processor, place_weights
from uservlm.runtime.room import Room, rounded
from uservlm.runtime.settings import DEFAULTS, Settings
from uservlm.runtime.weights import Tensor

_LOG = logging.getLogger("uservlm.llama")
LOG_WARNING, LOG_ERROR, _CONTINUED = 3, 4, 5
"""ggml_log_level (ggml/include/ggml.h); llama-cpp-python 0.3.36's own table is one off."""

_WANTED = (
    "using full-size SWA cache",
    "fallback to CPU",
    "control-looking token",
    "possible training context overflow",
    "failed with error 1",
    "compute status: 1",
    "failed to decode, ret = 2",
    "removing memory module entries",
)
"""Complaints about what is meant to be: a cache that `_context_params` asks for; adapters that stay
unpacked beside packed weights, one warning a matrix; Gemma's html tag `</s>`, which looks like a
control token and ends no answer here (`ends`); more cells than a sequence may be long, where the
caller asks for them; and a computation that was told to stop."""

_PACKAGE: Final = ("llama_cpp", "llama-cpp-python")
"""As it is imported, and as it is installed."""
PENALTY_WINDOW: Final = 64
"""Answer tokens that `repeat_penalty` looks back on, llama.cpp's own default."""


class LanguageModel:
    """A GGUF model with one context, in which each sequence has KV cells of its own."""

    def __init__(
        self,
        path: Path,
        room: Room,
        threads: int,
        *,
        tensors: Mapping[str, Tensor],
        settings: Settings = DEFAULTS,
        interrupt: Interrupt | None = None,
    ) -> None:
        """Load the model.

        Args:
            path: `language.gguf`, already checked by `weights.py`.
            room: sizes of the context; llama.cpp rounds the cells up.
            threads: for prefill and decoding.
            tensors: of the file, by name, as `weights.py` read them.
            settings: how to compute; `threads` in them is for the caller to resolve.
            interrupt: makes decoding stop with `Stopped` when it is raised.

        Raises:
            BundleError: llama.cpp refuses the file.
            EngineError: there is not enough memory for the context, or llama.cpp is damaged.
        """
        self._lib = lib = load_llama(settings)
        params = _model_params(lib, room)
        kept = place_weights(lib, params, settings.repack, tensors)
        model = lib.llama_model_load_from_file(str(path).encode(), params)
        del kept
        if not model:
            raise BundleError(
                f"{path}: llama.cpp cannot load it ({_last_error()}); export the bundle again"
            )
        self._room, self._threads, self._interrupt = room, threads, interrupt
        self._settings, self._gate = settings, Lock()
        self._native = _Native(lib, model)
        self._close = weakref.finalize(self, self._native.free)
        self._model, self._adapters = model, dict[str, Any]()
        self._vocab = lib.llama_model_get_vocab(model)
        self._begin()
        self.vocabulary: int = lib.llama_vocab_n_tokens(self._vocab)
        self.width: int = lib.llama_model_n_embd(model)
        self.bos: int = lib.llama_vocab_bos(self._vocab)
        self.eos: int = lib.llama_vocab_eos(self._vocab)
        self.cells: int = lib.llama_n_ctx_seq(self._context)
        """Of each sequence."""
        self.block: int = lib.llama_n_ubatch(self._context)
        self.build = _build(lib)
        """llama.cpp's version and what it was compiled for."""
        self.kv = settings.kv
        """How a KV cell is stored."""
        self.settings = f"{settings.arithmetic} sequences={room.sequences}"
        """Whatever else decides how a KV cell is computed or stored: saved cells are refused by a
        context with more or fewer sequences ("n_stream mismatch", llama-kv-cache.cpp)."""

    def _begin(self) -> None:
        """Make the context, with an empty KV cache."""
        lib, room = self._lib, self._room
        params = _context_params(lib, room, self._threads, self._settings)
        if self._interrupt is not None:
            params.abort_callback = ctypes.cast(_strlen(), lib.ggml_abort_callback)
            params.abort_callback_data = self._interrupt.address
        self._context = self._native.context = lib.llama_init_from_model(self._model, params)
        if not self._context:
            self._free()
            raise EngineError(
                f"llama.cpp cannot make a context of {room.cells} cells ({_last_error()})"
            )
        self._memory = lib.llama_get_memory(self._context)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Overwrite the KV cache and give the context's memory back for a while.

        Every sequence is gone afterwards, and nothing can be decoded meanwhile.
        """
        self._lib.llama_memory_clear(self._memory, True)
        self._lib.llama_free(self._context)
        self._native.context = None
        trim()
        try:
            yield
        finally:
            self._begin()

    def close(self) -> None:
        """Overwrite the KV cache and free the native memory; any other call would then crash."""
        if self.open:
            self._lib.llama_memory_clear(self._memory, True)
        self._free()

    def _free(self) -> None:
        with self._gate:
            self._close()

    @contextmanager
    def _vocabulary(self) -> Iterator[Any]:
        """Lend the vocabulary to any thread; nobody frees it meanwhile."""
        with self._gate:
            if not self.open:
                raise EngineError("this language model is closed: load the bundle again")
            yield self._vocab

    @property
    def open(self) -> bool:
        """Whether the native memory is still there."""
        return self._close.alive

    def load_adapter(self, name: str, path: Path) -> None:
        """Load a LoRA adapter, to be switched on by its name; freed with the model.

        Args:
            name: not loaded before.
            path: a GGUF file already checked by `adapters.py`.

        Raises:
            BundleError: llama.cpp refuses the file.
        """
        adapter = self._lib.llama_adapter_lora_init(self._model, str(path).encode())
        if not adapter:
            raise BundleError(
                f"{path}: llama.cpp cannot load it ({_last_error()}); export the bundle again"
            )
        self._adapters[name] = adapter

    def use_adapter(self, name: str | None) -> None:
        """Compute with this adapter from now on, or with none; what was decoded stays as it is.

        Raises:
            EngineError: llama.cpp refuses.
        """
        chosen = [] if name is None else [self._adapters[name]]
        adapters = (self._lib.llama_adapter_lora_p_ctypes * len(chosen))(*chosen)
        scales = (ctypes.c_float * len(chosen))(*[1.0] * len(chosen))
        code = self._lib.llama_set_adapters_lora(self._context, adapters, len(chosen), scales)
        if code != 0:
            raise EngineError(f"llama.cpp cannot switch to adapter {name!r} (code {code})")

    def tokenize(self, text: str) -> list[int]:
        """Split text into tokens, without `<bos>`; "<eos>" and the like in it stay plain text.

        Raises:
            EngineError: llama.cpp cannot.
        """
        data = text.encode("utf-8")
        room = len(data) + 8  # a byte makes at most one token
        tokens = (ctypes.c_int32 * room)()
        with self._vocabulary() as vocab:
            count = self._lib.llama_tokenize(vocab, data, len(data), tokens, room, False, False)
        if count < 0:
            raise EngineError(
                f"llama.cpp cannot tokenise a text of {len(data)} bytes (code {count})"
            )
        return list(tokens[:count])

    def piece(self, token: int) -> bytes:
        """Give the bytes of one token, maybe a part of a character; none for control tokens."""
        spell, buffer = self._lib.llama_token_to_piece, ctypes.create_string_buffer(256)
        with self._vocabulary() as vocab:
            count = spell(vocab, token, buffer, len(buffer), 0, False)
            if count < 0:  # the piece is longer: -count bytes
                buffer = ctypes.create_string_buffer(-count)
                count = spell(vocab, token, buffer, len(buffer), 0, False)
        if count < 0:
            raise EngineError(f"llama.cpp cannot spell token {token} (code {count})")
        return buffer.raw[:count]

    def ends(self, token: int) -> bool:
        """Whether this token ends an answer: `<eos>` alone, as for transformers.

        llama.cpp would also end at `<end_of_turn>` and at Gemma's html tag `</s>`.
        """
        return token == self.eos

    def decode_rows(self, rows: npt.NDArray[np.float32], sequence: int, *, causal: bool) -> None:
        """Append float32 [n, d] to a sequence; every row sees the whole block unless causal.

        Raises:
            EngineError: wrong shape, block too long, no cells left, or llama.cpp failed.
        """
        if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != self.width:
            raise EngineError(f"rows are {rows.dtype} {rows.shape}, not float32 (n, {self.width})")
        data = np.ascontiguousarray(rows)
        self._decode(len(data), sequence, causal, embd=_pointer(data, ctypes.c_float))

    def decode_tokens(self, tokens: Sequence[int], sequence: int, *, causal: bool) -> None:
        """Append tokens to a sequence; see `decode_rows`."""
        data = np.asarray(tokens, dtype=np.int32)
        self._decode(len(data), sequence, causal, token=_pointer(data, ctypes.c_int32))

    def logits(self) -> npt.NDArray[np.float32]:
        """Give a copy of the logits of the last position decoded: float32 [vocabulary].

        Raises:
            EngineError: nothing was decoded, or they are not finite.
        """
        pointer = self._lib.llama_get_logits_ith(self._context, -1)
        if not pointer:
            raise EngineError("llama.cpp has no logits: nothing was decoded")
        logits = np.array(np.ctypeslib.as_array(pointer, (self.vocabulary,)), dtype=np.float32)
        if not np.isfinite(logits).all():
            raise EngineError(
                "the language model gave logits that are not finite: export the bundle again"
            )
        return logits

    def use_threads(self, threads: int) -> None:
        """Compute with this many threads from now on; it costs nothing."""
        self._threads = threads
        self._lib.llama_set_n_threads(self._context, threads, threads)

    def drop(self, sequence: int, behind: int = 0) -> None:
        """Empty a sequence, or what is in it behind so many positions."""
        if not self._lib.llama_memory_seq_rm(self._memory, sequence, behind, -1):
            raise EngineError(f"llama.cpp cannot remove sequence {sequence} from {behind} on")

    def save(self, sequence: int) -> npt.NDArray[np.uint8]:
        """Give the KV cells of a sequence as bytes that only this build and these settings read.

        Raises:
            EngineError: llama.cpp cannot.
        """
        size = self._lib.llama_state_seq_get_size(self._context, sequence)
        state = np.empty(size, dtype=np.uint8)
        data = _pointer(state, ctypes.c_uint8)
        if self._lib.llama_state_seq_get_data(self._context, data, size, sequence) != size:
            raise EngineError(f"llama.cpp cannot save sequence {sequence} ({_last_error()})")
        return state

    def restore(self, sequence: int, state: npt.NDArray[np.uint8]) -> None:
        """Fill an empty sequence with what `save` gave.

        llama.cpp believes what it is given: only bytes that were authenticated may come here.

        Raises:
            EngineError: it does not fit; the sequence is then empty.
        """
        data = _pointer(state, ctypes.c_uint8)
        read = self._lib.llama_state_seq_set_data(self._context, data, len(state), sequence)
        if read != len(state):
            self.drop(sequence)
            raise EngineError(f"llama.cpp cannot restore sequence {sequence} ({_last_error()})")

    def length(self, sequence: int) -> int:
        """Give the number of positions in a sequence."""
        return int(self._lib.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    @contextmanager
    def sampler(self, options: GenerationOptions, sequence: int) -> Iterator[Sampler]:
        """Lend llama.cpp's own samplers, chained as its command line does, for one sequence."""
        chain = self._lib.llama_sampler_chain_init(self._lib.llama_sampler_chain_default_params())
        try:
            for step in _sampler_steps(self._lib, self.vocabulary, options):
                self._lib.llama_sampler_chain_add(chain, step)
            yield Sampler(self, chain, sequence)
        finally:
            self._lib.llama_sampler_free(chain)

    def _decode(self, count: int, sequence: int, causal: bool, **data: Any) -> None:
        """Decode one batch whose last position gives logits.

        llama_decode aborts the process when a batch is longer than n_batch, or a non-causal one
        longer than n_ubatch (src/llama-context.cpp), and answers 1 when no cells are free.
        """
        if not 0 < count <= self.block or not 0 <= sequence < self._room.sequences:
            raise EngineError(
                f"a block of {count} positions for sequence {sequence}: at most {self.block}"
            )
        start = self.length(sequence)
        positions = np.arange(start, start + count, dtype=np.int32)
        ones, wanted = np.ones(count, dtype=np.int32), np.zeros(count, dtype=np.int8)
        wanted[-1] = 1
        owner = ctypes.pointer(ctypes.c_int32(sequence))
        owners = (ctypes.POINTER(ctypes.c_int32) * count)(*[owner] * count)
        batch = self._lib.llama_batch(
            n_tokens=count,
            pos=_pointer(positions, ctypes.c_int32),
            n_seq_id=_pointer(ones, ctypes.c_int32),
            seq_id=owners,
            logits=_pointer(wanted, ctypes.c_int8),
            **data,
        )
        self._lib.llama_set_causal_attn(self._context, causal)
        try:
            code = self._lib.llama_decode(self._context, batch)
        finally:
            self._lib.llama_set_causal_attn(self._context, True)
        if code == 2:
            raise Stopped
        if code != 0:
            why = "no KV cells are free" if code == 1 else _last_error()
            raise EngineError(f"llama.cpp could not decode {count} positions (code {code}): {why}")


class Sampler:
    """Continues one sequence, token by token."""

    def __init__(self, language: LanguageModel, chain: Any, sequence: int) -> None:
        self._language, self._chain, self._sequence = language, chain, sequence

    def draw(self) -> int:
        """Draw from the logits of the last position, and note the token for the penalties."""
        lib, context = self._language._lib, self._language._context
        return int(lib.llama_sampler_sample(self._chain, context, -1))

    def advance(self, token: int) -> None:
        """Append a token to the sequence.

        Raises:
            EngineError: llama.cpp failed.
        """
        self._language.decode_tokens((token,), self._sequence, causal=True)


def _model_params(lib: ModuleType, room: Room) -> Any:
    params = lib.llama_model_default_params()
    params.n_gpu_layers = 0
    # transformers 4.57 gives PaliGemma's own mask to all layers: no layer has a window. llama.cpp
    # applies one even inside a non-causal block, so it is set wider than any sequence can be.
    overrides = (lib.llama_model_kv_override * 2)()
    overrides[0].tag = lib.LLAMA_KV_OVERRIDE_TYPE_INT
    overrides[0].key = b"gemma2.attention.sliding_window"
    overrides[0].value.val_i64 = max(room.cells, 4096)
    params.kv_overrides = overrides
    return params


def _context_params(lib: ModuleType, room: Room, threads: int, settings: Settings) -> Any:
    params = lib.llama_context_default_params()
    params.n_ctx = rounded(room.cells) * room.sequences  # else rounded down, with a warning
    params.n_batch = params.n_ubatch = room.block
    params.n_seq_max = room.sequences
    # The default reserves logits for a whole batch: n_batch × 257 216 × 4 bytes.
    params.n_outputs_max = room.sequences
    params.n_threads = params.n_threads_batch = threads
    flash = settings.flash_attention
    params.flash_attn_type = (
        lib.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    )
    kinds = {"f16": lib.GGML_TYPE_F16, "q8_0": lib.GGML_TYPE_Q8_0}
    params.type_k = params.type_v = kinds[settings.kv]
    params.swa_full = True
    # Cells of its own for each sequence: in shared ones attention is computed over everybody's, and
    # a question to one of three residents takes as long as if it were put to all of them.
    params.kv_unified = False
    params.no_perf = True
    return params


def _sampler_steps(lib: ModuleType, vocabulary: int, options: GenerationOptions) -> Iterator[Any]:
    if options.repeat_penalty != 1:
        yield lib.llama_sampler_init_penalties(
            vocabulary, PENALTY_WINDOW, options.repeat_penalty, 0.0, 0.0
        )
    if options.temperature == 0:
        yield lib.llama_sampler_init_greedy()
        return
    yield lib.llama_sampler_init_top_k(options.top_k)
    yield lib.llama_sampler_init_top_p(options.top_p, 1)
    yield lib.llama_sampler_init_min_p(options.min_p, 1)
    yield lib.llama_sampler_init_temp(options.temperature)
    seed = lib.LLAMA_DEFAULT_SEED if options.seed is None else options.seed
    yield lib.llama_sampler_init_dist(seed)


def _build(lib: ModuleType) -> str:
    with loading(*_PACKAGE):
        from llama_cpp import __version__
    return f"{__version__} {lib.llama_print_system_info().decode()}"


def _pointer(array: npt.NDArray[Any], kind: Any) -> Any:
    """Give a ctypes pointer; the caller keeps the array alive.

    numpy's own `data_as` keeps it alive, by a cycle that stays until the next full collection.
    """
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))


@dataclass
class _Native:
    """What must be freed, held apart from the object whose end frees it."""

    lib: ModuleType
    model: Any
    context: Any = None

    def free(self) -> None:
        if self.context:
            self.lib.llama_free(self.context)
        self.lib.llama_model_free(self.model)


def _strlen() -> Any:
    """Give C's `strlen`, which reads an `Interrupt` without asking Python."""
    return ctypes.CDLL(None).strlen


_errors: list[str] = []
"""The latest error message of llama.cpp, which reports reasons only through its log."""


def _last_error() -> str:
    return _errors[-1] if _errors else "no reason given"


def load_llama(settings: Settings = DEFAULTS) -> ModuleType:
    """Load llama.cpp once; later settings cannot change how its threads wait.

    OpenMP reads the variables while the library is loaded. What the user set himself stays.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ.update(settings.environment)
    return _loaded()


@cache
def _loaded() -> ModuleType:
    """Load the library, its log going to the logger "uservlm.llama" from warnings upwards.

    Raises:
        EngineError: it is damaged, or has no code for this processor.
    """
    with loading(*_PACKAGE):
        from llama_cpp import llama_cpp as lib

        _forward_log(lib)
        lib.llama_backend_init()
        load_processor(lib)
    return lib


def _forward_log(lib: ModuleType) -> None:
    level = 0

    @lib.llama_log_callback  # type: ignore[untyped-decorator]
    def forward(found: int, text: bytes, _: Any) -> None:
        nonlocal level
        level = level if found == _CONTINUED else found
        message = text.decode("utf-8", "replace").strip()
        if any(wanted in message for wanted in _WANTED):
            return
        if level in (LOG_WARNING, LOG_ERROR) and message:
            _LOG.log(logging.WARNING if level == LOG_WARNING else logging.ERROR, "%s", message)
        if level == LOG_ERROR and message:
            _errors[:] = [message]

    _LOG.addHandler(logging.NullHandler())  # silent unless the application wants to hear it
    lib.llama_log_set(forward, ctypes.c_void_p(0))
    _keep_alive.append(forward)


_keep_alive: list[Any] = []
"""llama.cpp calls back for as long as the process lives."""
