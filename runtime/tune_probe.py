"""Time one way of computing, in a process of its own: how OpenMP waits is read only once.

Owns: the three times that matter to somebody who talks, taken through the same `LanguageModel` that
answers. Reads one JSON object on stdin, writes one on stdout: see `Probe` and `Times`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from subprocess import DEVNULL, Popen
from time import perf_counter
from typing import Any

import numpy as np

from uservlm.runtime.language import LanguageModel
from uservlm.runtime.room import Room
from uservlm.runtime.settings import Settings
from uservlm.runtime.weights import Weights

USER = 0
QUESTION, WARM_UP = 50, 8
"""Tokens of the question that is timed, and rows that are not."""


@dataclass(frozen=True)
class Probe:
    """What to time."""

    model: str
    """A GGUF file."""
    settings: dict[str, Any]
    image_tokens: int
    threads: tuple[int, ...]
    """Each in turn."""
    busy: int
    """Other processes that compute meanwhile."""
    repeats: int
    answer: int
    """Tokens decoded in each repeat."""


@dataclass(frozen=True)
class Times:
    """What it took, in seconds: medians."""

    threads: int
    user: float
    """To make a user resident, with the first of the numbers of threads."""
    question: float
    """To read a question of a resident user."""
    token: float
    """Of the answer."""


def measure(probe: Probe) -> Iterator[Times]:
    """Time a probe with each number of threads."""
    cells = probe.image_tokens + QUESTION + probe.answer + 64
    room = Room(cells, probe.image_tokens + QUESTION, 1)
    settings = Settings(**probe.settings)
    model = Path(probe.model)
    tensors = Weights(model).tensors
    language = LanguageModel(model, room, probe.threads[0], tensors=tensors, settings=settings)
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 0.02, (probe.image_tokens, language.width)).astype(np.float32)
    language.decode_rows(rows[:WARM_UP], USER, causal=False)  # buffers are touched, threads started
    language.drop(USER)
    with busy(probe.busy):
        start = perf_counter()
        language.decode_rows(rows, USER, causal=False)
        user = perf_counter() - start
        for threads in probe.threads:
            language.use_threads(threads)
            found = [_turn(language, probe.answer) for _ in range(probe.repeats)]
            question = median(first for first, _ in found)
            token = median(each for _, tokens in found for each in tokens)
            yield Times(threads, user, question, token)
    language.close()


def _turn(language: LanguageModel, answer: int) -> tuple[float, list[float]]:
    """Ask one question; gives the time to read it and that of each token."""
    resident, start = language.length(USER), perf_counter()
    language.decode_tokens(range(2, 2 + QUESTION), USER, causal=False)
    question, tokens = perf_counter() - start, []
    for token in range(answer):
        start = perf_counter()
        language.decode_tokens([2 + token % 200], USER, causal=True)
        tokens.append(perf_counter() - start)
    language.drop(USER, behind=resident)
    return question, tokens


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many processes computing."""
    others = [
        Popen([sys.executable, "-c", "while True: pass"], stdin=DEVNULL) for _ in range(count)
    ]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    """Answer one probe on stdin; a line for each number of threads."""
    probe = Probe(**json.load(sys.stdin))
    for times in measure(probe):
        print(json.dumps(asdict(times)), flush=True)


if __name__ == "__main__":
    main()
