"""Section `growth`: how cost grows with people, questions, answers and pictures.

Owns: what is varied and over which values. `fit.py` has the exponents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from uservlm.bench.fit import curve
from uservlm.bench.job import OURS, QUESTION_TOKENS, Job
from uservlm.bench.results import Curve
from uservlm.bench.side import Side
from uservlm.bench.soak_process import budget_for

QUESTIONS: Final = (16, 32, 64, 128, 256)
ANSWERS: Final = (8, 16, 32, 64, 128)
PEOPLE: Final = (1, 2, 4, 8, 16)
TTFT: Final = "time to first token"
Turn = dict[str, float]


def measure(job: Job, sizes: Mapping[int, Path]) -> tuple[Curve, ...]:
    """Vary one thing at a time.

    Args:
        job: what is measured.
        sizes: bundles of the same shape for pictures of other sizes, by their side in pixels.
    """
    with job.ours() as ours:
        ours("keep", users=1)
        found = [_questions(job, ours), _answers(job, ours)]
    found.append(_people(job))
    if sizes:
        found += _pictures(job, sizes)
    return tuple(found)


def _questions(job: Job, ours: Side) -> Curve:
    points: dict[float, list[float]] = {}
    for length in _rounds(job, QUESTIONS, "question of {} tokens"):
        turn = ours("turn", way="resident", question_tokens=length, answer_tokens=1)
        points.setdefault(turn["computed_tokens"], []).append(turn["ttft_s"])
    note = "the question and what the prompt puts behind it are computed; the face is resident"
    return curve(TTFT, "tokens computed", "s", points, note)


def _answers(job: Job, ours: Side) -> Curve:
    points: dict[float, list[float]] = {}
    for length in _rounds(job, ANSWERS, "answer of {} tokens"):
        turn = ours("turn", way="resident", answer_tokens=length, wander=True)
        if turn["answer_tokens"] == length:  # any token may be drawn, the one that ends it too
            points.setdefault(length, []).append(turn["ttft_s"] + turn["decode_s"])
    return curve("whole answer", "tokens of the answer", "s", points, "the face is resident")


def _people(job: Job) -> Curve:
    """Ask in turn those who are all resident at once."""
    points: dict[float, list[float]] = {}
    most = max(PEOPLE)
    with job.ours("--memory-mb", str(budget_for(job.bundle.path, most))) as ours:
        job.say(f"{most} people resident at once")
        ours("keep", users=most)
        for people in _rounds(job, PEOPLE, "{} people resident"):
            asked = [ours("turn", way="resident", user=n, answer_tokens=1) for n in range(people)]
            stayed = [turn["ttft_s"] for turn in asked if turn["stayed"]]
            if stayed:  # the first time they come from disk
                points.setdefault(people, []).extend(stayed)
    return curve(TTFT, "people resident at once", "s", points, f"{QUESTION_TOKENS} tokens")


def _pictures(job: Job, sizes: Mapping[int, Path]) -> list[Curve]:
    """Ask bundles of one shape for pictures of several sizes."""
    ways = {"cold": "a new face", "resident": "face resident"}
    points: dict[str, dict[float, list[float]]] = {way: {} for way in ways}
    for side, bundle in sorted(sizes.items()):
        with Side(OURS, *job.on(bundle)) as ours:
            job.say(f"pictures of {side} px")
            ours("keep", users=1)
            for number in range(job.repeat if side < max(sizes) else min(2, job.repeat)):
                job.say(f"pictures of {side} px, {number + 1}")
                for way in ways:
                    turn = ours("turn", way=way, answer_tokens=1)
                    points[way].setdefault(side, []).append(turn["ttft_s"])
    by = "pixels of the picture's side"
    return [curve(f"{TTFT}, {ways[way]}", by, "s", points[way]) for way in ways]


def _rounds(job: Job, values: tuple[int, ...], words: str) -> Iterator[int]:
    """Go through the values as often as is repeated, so that a slow moment meets all of them."""
    for number in range(job.repeat):
        for value in values:
            job.say(f"{words.format(value)}, {number + 1} of {job.repeat}")
            yield value
