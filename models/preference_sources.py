"""Where pairs come from: people drawn by lot, or a folder in the form of user-vlm-dpo.

Owns: how pairs and pictures are brought together into the batches of a step. Knows nothing of what
is preferred (`preferences.py`), of a folder's files (`acide.py`) or of the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uservlm.models.acide import Preference
from uservlm.models.people import Scene
from uservlm.models.pictures import scene_at
from uservlm.models.preference_tuning import Encoded, pair_batch
from uservlm.models.preferences import Pair
from uservlm.models.tuning import Batch, encode_example, project
from uservlm.runtime.image import PixelSpec, to_pixels

if TYPE_CHECKING:
    from transformers import PaliGemmaForConditionalGeneration

EACH = 4
"""Pairs about one person in a step."""


@dataclass(frozen=True)
class Lesson:
    """What is to be preferred, and before whom it is another thing than before."""

    pairs: Callable[[Scene, np.random.Generator], Iterator[Pair]]
    """About one scene, as `preferences.pairs` gives them."""
    concerns: Callable[[Scene], bool]


@dataclass(frozen=True)
class Crowd:
    """Drawn people and their user embeddings."""

    seed: int
    """Of the set of pictures."""
    embeddings: torch.Tensor
    """float32 [people, N, d], in the set's order."""

    def people(
        self, concerned: Callable[[Scene], bool], count: int, rng: np.random.Generator
    ) -> list[int]:
        """Draw different people by their index, every other one of those who are concerned."""
        order = rng.permutation(len(self.embeddings)).tolist()
        those: list[int] = []
        others: list[int] = []
        for index in order:
            (those if concerned(scene_at(self.seed, index)) else others).append(index)
            if len(those) >= count - count // 2 and len(others) >= count // 2:
                break
        return those[: count - count // 2] + others[: count // 2]


def encode_pair(tokenizer: Any, question: str, chosen: str, rejected: str) -> Encoded:
    """Tokenise both dialogues."""
    first, second = (encode_example(tokenizer, question, text) for text in (chosen, rejected))
    return Encoded(first, second)


def drawn_batches(
    crowd: Crowd, tokenizer: Any, lesson: Lesson, size: int, rng: np.random.Generator
) -> Iterator[Sequence[Batch]]:
    """Give the batches of each step, for ever: `size` pairs, EACH of them about one person.

    They come in two halves, the shorter answers first: padding is most of what long ones cost.

    Args:
        crowd: from whom people are drawn.
        tokenizer: the model's.
        lesson: what is asked about them.
        size: pairs in a step, a multiple of EACH.
        rng: decides everything.
    """
    while True:
        pairs = [
            (index, encode_pair(tokenizer, pair.question, pair.chosen, pair.rejected))
            for index in crowd.people(lesson.concerns, size // EACH, rng)
            for pair in islice(lesson.pairs(scene_at(crowd.seed, index), rng), EACH)
        ]
        pairs.sort(key=lambda pair: pair[1].longest)
        halves = (pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :])
        yield [
            pair_batch([pair for _, pair in half], crowd.embeddings[[who for who, _ in half]])
            for half in halves
        ]


def stored_batches(
    model: PaliGemmaForConditionalGeneration,
    tokenizer: Any,
    records: Iterator[Preference],
    size: int,
    accumulate: int,
) -> Iterator[Sequence[Batch]]:
    """Give the batches of each step, once through the records; the last step may be smaller.

    Args:
        model: it looks at the pictures.
        tokenizer: the model's.
        records: in the order in which they are learnt.
        size: pairs in a batch.
        accumulate: batches whose gradients make one step.
    """
    spec = PixelSpec(model.config.vision_config.image_size)

    def batch(part: Sequence[Preference]) -> Batch:
        pairs = [encode_pair(tokenizer, one.prompt, one.chosen, one.rejected) for one in part]
        pixels = np.concatenate([to_pixels(one.picture.pixels(), spec) for one in part])
        seen = project(model, torch.from_numpy(pixels).to(model.device, model.dtype), 1)
        return pair_batch(pairs, seen)

    parts = (batch(part) for part in _parts(records, size))
    return _parts(parts, accumulate)


def _parts(items: Iterator[Any], size: int) -> Iterator[Sequence[Any]]:
    while part := list(islice(items, size)):
        yield part
