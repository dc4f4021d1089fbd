"""From drawn tokens to text: the loop that continues an answer.

Owns: when an answer ends and where its characters end. Knows nothing of prefixes or time.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from uservlm.runtime.answers import Finish


class Speller(Protocol):
    """What is needed of a language model; `language.LanguageModel` is one."""

    def ends(self, token: int) -> bool:
        """Whether this token ends an answer."""

    def piece(self, token: int) -> bytes:
        """Give the bytes of one token, possibly a part of a character."""


class Drawer(Protocol):
    """Draws the next token; `advance` feeds it back so that another can be drawn."""

    def draw(self) -> int:
        """Draw one token."""

    def advance(self, token: int) -> None:
        """Append a token to the sequence."""


@dataclass(frozen=True)
class Piece:
    """What one token added."""

    text: str
    """Whole characters; empty while one is incomplete."""
    tokens: int
    """Answer tokens so far."""
    finish: Finish | None = None
    """In the last piece only."""


def spell(speller: Speller, drawer: Drawer, longest: int) -> Iterator[Piece]:
    """Draw until the model ends its answer or `longest` tokens are there.

    SentencePiece spells rare characters byte by byte, so bytes are held back until they make a
    character; an answer that stops inside one ends in U+FFFD.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for count in range(longest):
        token = drawer.draw()
        if speller.ends(token):
            yield Piece(decoder.decode(b"", final=True), count, "stop")
            return
        yield Piece(decoder.decode(speller.piece(token)), count + 1)
        if count + 1 < longest:
            drawer.advance(token)
    yield Piece(decoder.decode(b"", final=True), longest, "length")


def until(pieces: Iterator[Piece], stops: tuple[str, ...]) -> Iterator[Piece]:
    """End an answer before the first of `stops`; what may yet turn out to be one is held back."""
    held = ""
    for piece in pieces:
        held += piece.text
        found = [at for stop in stops if (at := held.find(stop)) >= 0]
        if found:
            yield Piece(held[: min(found)], piece.tokens, "stop")
            return
        back = 0 if piece.finish else max((_begun(held, stop) for stop in stops), default=0)
        text, held = held[: len(held) - back], held[len(held) - back :]
        yield Piece(text, piece.tokens, piece.finish)


def _begun(text: str, stop: str) -> int:
    """Count the characters at the end of `text` with which `stop` begins."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
