"""Pictures and questions of a wanted size, the same on every side.

Owns: what is asked in a benchmark. The pictures are of drawn people. Knows nothing of a runtime:
who asks says how long a question is in their tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

OPENING = "What should I wear"
WORD = " today"
"""Lengthens a question by about a token; what it says does not matter to its cost."""
SEED = 5
KNOWN = 10_000
"""Pictures from here on are of people who are kept; those below are new faces."""


def question_of(length: Callable[[str], int], tokens: int) -> str:
    """Give the shortest question of at least so many tokens.

    Args:
        length: tokens of a question alone, without the prompt around it.
        tokens: wanted; a question shorter than OPENING cannot be had.
    """
    asked = OPENING
    while length(asked) < tokens:
        asked += WORD
    return asked


def picture(number: int) -> npt.NDArray[np.uint8]:
    """Draw person number so-and-so: uint8 [height, width, 3]."""
    from uservlm.models.pictures import picture_at

    return np.asarray(picture_at(SEED, number))


def image(number: int) -> Image:
    """Give the same as a Pillow image."""
    from PIL import Image

    return Image.fromarray(picture(number))
