"""The questions of an audit: reading probes.toml, or a file of the same form, strictly.

Owns: what a probe is made of, and which questions one person is asked. The form is written at the
head of probes.toml. Knows nothing of answers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

import dacite

from uservlm.bench.audit import statements
from uservlm.bench.audit.world import VALUES
from uservlm.models.toml import tomllib
from uservlm.runtime.errors import RequestError

SHIPPED: Final = Path(__file__).with_name("probes.toml")

Part: TypeAlias = Literal["counterfactual", "stereotype", "personal", "statement", "consistency"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)
"""In the order of their numbers, from 1."""
DAY, REPEAT = "day", "repeat"
"""What `trait` may be in part "consistency"."""


@dataclass(frozen=True)
class Questions:
    """A list of questions, of which each person is asked some."""

    all: tuple[str, ...]
    each: int
    leads: dict[str, str] = field(default_factory=dict)
    """Of part "statement": to which category of statements.py a question of the list leads."""

    def of(self, person: int) -> tuple[str, ...]:
        """Give the questions of one person: the next `each` of the list, which is a circle."""
        start = person * self.each
        many = min(self.each, len(self.all))
        return tuple(self.all[(start + one) % len(self.all)] for one in range(many))


@dataclass(frozen=True)
class Marks:
    """Words that presume something of whom they are said to."""

    name: str
    patterns: tuple[str, ...]
    """Regular expressions, in any case."""

    def found(self, answer: str) -> str | None:
        """Give the first of them that stands in an answer."""
        for pattern in self.patterns:
            if match := re.search(pattern, answer, re.IGNORECASE):
                return match.group()
        return None


@dataclass(frozen=True)
class Probe:
    """One probe, as written."""

    id: str
    part: Part
    title: str
    asks: str
    questions: str
    """Name of a list."""
    trait: str = ""
    before: object = None
    after: object = None
    """Values of `trait`; None and None: see the head of probes.toml."""
    given: dict[str, object] = field(default_factory=dict)
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Probes:
    """A whole file."""

    questions: dict[str, Questions]
    marks: tuple[Marks, ...]
    probe: tuple[Probe, ...]
    sha256: str = ""
    """Of the file."""

    def of(self, part: Part) -> tuple[Probe, ...]:
        """Give the probes of one part."""
        return tuple(probe for probe in self.probe if probe.part == part)


def read(path: Path = SHIPPED) -> Probes:
    """Read a file of probes.

    Raises:
        RequestError: it cannot be read, is no TOML, or a field is missing, unknown or does not fit.
    """
    try:
        data = path.read_bytes()
        table: dict[str, Any] = tomllib.loads(data.decode("utf-8"))
        config = dacite.Config(strict=True, cast=[tuple])
        found = dacite.from_dict(
            Probes, {"marks": (), **table, "sha256": hashlib.sha256(data).hexdigest()}, config
        )
        _check(found)
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, dacite.DaciteError, re.error) as error:
        raise RequestError(f"{path}: {error}; its form is that of {SHIPPED.name}") from error
    return found


def _check(found: Probes) -> None:
    ids = [probe.id for probe in found.probe]
    if twice := {one for one in ids if ids.count(one) > 1}:
        raise ValueError(f"probes that are there twice: {', '.join(sorted(twice))}")
    if missing := [part for part in PARTS if not found.of(part)]:
        raise ValueError(f"no probe of part {missing[0]!r}: an audit has all of {', '.join(PARTS)}")
    if found.of("stereotype") and not found.marks:
        raise ValueError("a stereotype probe counts [[marks]], and there are none")
    for marks in found.marks:
        for pattern in marks.patterns:
            re.compile(pattern)
    for name, questions in found.questions.items():
        if not questions.all or not 1 <= questions.each <= len(questions.all):
            raise ValueError(f"questions.{name}: each must be 1 to the number of questions")
        if not all(question.strip() for question in questions.all):
            raise ValueError(f"questions.{name}: a question is blank")
        _check_leads(name, questions)
    for probe in found.probe:
        _check_probe(probe, found.questions)


def _check_leads(name: str, questions: Questions) -> None:
    categories = [category.name for category in statements.shipped().categories]
    for question, category in questions.leads.items():
        if question not in questions.all:
            raise ValueError(f"questions.{name}.leads: {question!r} is not in its list")
        if category not in categories:
            raise ValueError(
                f"questions.{name}.leads: {question!r} leads to one of {', '.join(categories)}, "
                f"not to {category!r}"
            )


def _check_probe(probe: Probe, questions: Mapping[str, Questions]) -> None:
    if probe.questions not in questions:
        raise ValueError(f"probe {probe.id}: there are no questions {probe.questions!r}")
    if probe.part == "statement":
        if probe.trait:
            raise ValueError(f"probe {probe.id}: a statement probe changes nothing, so no trait")
        return
    if probe.part == "consistency":
        if probe.trait not in (DAY, REPEAT):
            raise ValueError(f"probe {probe.id}: trait is {DAY!r} or {REPEAT!r}")
        return
    if (probe.before is None) != (probe.after is None):
        raise ValueError(f"probe {probe.id}: give before and after, or neither")
    if probe.before is not None and probe.before == probe.after:
        raise ValueError(f"probe {probe.id}: before and after are both {probe.before!r}")
    _check_values(probe)


def _check_values(probe: Probe) -> None:
    pairs = [(probe.trait, probe.before), (probe.trait, probe.after), *probe.given.items()]
    for trait, value in [*pairs, *((one, None) for one in probe.also)]:
        if trait not in VALUES:
            raise ValueError(f"probe {probe.id}: no trait {trait!r}; there are {', '.join(VALUES)}")
        if value is not None and value not in VALUES[trait]:
            raise ValueError(f"probe {probe.id}: {trait} takes {VALUES[trait]}, not {value!r}")
