"""Section `limits`: what this machine can do at best, measured in the same run.

Owns: the rows. How they are measured is `side_limits.py`'s.
"""

from __future__ import annotations

from typing import Final

from uservlm.bench.job import LIMITS, Job, row
from uservlm.bench.results import Measured, Row
from uservlm.bench.side import Side

SIDE: Final = "machine"
UNITS: Final = {"read": "bytes/s", "fp32": "FLOP/s", "bf16": "FLOP/s", "int8": "FLOP/s"}
"""What is measured; for int8 an operation is counted as a FLOP."""
ROUNDS: Final = 3
"""At least: the best of them is the bound, and one busy second must not decide it."""


def measure(job: Job) -> Measured:
    """Measure bandwidth and products a few times."""
    found: dict[str, list[float]] = {name: [] for name in UNITS}
    with Side(LIMITS, str(job.threads)) as side:
        for number in range(max(ROUNDS, job.repeat)):
            job.say(f"what the machine can do, {number + 1}")
            for name, value in {**side("read"), **side("multiply")}.items():
                found[name].append(value)
    return Measured(tuple(_row(name, samples) for name, samples in found.items()))


def best(limits: Measured) -> dict[str, float]:
    """Give the greatest of each, by name."""
    return {row.what: row.spread.greatest for row in limits.rows}


def _row(name: str, samples: list[float]) -> Row:
    return row(SIDE, name, "", UNITS[name], samples, "more")
