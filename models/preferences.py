"""Which of two answers to prefer: reading and checking `topics/preferences.toml`, and the pairs.

Owns: what counts as stereotyping in the drawn world (the rule stands in the TOML), the answer that
is fair in its place, and how pairs of answers are drawn. Knows nothing of tokens or training
(`preference_tuning.py`), nor of how often a model stereotypes (`fairness.py`).

A stereotyping pair is asked by a user whom the topic's own answer underrates: chosen is what any
adult is told, rejected the presumption. Harmless pairs teach what must stay: chosen is the right
answer before this user, rejected the right one before another (or, for a general question, the
answer to another question).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from uservlm.models.dialogues import answer, value_of, vary
from uservlm.models.knowledge import DECIDED_BY, Split, Topic, topics
from uservlm.models.people import Scene, random_scene
from uservlm.models.toml import tomllib

CATEGORIES = (
    "presumed frailty",
    "presumed slowness",
    "presumed weak senses",
    "presumed forgetfulness",
)
"""Of stereotyping pairs."""
WHY_PERSONAL = ("safety", "help", "fact", "taste")
"""Reasons for which an answer stays personal, as the TOML explains them."""
WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"description": 0.04, "about_user": 0.1, "user_aware": 0.64, "general": 0.22}
)
"""How likely each kind is to come first among harmless pairs: mostly what must be told apart."""
NOISE = 0.25
"""Share of training questions that are said as people say them (`dialogues.vary`)."""

_FILE = Path(__file__).parent / "topics" / "preferences.toml"


@dataclass(frozen=True)
class Presumption:
    """A topic whose own answer for some users underrates them."""

    topic: str
    attribute: str
    """One of DECIDED_BY."""
    presumes: str
    """The value whose answer presumes."""
    fair: str
    """The value whose answer is fair in its place."""
    category: str
    """One of CATEGORIES."""
    reason: str


@dataclass(frozen=True)
class Pair:
    """One question before one user, and which of two answers is to be preferred."""

    question: str
    chosen: str
    rejected: str
    category: str
    """One of CATEGORIES, or for a harmless pair "personal: " and what decides, or the kind."""
    topic: str

    @property
    def stereotyping(self) -> bool:
        """Whether the rejected answer is a stereotype."""
        return self.category in CATEGORIES


@cache
def presumptions() -> Mapping[str, Presumption]:
    """All of them by topic, read once; ValueError names the topic that is malformed."""
    with _FILE.open("rb") as file:
        return MappingProxyType(parse(tomllib.load(file), topics()))


def parse(tables: Mapping[str, Any], known: Sequence[Topic]) -> dict[str, Presumption]:
    """Check what the TOML says against the topics; ValueError says which rule is broken."""
    if set(tables) != {"before"}:
        raise ValueError("preferences.toml must hold the table [[before]] and nothing else")
    found: dict[str, Presumption] = {}
    for table in tables["before"]:
        attribute, presumes, fair = (str(table.get(n)) for n in ("attribute", "presumes", "fair"))
        values = DECIDED_BY.get(attribute, ())
        if presumes == fair or not {presumes, fair} <= set(values):
            raise ValueError(f"before: {attribute} {presumes!r} and {fair!r} are no two values")
        judged = [_judged(entry, {"category": CATEGORIES}) for entry in table["stereotyping"]]
        kept = [_judged(entry, {"why": WHY_PERSONAL}) for entry in table["personal"]]
        _check_all_judged([*judged, *kept], attribute, known)
        for topic, category, reason in judged:
            found[topic] = Presumption(topic, attribute, presumes, fair, category, reason)
    return found


def presumption(topic: Topic, scene: Scene) -> Presumption | None:
    """Give what the topic's own answer presumes of this user, if it does."""
    found = presumptions().get(topic.id)
    return found if found and value_of(scene, found.attribute) == found.presumes else None


def underrated(scene: Scene) -> bool:
    """Whether the answer to any topic presumes something of this user."""
    return any(presumption(topic, scene) is not None for topic in topics())


def fair_answer(topic: Topic, scene: Scene) -> str:
    """The right answer before this scene, without any presumption."""
    found = presumption(topic, scene)
    return answer(topic, scene) if found is None else topic.answers[found.fair]


def pairs(
    scene: Scene,
    rng: np.random.Generator,
    split: Split = "train",
    weights: Mapping[str, float] = WEIGHTS,
) -> Iterator[Pair]:
    """Give one pair for every topic, by lot.

    As long as there are any, every other pair is a stereotyping one; the kinds of the others come
    by `weights`. So the first few are a fair sample of what is to be learnt.
    """
    unfair = [topic for topic in topics() if presumption(topic, scene) is not None]
    harmless = [topic for topic in topics() if presumption(topic, scene) is None]
    chances = np.array([weights[topic.kind] / _count(topic.kind) for topic in harmless])
    first = [unfair[i] for i in rng.permutation(len(unfair))]
    then = rng.choice(len(harmless), len(harmless), replace=False, p=chances / chances.sum())
    for index in then:
        if first:
            yield pair_about(first.pop(), scene, rng, split)
        yield pair_about(harmless[index], scene, rng, split)


def pair_about(topic: Topic, scene: Scene, rng: np.random.Generator, split: Split) -> Pair:
    """Give one pair on a topic: stereotyping where its answer presumes, harmless elsewhere."""
    found = presumption(topic, scene)
    chosen = fair_answer(topic, scene)
    category = _harmless_category(topic) if found is None else found.category
    rejected = _other_answer(topic, chosen, rng) if found is None else answer(topic, scene)
    return Pair(ask(topic, rng, split), chosen, rejected, category, topic.id)


def ask(topic: Topic, rng: np.random.Generator, split: Split) -> str:
    """Draw one of the topic's phrasings, some of the training ones as people say them."""
    phrasings = topic.phrasings(split)
    question = phrasings[int(rng.integers(len(phrasings)))]
    return vary(question, rng) if split == "train" and rng.random() < NOISE else question


def _harmless_category(topic: Topic) -> str:
    decided = topic.depends_on[0] if topic.kind == "user_aware" else topic.kind.replace("_", " ")
    return f"personal: {decided}" if topic.depends_on else decided


def _other_answer(topic: Topic, chosen: str, rng: np.random.Generator) -> str:
    """Draw an answer that is right before somebody else, or to another general question."""
    if topic.depends_on:
        while (other := answer(topic, random_scene(rng))) == chosen:
            pass
        return other
    strays = [one.answers[""] for one in topics() if one.kind == topic.kind and one != topic]
    return strays[int(rng.integers(len(strays)))]


@cache
def _count(kind: str) -> int:
    return sum(topic.kind == kind for topic in topics())


def _judged(entry: Mapping[str, Any], word: Mapping[str, Sequence[str]]) -> tuple[str, str, str]:
    """Check one entry and give its topic, its category or why, and the reason."""
    ((field, allowed),) = word.items()
    topic = str(entry.get("topic"))
    if set(entry) != {"topic", field, "reason"}:
        raise ValueError(f"topic {topic}: the fields must be topic, {field} and reason")
    if entry[field] not in allowed:
        raise ValueError(f"topic {topic}: {field} must be one of {allowed}, not {entry[field]!r}")
    if not entry["reason"]:
        raise ValueError(f"topic {topic}: say the reason")
    return topic, str(entry[field]), str(entry["reason"])


def _check_all_judged(
    judged: Sequence[tuple[str, str, str]], attribute: str, known: Sequence[Topic]
) -> None:
    names = [topic for topic, _, _ in judged]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"topics judged twice: {', '.join(twice)}")
    wanted = {t.id for t in known if t.kind == "user_aware" and t.depends_on == (attribute,)}
    for name in sorted(wanted ^ set(names)):
        what = "is not judged" if name in wanted else f"is no topic that {attribute} decides"
        raise ValueError(f"topic {name} {what}")
