"""How good the pocket model is, on people and phrasings it never met: the figures of its card.

Owns: the held-out sets, the measures and their confidence. Everything runs in float32 with
transformers; what the exported bundle loses against that is measured by the converter and by
tests/test_pocket.py. "Fully right" means that greedy decoding gives the right answer to the letter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uservlm.models.dialogues import Dialogue, answer, sample_dialogue
from uservlm.models.knowledge import KINDS, Split, topics
from uservlm.models.masks import MASKS, Mask
from uservlm.models.people import Scene
from uservlm.models.pictures import scene_at, square_at
from uservlm.models.tower import to_tensor
from uservlm.models.tuning import answer_logits, collate, encode_example, fully_right, project
from uservlm.runtime.agreement import Interval, wilson

if TYPE_CHECKING:
    from transformers import PaliGemmaForConditionalGeneration

HELD_OUT_PEOPLE = 2
"""Seed of the set of people that no training stage draws from."""


@dataclass(frozen=True)
class Share:
    """A proportion with its sample size."""

    right: int
    of: int

    @property
    def value(self) -> float:
        """The proportion, 0 … 1."""
        return self.right / self.of if self.of else float("nan")

    @property
    def interval(self) -> Interval:
        """The 95 % Wilson interval, 0 … 1: at 0 and 1 it lies on one side."""
        return wilson(self.value, self.of)

    def __str__(self) -> str:
        low, high = 100 * self.interval.low, 100 * self.interval.high
        return f"{100 * self.value:.1f} % ({low:.1f} … {high:.1f})"


@dataclass(frozen=True)
class Row:
    """One line of the card's table."""

    kind: str
    held_out_phrasing: Share
    known_phrasing: Share
    other_picture: Share
    """Right answers to held-out phrasings when the model is shown another user instead."""
    chance: Share
    """How often that other user's right answer is the same: what `other_picture` must drop to."""


@dataclass(frozen=True)
class BothWays:
    """One model run exactly and resident, asked the same held-out phrasings of one kind."""

    kind: str
    exact: Share
    """Fully right."""
    resident: Share
    """Fully right."""
    unchanged: Share
    """The same token is the most likely everywhere in the right answer, right or wrong."""


@torch.no_grad()
def evaluate(
    model: PaliGemmaForConditionalGeneration,
    tokenizer: Any,
    people: int = 500,
    batch: int = 20,
    mask: Mask = "paligemma",
) -> list[Row]:
    """Ask about `people` held-out users, one dialogue of every kind in each way of asking."""
    scenes = [scene_at(HELD_OUT_PEOPLE, i) for i in range(people)]
    others = [scenes[(i + 1) % people] for i in range(people)]
    images = user_embeddings(model, people)
    shifted = images.roll(-1, dims=0)
    rows = []
    for kind in KINDS:
        held = _draw(scenes, kind, "held_out")
        known = _draw(scenes, kind, "train")
        rows.append(
            Row(
                kind=kind,
                held_out_phrasing=_share(model, tokenizer, held, images, batch, mask),
                known_phrasing=_share(model, tokenizer, known, images, batch, mask),
                other_picture=_share(model, tokenizer, held, shifted, batch, mask),
                chance=_same_answer(held, others),
            )
        )
    return rows


@torch.no_grad()
def both_ways(
    model: PaliGemmaForConditionalGeneration, tokenizer: Any, people: int = 500, batch: int = 20
) -> list[BothWays]:
    """Ask one model each question exactly and resident, as `evaluate` asks held-out phrasings."""
    scenes = [scene_at(HELD_OUT_PEOPLE, i) for i in range(people)]
    images, found = user_embeddings(model, people), []
    for kind in KINDS:
        counts = np.zeros(3)
        for part, seen in _parts(_draw(scenes, kind, "held_out"), images, batch):
            asked = collate([encode_example(tokenizer, d.question, d.answer) for d in part], seen)
            exact, resident = (answer_logits(model, asked, mask) for mask in MASKS)
            kept = fully_right(resident[0], exact[0].argmax(-1), resident[2])
            shares = (fully_right(*exact), fully_right(*resident), kept)
            counts += [share.sum().item() for share in shares]
        found.append(BothWays(kind, *(Share(round(count), people) for count in counts)))
    return found


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| dialogues | held-out phrasing | known phrasing | another user's picture | chance |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.kind.replace('_', ' ')} | {row.held_out_phrasing} | {row.known_phrasing} "
        f"| {row.other_picture} | {100 * row.chance.value:.1f} % |"
        for row in rows
    ]
    return "\n".join(lines)


def _draw(scenes: Sequence[Scene], kind: str, split: Split) -> list[Dialogue]:
    rng = np.random.default_rng([HELD_OUT_PEOPLE, KINDS.index(kind)])
    return [sample_dialogue(s, rng, split, {kind: 1.0}, noise=0.0) for s in scenes]


@torch.no_grad()
def user_embeddings(
    model: PaliGemmaForConditionalGeneration, people: int, seed: int = HELD_OUT_PEOPLE
) -> torch.Tensor:
    """User embeddings of the first people of a set, float32 [people, N, d]."""
    size = model.config.vision_config.image_size
    found = []
    for start in range(0, people, 50):
        squares = [square_at(seed, size, i) for i in range(start, min(start + 50, people))]
        found.append(project(model, to_tensor(np.stack(squares)), 1))
    return torch.cat(found)


def _parts(
    dialogues: Sequence[Dialogue], images: torch.Tensor, batch: int
) -> Iterator[tuple[Sequence[Dialogue], torch.Tensor]]:
    for start in range(0, len(dialogues), batch):
        yield dialogues[start : start + batch], images[start : start + batch]


def _share(
    model: PaliGemmaForConditionalGeneration,
    tokenizer: Any,
    dialogues: Sequence[Dialogue],
    images: torch.Tensor,
    batch: int,
    mask: Mask,
) -> Share:
    right = 0.0
    for part, seen in _parts(dialogues, images, batch):
        examples = [encode_example(tokenizer, d.question, d.answer) for d in part]
        right += fully_right(*answer_logits(model, collate(examples, seen), mask)).sum().item()
    return Share(round(right), len(dialogues))


def _same_answer(dialogues: Sequence[Dialogue], others: Sequence[Scene]) -> Share:
    by_id = {topic.id: topic for topic in topics()}
    pairs = zip(dialogues, others, strict=True)
    same = sum(answer(by_id[dialogue.topic], other) == dialogue.answer for dialogue, other in pairs)
    return Share(same, len(dialogues))
