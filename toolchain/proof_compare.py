"""Two runs of the same questions, compared: what a target answered against what the host did.

Owns: the figures of a comparison and their bounds. Pure arithmetic on what `proof_inside.py`
prints; knows nothing of how that was run.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

LOGITS: Final = 0.03
"""With weights in float two processors give the same answer if no logit differs by more. With fewer
bits the last bit of a sum decides how an activation is rounded: no bound is claimed (decision 19).
"""
COSINE: Final = 0.999
"""Two user embeddings are of the same picture if no position's cosine is less."""

Report: TypeAlias = Mapping[str, Any]
"""What `proof_inside.answer` gives."""
Pair: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""The host's, and the target's."""


@dataclass(frozen=True)
class Agreement:
    """How alike two runs are."""

    questions: int
    same_tokens: int
    """Questions whose likeliest tokens are the same at each position, the end included."""
    same_texts: int
    """Questions whose answer reads the same."""
    positions: int
    """Compared: the first token's, and behind each token of the host's answer."""
    logits: float
    """Greatest difference of any logit at any of them."""
    logits_spread: float
    """Standard deviation of the host's logits, which says what a difference means."""
    vision_cosine: float
    """Least cosine of the two embeddings of a picture, over positions and pictures; 1 for none."""
    vision: float
    """Greatest difference of a feature."""
    vision_spread: float
    """Standard deviation of the host's features."""

    def problems(self, *, bounded: bool) -> tuple[str, ...]:
        """Say what is out of bounds, nothing if the runs agree; `bounded`: logits have a bound.

        No number (NaN) is within any bound.
        """
        found = {
            f"{self.same_tokens} of {self.questions} answers have the same tokens": (
                self.same_tokens < self.questions or self.same_texts < self.questions
            ),
            f"a logit differs by {self.logits:.4f}, more than {LOGITS}": (
                bounded and not self.logits <= LOGITS
            ),
            "a logit or a feature is no finite number": (
                not math.isfinite(self.logits) or not math.isfinite(self.vision)
            ),
            f"vision has a cosine of {self.vision_cosine:.5f}": not self.vision_cosine >= COSINE,
        }
        return tuple(text for text, wrong in found.items() if wrong)


def compare(host: Report, target: Report) -> Agreement:
    """Compare a run with the host's, whose tokens it followed.

    Raises:
        ValueError: they are not of the same questions, pictures or model.
    """
    pairs = list(zip(host["answers"], target["answers"], strict=True))
    logits = [(unpacked(one["logits"]), unpacked(other["logits"])) for one, other in pairs]
    seen = [
        (unpacked(features), unpacked(target["features"][name]))
        for name, features in host["features"].items()
    ]
    for one, other in (*logits, *seen):
        if one.shape != other.shape:
            raise ValueError(f"the host has {one.shape}, the target {other.shape}: not comparable")
    return Agreement(
        questions=len(pairs),
        same_tokens=sum(one["tokens"] == other["tokens"] for one, other in pairs),
        same_texts=sum(one["text"] == other["text"] for one, other in pairs),
        positions=sum(len(one) for one, _ in logits),
        logits=_greatest(logits),
        logits_spread=_spread(logits),
        vision_cosine=float(np.min([_least_cosine(*pair) for pair in seen])) if seen else 1.0,
        vision=_greatest(seen),
        vision_spread=_spread(seen),
    )


def outside(saw: Mapping[str, Any], inside: Sequence[str]) -> list[str]:
    """Give whatever a process has loaded or mapped that lies below none of the folders `inside`."""
    loaded = {*saw["libraries"], *saw["mapped"]}
    return sorted(path for path in loaded if not path.startswith(tuple(inside)))


def unpacked(packed: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """Give the array that `proof_inside` packed."""
    data = base64.b64decode(packed["data"])
    return np.frombuffer(data, "<f4").reshape(packed["shape"]).astype(np.float32)


def _greatest(pairs: Sequence[Pair]) -> float:
    """NaN if anything is; Python's own `max` would pass over it."""
    return float(np.max([np.abs(one - other).max() for one, other in pairs])) if pairs else 0.0


def _spread(pairs: Sequence[Pair]) -> float:
    return float(np.concatenate([one.ravel() for one, _ in pairs]).std()) if pairs else 0.0


def _least_cosine(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Over the rows of two matrices [N, d]."""
    products = (one * other).sum(axis=1, dtype=np.float64)
    lengths = np.linalg.norm(one.astype(np.float64), axis=1) * np.linalg.norm(
        other.astype(np.float64), axis=1
    )
    return float((products / lengths).min())
