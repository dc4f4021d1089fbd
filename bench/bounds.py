"""What each of our figures could be at best on this machine.

Owns: which limit binds what. A prefill takes at least its FLOPs (`analytic.py`) over the fastest
product that was measured, and at least as long as reading the weights once; a decoded token reads
them once. Reading saved cells from disk is not counted, so `restored` has the bound of `resident`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from uservlm.bench import analytic
from uservlm.bench.results import Subject
from uservlm.models.shapes import Architecture

CACHED: Final = 200 * 10**6
"""Bytes of weights that a processor's cache may hold: reading such does not wait for memory."""


@dataclass(frozen=True)
class Bound:
    """The best there is."""

    value: float
    by: str
    """Which limit that is."""


@dataclass(frozen=True)
class Bounds:
    """What bounds follow from."""

    subject: Subject
    architecture: Architecture | None
    """None where the sizes are not known: then only decoding has a bound."""
    best: Mapping[str, float]
    """`read`, `fp32`, `int8`, as `limits.best` gives them."""

    def of(self, way: str, what: str, turn: Mapping[str, float]) -> Bound | None:
        """Give the bound of one quantity of one turn, None where none is known.

        Args:
            way: ours.
            what: a key of QUANTITIES.
            turn: what was found, for its numbers of tokens.
        """
        if what == "decode":
            step = self._reading()
            return None if step is None else Bound(1 / step, "reading the weights once a token")
        if self.architecture is None:
            return None
        vision, (prefill, by) = self._vision(self.architecture), self._prefill(turn)
        if what == "vision":
            return Bound(vision, f"{self._vision_kind()} products")
        if what == "prefill":
            return Bound(prefill, by)
        first = prefill + (vision if way == "cold" else 0)
        if what == "ttft":
            return Bound(first, f"vision's products, then {by}" if way == "cold" else by)
        step = self._reading()
        if step is None:
            return None
        rest = (turn["answer_tokens"] - 1) * step
        return Bound(first + rest, f"{by}, then reading the weights once a token")

    def _prefill(self, turn: Mapping[str, float]) -> tuple[float, str]:
        assert self.architecture is not None
        computed = int(turn["computed_tokens"])
        cached = int(turn["prompt_tokens"]) - computed
        products = analytic.language(self.architecture, computed, cached) / self.best["int8"]
        reading = self._reading() or 0.0
        if products >= reading:
            return products, "int8 products"
        return reading, "reading the weights once"

    def _vision(self, architecture: Architecture) -> float:
        return analytic.vision(architecture) / self.best[self._vision_kind()]

    def _vision_kind(self) -> str:
        return "int8" if self.subject.vision == "int8" else "fp32"

    def _reading(self) -> float | None:
        """Seconds for all weights of the language model; None where a cache may hold them."""
        size = self.subject.bundle_bytes["language.gguf"]
        return size / self.best["read"] if size > CACHED else None
