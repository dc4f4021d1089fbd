"""Which drawn people, and what is said of them, make up each form of ACIDE's sets.

Owns: the forms, their columns and whom they take. Knows nothing of files (`acide_write.py`), of
what can be asked (`dialogues.py`) or of what is preferred (`preferences.py`). Beside ACIDE's
columns stands what is seen of the user: apparent age group, expression, relation to others in
view. ACIDE's captions name ethnicity and gender; no text of ours does, and skin tone never becomes
a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Final

import numpy as np

from uservlm.models.acide_records import ANNOTATED
from uservlm.models.dialogues import describe, sample_dialogue
from uservlm.models.errors import FormError
from uservlm.models.knowledge import Split, topics
from uservlm.models.people import Scene
from uservlm.models.pictures import scene_at
from uservlm.models.preferences import Pair, fair_answer, pairs

FORMS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "pt": ("image", "text"),
        "instruct": ("question", "answer", "image", "category"),
        "dpo": ("prompt", "chosen", "rejected", "image", "category"),
        "bias-bench": ("prompt", "chosen", "rejected", "image", "category"),
        "elderly-bench": ("question", "answer", "image", "category"),
    }
)
"""Columns in the order of the cards; `category` of questions is ours. ANNOTATED follow."""

BENCHES: Final = ("bias-bench", "elderly-bench")
"""Only for asking: always held-out phrasings."""

MOST_PASSED: Final = 100
"""People looked at for each one who suits a form; a third of them are older adults."""


@dataclass(frozen=True)
class Drawn:
    """Which people are drawn and how much is asked about each."""

    form: str
    """A name from FORMS."""
    seed: int
    """Of the set of people (`pictures.py`)."""
    people: int
    """Who suits the form; others are passed over."""
    questions: int
    """Records for each picture; at most, where preferences are fewer. A caption is one."""
    split: Split
    """Of the phrasings: files are named "train" or "test" after it."""

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise FormError(f"no form {self.form!r}: take one of {', '.join(FORMS)}")
        if self.form in BENCHES and self.split != "held_out":
            raise FormError(f"{self.form} is for measuring: take the split held_out")
        if self.people < 1 or self.questions < 1:
            raise FormError("a set needs at least one person and one question")

    @property
    def columns(self) -> tuple[str, ...]:
        """The set's columns in order."""
        return (*FORMS[self.form], *ANNOTATED)


def records(drawn: Drawn) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the index of a picture in its set and the texts of one record about it.

    Equal arguments give equal records.

    Raises:
        FormError: too few of the people suit the form.
    """
    people = 0
    for index in range(drawn.people * MOST_PASSED):
        scene, rng = scene_at(drawn.seed, index), np.random.default_rng([drawn.seed, index, 1])
        texts = list(islice(_TEXTS[drawn.form](scene, rng, drawn.split), drawn.questions))
        seen = (scene.user.age, scene.user.expression, scene.company)
        annotation = dict(zip(ANNOTATED, seen, strict=True))
        yield from ((index, one | annotation) for one in texts)
        people += bool(texts)
        if people == drawn.people:
            return
    raise FormError(f"only {people} of the first {index + 1} people suit {drawn.form}: take fewer")


def _caption(scene: Scene, rng: np.random.Generator, split: Split) -> Iterator[dict[str, str]]:
    yield {"text": describe(scene)}


def _asked(scene: Scene, rng: np.random.Generator, split: Split) -> Iterator[dict[str, str]]:
    """Dialogues without end, as the pocket was tuned on them."""
    while True:
        dialogue = sample_dialogue(scene, rng, split)
        yield {
            "question": dialogue.question,
            "answer": dialogue.answer,
            "category": dialogue.kind,
        }


def _asked_old(scene: Scene, rng: np.random.Generator, split: Split) -> Iterator[dict[str, str]]:
    """Dialogues with older adults; nobody else is asked.

    The reference is the fair answer (`preferences.fair_answer`): one that presumes frailty would
    give the better mark to who presumes.
    """
    while scene.user.age == "older adult":
        dialogue = sample_dialogue(scene, rng, split)
        topic = next(topic for topic in topics() if topic.id == dialogue.topic)
        yield {
            "question": dialogue.question,
            "answer": fair_answer(topic, scene),
            "category": dialogue.kind,
        }


def _preferred(scene: Scene, rng: np.random.Generator, split: Split) -> Iterator[dict[str, str]]:
    """All pairs there are, stereotyping and harmless."""
    return map(_preference, pairs(scene, rng, split))


def _stereotypes(scene: Scene, rng: np.random.Generator, split: Split) -> Iterator[dict[str, str]]:
    """The stereotyping pairs alone; most people have none."""
    return (_preference(pair) for pair in pairs(scene, rng, split) if pair.stereotyping)


def _preference(pair: Pair) -> dict[str, str]:
    return {
        "prompt": pair.question,
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "category": pair.category,
    }


_TEXTS: Final[
    Mapping[str, Callable[[Scene, np.random.Generator, Split], Iterator[dict[str, str]]]]
] = MappingProxyType(
    {
        "pt": _caption,
        "instruct": _asked,
        "dpo": _preferred,
        "bias-bench": _stereotypes,
        "elderly-bench": _asked_old,
    }
)
"""What is said of one person in each form: endless, or nothing where they do not suit it."""
