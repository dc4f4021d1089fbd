"""How often a model stereotypes, and what it keeps of useful personalising: on held-out people.

Owns: who is asked what, and the shares with their intervals. What is fair is `preferences.py`'s. As
in `evaluate.py` an answer counts when greedy decoding gives it to the letter, which teacher forcing
tells; everything runs in float32.

Who chooses among recipes by looking makes the figures that he looks at too good. So there are two
panels: recipes are chosen, and tests run, on VALIDATION; the card's figures are of TEST. They share
neither people nor wordings, and both share the topics and their answers with the training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uservlm.models.dialogues import answer
from uservlm.models.evaluate import Share
from uservlm.models.knowledge import KINDS, Topic, topics
from uservlm.models.masks import MASKS
from uservlm.models.people import Scene
from uservlm.models.pictures import scene_at
from uservlm.models.preferences import CATEGORIES, fair_answer, presumption
from uservlm.models.tuning import Batch, answer_logits, collate, encode_example, fully_right

if TYPE_CHECKING:
    from transformers import PaliGemmaForConditionalGeneration

BATCH = 20


@dataclass(frozen=True)
class Asked:
    """One question put to one person."""

    person: int
    """Index among the embeddings."""
    question: str
    fair: str
    """The fair answer."""
    presumed: str
    """What the presumption would say; the fair answer where there is none."""
    part: str
    """The category of the presumption, or the kind of a harmless question."""
    topic: str


@dataclass(frozen=True)
class Panel:
    """People whom no training stage draws, and the held-out wordings that they are asked in."""

    seed: int
    """Of the set of people."""
    wordings: slice
    """Of each topic's `held_out`."""

    def questions(self, people: int) -> Iterator[Asked]:
        """Ask each one harmless question of every kind, and one that presumes where one does.

        Equal arguments give equal questions; nobody is asked twice for one figure.
        """
        for index in range(people):
            scene = scene_at(self.seed, index)
            rng = np.random.default_rng([self.seed, index, 9])
            unfair = [topic for topic in topics() if presumption(topic, scene) is not None]
            if unfair:
                yield self._ask(unfair, index, scene, rng)
            for kind in KINDS:
                group = [topic for topic in topics() if topic.kind == kind and topic not in unfair]
                yield self._ask(group, index, scene, rng)

    def _ask(
        self, group: Sequence[Topic], person: int, scene: Scene, rng: np.random.Generator
    ) -> Asked:
        topic = group[int(rng.integers(len(group)))]
        wordings, found = topic.held_out[self.wordings], presumption(topic, scene)
        return Asked(
            person=person,
            question=wordings[int(rng.integers(len(wordings)))],
            fair=fair_answer(topic, scene),
            presumed=answer(topic, scene),
            part=topic.kind if found is None else found.category,
            topic=topic.id,
        )


VALIDATION = Panel(seed=3, wordings=slice(0, 1))
"""Whom recipes are chosen on. The set of `evaluate.HELD_OUT_PEOPLE` served the first four."""
TEST = Panel(seed=2026, wordings=slice(1, None))
"""Whom the card's figures are of. No recipe was chosen on them: the shipped one stood when they
were asked first, about the adapter it replaced. Whoever chooses another needs another seed."""


@dataclass(frozen=True)
class Fairness:
    """What a model says to those who are underrated, and to everybody about everything else."""

    stereotyping: Share
    """The presumption's answer, to the letter."""
    fair: Share
    """The fair answer, to the letter. What is left is neither of the two."""
    by_category: Mapping[str, Share]
    """Stereotyping ones, by the presumption's category."""
    kept: Mapping[str, Share]
    """Right answers to harmless questions, by kind."""
    by_topic: Mapping[str, Share]
    """The same by topic."""
    unchanged: Share
    """Of the questions to those who are underrated: resident attention finds the same tokens most
    likely as exact does, all along the fair answer."""

    @property
    def neither(self) -> Share:
        """Other answers to those who are underrated."""
        of = self.fair.of
        return Share(of - self.fair.right - self.stereotyping.right, of)


@torch.no_grad()
def measure(
    model: PaliGemmaForConditionalGeneration,
    tokenizer: Any,
    questions: Sequence[Asked],
    embeddings: torch.Tensor,
) -> Fairness:
    """Put the questions.

    Args:
        model: with or without an adapter.
        tokenizer: its own.
        questions: of `Panel.questions`.
        embeddings: of these people, float32 [people, N, d].
    """
    unfair = [one for one in questions if one.presumed != one.fair]
    right = _right(model, tokenizer, [(one, one.fair) for one in questions], embeddings)
    presumed = _right(model, tokenizer, [(one, one.presumed) for one in unfair], embeddings)

    def share(found: Iterable[tuple[Asked, bool]], part: str) -> Share:
        hits = [hit for one, hit in found if one.part == part]
        return Share(sum(hits), len(hits))

    judged, biased = (
        list(zip(questions, right, strict=True)),
        list(zip(unfair, presumed, strict=True)),
    )
    return Fairness(
        stereotyping=Share(sum(presumed), len(unfair)),
        fair=Share(sum(hit for one, hit in judged if one.part in CATEGORIES), len(unfair)),
        by_category={name: share(biased, name) for name in CATEGORIES},
        kept={kind: share(judged, kind) for kind in KINDS},
        by_topic=_by_topic(judged),
        unchanged=Share(sum(_unchanged(model, tokenizer, unfair, embeddings)), len(unfair)),
    )


def _by_topic(judged: Sequence[tuple[Asked, bool]]) -> dict[str, Share]:
    found: dict[str, list[bool]] = {}
    for one, hit in judged:
        if one.part in KINDS:
            found.setdefault(one.topic, []).append(hit)
    return {topic: Share(sum(hits), len(hits)) for topic, hits in found.items()}


def _right(
    model: PaliGemmaForConditionalGeneration,
    tokenizer: Any,
    said: Sequence[tuple[Asked, str]],
    embeddings: torch.Tensor,
) -> list[bool]:
    """Whether greedy decoding gives each answer; those of like length are asked together."""
    found = [False] * len(said)
    order = sorted(range(len(said)), key=lambda at: len(said[at][1]))
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        hits = fully_right(*answer_logits(model, _batch(tokenizer, said, places, embeddings)))
        for at, hit in zip(places, hits.tolist(), strict=True):
            found[at] = hit == 1
    return found


def _unchanged(
    model: PaliGemmaForConditionalGeneration,
    tokenizer: Any,
    questions: Sequence[Asked],
    embeddings: torch.Tensor,
) -> Iterator[bool]:
    """Whether each is answered resident as it is exactly."""
    said = [(one, one.fair) for one in questions]
    for start in range(0, len(said), BATCH):
        places = range(start, min(start + BATCH, len(said)))
        batch = _batch(tokenizer, said, places, embeddings)
        exact, resident = (answer_logits(model, batch, mask) for mask in MASKS)
        same = fully_right(resident[0], exact[0].argmax(-1), resident[2])
        yield from (hit == 1 for hit in same.tolist())


def _batch(
    tokenizer: Any,
    said: Sequence[tuple[Asked, str]],
    places: Iterable[int],
    embeddings: torch.Tensor,
) -> Batch:
    part = [said[at] for at in places]
    examples = [encode_example(tokenizer, one.question, text) for one, text in part]
    return collate(examples, embeddings[[one.person for one, _ in part]])
