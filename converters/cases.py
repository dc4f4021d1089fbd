"""The pictures and questions on which a bundle is compared with its checkpoint.

Owns: which they are; always the same ones, so figures of two exports can be compared. The pictures
are drawn people: no photograph of anyone is needed to export a model that looks at people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uservlm.models.pictures import picture_at

SEED = 360
PICTURES = 4
QUESTIONS = (
    "What do you see?",
    "How old do I look?",
    "Am I wearing glasses?",
    "How do I make a video call?",
    "What am I wearing?",
    "How do I feel?",
    "What is the capital of France?",
    "Am I alone?",
)
"""Some need the picture, some the person, some neither."""
CASES = PICTURES * len(QUESTIONS)
"""How many different cases there are."""


@dataclass(frozen=True)
class Case:
    """One question about one picture."""

    picture: int
    """Index into `calibration_pictures`."""
    question: str


def calibration_pictures() -> list[npt.NDArray[np.uint8]]:
    """Draw the pictures: uint8 [H, W, 3] RGB, square and 4:3 by turns."""
    return [picture_at(SEED, index) for index in range(PICTURES)]


def calibration_cases(count: int) -> list[Case]:
    """Give `count` different pairs, at most CASES, spread over both."""
    return spread_cases(PICTURES, QUESTIONS, count)


def spread_cases(pictures: int, questions: Sequence[str], count: int) -> list[Case]:
    """Give `count` different pairs, or all there are, spread over pictures and questions."""
    pairs = [
        Case(picture, questions[(picture + turn) % len(questions)])
        for turn in range(len(questions))
        for picture in range(pictures)
    ]
    return pairs[:count]
