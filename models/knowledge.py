"""What can be asked and what is right to answer: reading and checking `topics/*.toml`.

Owns: the form of a topic and the rules its data must keep. Knows nothing of scenes or of how an
answer is filled in (`dialogues.py`).
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from uservlm.models.people import AGES, ATTRIBUTES, COMPANY, EXPRESSIONS
from uservlm.models.toml import tomllib

Split: TypeAlias = Literal["train", "held_out"]

KINDS = ("description", "about_user", "user_aware", "general")
"""What a dialogue can be about."""

DECIDED_BY: dict[str, tuple[str, ...]] = {
    "age": AGES,
    "expression": EXPRESSIONS,
    "company": COMPANY,
}
"""The tables of `user_aware.toml`, each with the values that need an answer (" " written "_")."""

TEMPLATE_WORDS = frozenset(
    {"age", "expression", "hair", "glasses", "hat", "clothing", "company", "description"}
)
"""The words in braces that an answer of `about_user.toml` may contain."""

_FOLDER = Path(__file__).parent / "topics"


@dataclass(frozen=True)
class Topic:
    """One thing that can be asked."""

    kind: str
    """One of KINDS."""
    id: str
    keys: tuple[str, ...]
    """Lower-case words by which the topic is recognised, in no other topic's questions."""
    train: tuple[str, ...]
    held_out: tuple[str, ...]
    depends_on: tuple[str, ...]
    """Attributes of `Person`, or "company"; empty for a general question."""
    answers: Mapping[str, str]
    """Text per value of the one deciding attribute, or one template under "" for every user."""

    def phrasings(self, split: Split) -> tuple[str, ...]:
        """Give the questions of one split; ValueError for another name."""
        if split not in ("train", "held_out"):
            raise ValueError(f"split must be 'train' or 'held_out', not {split!r}")
        return self.train if split == "train" else self.held_out


@cache
def topics() -> tuple[Topic, ...]:
    """All topics, in file order, read once; ValueError names the topic that is malformed."""
    found = list(_user_aware(_read("user_aware.toml")))
    found += [_single(entry, "about_user") for entry in _read("about_user.toml")["topic"]]
    found += [_single(entry, "general") for entry in _read("general.toml")["topic"]]
    names = [topic.id for topic in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"topics defined twice: {', '.join(sorted(twice))}")
    return tuple(found)


def parse_topic(
    entry: Mapping[str, Any], kind: str, depends_on: tuple[str, ...], answers: Mapping[str, str]
) -> Topic:
    """One TOML table as a checked topic; ValueError naming the topic says which rule it breaks."""
    name = entry.get("id")
    if not isinstance(name, str) or not name:
        raise ValueError(f"a topic of kind {kind} has no id")
    if kind not in KINDS:
        raise ValueError(f"topic {name}: unknown kind {kind!r}")
    unknown = set(depends_on) - set(ATTRIBUTES) - {"company"}
    if unknown:
        raise ValueError(f"topic {name}: depends on unknown {sorted(unknown)}")
    for text in answers.values():
        if not isinstance(text, str) or not text:
            raise ValueError(f"topic {name}: every answer must be a text")
        fields = {field for _, field, _, _ in string.Formatter().parse(text) if field is not None}
        if fields - TEMPLATE_WORDS:
            raise ValueError(f"topic {name}: unknown words in braces {sorted(fields)}")
    if len(set(answers.values())) < len(answers):
        raise ValueError(f"topic {name}: two groups share one answer")
    return Topic(
        kind=kind,
        id=name,
        keys=_texts(entry, "keys", 1),
        train=_texts(entry, "train", 4),
        held_out=_texts(entry, "held_out", 2),
        depends_on=depends_on,
        answers=dict(answers),
    )


def _user_aware(tables: Mapping[str, Any]) -> Iterator[Topic]:
    if set(tables) != set(DECIDED_BY):
        raise ValueError(f"user_aware.toml must hold the tables {sorted(DECIDED_BY)}")
    for attribute, values in DECIDED_BY.items():
        for entry in tables[attribute]:
            _only_fields(entry, {"answers"})
            given = entry.get("answers", {})
            expected = {value.replace(" ", "_"): value for value in values}
            if set(given) != set(expected):
                raise ValueError(f"topic {entry.get('id')}: answers must be {list(expected)}")
            answers = {value: given[name] for name, value in expected.items()}
            yield parse_topic(entry, "user_aware", (attribute,), answers)


def _single(entry: Mapping[str, Any], kind: str) -> Topic:
    """Read a topic with one answer for all; its kind is the file's unless it says its own."""
    of_user = kind == "about_user"
    _only_fields(entry, {"answer", "kind", "depends_on"} if of_user else {"answer"})
    depends_on = tuple(entry.get("depends_on", ()))
    if of_user and not depends_on:
        raise ValueError(f"topic {entry.get('id')}: must say what it depends on")
    answers = {"": entry.get("answer", "")}
    return parse_topic(entry, str(entry.get("kind", kind)), depends_on, answers)


def _only_fields(entry: Mapping[str, Any], special: set[str]) -> None:
    unknown = set(entry) - special - {"id", "keys", "train", "held_out"}
    if unknown:
        raise ValueError(f"topic {entry.get('id')}: unknown fields {sorted(unknown)}")


def _texts(entry: Mapping[str, Any], field: str, at_least: int) -> tuple[str, ...]:
    texts = entry.get(field)
    if not isinstance(texts, list) or not all(isinstance(t, str) and t for t in texts):
        raise ValueError(f"topic {entry.get('id')}: {field} must be a list of texts")
    if len(texts) < at_least or len(set(texts)) < len(texts):
        raise ValueError(f"topic {entry.get('id')}: {field} needs {at_least} different texts")
    return tuple(texts)


def _read(name: str) -> dict[str, Any]:
    with (_FOLDER / name).open("rb") as file:
        return tomllib.load(file)
