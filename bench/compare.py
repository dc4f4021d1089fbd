"""What became slower between two runs: `python bench/compare.py OLD NEW`.

Owns: which quantities are held against each other, and when one counts as worse: least to greatest
of both runs do not overlap, and the medians differ by more than TOLERANCE. Both have to be so: few
samples make a narrow spread. The exit code is 1 when anything became worse, and 2 when the runs
cannot be compared.

Ratios against a peer are compared too. A slower machine slows both sides of those, so what is
slower there as well is slower by its own doing; what the machine can read and multiply is shown
beside, and never counts as worse.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal, TypeAlias

from rich.console import Console
from rich.table import Table

from uservlm.bench.results import Better, Measured, Results, Spread, load
from uservlm.bench.wording import around, capital, number, quantity, rivals, times, title
from uservlm.runtime.errors import UserVLMError

TOLERANCE: Final = 1.05
"""Medians nearer to each other than this are the same, whatever the spread."""
WIDTH: Final = 140
"""Columns of the table, whatever the terminal says: it also goes into files."""
SAME_MACHINE: Final = ("processor", "cores", "threads", "instructions")
SAME_SUBJECT: Final = ("name", "shape", "weights", "language", "vision", "image_tokens")
"""What must be equal for two runs to be about the same thing."""
FILE: Final = "results.json"
TIMES: Final = "times"
"""Unit of a ratio."""

Verdict: TypeAlias = Literal["slower", "faster", "same"]


class CompareError(UserVLMError):
    """Two runs are about different things, or have nothing in common."""


@dataclass(frozen=True)
class Quantity:
    """One thing that a run measured, whatever kind it is of."""

    words: str
    unit: str
    """TIMES for a ratio."""
    better: Better
    spread: Spread


@dataclass(frozen=True)
class Change:
    """The same quantity in two runs."""

    section: str
    key: str
    words: str
    unit: str
    old: Spread
    new: Spread
    ratio: float
    """How many times worse the new one is; below 1 it is better."""
    verdict: Verdict


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare as the arguments say; 0: nothing is slower, 1: something is, 2: not comparable."""
    given = _parser().parse_args(arguments)
    try:
        old, new = (load(_file(path)) for path in (given.old, given.new))
        apart = different(old, new)
        if apart and not given.anyway:
            raise CompareError(f"the runs differ in {apart}: --anyway compares them nevertheless")
        changes = compare(old, new)
        if not changes:
            raise CompareError("the runs have no quantity in common")
    except UserVLMError as error:
        print(f"uservlm: {error}", file=sys.stderr)
        return 2
    Console(width=WIDTH).print(table(changes))
    for line in (*machine(old, new), *lost(old, new)):
        print(line)
    found = compact(changes, old, new)
    print(json.dumps(found, ensure_ascii=False, separators=(",", ":"), allow_nan=False))
    return 1 if found["slower"] else 0


def compare(old: Results, new: Results) -> tuple[Change, ...]:
    """Hold against each other what both runs measured but the limits; the worst comes first."""
    before, after = quantities(old), quantities(new)
    common = [name for name in before if name in after and name[0] != "limits"]
    changes = [change(*name, before[name], after[name]) for name in common]
    return tuple(sorted(changes, key=lambda one: one.ratio, reverse=True))


def change(section: str, key: str, old: Quantity, new: Quantity) -> Change:
    """Judge one quantity."""
    first, last = old.spread, new.spread
    below, above = (first, last) if old.better == "less" else (last, first)
    ratio = _ratio(above.value, below.value)
    verdict: Verdict = "same"
    if above.least > below.greatest and ratio > TOLERANCE:
        verdict = "slower"
    elif above.greatest < below.least and ratio < 1 / TOLERANCE:
        verdict = "faster"
    return Change(section, key, old.words, old.unit, first, last, ratio, verdict)


def quantities(results: Results) -> dict[tuple[str, str], Quantity]:
    """Everything a run measured, by section and key: rows, ratios and points of curves."""
    found: dict[tuple[str, str], Quantity] = {}
    for section, measured in results.measured.items():
        found.update({(section, key): one for key, one in _measured(section, measured)})
    for curve in results.growth or ():
        for x, samples in zip(curve.at, curve.samples, strict=True):
            if samples:
                spread = Spread(median(samples), min(samples), max(samples))
                where = f"at {number(x)}"
                words = f"{curve.what} by {curve.by}, {where}"
                key = "growth", f"{curve.key}/{where}"
                found[key] = Quantity(words, curve.unit, "less", spread)
    return found


def different(old: Results, new: Results) -> str:
    """Name what makes two runs incomparable, as `processor (A, B)`; empty where nothing does."""
    pairs = [
        (name, getattr(old.machine, name), getattr(new.machine, name)) for name in SAME_MACHINE
    ]
    pairs += [
        (name, getattr(old.subject, name), getattr(new.subject, name)) for name in SAME_SUBJECT
    ]
    return ", ".join(
        f"{name} ({_plain(first)} then, {_plain(last)} now)"
        for name, first, last in pairs
        if first != last
    )


def machine(old: Results, new: Results) -> list[str]:
    """Say what the machine itself did: limits of both runs, and packages that are others."""
    before, after = quantities(old), quantities(new)
    lines = [
        f"the machine: {one.words} {quantity(one.spread.value, one.unit)}, "
        f"now {number(_ratio(after[name].spread.value, one.spread.value))} times that"
        for name, one in before.items()
        if name[0] == "limits" and name in after
    ]
    first, last = old.machine.packages, new.machine.packages
    others = [
        f"{name} {first.get(name, 'absent')} → {last.get(name, 'absent')}"
        for name in dict.fromkeys([*first, *last])
        if first.get(name) != last.get(name)
    ]
    return [*lines, *([f"other packages: {', '.join(others)}"] if others else [])]


def lost(old: Results, new: Results) -> list[str]:
    """Say what only one of the runs measured."""
    before, after = quantities(old), quantities(new)
    sides = (("only then", before, after), ("only now", after, before))
    return [
        f"measured {when} ({len(names)}): {', '.join(names[:3])}"
        + (", ..." if len(names) > 3 else "")
        for when, there, elsewhere in sides
        if (names := [key for section, key in there if (section, key) not in elsewhere])
    ]


def table(changes: Sequence[Change]) -> Table:
    """Lay out what changed; what stayed the same is counted."""
    moved = [one for one in changes if one.verdict != "same"]
    same = len(changes) - len(moved)
    shown = Table(title=f"beyond the spread; {same} of {len(changes)} quantities stayed the same")
    for name in ("section", "quantity"):
        shown.add_column(name)
    for name in ("then", "now", "times worse", ""):
        shown.add_column(name, justify="right")
    for one in moved:
        shown.add_row(
            one.section, capital(one.words), _written(one.old, one.unit),
            _written(one.new, one.unit), number(one.ratio), _word(one),
        )  # fmt: skip
    return shown


def compact(changes: Sequence[Change], old: Results, new: Results) -> dict[str, Any]:
    """Give what the last line says: each change is its ratio, null where it has none."""

    def of(verdict: Verdict) -> Mapping[str, float | None]:
        return {
            f"{one.section}/{one.key}": round(one.ratio, 3) if isfinite(one.ratio) else None
            for one in changes
            if one.verdict == verdict
        }

    return {
        "bench": "compare",
        "old": old.commit,
        "new": new.commit,
        "compared": len(changes),
        "slower": of("slower"),
        "faster": of("faster"),
        "machine": {
            key: round(_ratio(quantities(new)["limits", key].spread.value, one.spread.value), 3)
            for (section, key), one in quantities(old).items()
            if section == "limits" and ("limits", key) in quantities(new)
        },
    }


def _measured(section: str, measured: Measured) -> Iterator[tuple[str, Quantity]]:
    for row in measured.rows:
        yield row.key, Quantity(title(row), row.unit, row.better, row.spread)
    for duel in measured.duels:
        # In the section `load` a ratio says how many times slower a side is beside a busy core.
        better: Better = "less" if section == "load" else "more"
        yield f"ratio/{duel.key}", Quantity(rivals(duel), TIMES, better, duel.advantage)


def _ratio(above: float, below: float) -> float:
    if below == 0:
        return 1.0 if above == 0 else inf
    return above / below


def _written(spread: Spread, unit: str) -> str:
    if unit == TIMES:
        return times(spread)
    between = around(spread, unit)
    return quantity(spread.value, unit) + (f" ({between})" if between else "")


def _word(one: Change) -> str:
    word = {"slower": "worse", "faster": "better"} if one.unit != "s" else {}
    return word.get(one.verdict, one.verdict)


def _plain(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)


def _file(path: Path) -> Path:
    return path / FILE if path.is_dir() else path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Tell in ratios what became slower beyond the spread; exit code 1 if anything."
    )
    parser.add_argument("old", type=Path, metavar="OLD", help=f"{FILE} or the folder it is in")
    parser.add_argument("new", type=Path, metavar="NEW")
    parser.add_argument("--anyway", action="store_true", help="though machine or subject differ")
    return parser


if __name__ == "__main__":
    sys.exit(main())
