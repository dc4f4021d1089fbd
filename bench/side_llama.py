"""llama.cpp alone, text only, as a side: `python -m uservlm.bench.side_llama GGUF THREADS`.

Owns: computing token batches the way llama.cpp's own tools do, which is the floor that our Python
adds to. Everything is llama.cpp's default: the file is mapped and its matrices repacked, flash
attention is its own choice, ubatches are of 512, the cache is float16, prompts are causal, and
threads wait at barriers as OpenMP has them wait, whatever policy our runtime has set in the
environment (docs/decisions/0008). The library is the one the runtime uses, so `toolchain/patches`
(AMX in bfloat16) speed it up as well. Nothing of `runtime/language.py` is used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from ctypes import c_int32
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from uservlm.bench.serving import Found, serve
from uservlm.runtime.errors import EngineError

CELLS = 2048
"""Of the KV cache at first."""
ANSWER_TOKENS = 16
"""Of an answer whose length nobody gives."""
SEED = 7
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""What decides how OpenMP's threads wait; read while the library is loaded."""


class Llama:
    """A GGUF model and a context with one sequence."""

    def __init__(self, path: Path, threads: int) -> None:
        """Load the model with llama.cpp's defaults and run it once, as its tools do.

        Raises:
            EngineError: llama.cpp cannot load it.
        """
        from llama_cpp import llama_cpp as lib

        self.lib, self._threads = lib, threads
        lib.llama_backend_init()
        params = lib.llama_model_default_params()
        self.model = lib.llama_model_load_from_file(str(path).encode(), params)
        if not self.model:
            raise EngineError(f"llama.cpp cannot load {path}: see its last words above")
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init_greedy())
        self._sampler, self._rng = chain, np.random.default_rng(SEED)
        self._ordinary = self._ordinary_tokens()
        self.context: Any = None
        self._memory: Any = None
        self.block = self._cells = 0
        self.room(CELLS)
        self.feed(self.tokens(1))
        self.keep(0)

    def close(self) -> None:
        """Free the native memory; any other call would then crash."""
        self.lib.llama_sampler_free(self._sampler)
        self.lib.llama_free(self.context)
        self.lib.llama_model_free(self.model)

    def room(self, cells: int) -> None:
        """Have so many KV cells at least; a context that is too small is made anew, empty."""
        if cells <= self._cells:
            return
        if self.context:
            self.lib.llama_free(self.context)
        params = self.lib.llama_context_default_params()
        params.n_ctx = cells
        params.n_threads = params.n_threads_batch = self._threads
        self.context = self.lib.llama_init_from_model(self.model, params)
        if not self.context:
            raise EngineError(f"llama.cpp cannot make a context of {cells} cells")
        self._cells, self._memory = cells, self.lib.llama_get_memory(self.context)
        self.block = int(self.lib.llama_n_batch(self.context))

    @property
    def length(self) -> int:
        """Positions that are in the KV cache."""
        return int(self.lib.llama_memory_seq_pos_max(self._memory, 0)) + 1

    def keep(self, positions: int) -> None:
        """Forget what is in the KV cache behind so many positions."""
        if not self.lib.llama_memory_seq_rm(self._memory, 0, positions, -1):
            raise EngineError(f"llama.cpp cannot forget what is behind position {positions}")

    def tokens(self, count: int) -> list[int]:
        """Draw ordinary tokens; nobody asks what they say."""
        found: list[int] = self._rng.choice(self._ordinary, count).tolist()
        return found

    def feed(self, tokens: Sequence[int]) -> None:
        """Append tokens causally; the last one gives logits.

        Raises:
            EngineError: llama.cpp failed.
        """
        for start in range(0, len(tokens), self.block):
            part = tokens[start : start + self.block]
            held = (c_int32 * len(part))(*part)  # the batch only points to it
            batch = self.lib.llama_batch_get_one(held, len(part))
            if code := self.lib.llama_decode(self.context, batch):
                raise EngineError(f"llama.cpp could not decode {len(part)} tokens (code {code})")

    def draw(self) -> int:
        """Take the likeliest token by llama.cpp's own sampler."""
        return int(self.lib.llama_sampler_sample(self._sampler, self.context, -1))

    def go_on(self, token: int, steps: int) -> list[int]:
        """Decode greedily behind `token`, whatever ends an answer: fixed work."""
        found = [token]
        for _ in range(steps):
            self.feed(found[-1:])
            found.append(self.draw())
        return found

    def _ordinary_tokens(self) -> list[int]:
        lib, vocab = self.lib, self.lib.llama_model_get_vocab(self.model)
        return [
            token
            for token in range(lib.llama_vocab_n_tokens(vocab))
            if lib.llama_vocab_get_attr(vocab, token) == lib.LLAMA_TOKEN_ATTR_NORMAL
        ]


class Text:
    """Questions to a text model."""

    def __init__(self, llama: Llama) -> None:
        self._llama, self._cached = llama, 0

    def turn(
        self,
        question_tokens: int = 50,
        answer_tokens: int | None = None,
        prompt_tokens: int | None = None,
        cached_tokens: int = 0,
    ) -> Found:
        """Put one question; see `serving.py`.

        Args:
            question_tokens: computed, of random ordinary tokens.
            answer_tokens: decoded, exactly so many; None: ANSWER_TOKENS, since nothing ends the
                answer to a random question.
            prompt_tokens: computed instead, as many as a picture and a question make.
            cached_tokens: in the KV cache before the clock starts, as a resident's picture is;
                they stay for the next turn that wants as many.
        """
        llama, steps = self._llama, (answer_tokens or ANSWER_TOKENS) - 1
        computed = question_tokens if prompt_tokens is None else prompt_tokens
        self._hold(cached_tokens, cached_tokens + computed + steps)
        asked = llama.tokens(computed)
        start = perf_counter()
        llama.feed(asked)
        token = llama.draw()
        first = perf_counter()
        answer = llama.go_on(token, steps)
        return {
            "ttft_s": first - start,
            "prefill_s": first - start,
            "decode_s": perf_counter() - first,
            "answer_tokens": float(len(answer)),
            "prompt_tokens": float(cached_tokens + computed),
            "computed_tokens": float(computed),
        }

    def _hold(self, cached: int, cells: int) -> None:
        """Have exactly so many positions in the cache, and room for `cells`."""
        self._llama.room(cells)
        if self._cached != cached or self._llama.length < cached:
            self._llama.keep(0)
            self._llama.feed(self._llama.tokens(cached))
            self._cached = cached
        self._llama.keep(cached)


def wait_as_openmp_does(variables: Iterable[str] = WAITING) -> None:
    """Take back what our runtime or anybody else has set about waiting; before llama.cpp loads."""
    for name in variables:
        os.environ.pop(name, None)


def main() -> None:
    """Open the model, say so, and obey."""
    _, path, threads = sys.argv
    wait_as_openmp_does()
    llama = Llama(Path(path), int(threads))
    serve({"turn": Text(llama).turn})
    llama.close()


if __name__ == "__main__":
    main()
