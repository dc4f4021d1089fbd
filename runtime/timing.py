"""From pieces to chunks: what each took.

Owns: the clock of an answer. Knows nothing of how it is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter

from uservlm.runtime.answers import Chunk, Usage
from uservlm.runtime.spelling import Piece


def timed(pieces: Iterator[Piece], start: float, usage: Usage) -> Iterator[Chunk]:
    """Put times on pieces.

    Args:
        pieces: of one answer.
        start: `perf_counter()` at the question.
        usage: what is known after prefill.
    """
    before = perf_counter()
    for piece in pieces:
        now = perf_counter()
        if usage.ttft_s == 0:
            usage = replace(usage, ttft_s=now - start)
        else:
            usage = replace(usage, decode_s=usage.decode_s + now - before)
        if piece.finish is not None:
            done = replace(usage, finish=piece.finish, answer_tokens=piece.tokens)
            yield Chunk(piece.text, now - start, done)
        elif piece.text:
            yield Chunk(piece.text, now - start)
        before = perf_counter()
