"""What a run of the benchmark is about: the bundle, how often, how long, and who says so.

Owns: what all sections are told. Knows nothing of how any of them measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uservlm.bench.results import Better, Row, Subject
from uservlm.bench.side import Side
from uservlm.runtime.bundle import Bundle

OURS = "uservlm.bench.side_ours"
TRANSFORMERS = "uservlm.bench.side_transformers"
LIMITS = "uservlm.bench.side_limits"
QUESTION_TOKENS = 50
"""The paper's average question (anchors 1.1)."""


@dataclass(frozen=True)
class Job:
    """What every section needs to know."""

    bundle: Bundle
    subject: Subject
    checkpoint: Path | None
    """The original, for transformers; None: there is none."""
    scratch: Path
    """An empty folder that is removed at the end; drawn people are kept in it."""
    threads: int
    repeat: int
    answer_tokens: int | None
    """Of a timed answer; None lets the model end it, as the pocket does."""
    say: Callable[[str], None]
    """Shows what is being done."""

    @property
    def large(self) -> bool:
        """Whether it is a model of billions of weights: what takes seconds is then done less."""
        return self.subject.bundle_bytes["language.gguf"] > 10**9

    def ours(self, *arguments: str) -> Side:
        """Start our engine; whoever was kept before is known to it."""
        return Side(OURS, str(self.bundle.path), str(self.scratch / "users"), *arguments)

    def on(self, bundle: Path) -> list[str]:
        """Give the arguments of a side that opens another bundle, with people of its own."""
        return [str(bundle), str(self.scratch / f"users-{bundle.parent.name}")]


def row(
    side: str, what: str, case: str, unit: str, samples: Sequence[float], better: Better = "less"
) -> Row:
    """Make a row of samples."""
    return Row(side, what, case, unit, tuple(samples), better)


def of(turns: Sequence[dict[str, float]], what: str) -> list[float]:
    """Take one quantity out of turns.

    Args:
        turns: as `serving.py` describes them.
        what: a key of QUANTITIES.
    """
    return [QUANTITIES[what].of(turn) for turn in turns]


@dataclass(frozen=True)
class Quantity:
    """How one quantity follows from a turn."""

    of: Callable[[dict[str, float]], float]
    unit: str
    better: Better = "less"


def _rate(turn: dict[str, float]) -> float:
    steps = turn["answer_tokens"] - 1
    return steps / turn["decode_s"] if steps >= 1 and turn["decode_s"] > 0 else 0.0


QUANTITIES: dict[str, Quantity] = {
    "vision": Quantity(lambda turn: turn["vision_s"], "s"),
    "prefill": Quantity(lambda turn: turn["prefill_s"], "s"),
    "ttft": Quantity(lambda turn: turn["ttft_s"], "s"),
    "decode": Quantity(_rate, "tokens/s", "more"),
    "answer": Quantity(lambda turn: turn["ttft_s"] + turn["decode_s"], "s"),
}


def rows_of(
    side: str, case: str, turns: Sequence[dict[str, float]], whats: Sequence[str], **more: Any
) -> list[Row]:
    """Make one row for each quantity of some turns."""
    found = []
    for what in whats:
        quantity = QUANTITIES[what]
        made = row(side, what, case, quantity.unit, of(turns, what), quantity.better)
        found.append(replace(made, **more))
    return found
