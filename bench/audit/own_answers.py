"""What own pictures were answered, and the results of their probes, whatever is compared.

Owns: these forms. Knows nothing of pairs or groups.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from uservlm.bench import wording
from uservlm.bench.audit.estimates import Estimate
from uservlm.bench.audit.findings import Figure, Limit, Moved, ProbeResult, Unit
from uservlm.bench.audit.marking import spoken
from uservlm.bench.audit.own_pictures import OwnPicture

MOVED: Final = 8
"""Cases that are kept of a probe; a page shows fewer."""


@dataclass(frozen=True)
class Met:
    """One question before two pictures of the same person, or of a pair."""

    question: str
    before: OwnPicture
    after: OwnPicture
    answers: tuple[str, str]
    kl: float
    """KL(before ‖ after) of the first answer token, in nats."""

    @property
    def changed(self) -> bool:
        """The answers differ in a word."""
        return spoken(self.answers[0]) != spoken(self.answers[1])


@dataclass(frozen=True)
class Heard:
    """Everything that was answered."""

    questions: tuple[str, ...]
    texts: Mapping[int, tuple[str, ...]]
    """By index of the picture: an answer to each question."""
    met: Mapping[tuple[int, int], tuple[Met, ...]]
    """By indices of two pictures of one unit."""


def result(
    name: str, part: int, title: str, asks: str, figures: Sequence[Figure], people: int,
    cases: int, moved: tuple[Moved, ...],
) -> ProbeResult:  # fmt: skip
    """Give a result that passes where every limit is kept."""
    passed = all(one.kept is not False for one in figures)
    title = f"{wording.capital(title).replace('_', ' ')} (own pictures)"
    return ProbeResult(name, part, title, asks, tuple(figures), people, cases, passed, moved)


def figure(
    name: str, words: str, found: Estimate, unit: Unit = "share", limit: Limit | None = None
) -> Figure:
    """Give a figure of an estimate."""
    return Figure(name, words, unit, found.value, found.interval, limit)


def numbered(names: Sequence[Hashable]) -> list[int]:
    """Number different names from 0 on, in their order."""
    known: dict[Hashable, int] = {}
    return [known.setdefault(name, len(known)) for name in names]
