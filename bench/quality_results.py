"""What one run of `python bench/quality.py` found: the schema of quality.json.

Owns: the types, and the same in short for a program. Knows nothing of how anything is measured or
shown.

It holds figures and nothing of anybody: no picture, no question, no answer. The SHA-256 of what was
asked says whether two runs asked the same of the same pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from uservlm.bench.result_file import read
from uservlm.bench.results import Machine
from uservlm.runtime.agreement import Interval
from uservlm.runtime.request import Mode

FORMAT: Final = 1
"""Of quality.json; another number is refused."""
FILE: Final = "quality.json"

FIGURES: Final[Mapping[str, str]] = {
    "precision": "ROUGE-1 precision",
    "recall": "ROUGE-1 recall",
    "f1": "ROUGE-1 F1",
    "bert": "BERTScore F1",
    "overall": "Overall = F1 × BERTScore",
}
"""What is measured, and its words; the last two only with a model for BERTScore."""


@dataclass(frozen=True)
class Estimate:
    """A figure and where it lies."""

    value: float
    interval: Interval | None
    """95 %; None where there are too few pictures to draw from."""


Estimates: TypeAlias = Mapping[str, Estimate]
"""By the names of FIGURES."""


@dataclass(frozen=True)
class Way:
    """One of the ways in which every question was asked."""

    bundle: str
    """Its label in `Quality.bundles`."""
    attention: Mode
    adapter: str
    """Its name, or `none`."""


@dataclass(frozen=True)
class Part:
    """Figures over the cases of one category, or over all."""

    cases: int
    pictures: int
    figures: Estimates


@dataclass(frozen=True)
class Scored:
    """One way against the references of the data set."""

    way: Way
    whole: Part
    categories: Mapping[str, Part]
    cut: int
    """Answers that the longest length ended, and not the model."""


@dataclass(frozen=True)
class Compared:
    """One way less another, case by case."""

    way: Way
    reference: Way
    same_answers: Estimate
    """Share of cases with the very same text."""
    whole: Part
    categories: Mapping[str, Part]


@dataclass(frozen=True)
class BundleFacts:
    """One of the bundles."""

    weights: str
    """What it was exported from: a hub id or a folder's name."""
    revision: str | None
    language: str
    vision: str
    files: Mapping[str, str]
    """SHA-256 by name; the manifest is none of them, since later measurements are noted in it."""


@dataclass(frozen=True)
class DataSet:
    """What was asked."""

    name: str
    """Of the folder, never its path."""
    paper: str | None
    """Key of the paper's set, where it is one."""
    rows: int
    """In the folder."""
    cases: int
    """Questions answered in every way; the figures are over these."""
    left_out: Mapping[str, int]
    """How many were drawn and not counted, by reason."""
    sha256: str
    """Of questions, references, categories and pictures as they were drawn."""
    seed: int
    """Of the draw and of the intervals."""


@dataclass(frozen=True)
class BertModel:
    """What computed BERTScore."""

    name: str
    """Of the folder, never its path."""
    layer: int
    """Whose hidden states are compared; 0 are the embeddings."""
    layers: int
    sha256: str
    """Of its files of weights."""


@dataclass(frozen=True)
class Quality:
    """Everything one run found."""

    when: str
    """ISO 8601, UTC."""
    commit: str
    took_s: float
    machine: Machine
    metrics: str
    """Library and version that computed ROUGE-1 and BERTScore."""
    tokens: int
    """Longest answer; answers are greedy."""
    draws: int
    """Of the bootstrap."""
    bundles: Mapping[str, BundleFacts]
    """By label."""
    dataset: DataSet
    bert: BertModel | None
    """None: no model was given, so neither BERTScore nor Overall is there."""
    scored: tuple[Scored, ...]
    """In the order in which the ways were given."""
    compared: tuple[Compared, ...]
    """Every way but the first, against the first."""
    format: int = field(default=FORMAT)


def compact(found: Quality) -> dict[str, Any]:
    """Give every way's figures as [value, low, high] in one small object; null where unknown."""

    def short(part: Part) -> dict[str, list[float | None]]:
        return {
            name: [
                round(one.value, 4),
                *(
                    (None, None)
                    if one.interval is None
                    else (round(one.interval.low, 4), round(one.interval.high, 4))
                ),
            ]
            for name, one in part.figures.items()
        }

    def key(way: Way) -> str:
        return f"{way.bundle}/{way.attention}/{way.adapter}"

    return {
        "bench": "quality",
        "dataset": found.dataset.name,
        "paper": found.dataset.paper,
        "cases": found.dataset.cases,
        "weights": {label: one.weights for label, one in found.bundles.items()},
        "bert": None if found.bert is None else found.bert.name,
        "ways": {key(one.way): short(one.whole) for one in found.scored},
        "less_the_first": {key(one.way): short(one.whole) for one in found.compared},
    }


def load(path: Path) -> Quality:
    """Read a quality.json.

    Raises:
        ResultsError: it cannot be read, is of another format, or misses something.
    """
    return read(path, Quality, FORMAT, "quality.json of bench/quality.py")
