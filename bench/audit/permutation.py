"""Do groups of people get other answers? A permutation test on how often two answers differ.

Owns: the statistic, its p-value and its interval. Pure: knows nothing of pictures, questions or
attributes; it gets the share of questions that each two people were answered differently, and a
label for each person.

The statistic is an energy distance with equal weights: how often answers differ between people of
different labels, less how often they do between people of the same label, each label (and each
pair of labels) weighing the same, so that a small group is not drowned by a large one. With answers
that do not depend on the label it is 0 on average, whatever the answers depend on besides. (Székely
and Rizzo, Energy statistics, 2013.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from uservlm.bench.audit.estimates import ROUNDING, floored
from uservlm.runtime.agreement import Interval

DRAWS: Final = 2000
CHUNK: Final = 100
"""Draws computed at once: bounds the memory they take."""
FEWEST: Final = 2
"""People of one label between whom something can differ."""

Distances: TypeAlias = npt.NDArray[np.float64]
"""float64 [people, people], symmetric: share of questions on which the answers to two differ."""
Labels: TypeAlias = npt.NDArray[np.int64]
"""int64 [people], 0 … labels - 1."""
_Weights: TypeAlias = npt.NDArray[np.float64]
"""float64 [draws, people, labels], or of one draw: how often each person counts under a label."""


@dataclass(frozen=True)
class GroupDifference:
    """What shuffling found."""

    between: float
    """Share of differing answers between people of different labels."""
    within: float
    """The same between people of the same label."""
    p_value: float
    """Share of shuffles, the true labels counted as one, that differ at least as much."""
    interval: Interval
    """95 % of `difference`, by drawing people anew within each label; never nearer to 0 than had
    nobody of so many differed, see `estimates.floored`."""

    @property
    def difference(self) -> float:
        """What the label adds: `between` less `within`."""
        return self.between - self.within


def group_difference(
    distances: Distances, labels: Labels, seed: int, draws: int = DRAWS
) -> GroupDifference:
    """Compare people of different labels with people of the same one.

    Args:
        distances: of every two people; the diagonal is not looked at.
        labels: of each person; every label from 0 to the greatest has FEWEST people or more.
        seed: of the shuffles and of the interval's draws.
        draws: of each.

    Raises:
        ValueError: fewer than two labels, or one with fewer than FEWEST people.
    """
    counts = np.bincount(labels)
    if len(counts) < 2 or counts.min() < FEWEST:
        raise ValueError(f"people by label: {counts.tolist()}; give two labels or more, "
                         f"each with {FEWEST} people or more")  # fmt: skip
    rng = np.random.default_rng(seed)
    apart = _without_diagonal(distances)
    between, within = shares(distances, labels)
    found = between - within
    shuffled = _differences(apart, labels, rng, draws, _shuffle)
    anew = _differences(apart, labels, rng, draws, _draw_anew)
    low, high = (float(one) for one in np.nanquantile(anew, (0.025, 0.975)))
    at_least = int(np.sum(shuffled >= found - ROUNDING))
    interval = floored(Interval(min(low, found), max(high, found)), len(labels))
    return GroupDifference(between, within, (1 + at_least) / (1 + draws), interval)


def shares(distances: Distances, labels: Labels) -> tuple[float, float]:
    """Give how often people of different labels differ, and people of the same one.

    Arguments as of `group_difference`.
    """
    weights = np.eye(int(labels.max()) + 1)[labels][None]
    between, within = _shares(_without_diagonal(distances), weights)
    return float(between[0]), float(within[0])


def _without_diagonal(distances: Distances) -> Distances:
    """Leave out what a person's own pictures differ in: that is no comparison of people."""
    apart = distances.astype(np.float64)
    np.fill_diagonal(apart, 0.0)
    return apart


def _differences(
    apart: Distances,
    labels: Labels,
    rng: np.random.Generator,
    draws: int,
    draw: Callable[[Labels, np.random.Generator], _Weights],
) -> npt.NDArray[np.float64]:
    """Give the statistic of `draws` draws, float64 [draws]."""
    found = []
    for begin in range(0, draws, CHUNK):
        weights = np.stack([draw(labels, rng) for _ in range(min(CHUNK, draws - begin))])
        between, within = _shares(apart, weights)
        found.append(between - within)
    return np.concatenate(found)


def _shares(
    apart: Distances, weights: _Weights
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Give `between` and `within` of each draw, float64 [draws]; NaN where a label has one person.

    A person drawn twice is not compared with themselves: the interval would be too low.
    """
    beyond = np.tensordot(apart, weights, axes=([1], [1])).transpose(1, 0, 2)
    sums = weights.transpose(0, 2, 1) @ beyond
    people = weights.sum(axis=1)
    pairs = people[:, :, None] * people[:, None, :]
    labels = weights.shape[2]
    same = np.arange(labels)
    pairs[:, same, same] -= np.square(weights).sum(axis=1)
    with np.errstate(invalid="ignore"):
        shares = sums / pairs
    above = np.triu_indices(labels, 1)
    return shares[:, above[0], above[1]].mean(axis=1), shares[:, same, same].mean(axis=1)


def _shuffle(labels: Labels, rng: np.random.Generator) -> _Weights:
    """Give the labels to other people: float64 [people, labels]."""
    weights: _Weights = np.eye(int(labels.max()) + 1)[rng.permutation(labels)]
    return weights


def _draw_anew(labels: Labels, rng: np.random.Generator) -> _Weights:
    """Draw as many people of each label, with replacement: float64 [people, labels]."""
    weights = np.zeros((len(labels), labels.max() + 1))
    for label in range(labels.max() + 1):
        members = np.flatnonzero(labels == label)
        drawn = rng.choice(members, len(members))
        weights[:, label] = np.bincount(drawn, minlength=len(labels))
    return weights
