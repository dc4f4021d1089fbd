"""Which words of two answers differ.

Owns: what counts as the same word, and the cutting of two texts into parts for marking them. Pure:
knows nothing of pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher


@dataclass(frozen=True)
class Part:
    """A run of words with the spaces around them."""

    text: str
    differs: bool
    """Whether the other text lacks it at this place."""


def spoken(text: str) -> tuple[str, ...]:
    """Give the words of an answer as they are heard: case and punctuation are no words."""
    return tuple(re.findall(r"\w+", text.casefold()))


def marked(one: str, other: str) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Cut both texts into runs of words that the other has too, and runs that it has not.

    The parts of a text, joined, are the text itself.
    """
    words, others = _words(one), _words(other)
    ours, theirs = ([spoken(word) or (word[:1],) for word in each] for each in (words, others))
    blocks = SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes()
    first = [Part("".join(words[a:b]), tag != "equal") for tag, a, b, _, _ in blocks if b > a]
    second = [Part("".join(others[a:b]), tag != "equal") for tag, _, _, a, b in blocks if b > a]
    return tuple(_bare(_joined(first))), tuple(_bare(_joined(second)))


def _words(text: str) -> list[str]:
    """Words and the white space between them, in turn."""
    return re.findall(r"\s+|\S+", text)


def _joined(parts: Sequence[Part]) -> list[Part]:
    """Make one run of differing words of two that have nothing but white space between them."""
    runs: list[Part] = []
    for number, part in enumerate(parts):
        inside = 0 < number < len(parts) - 1 and not part.text.strip()
        here = Part(part.text, True) if inside else part
        if runs and runs[-1].differs == here.differs:
            runs[-1] = Part(runs[-1].text + here.text, here.differs)
        else:
            runs.append(here)
    return runs


def _bare(parts: list[Part]) -> Iterator[Part]:
    """Move white space at the ends of a differing run out of it: a mark begins at a letter."""
    for part in parts:
        inner = part.text.strip()
        if not part.differs or not inner:
            yield Part(part.text, part.differs and bool(inner))
            continue
        begin = part.text.index(inner)
        around = (part.text[:begin], part.text[begin + len(inner) :])
        if around[0]:
            yield Part(around[0], False)
        yield Part(inner, True)
        if around[1]:
            yield Part(around[1], False)
