"""How well resident attention stands in for exact: scores, their certainty, and the live count.

Owns: the threshold, the scores of one question answered both ways, and the verdict over many. Pure:
knows nothing of the engine that answers, nor when it finds the time to. The export and
`bench/fidelity.py` measure with the same scores before there is a user; `LiveAgreement` goes on
with the people who are there. It keeps scores alone: no text, no picture, no name, nothing on disk.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from random import Random
from threading import Lock

import numpy as np
import numpy.typing as npt

from uservlm.runtime.errors import RequestError
from uservlm.runtime.manifest import ENOUGH, Agreement, Manifest

Logits = npt.NDArray[np.float32]
"""float32 [rows of the embedding table], before the softmax."""

FAITHFUL = 0.95
"""Agreement at which `attention="auto"` may take resident."""
TWO_SIDED, ONE_SIDED = 1.96, 1.645
"""Standard deviations of a 95 % interval, and of a 95 % bound."""


@dataclass(frozen=True)
class Interval:
    """Where a figure lies."""

    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """One question answered both ways."""

    same_first: bool
    """The most likely first token is the same."""
    same_answer: bool
    """The greedy answers are the same text."""
    rouge1: float
    """ROUGE-1 F1 of the resident answer against the exact one."""


@dataclass(frozen=True)
class ShadowPolicy:
    """How live measurement samples and decides."""

    share: float = 0.1
    """Of the warm turns, which are answered again exactly; 0 … 1, 0 turns it off."""
    window: int = 200
    """Latest cases that count, for each adapter."""
    enough: int = 100
    """Cases behind which resident must be proven faithful."""
    seed: int = 0
    """Decides which turns are drawn."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            RequestError: names the field, its value and its range.
        """
        if not 0 <= self.share <= 1:
            raise RequestError(f"share={self.share}: give 0 to 1")
        if not ENOUGH <= self.enough <= self.window:
            raise RequestError(
                f"enough={self.enough}, window={self.window}: give {ENOUGH} or more, "
                "and a window no shorter"
            )


@dataclass(frozen=True)
class LiveFigures:
    """What was measured on real turns, with one adapter or none."""

    cases: int
    """In the window."""
    first_token_top1: float
    """Share of cases with the same first token; NaN with no case."""
    same_answer: float
    """Share of cases with the same text."""
    rouge1: float
    """Mean ROUGE-1 F1."""
    bounds: Interval
    """One-sided 95 % bounds of the worse of `first_token_top1` and `rouge1`."""
    threshold: float
    """What the lower bound must reach."""
    faithful: bool | None
    """None: too few cases to say."""


class LiveAgreement:
    """Counts agreement on the turns of this process; any thread may ask."""

    def __init__(
        self,
        policy: ShadowPolicy | None = None,
        thresholds: Mapping[str | None, float] | None = None,
    ) -> None:
        """Start with no case.

        Args:
            policy: None takes the default one.
            thresholds: by adapter, see `thresholds`; FAITHFUL where one is missing.
        """
        self.policy = ShadowPolicy() if policy is None else policy
        self._thresholds = dict(thresholds or {})
        self._cases: dict[str | None, deque[Scores]] = {}
        self._random, self._lock = Random(self.policy.seed), Lock()

    def draw(self) -> bool:
        """Say whether to answer this warm turn again; the same seed draws the same turns."""
        with self._lock:
            return self._random.random() < self.policy.share

    def add(self, adapter: str | None, resident: str, exact: str, same_first: bool) -> None:
        """Score a turn that was answered both ways, greedily; the texts are not kept.

        Args:
            adapter: it was computed with; None for none.
            resident: the answer given.
            exact: the answer again, with exact attention.
            same_first: whether the most likely first token is the same.
        """
        scores = Scores(same_first, resident == exact, rouge1(resident, exact))
        with self._lock:
            self._cases.setdefault(adapter, deque(maxlen=self.policy.window)).append(scores)

    def figures(self, adapter: str | None = None) -> LiveFigures:
        """Give what was measured so far, as it is at this moment."""
        with self._lock:
            cases = tuple(self._cases.get(adapter, ()))
        threshold = self._thresholds.get(adapter, FAITHFUL)
        first = mean(case.same_first for case in cases)
        rouge = mean(case.rouge1 for case in cases)
        bounds = wilson(min(first, rouge), len(cases), ONE_SIDED)
        return LiveFigures(
            cases=len(cases),
            first_token_top1=first,
            same_answer=mean(case.same_answer for case in cases),
            rouge1=rouge,
            bounds=bounds,
            threshold=threshold,
            faithful=_verdict(len(cases), bounds, threshold, self.policy.enough),
        )

    def faithful(self, adapter: str | None = None) -> bool | None:
        """Say whether resident may stand in for exact, on these turns.

        Returns:
            None with too few cases. False as soon as ENOUGH cases show that it may not, and behind
            `policy.enough` cases whenever its lower bound is below the threshold: a measurement
            that does not prove it faithful speaks for exact.
        """
        return self.figures(adapter).faithful

    def clear(self) -> None:
        """Forget all cases; what is drawn next goes on."""
        with self._lock:
            self._cases.clear()


def _verdict(cases: int, bounds: Interval, threshold: float, enough: int) -> bool | None:
    if cases >= ENOUGH and bounds.high < threshold:
        return False
    return bounds.low >= threshold if cases >= enough else None


def thresholds(manifest: Manifest) -> dict[str | None, float]:
    """Give what each measured adapter must reach, by name; None for the weights as they are."""
    measured: dict[str | None, Agreement | None] = {None: manifest.resident}
    measured |= {name: adapter.resident for name, adapter in manifest.adapters.items()}
    return {name: found.threshold for name, found in measured.items() if found is not None}


def wilson(share: float, of: int, deviations: float = TWO_SIDED) -> Interval:
    """Give the Wilson interval of a share, or of a mean of values within 0 … 1.

    Values that are not all 0 or 1 spread less than the formula takes them to: for their mean it is
    wider than need be, never narrower.

    Args:
        share: what was found, 0 … 1.
        of: how many were looked at; 0 gives the whole range.
        deviations: half width in standard deviations.
    """
    if of == 0:
        return Interval(0.0, 1.0)
    square = deviations * deviations / of
    middle = (share + square / 2) / (1 + square)
    half = deviations / (1 + square) * sqrt(share * (1 - share) / of + square / (4 * of))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def bootstrap(values: Sequence[float], seed: int = 0, draws: int = 5000) -> Interval:
    """Give the 95 % percentile bootstrap interval of a mean; equal values give one point."""
    found = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = [float(rng.choice(found, len(found)).mean()) for _ in range(draws)]
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(low), float(high))


def kl_divergence(reference: Logits, other: Logits) -> float:
    """Give KL(reference ‖ other) of the two distributions, in nats."""
    first, second = _log_softmax(reference), _log_softmax(other)
    return float(max(0.0, np.sum(np.exp(first) * (first - second))))


def rouge1(answer: str, reference: str) -> float:
    """Give the F1 of the words two texts share; 1 when neither has any.

    Words are Unicode's, in lower case. Published tables count ASCII words: for figures beside
    theirs take `bench/quality_scores.py`'s, which agree with these on plain English.
    """
    ours, theirs = (Counter(re.findall(r"\w+", text.lower())) for text in (answer, reference))
    if not ours and not theirs:
        return 1.0
    shared = sum((ours & theirs).values())
    return 2 * shared / (sum(ours.values()) + sum(theirs.values()))


def mean(values: Iterable[float]) -> float:
    """Give the mean, NaN of nothing."""
    found = [float(value) for value in values]
    return sum(found) / len(found) if found else float("nan")


def _log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - float(logits.max())
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))
