"""The tables of a run of `python bench/quality.py`, for a terminal and for a page alike.

Owns: which figures stand in which table, how ways are named, and what a difference is called.
Knows nothing of how anything was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.markup import escape
from rich.table import Table

from uservlm.bench.quality_published import Line, PaperSet
from uservlm.bench.quality_results import FIGURES, Estimate, Part, Quality, Scored, Way
from uservlm.bench.wording import percent
from uservlm.runtime.adapters import NO_ADAPTER
from uservlm.runtime.manifest import ENOUGH

SHORT: Final[Mapping[str, str]] = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "bert": "BERTScore",
    "overall": "Overall",
}
"""Figures in the head of a table."""
JUDGED: Final = ("f1", "bert", "overall")
"""Figures by which ways are compared."""
STYLES: Final[Mapping[str, str]] = {"better": "green", "worse": "red"}
ALIKE: Final = "all alike"
"""Where an interval would stand, had the cases differed: drawing from equal ones tells nothing."""
SAME: Final = "nothing differs"
NOISE: Final = 1e-6
"""What is smaller is the rounding of float32."""
POCKET: Final = "pocket"
"""`Source.model` of a bundle made from the weights that come with the project."""
TOY: Final = (
    "Toy weights, tuned on drawn people: what they prove is that ways and adapters differ or do "
    "not, never the quality of an answer to a real person."
)


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table."""

    text: str
    detail: str = ""
    """Smaller, below it."""
    standing: str = ""
    """better, worse, or neither."""


@dataclass(frozen=True)
class Sheet:
    """One table."""

    key: str
    title: str
    says: str
    """What must be known to read it."""
    columns: tuple[str, ...]
    """The first one is that of the lines' names."""
    lines: tuple[tuple[Cell, tuple[Cell, ...]], ...]


def sheets(found: Quality, paper: PaperSet | None) -> list[Sheet]:
    """Give the tables that a run has."""
    names = way_names([one.way for one in found.scored])
    made = [_against_references(found, paper, names)]
    if found.compared:
        made.append(_against_the_first(found, names))
    if found.scored[0].categories:
        made.append(_by_category(found, names))
        if found.compared:
            made.append(_differences_by_category(found, names))
    return made


def way_names(ways: Sequence[Way]) -> dict[Way, str]:
    """Name each way by what sets it apart from the others; the only one by its bundle."""
    words = {
        way: (
            way.bundle,
            way.attention,
            "no adapter" if way.adapter == NO_ADAPTER else f"adapter {way.adapter}",
        )
        for way in ways
    }
    differ = [len({parts[place] for parts in words.values()}) > 1 for place in range(3)]
    if not any(differ):
        differ[0] = True
    return {
        way: ", ".join(part for part, shown in zip(parts, differ, strict=True) if shown)
        for way, parts in words.items()
    }


def verdict(difference: Estimate) -> str:
    """Say what a difference shows."""
    where = difference.interval
    if where is None:
        return "too few pictures to say"
    if max(abs(where.low), abs(where.high)) < NOISE:
        return SAME
    if where.low > 0:
        return "better"
    return "worse" if where.high < 0 else "no difference shown"


def facts(found: Quality) -> list[tuple[str, str]]:
    """What was asked, of what, by what and when, in words."""
    asked = found.dataset
    left = "".join(f"; {count} left out: {why}" for why, count in asked.left_out.items())
    told = [
        ("Data set", f"{asked.name}: {asked.cases} of {asked.rows} questions, "
                     f"{found.scored[0].whole.pictures} pictures{left}"),
    ]  # fmt: skip
    for label, one in found.bundles.items():
        told.append((f"Bundle {label}", f"weights {one.weights}; {one.language}, {one.vision}"))
    bert = found.bert
    told += [
        ("Answers", f"greedy, {found.tokens} tokens at most"),
        ("ROUGE-1", f"{found.metrics}: lower case, ASCII letters and digits, nothing stemmed"),
        ("BERTScore", "not measured, and Overall with it: no model was given (--bert)"
                      if bert is None else f"{bert.name}, layer {bert.layer} of {bert.layers}, "
                      "one pair at a time, no idf, no baseline"),
        ("Intervals", f"95 %, {found.draws} draws of whole pictures; each for itself, so of many "
                      "one in twenty misses"),
        ("Machine", found.machine.processor),
        ("Commit", found.commit),
    ]  # fmt: skip
    return told


def warning(found: Quality) -> str:
    """Say what the weights cannot prove; nothing of those that are not the pocket's."""
    return TOY if any(one.weights == POCKET for one in found.bundles.values()) else ""


def printed(sheet: Sheet) -> Table:
    """Lay a table out for a terminal."""
    shown = Table(title=escape(sheet.title), caption=escape(sheet.says), title_justify="left")
    for column in sheet.columns:
        shown.add_column(escape(column), justify="left" if not shown.columns else "right")
    for name, cells in sheet.lines:
        shown.add_row(_plain(name), *map(_plain, cells))
    return shown


def _plain(cell: Cell) -> str:
    text = escape("\n".join(filter(None, (cell.text, cell.detail))))
    style = STYLES.get(cell.standing)
    return f"[{style}]{text}[/]" if style else text


def _present(part: Part) -> list[str]:
    return [name for name in FIGURES if name in part.figures]


def _against_references(found: Quality, paper: PaperSet | None, names: Mapping[Way, str]) -> Sheet:
    figures = _present(found.scored[0].whole)
    lines = [
        (_scored_name(one, names), tuple(_figure(one.whole.figures[name]) for name in figures))
        for one in found.scored
    ]
    says = "Ours against the answers of the data set."
    if paper is not None:
        lines += [
            (Cell(line.model, "the paper"), tuple(_printed(line, name) for name in figures))
            for line in paper.lines
        ]
        says = f"Ours, and what the paper's {paper.read_from} prints for {paper.title}."
    heads = tuple(SHORT[name] for name in figures)
    title = "ROUGE-1" if found.bert is None else "ROUGE-1 and BERTScore"
    return Sheet("references", title, says, ("", *heads), tuple(lines))


def _scored_name(one: Scored, names: Mapping[Way, str]) -> Cell:
    return Cell(names[one.way], f"{one.cut} answers cut off" if one.cut else "")


def _printed(line: Line, name: str) -> Cell:
    value = {"f1": line.f1, "bert": line.bert, "overall": line.overall}.get(name)
    return Cell("–" if value is None else f"{value:.3f}")


def _against_the_first(found: Quality, names: Mapping[Way, str]) -> Sheet:
    figures = [name for name in JUDGED if name in found.scored[0].whole.figures]
    lines = tuple(
        (
            Cell(names[one.way]),
            (_share(one.same_answers), *(_difference(one.whole.figures[name]) for name in figures)),
        )
        for one in found.compared
    )
    first = names[found.compared[0].reference]
    heads = ("", "same answer", *(SHORT[name] for name in figures))
    says = "Every way less the first, over the same questions."
    return Sheet("ways", f"Against {first}", says, heads, lines)


def _by_category(found: Quality, names: Mapping[Way, str]) -> Sheet:
    name = "overall" if found.bert else "f1"
    columns = [(names[one.way], one.categories) for one in found.scored]
    says = f"{FIGURES[name]}; an interval needs {ENOUGH} pictures."
    title = f"{SHORT[name]} by category"
    return _categories("categories", title, says, columns, name, _figure)


def _differences_by_category(found: Quality, names: Mapping[Way, str]) -> Sheet:
    name = "overall" if found.bert else "f1"
    columns = [(names[one.way], one.categories) for one in found.compared]
    title = f"{SHORT[name]} less that of {names[found.compared[0].reference]}, by category"
    return _categories("shifts", title, f"{FIGURES[name]}.", columns, name, _difference)


def _categories(
    key: str,
    title: str,
    says: str,
    columns: Sequence[tuple[str, Mapping[str, Part]]],
    name: str,
    show: Callable[[Estimate], Cell],
) -> Sheet:
    first = columns[0][1]
    lines = tuple(
        (
            Cell(category, f"{part.cases} questions"),
            tuple(show(parts[category].figures[name]) for _, parts in columns),
        )
        for category, part in first.items()
    )
    return Sheet(key, title, says, ("", *(name for name, _ in columns)), lines)


def _figure(one: Estimate) -> Cell:
    where = one.interval
    if where is None:
        return Cell(f"{one.value:.3f}")
    alike = where.high - where.low < NOISE
    return Cell(f"{one.value:.3f}", ALIKE if alike else f"{where.low:.3f} … {where.high:.3f}")


def _share(one: Estimate) -> Cell:
    where = one.interval
    detail = "" if where is None else f"{percent(where.low)} … {percent(where.high)}"
    return Cell(percent(one.value), detail)


def _difference(one: Estimate) -> Cell:
    said, where = verdict(one), one.interval
    if where is None or said == SAME:
        return Cell(_signed(one.value), said)
    detail = f"{_signed(where.low)} … {_signed(where.high)}"
    return Cell(_signed(one.value), f"{detail}\n{said}", said)


def _signed(value: float) -> str:
    text = f"{value:+.3f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")
