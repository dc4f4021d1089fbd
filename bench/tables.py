"""A section's rows and duels as tables for a page: what stands in which cell, all of it text.

Owns: grouping and naming, so that a table is narrow enough for a phone. Knows nothing of HTML.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from uservlm.bench import wording
from uservlm.bench.findings import OURS, Standing, standing
from uservlm.bench.results import Count, Curve, Duel, Row, Spread


@dataclass(frozen=True)
class Line:
    """One line of a table of rows."""

    name: str
    detail: str
    ours: bool
    value: str
    spread: str


@dataclass(frozen=True)
class Group:
    """Lines of one quantity; where quantities have one line each, all of them, without a title."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Cell:
    """A ratio; empty where it was not measured."""

    ratio: str = ""
    spread: str = ""
    standing: Standing = "within the spread"
    medians: str = ""
    """Theirs and ours, that the ratio is of."""


@dataclass(frozen=True)
class Matrix:
    """Ratios of one quantity, a side in each line and another in each column."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Cell, ...]], ...]


def groups(rows: Sequence[Row]) -> tuple[Group, ...]:
    """Put rows of one quantity together, in the order in which quantities first come.

    A case that several sides have is a group of its own.
    """
    by_quantity: dict[str, list[Row]] = {}
    for row in rows:
        by_quantity.setdefault(row.what, []).append(row)
    if len(by_quantity) == len(rows):
        lines = tuple(_line(row, wording.what(row.what), row.side, row.case) for row in rows)
        return (Group("", lines),)
    return tuple(one for what, mine in by_quantity.items() for one in _of(what, mine))


def matrices(duels: Sequence[Duel]) -> tuple[Matrix, ...]:
    """Give a matrix for each quantity and case: peers down, ours across."""
    kinds = dict.fromkeys((duel.what, duel.case) for duel in duels)
    return tuple(
        _matrix(
            [duel for duel in duels if (duel.what, duel.case) == kind],
            wording.capital(", ".join(part for part in (wording.what(kind[0]), kind[1]) if part)),
        )
        for kind in kinds
    )


def slowdowns(duels: Sequence[Duel]) -> tuple[Matrix, ...]:
    """Give the matrix of the load section: sides down, quantities across."""
    whats = tuple(dict.fromkeys(duel.what for duel in duels))
    lines = []
    for side in dict.fromkeys(duel.ours for duel in duels):
        mine = {duel.what: duel.advantage for duel in duels if duel.ours == side}
        cells = tuple(_slower(mine[what]) if what in mine else Cell() for what in whats)
        lines.append((wording.side(side), cells))
    columns = tuple(wording.what(what) for what in whats)
    return (Matrix("How many times slower", columns, tuple(lines)),) if lines else ()


def counted(count: Count) -> dict[str, str]:
    """Give the line of one count, by column; `detail` stands below the first."""
    apart = f"{100 * (count.total / count.analytic - 1):+.2f} %" if count.analytic else ""
    return {
        "model": count.model,
        "detail": count.case,
        "weights, 10⁹": wording.number(count.weights / 1e9),
        "image tokens computed": wording.short(count.image_tokens),
        "cached tokens": wording.short(count.cached_tokens),
        "text tokens": wording.short(count.text_tokens),
        "vision": wording.quantity(count.vision, "FLOP"),
        "language": wording.quantity(count.language, "FLOP"),
        "sum": wording.quantity(count.total, "FLOP"),
        "against the analytic model": apart.replace("-", "−"),
    }


def fitted(curve: Curve) -> dict[str, str]:
    """Give the line of one curve, by column; `detail` stands below the first."""
    at = ", ".join(wording.short(x) for x in curve.at)
    detail = "; ".join(part for part in (f"by {curve.by}: {at}", curve.note) if part)
    return {
        "cost": wording.capital(curve.what),
        "detail": detail,
        "exponent": wording.exponent(curve.exponent),
    }


def _of(what: str, rows: Sequence[Row]) -> list[Group]:
    """Give the groups of one quantity."""
    title = wording.capital(wording.what(what))
    shared = [case for case, sides in Counter(row.case for row in rows).items() if sides > 1]
    found = [
        Group(
            f"{title}, {case}" if case else title,
            tuple(_line(row, wording.side(row.side), "") for row in rows if row.case == case),
        )
        for case in shared
    ]
    alone = tuple(
        _line(row, row.case or wording.side(row.side), row.side if row.case else "")
        for row in rows
        if row.case not in shared
    )
    if alone:
        found.append(Group(f"{title}, else" if found else title, alone))
    return [_plain(one) if all(line.ours for line in one.lines) else one for one in found]


def _plain(group: Group) -> Group:
    """Make nothing of lines being ours where all are."""
    return replace(group, lines=tuple(replace(line, ours=False) for line in group.lines))


def _line(row: Row, name: str, side: str, case: str = "") -> Line:
    """Name a line, its side in the detail where it is neither ours as a whole nor the machine."""
    reached = ""
    if row.share is not None:
        reached = f"{wording.percent(row.share)} of the bound: {row.bound_by}"
    who = "" if side in ("", "ours", "machine") else wording.side(side)
    detail = "; ".join(part for part in (who, case, reached, row.note) if part)
    value, spread = (
        wording.quantity(row.spread.value, row.unit),
        wording.around(row.spread, row.unit),
    )
    return Line(name, detail, row.side in OURS, value, spread)


def _matrix(duels: Sequence[Duel], title: str) -> Matrix:
    present = dict.fromkeys(duel.ours for duel in duels)
    ours = [side for side in OURS if side in present] + [s for s in present if s not in OURS]
    lines = []
    for peer in dict.fromkeys(duel.peer for duel in duels):
        mine = {duel.ours: duel for duel in duels if duel.peer == peer}
        cells = tuple(_duel(mine[side]) if side in mine else Cell() for side in ours)
        lines.append((wording.side(peer), cells))
    return Matrix(title, tuple(_own(side) for side in ours), tuple(lines))


def _duel(duel: Duel) -> Cell:
    theirs, ours = median(duel.peer_samples), median(duel.our_samples)
    medians = f"{wording.quantity(theirs, duel.unit)} : {wording.quantity(ours, duel.unit)}"
    return replace(_cell(duel.advantage, standing(duel.advantage)), medians=medians)


def _own(side: str) -> str:
    return wording.side(side).removeprefix("ours, ")


def _slower(ratio: Spread) -> Cell:
    return _cell(ratio, "within the spread" if ratio.least <= 1 else "worse")


def _cell(ratio: Spread, stands: Standing) -> Cell:
    least, greatest = wording.number(ratio.least), wording.number(ratio.greatest)
    spread = f"{least}–{greatest}" if least != greatest else ""
    return Cell(wording.number(ratio.value), spread, stands)
