"""Section `load`: the same beside a busy core.

Owns: what else runs (a process that does nothing but compute), and the order: every turn is taken
alone and beside it, one after the other.
"""

from __future__ import annotations

from contextlib import ExitStack

from uservlm.bench.job import QUANTITIES, TRANSFORMERS, Job, of, rows_of
from uservlm.bench.results import Duel, Measured, Row
from uservlm.bench.side import Side
from uservlm.runtime.tune_probe import busy

WAYS = ("cold", "exact", "resident")
WHATS = ("ttft", "decode")
BESIDE = "one core busy"
PEER = "transformers-bf16"


def measure(job: Job) -> Measured:
    """Time every way alone and beside a busy core."""
    turns: dict[tuple[str, bool], list[dict[str, float]]] = {}
    with ExitStack() as stack:
        ours = stack.enter_context(job.ours())
        ours("keep", users=1)
        asking: dict[str, tuple[Side, dict[str, str]]] = {way: (ours, {"way": way}) for way in WAYS}
        if job.checkpoint:
            job.say(f"loading {PEER}")
            other = Side(TRANSFORMERS, str(job.checkpoint), "bfloat16")
            asking[PEER] = (stack.enter_context(other), {})
        for side, told in asking.values():
            side("turn", **told, answer_tokens=1)
        for number in range(job.repeat):
            job.say(f"beside a busy core, {number + 1} of {job.repeat}")
            for name, (side, told) in asking.items():
                turns.setdefault((name, False), []).append(_turn(job, side, told))
                with busy(1):
                    turns.setdefault((name, True), []).append(_turn(job, side, told))
    rows: list[Row] = []
    for (name, beside), some in turns.items():
        rows += rows_of(name, BESIDE if beside else "alone", some, WHATS)
    slower = [
        _slower(name, what, turns[name, False], turns[name, True])
        for name in asking
        for what in WHATS
    ]
    return Measured(tuple(rows), tuple(slower))


def _turn(job: Job, side: Side, told: dict[str, str]) -> dict[str, float]:
    return side("turn", **told, answer_tokens=job.answer_tokens)


def _slower(
    name: str, what: str, alone: list[dict[str, float]], beside: list[dict[str, float]]
) -> Duel:
    """Compare a side alone with itself beside the busy core."""
    quantity = QUANTITIES[what]
    first, second = tuple(of(alone, what)), tuple(of(beside, what))
    return Duel(name, BESIDE, what, "", quantity.unit, first, second, quantity.better)
