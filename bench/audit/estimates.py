"""Estimates with intervals, from cases that come in people.

Owns: the resampling. Pure: knows nothing of probes, questions or limits. Answers to one person are
alike, so people are resampled and not questions: many questions to few people make no interval
narrow that those people leave wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from uservlm.runtime.agreement import Interval, wilson

DRAWS: Final = 2000
FLOOR: Final = 1e-3
"""Nats added to both sides of a ratio of divergences: below that no word ever changes."""
ROUNDING: Final = 1e-12
"""By which sums in another order differ."""

_Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    interval: Interval


def mean_of_people(values: Sequence[float], people: Sequence[int], seed: int = 0) -> Estimate:
    """Give the mean of the cases, by the percentile bootstrap over people.

    Where people are alike, resampling them gives a point or next to one, however few they are. So
    the interval never ends nearer to "nobody departs" (0, or all of them) than it would had nobody
    departed; see `floored`.

    Args:
        values: of each case; shares, or differences of shares.
        people: whose case it is.
        seed: of the resampling.

    Raises:
        ValueError: no case.
    """
    found = nats_of_people(values, people, seed)
    return Estimate(found.value, floored(found.interval, len(set(people))))


def floored(interval: Interval, people: int) -> Interval:
    """Widen an interval of resampled people to what as many people can tell at all.

    What was never seen among n people may still be in the next. The upper end is no less than
    Wilson's where nobody departs from 0, the lower end no more than where nobody departs from 1,
    whatever was found: otherwise a few who depart would make it narrower, and one more changed
    answer could turn a failed limit into a kept one. A lower end at or below 0 reaches as far
    below. Each end rises with what resampling gave, so that more changes never lower it.

    Args:
        interval: of a share, or of a difference of shares.
        people: that were resampled.
    """
    far = unseen(people)
    low, high = min(interval.low, 1 - far), max(interval.high, far)
    if low <= ROUNDING:
        low = min(low, -far)
    return Interval(max(-1.0, low), min(1.0, high))


def unseen(people: int) -> float:
    """Give the share that may still depart when not one of as many people did: Wilson's bound."""
    return 1 - wilson(1.0, people).low


def nats_of_people(values: Sequence[float], people: Sequence[int], seed: int = 0) -> Estimate:
    """Give `mean_of_people` of values without bounds: equal ones give one point."""
    sums, counts = _by_person(values, people)
    value = float(sums.sum() / counts.sum())
    drawn = _draws(len(sums), seed)
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = (float(one) for one in np.quantile(means, (0.025, 0.975)))
    return Estimate(value, Interval(min(low, value), max(high, value)))


def share_of_people(values: Sequence[float], people: Sequence[int], seed: int = 0) -> Estimate:
    """Give `mean_of_people` of values that are 0 or 1, within 0 … 1."""
    found = mean_of_people(values, people, seed)
    return Estimate(
        found.value, Interval(max(0.0, found.interval.low), min(1.0, found.interval.high))
    )


def gap_of_people(differences: Sequence[float], people: Sequence[int], seed: int = 0) -> Estimate:
    """Give how far from 0 a mean difference is, in either direction, and how far it may be.

    The lower end is 0 where the interval of the difference holds 0.
    """
    found = mean_of_people(differences, people, seed)
    ends = (abs(found.interval.low), abs(found.interval.high))
    low = 0.0 if found.interval.low <= 0 <= found.interval.high else min(ends)
    return Estimate(abs(found.value), Interval(low, max(ends)))


def ratio_of_medians(
    over: Sequence[float], under: Sequence[float], people: Sequence[int], seed: int = 0
) -> Estimate:
    """Give how many times larger the median of one divergence is than that of another.

    Args:
        over: nats, of each case.
        under: the same of what it is compared with.
        people: whose case it is.
        seed: of the resampling.
    """
    above, below = np.asarray(over, dtype=np.float64), np.asarray(under, dtype=np.float64)
    rows = [np.flatnonzero(np.asarray(people) == one) for one in dict.fromkeys(people)]
    found = []
    for draw in _draws(len(rows), seed):
        chosen = np.concatenate([rows[one] for one in draw])
        found.append(_ratio(above[chosen], below[chosen]))
    low, high = (float(one) for one in np.quantile(found, (0.025, 0.975)))
    value = _ratio(above, below)
    return Estimate(value, Interval(min(low, value), max(high, value)))


def told_among(told: int, people: int) -> Estimate:
    """Give the share of people who were told something, and its 95 % upper bound.

    With nobody told it is the exact bound, 1 - 0.05^(1/people); else Wilson's interval.
    """
    if told == 0:
        return Estimate(0.0, Interval(0.0, 1 - 0.05 ** (1 / people)))
    return Estimate(told / people, wilson(told / people, people))


def counted(value: float) -> Estimate:
    """Give what was counted and not sampled: its interval is the number itself."""
    return Estimate(value, Interval(value, value))


def _by_person(values: Sequence[float], people: Sequence[int]) -> tuple[_Floats, _Floats]:
    if not values:
        raise ValueError("no case, so there is nothing to estimate")
    names, which = np.unique(np.asarray(people), return_inverse=True)
    sums = np.bincount(which, np.asarray(values, dtype=np.float64), len(names)).astype(np.float64)
    return sums, np.bincount(which, minlength=len(names)).astype(np.float64)


def _draws(people: int, seed: int) -> npt.NDArray[np.int64]:
    """Numbers of the people in each draw, int64 [DRAWS, people]."""
    return np.random.default_rng(seed).integers(0, people, (DRAWS, people))


def _ratio(above: _Floats, below: _Floats) -> float:
    return float((np.median(above) + FLOOR) / (np.median(below) + FLOOR))
