"""What came of asking under load: whether each answer was right, and how long they took.

Owns: the form of an outcome, the rule by which one is a fault, and percentiles. Pure: knows nothing
of sockets or processes.

A fault is a status other than 200 and 429, a 429 that does not say when to come back, an answer
that is somebody else's, one that is nobody's, and a stream without its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

Answers: TypeAlias = Mapping[str, Mapping[str, str]]
"""Person -> question -> what the engine answers when nobody else asks."""

DRAINING: Final = 503
NO_STATUS: Final = 0
"""The connection was refused or lost."""


@dataclass(frozen=True)
class Outcome:
    """What one request came to."""

    person: str
    question: str
    stream: bool
    by_user: bool
    """Asked about somebody who is kept; else with a picture."""
    status: int
    text: str = ""
    whole: bool = False
    """Whether the answer came with its end."""
    again_s: int | None = None
    """What `Retry-After` says."""
    ttft_s: float | None = None
    """From sending the request that was answered to the first word of a stream."""
    answer_s: float | None = None
    """From sending the request that was answered to its end."""
    patience_s: float | None = None
    """From asking for the first time, refusals and waits included, to the end."""
    code: str | None = None
    """Of an error."""


def fault_of(outcome: Outcome, answers: Answers, stopping: bool = False) -> str | None:
    """Say what is wrong with an outcome; None: nothing.

    Args:
        outcome: of one request.
        answers: the right ones.
        stopping: whether the server was told to stop meanwhile: it may refuse and cut then, but
            never answer wrongly.
    """
    asked = f"{outcome.person}, {outcome.question!r}"
    if outcome.status == 429:
        return None if (outcome.again_s or 0) >= 1 else f"{asked}: 429 without Retry-After"
    if stopping and (outcome.status in (NO_STATUS, DRAINING) or outcome.code == "cancelled"):
        return None
    if outcome.status != 200:
        return f"{asked}: status {outcome.status} ({outcome.code})"
    right = answers[outcome.person][outcome.question]
    if not outcome.whole:
        return f"{asked}: broken off ({outcome.code}) after {outcome.text!r}"
    if outcome.text == right:
        return None
    theirs = [one for one, said in answers.items() if said[outcome.question] == outcome.text]
    if theirs:
        return f"{asked}: mixed up with {theirs[0]}, heard {outcome.text!r}"
    return f"{asked}: heard {outcome.text!r} instead of {right!r}"


def faults_of(
    outcomes: Iterable[Outcome], answers: Answers, stopping: bool = False
) -> tuple[str, ...]:
    """Judge many, see `fault_of`."""
    found = (fault_of(one, answers, stopping) for one in outcomes)
    return tuple(fault for fault in found if fault is not None)


def tell(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Count outcomes, and give the times of those that were answered."""
    answered = [one for one in outcomes if one.status == 200 and one.whole]
    statuses = Counter(one.status for one in outcomes)
    kinds = Counter(
        f"{'user' if one.by_user else 'picture'}, {'stream' if one.stream else 'whole'}"
        for one in answered
    )
    return {
        "answers": len(answered),
        "answers_by": dict(sorted(kinds.items())),
        "refused_429": statuses[429],
        "other": {str(s): n for s, n in sorted(statuses.items()) if s not in (200, 429)},
        "ttft_ms": percentiles([one.ttft_s for one in answered if one.ttft_s is not None]),
        "answer_ms": percentiles([one.answer_s for one in answered if one.answer_s is not None]),
        "patience_ms": percentiles(
            [one.patience_s for one in answered if one.patience_s is not None]
        ),
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Give p50, p95, p99 and the greatest, in ms, and how many there are."""
    if not seconds:
        return {"count": 0}
    values = np.asarray(seconds) * 1000
    found = {f"p{at}": round(float(np.percentile(values, at)), 2) for at in (50, 95, 99)}
    return {"count": len(seconds), **found, "max": round(float(values.max()), 2)}
