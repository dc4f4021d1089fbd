"""What is said to and by the robot in the drawn world: questions with the right answers.

Owns: the wording of a description, how an answer is filled from a scene, and how the surface of
a question varies. Knows nothing of pixels (`drawing.py`), tokens (`vocabulary.py`) or training.
What can be asked is data (`knowledge.py`, `topics/*.toml`); the prompt around a question belongs
to the runtime, so `corpus` is handed the prompt instead of defining it.

Every dialogue names the attributes that decide its answer. A general question names none: its
answer is the same for every user, and a model that lets the user leak into it is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np

from uservlm.models.knowledge import KINDS, Split, Topic, topics
from uservlm.models.people import Scene, random_scene

WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"description": 0.2, "about_user": 0.25, "user_aware": 0.4, "general": 0.15}
)
"""Default mixture: mostly what needs the user, enough of the rest not to forget it."""

WRAPPERS = ("Please, {}", "Pepper, {}", "Excuse me, {}", "Can you tell me, {}")
"""Polite ways into a question; none contains a topic's key word."""

_COMPANY_WORDS = {
    "alone": "Nobody else is",
    "one other": "One other person is",
    "group": "Several other people are",
}


@dataclass(frozen=True)
class Dialogue:
    """One question, its right answer, and what of the user that answer depends on."""

    kind: str
    """One of KINDS."""
    topic: str
    question: str
    answer: str
    depends_on: tuple[str, ...]
    """Attributes of `Person`, or "company"; empty for a general question."""
    held_out: bool
    """Whether the phrasing is kept from training."""


def describe(scene: Scene) -> str:
    """Describe the user in at most 40 words; equal scenes give equal text.

    It tells age, hair, glasses, hat, clothing, expression and company; glasses and a hat are told
    by being mentioned or not. A bald user has no hair colour.
    """
    words = _words_of_parts(scene)
    glasses = " and glasses" if scene.user.glasses else ""
    hat = "" if scene.user.hat == "none" else f" and a {scene.user.hat}"
    return (
        f"The person appears to be {words['age']} with {words['hair']}{glasses}, "
        f"wearing {words['clothing']}{hat}. They look {words['expression']}. "
        f"{words['company']} in view."
    )


def all_dialogues(scene: Scene, split: Split = "train") -> list[Dialogue]:
    """Every phrasing of every topic with its answer for this scene, without surface noise."""
    return [
        _dialogue(topic, scene, question, split)
        for topic in topics()
        for question in topic.phrasings(split)
    ]


def sample_dialogue(
    scene: Scene,
    rng: np.random.Generator,
    split: Split = "train",
    weights: Mapping[str, float] | None = None,
    noise: float = 0.4,
) -> Dialogue:
    """Draw a kind by `weights` (WEIGHTS if None), then a topic of it, then a phrasing.

    `noise` is the probability in [0, 1] that a training question is said a little differently
    (`vary`); held-out questions are left alone. ValueError for a kind that does not exist or for
    weights that sum to nothing.
    """
    topic = _draw_topic(rng, WEIGHTS if weights is None else weights)
    question = _pick(rng, topic.phrasings(split))
    if split == "train" and rng.random() < noise:
        question = vary(question, rng)
    return _dialogue(topic, scene, question, split)


def vary(question: str, rng: np.random.Generator) -> str:
    """Say a question as people say and type it: wrapped, without capitals or final mark."""
    how = int(rng.integers(4))
    if how == 0:
        return question.lower()
    if how == 1:
        return question.rstrip(".?!")
    if how == 2:
        return question.lower().rstrip(".?!")
    asks = question.endswith("?")
    wrapper = _pick(rng, WRAPPERS if asks else WRAPPERS[:-1])
    starts_with_name = question.startswith(("I ", "Pepper"))
    inner = question if starts_with_name else question[0].lower() + question[1:]
    return wrapper.format(inner)


def captions_in_words(
    scene: Scene, rng: np.random.Generator, attributes: Sequence[str] | None = None
) -> str:
    """Tell the user in words, where a picture would stand: in full, or only `attributes`.

    `attributes` are names as in `Dialogue.depends_on` (None: all). Half of the time the text is the
    whole description, so that a language model also learns to pick out what matters.
    """
    if attributes is None or not attributes or rng.random() < 0.5:
        return describe(scene)
    words = _words_of_parts(scene)
    sentences = {
        "age": f"The person appears to be {words['age']}.",
        "expression": f"They look {words['expression']}.",
        "hair_style": f"They have {words['hair']}.",
        "hair_colour": f"They have {words['hair']}.",
        "glasses": f"They are {words['glasses']}.",
        "hat": f"They are {words['hat']}.",
        "clothing": f"They are wearing {words['clothing']}.",
        "company": f"{words['company']} in view.",
    }
    return " ".join(dict.fromkeys(sentences[name] for name in attributes))


def text_only(rng: np.random.Generator) -> tuple[str, str]:
    """One (question, answer) for pretraining on text: the user is described, not seen.

    This is what Gemma's pretraining gives the real model: knowledge of what suits whom, before any
    picture. General questions come with a description or without, which must not matter.
    """
    scene = random_scene(rng)
    dialogue = sample_dialogue(scene, rng)
    if not dialogue.depends_on and rng.random() < 0.5:
        return dialogue.question, dialogue.answer
    told = captions_in_words(scene, rng, dialogue.depends_on)
    return f"{told} {dialogue.question}", dialogue.answer


def corpus(seed: int, scenes: Iterable[Scene], prompt: str = "{question}") -> Iterator[str]:
    """Sentences for the tokenizer: training questions, all answers, descriptions, prompts.

    `prompt` is the prompt format with `{question}` in it, as the runtime defines it; each scene
    adds its description, one prompt in that format and one text-only pair. Held-out questions are
    left out. The text depends on `seed`, `scenes` and `prompt` only.
    """
    rng = np.random.default_rng(seed)
    for topic in topics():
        yield from topic.train
        yield from (text for text in topic.answers.values() if "{" not in text)
    for scene in scenes:
        yield describe(scene)
        dialogue = sample_dialogue(scene, rng)
        yield prompt.format(question=dialogue.question)
        yield dialogue.answer
        yield " ".join(text_only(rng))


def _dialogue(topic: Topic, scene: Scene, question: str, split: Split) -> Dialogue:
    return Dialogue(
        kind=topic.kind,
        topic=topic.id,
        question=question,
        answer=answer(topic, scene),
        depends_on=topic.depends_on,
        held_out=split == "held_out",
    )


def answer(topic: Topic, scene: Scene) -> str:
    """The right answer to any phrasing of `topic` before this scene."""
    value = "" if "" in topic.answers else value_of(scene, topic.depends_on[0])
    words = _words_of_parts(scene) | {"description": describe(scene)}
    return topic.answers[value].format_map(words)


def _draw_topic(rng: np.random.Generator, weights: Mapping[str, float]) -> Topic:
    unknown = set(weights) - set(KINDS)
    total = sum(weights.values())
    if unknown or total <= 0:
        raise ValueError(f"weights need kinds from {KINDS} and a positive sum, not {dict(weights)}")
    kinds = [kind for kind in KINDS if weights.get(kind, 0) > 0]
    chosen = kinds[int(rng.choice(len(kinds), p=[weights[kind] / total for kind in kinds]))]
    group = _by_kind()[chosen]
    return group[int(rng.integers(len(group)))]


@cache
def _by_kind() -> Mapping[str, tuple[Topic, ...]]:
    return {kind: tuple(t for t in topics() if t.kind == kind) for kind in KINDS}


def _pick(rng: np.random.Generator, values: Sequence[str]) -> str:
    return values[int(rng.integers(len(values)))]


def value_of(scene: Scene, attribute: str) -> str:
    """Give an attribute of the user, or "company", in the words of `knowledge.DECIDED_BY`."""
    return scene.company if attribute == "company" else str(getattr(scene.user, attribute))


def _words_of_parts(scene: Scene) -> dict[str, str]:
    """Fill what a template may name (`knowledge.TEMPLATE_WORDS`), except the description."""
    user = scene.user
    bald = user.hair_style == "bald"
    return {
        "age": _with_article(user.age),
        "expression": user.expression,
        "hair": "a bald head" if bald else f"{user.hair_style} {user.hair_colour} hair",
        "glasses": "wearing glasses" if user.glasses else "not wearing glasses",
        "hat": "not wearing a hat" if user.hat == "none" else f"wearing a {user.hat}",
        "clothing": _with_article(f"{user.clothing} top"),
        "company": _COMPANY_WORDS[scene.company],
    }


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
