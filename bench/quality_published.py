"""The paper's figures on its own sets, and when they may stand beside ours.

Owns: reading published/quality.json, and the rule that a figure of the paper's is shown only beside
answers to the paper's own questions. No data set says of itself which one it is, so whoever runs
the bench says it (`--set`), and what can be checked is: the paper's number of questions, and that
the people are not drawn, which our own sets' annotations tell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from dacite import Config, from_dict

from uservlm.runtime.errors import RequestError

FILE: Final = Path(__file__).parent / "published" / "quality.json"


@dataclass(frozen=True)
class Line:
    """One model's figures, each 0 … 1; None where the paper gives none."""

    model: str
    f1: float
    bert: float | None = None
    overall: float | None = None


@dataclass(frozen=True)
class PaperSet:
    """The figures on one set."""

    title: str
    hub: str | None
    """Where its authors publish it; None: they did not, or it is another project's."""
    rows: int | None
    """Questions in it; None where the paper's choice of them is not known."""
    read_from: str
    """Picture in the paper's repository."""
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Published:
    """Everything the paper's tables say of quality."""

    source: str
    conditions: str
    sets: Mapping[str, PaperSet]


@cache
def published() -> Published:
    """Read the figures."""
    data = json.loads(FILE.read_text(encoding="utf-8"))
    return from_dict(Published, data, Config(strict=True, cast=[tuple]))


def paper_set(name: str, rows: int, drawn: bool) -> PaperSet:
    """Give the paper's figures for a data set that is said to be one of the paper's.

    Args:
        name: key in `Published.sets`.
        rows: questions in the data set.
        drawn: whether it shows drawn people.

    Raises:
        RequestError: no such set, one whose questions are not published, or the data set is not it.
    """
    known = {key: one for key, one in published().sets.items() if one.rows is not None}
    if name not in known:
        raise RequestError(f"--set {name}: the sets that can be had are {', '.join(known)}")
    found = known[name]
    if drawn:
        raise RequestError(
            f"--set {name}: these people are drawn, so the paper's figures say nothing beside them"
        )
    if rows != found.rows:
        raise RequestError(
            f"--set {name}: {found.hub} has {found.rows} questions, this data set has {rows}; "
            "without --set no figure of the paper's is shown"
        )
    return found
