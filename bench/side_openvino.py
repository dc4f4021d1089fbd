"""OpenVINO GenAI as a side: `python -m uservlm.bench.side_openvino FOLDER THREADS`.

Owns: asking its VLMPipeline as its own samples do, with its defaults, greedily. Runs in the peer's
own environment; FOLDER is one of `openvino_model.py`. Each turn shows a picture never seen before,
so nothing of it can have been kept. `vision_s` is what OpenVINO calls preparing embeddings:
resizing, vision, and looking up the prompt's tokens; `prefill_s` is the rest until the first token.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

from uservlm.bench.serving import Found, serve

WORD, LETTER = " today", "~"
"""What a question is lengthened with: some tokens, and one."""


class OpenVINO:
    """The pipeline, and pictures to show it."""

    def __init__(self, folder: Path, threads: int) -> None:
        """Load the model for so many threads."""
        import openvino_genai  # type: ignore[import-not-found]

        self._genai: Any = openvino_genai
        self._pipeline = openvino_genai.VLMPipeline(
            str(folder), "CPU", INFERENCE_NUM_THREADS=threads
        )
        self._tokenizer = self._pipeline.get_tokenizer()
        self._seeds = count()

    def turn(
        self, question_tokens: int = 50, answer_tokens: int = 16, image_size: int = 448
    ) -> Found:
        """Ask about a new square picture, uint8 [image_size, image_size, 3].

        Raises:
            ValueError: another number of tokens was answered than was asked for.
        """
        import numpy as np
        import openvino  # type: ignore[import-not-found]

        noise = np.random.default_rng(next(self._seeds))
        pixels = noise.integers(0, 256, (image_size, image_size, 3), dtype=np.uint8)
        question, clock = self.question(question_tokens), self._clock()
        options = self._genai.GenerationConfig(
            max_new_tokens=answer_tokens, ignore_eos=True, do_sample=False
        )
        start = perf_counter()
        found = self._pipeline.generate(
            question, images=[openvino.Tensor(pixels)], generation_config=options, streamer=clock
        )
        if len(clock.times) != answer_tokens:
            raise ValueError(f"{len(clock.times)} tokens answered, {answer_tokens} asked for")
        ttft = clock.times[0] - start
        vision = found.perf_metrics.get_prepare_embeddings_duration().mean / 1e3
        return {
            "ttft_s": ttft,
            "decode_s": clock.times[-1] - clock.times[0],
            "answer_tokens": float(answer_tokens),
            "prompt_tokens": float(found.perf_metrics.get_num_input_tokens()),
            "vision_s": vision,
            "prefill_s": ttft - vision,
        }

    def question(self, tokens: int) -> str:
        """Give a text of exactly so many tokens, the chat template's not counted."""
        text = ""
        while self._length(text + WORD) <= tokens:
            text += WORD
        while self._length(text) < tokens:
            text += LETTER
        return text

    def _length(self, text: str) -> int:
        if not text:
            return 0
        shape = self._tokenizer.encode(text, add_special_tokens=False).input_ids.get_shape()
        return int(shape[1])

    def _clock(self) -> Any:
        class Clock(self._genai.StreamerBase):  # type: ignore[misc, name-defined]
            """Notes when each token came."""

            def __init__(self) -> None:
                super().__init__()
                self.times: list[float] = []

            def write(self, token: Any) -> Any:
                came = perf_counter()
                self.times += [came] * (len(token) if isinstance(token, list) else 1)
                return going_on

            def end(self) -> None:
                pass

        going_on = self._genai.StreamingStatus.RUNNING
        return Clock()


def main() -> None:
    """Open the model and obey."""
    _, folder, threads = sys.argv
    serve({"turn": OpenVINO(Path(folder), int(threads)).turn})


if __name__ == "__main__":
    main()
