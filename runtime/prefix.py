"""Image rows and token rows become one prefix: pure arithmetic on arrays and token lists.

Owns: order, scaling and lengths of what the language model sees before it answers. Knows nothing of
models or files. The string is `<image>`×N + `<bos>` + prompt (DESIGN section 4, fact 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from uservlm.runtime.errors import EmbeddingError, QuestionError

Rows = npt.NDArray[np.float32]

QUESTION = "{question}"


@dataclass(frozen=True)
class Tokens:
    """The tokens behind the image rows."""

    all: tuple[int, ...]
    """`<bos>` and the prompt."""
    head: int
    """How many of them, `<bos>` first, are the same for every question; 0: the split would change
    the tokens, so this question cannot be asked of a resident user."""

    @property
    def tail(self) -> tuple[int, ...]:
        """The question and what follows it."""
        return self.all[self.head :]


def head_text(template: str) -> str:
    """Give the part of the prompt that is the same for every question.

    Trailing blanks are left to the question: SentencePiece joins a blank to the word behind it.
    """
    return template.partition(QUESTION)[0].rstrip()


def join_tokens(bos: int, head: Sequence[int], prompt: Sequence[int]) -> Tokens:
    """Put `<bos>` in front, and see whether the tokens of `prompt` may be cut behind `head`."""
    fits = len(head) < len(prompt) and tuple(prompt[: len(head)]) == tuple(head)
    return Tokens((bos, *prompt), 1 + len(head) if fits else 0)


def check_length(image_tokens: int, tokens: Tokens, room: int) -> None:
    """Make sure the prefix fits.

    Args:
        image_tokens: N.
        tokens: behind the image rows.
        room: longest prefix, in positions.

    Raises:
        QuestionError: gives the tokens there are and the tokens that fit.
    """
    if image_tokens + len(tokens.all) > room:
        raise QuestionError(
            f"the question makes a prompt of {len(tokens.all)} tokens; behind {image_tokens} "
            f"image tokens at most {room - image_tokens} fit: ask it in fewer words"
        )


def join_rows(features: Rows, token_rows: Rows) -> Rows:
    """Give the prefix, float32 [N + T, d], as llama.cpp's gemma2 graph wants embeddings.

    The graph multiplies every input by √d (src/models/gemma2.cpp; gemma3's only tokens), and
    PaliGemma scales its text but not its image features. So the features are divided by √d and
    the token rows are the table's own.

    Args:
        features: projected image features, float32 [N, d].
        token_rows: rows of the token-embedding table, float32 [T, d], T ≥ 1.

    Raises:
        EmbeddingError: the widths differ.
    """
    width = token_rows.shape[1]
    if features.ndim != 2 or features.shape[1] != width:
        raise EmbeddingError(
            f"image features of shape {features.shape}: the model has width {width}"
        )
    rows = np.empty((len(features) + len(token_rows), width), dtype=np.float32)
    np.multiply(features, np.float32(1 / sqrt(width)), out=rows[: len(features)])
    rows[len(features) :] = token_rows
    return rows
