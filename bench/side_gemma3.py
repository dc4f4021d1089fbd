"""Gemma 3 in llama.cpp as a side: `python -m uservlm.bench.side_gemma3 FOLDER THREADS`.

Owns: looking and asking by llama.cpp's own multimodal library (mtmd), in the order of its command
line: what the chat template has before the picture, the picture as one block that sees itself, the
question. FOLDER is one of `gemma3_model.py`. Text runs on llama.cpp's defaults, see
`side_llama.py`; vision on as many threads, without a warm-up. mtmd does not repack vision's
matrices.

A picture of Gemma 3 sees nothing that comes behind it, so its KV cells may stay for the next
question without changing any answer, as llama.cpp's server lets them: `keep=True`.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from uservlm.bench.gemma3_model import TEXT, VISION
from uservlm.bench.serving import Found, serve
from uservlm.bench.side_llama import ANSWER_TOKENS, Llama, wait_as_openmp_does
from uservlm.runtime.errors import EngineError

HEAD, TAIL = b"<bos><start_of_turn>user\n", b"<end_of_turn>\n<start_of_turn>model\n"
"""Of Gemma 3's chat template, before the picture and behind the question."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Looked:
    """A picture in the KV cache."""

    positions: int
    """That it and what comes before it take."""
    tail: tuple[int, ...]
    """Tokens behind it: its end, then TAIL's; a question comes between."""
    vision_s: float
    """Resizing included."""
    prefill_s: float


class Gemma3:
    """The text model, mtmd, and the picture that is in the KV cache."""

    def __init__(self, folder: Path, threads: int) -> None:
        """Load both files.

        Raises:
            EngineError: llama.cpp or mtmd cannot.
        """
        from llama_cpp import mtmd_cpp as mtmd

        self.llama, self._mtmd, self._faces = Llama(folder / TEXT, threads), mtmd, count()
        params = mtmd.mtmd_context_params_default()
        params.use_gpu, params.warmup, params.print_timings = False, False, False
        params.n_threads = threads
        path = str(folder / VISION).encode()
        self._vision = mtmd.mtmd_init_from_file(path, self.llama.model, params)
        if not self._vision:
            raise EngineError(f"mtmd cannot load {folder / VISION}: see its last words above")
        self._looked: Looked | None = None

    def close(self) -> None:
        """Free the native memory; any other call would then crash."""
        self._mtmd.mtmd_free(self._vision)
        self.llama.close()

    def turn(
        self, question_tokens: int = 50, answer_tokens: int | None = None, keep: bool = False
    ) -> Found:
        """Put one question; see `serving.py`.

        Args:
            question_tokens: of the question alone, random ordinary tokens.
            answer_tokens: decoded, exactly so many; None: ANSWER_TOKENS.
            keep: about the picture of the turn before, whose KV cells have stayed, so that the
                question alone is computed. Else about somebody new.
        """
        steps, kept = (answer_tokens or ANSWER_TOKENS) - 1, self._kept() if keep else None
        asked, face = self.llama.tokens(question_tokens), self._somebody()
        start = perf_counter()
        looked = kept or self.look(face)
        seen = perf_counter()
        token = self.ask(looked, asked)
        first = perf_counter()
        prompt = self.llama.length
        answer = self.llama.go_on(token, steps)
        return {
            "ttft_s": first - start,
            "vision_s": looked.vision_s,
            "prefill_s": looked.prefill_s + first - seen,
            "decode_s": perf_counter() - first,
            "answer_tokens": float(len(answer)),
            "prompt_tokens": float(prompt),
            "computed_tokens": float(prompt - (kept.positions if kept else 0)),
        }

    def look(self, face: Pixels) -> Looked:
        """Forget everything and put a picture, uint8 [height, width, 3], into the KV cache.

        Raises:
            EngineError: mtmd failed.
        """
        self._looked = None
        self.llama.keep(0)
        begun = perf_counter()
        with self._chunks(face) as (head, image, tail):
            cut = perf_counter()
            self._compute_text(head)
            fed = perf_counter()
            _check(self._mtmd.mtmd_encode_chunk(self._vision, image), "encode the picture")
            encoded = perf_counter()
            self._compute_image(image)
            vision_s = cut - begun + encoded - fed
            self._looked = Looked(
                self.llama.length,
                tuple(self._tokens(tail)),
                vision_s,
                perf_counter() - begun - vision_s,
            )
        return self._looked

    def ask(self, looked: Looked, asked: Sequence[int]) -> int:
        """Compute a question behind the picture and give the likeliest token."""
        self.llama.keep(looked.positions)
        self.llama.feed([looked.tail[0], *asked, *looked.tail[1:]])
        return self.llama.draw()

    def _somebody(self) -> Pixels:
        from uservlm.bench.questions import picture

        return picture(next(self._faces))

    def _kept(self) -> Looked:
        """Give the picture that is there, which costs nothing more; if there is none, look."""
        looked = self._looked or self.look(self._somebody())
        return replace(looked, vision_s=0.0, prefill_s=0.0)

    @contextmanager
    def _chunks(self, face: Pixels) -> Iterator[tuple[Any, Any, Any]]:
        """Have mtmd cut the prompt: text with the picture's begin, the picture, text again."""
        mtmd, (height, width, _) = self._mtmd, face.shape
        pixels = np.ascontiguousarray(face)
        data = pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        bitmap, chunks = mtmd.mtmd_bitmap_init(width, height, data), mtmd.mtmd_input_chunks_init()
        try:
            prompt = HEAD + mtmd.mtmd_default_marker() + TAIL
            text = mtmd.mtmd_input_text(prompt, len(prompt), False, True)
            bitmaps = (ctypes.c_void_p * 1)(bitmap)
            code = mtmd.mtmd_tokenize(self._vision, chunks, ctypes.byref(text), bitmaps, 1)
            _check(code, "cut the prompt")
            if (found := mtmd.mtmd_input_chunks_size(chunks)) != 3:
                raise EngineError(f"mtmd cut the prompt into {found} pieces instead of 3")
            yield tuple(mtmd.mtmd_input_chunks_get(chunks, at) for at in range(3))
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
            mtmd.mtmd_bitmap_free(bitmap)

    def _tokens(self, chunk: Any) -> list[int]:
        size = ctypes.c_size_t()
        tokens = self._mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(size))
        return [int(tokens[at]) for at in range(size.value)]

    def _compute_text(self, chunk: Any) -> None:
        """Append a text by mtmd's helper, which computes no logits for it."""
        helper, llama, past = self._mtmd.mtmd_helper_eval_chunk_single, self.llama, ctypes.c_int32()
        at, where = llama.length, (self._vision, llama.context, chunk)
        _check(helper(*where, at, 0, llama.block, False, ctypes.byref(past)), "compute the prompt")

    def _compute_image(self, chunk: Any) -> None:
        """Append the picture that was encoded last, as one block that sees itself."""
        mtmd, llama, past = self._mtmd, self.llama, ctypes.c_int32()
        rows, where = mtmd.mtmd_get_output_embd(self._vision), (self._vision, llama.context, chunk)
        nothing = mtmd.mtmd_helper_post_decode_callback(), None
        code = mtmd.mtmd_helper_decode_image_chunk(
            *where, rows, llama.length, 0, llama.block, ctypes.byref(past), *nothing
        )
        _check(code, "compute the picture's block")


def _check(code: int, doing: str) -> None:
    if code:
        raise EngineError(f"mtmd could not {doing} (code {code}): see its last words above")


def main() -> None:
    """Open the model, say so, and obey."""
    _, folder, threads = sys.argv
    wait_as_openmp_does()
    gemma3 = Gemma3(Path(folder), int(threads))
    serve({"turn": gemma3.turn})
    gemma3.close()


if __name__ == "__main__":
    main()
