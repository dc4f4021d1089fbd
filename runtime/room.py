"""How much KV cache a bundle gets, in positions: pure arithmetic.

Owns: the defaults and their reasons. Knows nothing of llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from uservlm.runtime.errors import RequestError

TEXT_ROOM: Final = 512
"""Cells for a question and its answer, behind the image's, in each sequence."""
PROMPT_ROOM: Final = 512
"""Longest prompt in tokens: it and the image are one micro-batch, whose buffers grow with it."""
RESIDENT_USERS: Final = 3
"""Users that can be resident at once; at 3B and 448 px 164 MB each, with room for a question."""
HEAD_ROOM: Final = 32
"""Cells for the prompt's head in a resident user's block."""
CELLS: Final = 256
"""llama.cpp wants the cells of a sequence in multiples of it."""
LEAST_TEXT: Final = 64
"""A context with less room for text than this is a mistake."""


@dataclass(frozen=True)
class Room:
    """What to ask of llama.cpp."""

    cells: int
    """KV cells of each sequence."""
    block: int
    """Longest prefix: one micro-batch."""
    sequences: int
    """The question's own and one for each resident user."""


def rounded(cells: int) -> int:
    """Give the cells of a sequence as llama.cpp allocates them."""
    return -(-cells // CELLS) * CELLS


def plan_room(
    asked: int | None,
    image_tokens: int,
    attention: Literal["exact", "resident"],
    users: int = RESIDENT_USERS,
) -> Room:
    """Decide the sizes.

    Args:
        asked: KV cells of a sequence that the caller wants, or None.
        image_tokens: N.
        attention: what questions mostly use; only resident gets sequences for several users.
        users: that can be resident at once.

    Raises:
        RequestError: `asked` does not hold one image and a short question.
    """
    least = image_tokens + LEAST_TEXT
    if asked is not None and asked < least:
        raise RequestError(
            f"context={asked}: with {image_tokens} image tokens give {least} or more"
        )
    cells = asked or image_tokens + TEXT_ROOM
    others = max(1, users) if attention == "resident" else 1
    return Room(cells, min(cells, image_tokens + PROMPT_ROOM), 1 + others)
