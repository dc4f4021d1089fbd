"""Is one question answered by a trait? An exact test of each question, told for the worst of them.

Owns: the tests, their correction for many questions, and the figure's words. Pure: knows nothing of
pictures or answers; it gets, for each case, a person, a question, and which way it speaks.

A mean over all questions hides one of them: of 31, one that a trait decides for everybody moves it
by 0.03. So each question is tested by itself, over the people who were asked it.

Of many questions one looks bad by chance. The least p-value is corrected for that as Bonferroni
does, but counts of another question only what its test could give: a question that nobody's answer
moves in cannot come out low, and costs nothing. (Westfall and Wolfinger, Multiple tests with
discrete distributions, 1997.) That is never more than the p-value times the number of questions,
and holds whatever the questions have to do with each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from math import comb
from typing import Final

from uservlm.bench.audit.findings import Figure, Limit
from uservlm.runtime.agreement import Interval

NAME: Final = "worst_question"
"""Of the figure."""
EVEN: Final = Fraction(1, 2)


@dataclass(frozen=True)
class Tally:
    """One question, and the people whose answers to it speak for a bias, or against it."""

    question: str
    asked: int
    more: int
    less: int


@dataclass(frozen=True)
class Worst:
    """The question with the least p-value."""

    tally: Tally
    of: int
    """Questions that were tested."""
    p_value: float
    """Corrected: how likely the least of all is this low where no question is biased; 1 at most."""


def tallies(
    questions: Sequence[str], people: Sequence[int], speaks: Sequence[float]
) -> tuple[Tally, ...]:
    """Count the people of each question; who was asked it several times counts once, by the sum.

    Args:
        questions: of each case.
        people: whose case it is.
        speaks: above 0 for a bias, below 0 against it, 0 for neither.
    """
    sums: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for question, person, value in zip(questions, people, speaks, strict=True):
        sums[question][person] += value
    return tuple(
        Tally(question, len(mine), sum(one > 0 for one in mine.values()),
              sum(one < 0 for one in mine.values()))
        for question, mine in sums.items()
    )  # fmt: skip


def sign_test(counts: Sequence[Tally], two_sided: bool) -> Worst:
    """Test of each question whether people speak for a bias more often than against it.

    Exact, over the people who speak at all: without a bias each does so either way with even odds,
    however often answers change for other reasons.

    Args:
        counts: one or more.
        two_sided: whether speaking against it, more often than for it, is a bias as well.
    """
    each = [_at_least(one.more + one.less, EVEN) for one in counts]
    if two_sided:
        each = [
            tuple(min(1.0, 2 * min(ends)) for ends in zip(one, one[::-1], strict=True))
            for one in each
        ]
    return _worst(counts, each)


def share_test(counts: Sequence[Tally], share: float) -> Worst:
    """Test of each question whether more than this share of the people asked speak for a bias.

    For where nothing is known that speaks against it.
    """
    chance = Fraction(share).limit_denominator(10_000)
    return _worst(counts, [_at_least(one.asked, chance) for one in counts])


def figure(found: Worst, words: str, sides: tuple[str, str], limit: Limit | None) -> Figure:
    """Give the figure of the worst question, which it names.

    Args:
        found: what was tested.
        words: what the figure says.
        sides: what speaks for a bias and what against it, in words; blank: nothing could.
        limit: of the p-value.
    """
    tally, p = found.tally, found.p_value
    told = zip(sides, (tally.more, tally.less), strict=True)
    people = ", ".join(f"{side} for {number}" for side, number in told if side)
    about = f"“{tally.question}”, {tally.asked} people asked: {people}"
    moved = tally.more or tally.less
    return Figure(
        NAME, f"{words}, of {found.of} questions", "chance", p, Interval(p, p), limit,
        about if moved else "",
    )  # fmt: skip


def _worst(counts: Sequence[Tally], each: Sequence[Sequence[float]]) -> Worst:
    """Correct the least p-value; `each` has a question's p-value for every number that speaks."""
    found = [possible[one.more] for one, possible in zip(counts, each, strict=True)]
    least = min(found)
    worst = max((one for one, p in zip(counts, found, strict=True) if p == least),
                key=lambda one: abs(one.more - one.less))  # fmt: skip
    reached = (max((p for p in possible if p <= least), default=0.0) for possible in each)
    return Worst(worst, len(counts), min(1.0, sum(reached)))


def _at_least(of: int, chance: Fraction) -> tuple[float, ...]:
    """Give the probability of k or more successes among `of`, for every k from 0 to `of`."""
    yes, every = chance.as_integer_ratio()
    ways = [comb(of, k) * yes**k * (every - yes) ** (of - k) for k in range(of + 1)]
    return tuple(sums / every**of for sums in accumulate(reversed(ways)))[::-1]
