"""How well vectors tell people apart: reductions, thresholds and error rates, as arithmetic.

Owns: linear discriminant analysis, the choice of thresholds, and what counts as which error. Knows
nothing of pictures, bundles or files. People are numbers: `labels[i]` is who picture i shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uservlm.runtime.identity import Floats, Reduction
from uservlm.runtime.identity_figures import IdentityLevel, IdentityRates

AIM = 0.01
"""Share of wrong names, of strangers and of known people, that thresholds are chosen for: being
called by another's name is worse than being asked for one's own."""
AIM_NEW = 0.02
"""Share of known people that may be said to be new."""
MARGINS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2)
"""Distances to the runner-up that are tried."""
SHRINK = 0.01
"""Share of the mean variance added to each direction: pictures are few, directions many."""
ALONE = -1.0
"""Similarity of the runner-up where only one person is known: no margin can fail."""
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class People:
    """Mean features of pictures, and who is in them."""

    means: Floats
    """float32 [pictures, d]."""
    labels: Ints
    """int64 [pictures]."""

    @property
    def names(self) -> Ints:
        """The different labels, ascending."""
        return np.unique(self.labels)

    def part(self, index: int, of: int) -> People:
        """Give every `of`-th person, beginning with the `index`-th."""
        chosen = np.isin(self.labels, self.names[index::of])
        return People(self.means[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Trials:
    """New pictures held against galleries, one entry for each."""

    best: Floats
    """Similarity to the nearest person of the gallery."""
    second: Floats
    """To the next one; ALONE if there is none."""
    enrolled: Bools
    """The person is in the gallery."""
    right: Bools
    """… and is the nearest one."""

    def named(self, known: float, margin: float) -> Bools:
        """Which would be given a name."""
        return (self.best >= known) & (self.best - self.second >= margin)


def centring(people: People) -> Reduction:
    """Take away what all pictures have in common, and nothing else."""
    return Reduction(people.means.mean(axis=0))


def discriminants(people: People, count: int) -> Reduction:
    """Keep the directions in which people differ most, against pictures of one person.

    Linear discriminant analysis (Fisher): directions are scaled so that one person's pictures
    scatter by 1 in each.
    """
    means = people.means.astype(np.float64)
    names, who = np.unique(people.labels, return_inverse=True)
    sums = np.zeros((len(names), means.shape[1]))
    np.add.at(sums, who, means)
    centres = sums / np.bincount(who)[:, None]
    apart = means - centres[who]
    within = apart.T @ apart / max(1, len(means) - len(names))
    within += SHRINK * np.trace(within) / len(within) * np.eye(len(within))
    whiten = np.linalg.inv(np.linalg.cholesky(within))
    spread = (centres - centres.mean(axis=0)) @ whiten.T
    _, _, rows = np.linalg.svd(spread, full_matrices=False)
    kept = rows[: min(count, len(names) - 1)]
    return Reduction(
        people.means.mean(axis=0), np.ascontiguousarray((kept @ whiten).T, dtype=np.float32)
    )


def equal_error_rate(people: People, reduction: Reduction | None) -> float:
    """Compare each picture with each: the rate at which false accepts equal false rejects."""
    vectors = people.means if reduction is None else reduction(people.means)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = np.triu_indices(len(vectors), 1)
    likeness = (vectors @ vectors.T)[pairs]
    same = (people.labels[:, None] == people.labels[None])[pairs]
    own, others = np.sort(likeness[same]), np.sort(likeness[~same])
    rejects = np.arange(len(own)) / len(own)
    accepts = 1 - np.searchsorted(others, own) / len(others)
    crossing = int(np.argmin(np.abs(rejects - accepts)))
    return float((rejects[crossing] + accepts[crossing]) / 2)


def try_galleries(
    people: People, reduction: Reduction, gallery: int, enrolled: int, seed: int = 0
) -> Trials:
    """Enrol people drawn by lot, many times over, and hold new pictures against them.

    Args:
        people: all of them by turns in the gallery and strangers to it.
        reduction: from features to vectors.
        gallery: people known at a time.
        enrolled: pictures of each that are known; further ones are the new pictures.
        seed: of the lots.
    """
    rng = np.random.default_rng(seed)
    vectors, names = reduction(people.means), people.names
    pictures = [np.flatnonzero(people.labels == name) for name in names]
    rounds = int(np.clip(4 * len(names) // gallery, 40, 400))
    found = []
    for _ in range(rounds):
        order = rng.permutation(len(names))
        mine = [rng.permutation(pictures[person]) for person in order]
        centres = np.stack([vectors[own[:enrolled]].mean(axis=0) for own in mine[:gallery]])
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        known = np.concatenate([own[enrolled:] for own in mine[:gallery]])
        strangers = np.array([own[0] for own in mine[gallery:]], dtype=np.int64)
        asked = np.concatenate([known, strangers])
        truth = np.repeat(np.arange(gallery), [len(own) - enrolled for own in mine[:gallery]])
        found.append(_hold(vectors[asked] @ centres.T, truth))
    return Trials(*(np.concatenate(column) for column in zip(*found, strict=True)))


def choose(gallery: int, trials: Sequence[Trials]) -> IdentityLevel:
    """Choose the thresholds that name most people with no more wrong names than AIM.

    Args:
        gallery: people known in these trials.
        trials: one for each number of enrolled pictures; AIM holds for each.
    """
    options = [
        (max(_least_known(one, margin) for one in trials), margin)
        for margin in (MARGINS if gallery > 1 else (0.0,))
    ]
    known, margin = max(
        options, key=lambda option: np.mean([_share_right(one, *option) for one in trials])
    )
    new = min(float(np.quantile(one.best[one.enrolled], AIM_NEW)) for one in trials)
    return IdentityLevel(gallery, known, margin, min(new, known), rates=())


def rates(trials: Trials, level: IdentityLevel, enrolled: int, people: int) -> IdentityRates:
    """Count what the thresholds of `level` decide."""
    named, new = trials.named(level.known, level.margin), trials.best < level.new
    mine, right = trials.enrolled, trials.right
    return IdentityRates(
        enrolled=enrolled,
        people=people,
        known=float(np.mean((named & right)[mine])),
        taken_for_new=float(np.mean(new[mine])),
        misnamed=float(np.mean((named & ~right)[mine])),
        false_accept=float(np.mean(named[~mine])),
        new=float(np.mean(new[~mine])),
    )


def _hold(likeness: Floats, truth: Ints) -> tuple[Floats, Floats, Bools, Bools]:
    """Rank [pictures, gallery]; the first len(truth) pictures show people of the gallery."""
    nearest = likeness.argmax(axis=1)
    best = likeness.max(axis=1)
    second = np.full_like(best, ALONE)
    if likeness.shape[1] > 1:
        second = np.partition(likeness, -2, axis=1)[:, -2]
    enrolled = np.arange(len(best)) < len(truth)
    right = np.zeros(len(best), dtype=np.bool_)
    right[: len(truth)] = nearest[: len(truth)] == truth
    return best, second, enrolled, right


def _least_known(trials: Trials, margin: float) -> float:
    """The lowest threshold with at most AIM of either kind of wrong name at this margin."""
    clear = trials.best - trials.second >= margin
    wrong = (~trials.enrolled, trials.enrolled & ~trials.right)
    of = (int((~trials.enrolled).sum()), int(trials.enrolled.sum()))
    lowest = []
    for kind, count in zip(wrong, of, strict=True):
        likeness = np.sort(trials.best[kind & clear])[::-1]
        allowed = int(AIM * count)
        beyond = likeness[allowed] if len(likeness) > allowed else ALONE
        lowest.append(float(np.nextafter(np.float32(beyond), np.float32(2))))
    return max(lowest)


def _share_right(trials: Trials, known: float, margin: float) -> float:
    return float(np.mean((trials.named(known, margin) & trials.right)[trials.enrolled]))
