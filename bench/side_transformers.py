"""transformers as a side: `python -m uservlm.bench.side_transformers CHECKPOINT bfloat16|float32`.

Owns: User-VLM's own way of answering, as its example has it (anchors: processor, then `generate`
with `max_new_tokens` and no sampling), everything computed anew for each question. The streamer
tells when tokens come, a hook when the vision tower is done; neither changes the work.
"""

from __future__ import annotations

import sys
from itertools import count
from time import perf_counter
from typing import Any

from uservlm.bench.questions import image, question_of
from uservlm.bench.serving import Found, serve

TEMPLATE = "<image> <|im_start|>USER: {question}<|im_end|> ASSISTANT: "
"""The prompt that User-VLM was trained with."""
ANSWER_TOKENS = 100
"""What its example allows."""


class Clock:
    """A streamer: `generate` puts the prompt first, then each token as it comes."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, tokens: Any) -> None:
        """Note the time."""
        self.times.append(perf_counter())

    def end(self) -> None:
        """Nothing is left to be done."""


class Original:
    """The model and its processor."""

    def __init__(self, checkpoint: str, precision: str) -> None:
        import torch
        from transformers import AutoProcessor, PaliGemmaForConditionalGeneration
        from transformers.utils import logging

        logging.set_verbosity_error()
        self._dtype = getattr(torch, precision)
        self._processor = AutoProcessor.from_pretrained(checkpoint, use_fast=False)
        self._model = PaliGemmaForConditionalGeneration.from_pretrained(
            checkpoint, dtype=self._dtype
        ).eval()
        self._faces, self._vision_s, self._start = count(), 0.0, 0.0
        tower = self._model.model.vision_tower
        tower.register_forward_pre_hook(self._vision_begins)
        tower.register_forward_hook(self._vision_ends)

    def turn(self, question_tokens: int = 50, answer_tokens: int | None = None) -> Found:
        """Put one question about a new face; see `serving.py`."""
        import torch

        face = image(next(self._faces))
        asked = question_of(self._length, question_tokens)
        clock, self._vision_s = Clock(), 0.0
        start = perf_counter()
        prompt = TEMPLATE.format(question=asked)
        given = self._processor(text=prompt, images=face, return_tensors="pt").to(self._dtype)
        with torch.inference_mode():
            self._model.generate(
                **given,
                max_new_tokens=answer_tokens or ANSWER_TOKENS,
                do_sample=False,
                streamer=clock,
            )
        first, last = clock.times[1], clock.times[-1]
        return {
            "ttft_s": first - start,
            "vision_s": self._vision_s,
            "prefill_s": first - start - self._vision_s,
            "decode_s": last - first,
            "answer_tokens": float(len(clock.times) - 1),
            "prompt_tokens": float(given["input_ids"].shape[1]),
        }

    def _length(self, question: str) -> int:
        return len(self._processor.tokenizer(question, add_special_tokens=False)["input_ids"])

    def _vision_begins(self, *of: object) -> None:
        self._start = perf_counter()

    def _vision_ends(self, *of: object) -> None:
        self._vision_s += perf_counter() - self._start


def main() -> None:
    """Open the checkpoint, say so, and obey."""
    _, checkpoint, precision = sys.argv
    serve({"turn": Original(checkpoint, precision).turn})


if __name__ == "__main__":
    main()
