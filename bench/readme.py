"""The measured tables from committed results: `python bench/readme.py [--check]`.

Owns: which pages have such tables, which lines a table has, which of them README repeats, and the
markers they stand between: `<!-- bench:NAME -->`, `<!-- bench:NAME#short -->` or
`<!-- bench:NAME#flops -->` and `<!-- /bench -->`, NAME being a file of bench/measured. With --check
nothing is written, and the exit code is 1 when a page and the results disagree.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from uservlm.bench import wording
from uservlm.bench.findings import (
    CACHED,
    HELD,
    OURS,
    chosen,
    duels,
    main_case,
    peaks,
    rows,
    weights,
)
from uservlm.bench.markers import fill
from uservlm.bench.results import Results, Row, load
from uservlm.runtime.errors import UserVLMError

ROOT: Final = Path(__file__).resolve().parent.parent
PAGES: Final = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md")
"""Where measured tables stand."""
RESULTS: Final = ROOT / "bench" / "measured"
FLOPS: Final = "flops"
SHORT: Final = "short"
TELLING: Final = (
    "cold",
    "resident",
    "decode",
    "transformers-bf16",
    "openvino",
    "peak",
    "peak, held",
    "start",
)
"""The lines of a short table by their keys: what whoever has a robot asks first, and which peers
are faster with a new face."""
WIDE: Final = 3.0
"""A ratio whose spread covers so much says nothing that README should repeat."""


class Line(NamedTuple):
    """A line of a table: by what it is chosen, what was measured, and what was found."""

    key: str
    what: str
    found: str


class ReadmeError(UserVLMError):
    """A marker that names results, or a line of them, that are not there."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the tables; 1: README and results disagree, 2: they cannot be read."""
    given = _parser().parse_args(arguments)
    try:
        pages = given.page or PAGES
        if not given.check:
            changed = [update(page, given.results) for page in pages]
            print("written" if any(changed) else "nothing to change")
            return 0
        wrong = [page for page in pages if not agrees(page, given.results)]
    except (UserVLMError, OSError) as error:
        print(f"uservlm: {error}", file=sys.stderr)
        return 2
    for page in wrong:
        print(f"{page} and {given.results} disagree: run python bench/readme.py", file=sys.stderr)
    return 1 if wrong else 0


def agrees(page: Path, results: Path) -> bool:
    """Say whether a page has the tables that these results make; raises as `update` does."""
    text = page.read_text(encoding="utf-8")
    return render(text, results) == text


def update(page: Path, results: Path) -> bool:
    """Write a page's tables between their markers anew and say whether anything changed.

    Raises:
        MarkerError: a marker has no end.
        ReadmeError: its results are not there, or not a line that a short table wants.
        ResultsError: its results cannot be read.
    """
    text = page.read_text(encoding="utf-8")
    new = render(text, results)
    if new != text:
        page.write_text(new, encoding="utf-8")
    return new != text


def render(text: str, results: Path) -> str:
    """Give a page's text with the tables these results make; raises as `update` does."""
    return fill(text, "bench", lambda name: _between(name, results))


def table(results: Results, keys: Sequence[str] = ()) -> str:
    """Give the Markdown table of a run, and a line that says what it was.

    Args:
        results: the run's.
        keys: of the lines to give; none: every line.

    Raises:
        ReadmeError: there is no line of such a key.
    """
    found = _lines(results)
    there = {line.key for line in found}
    if missing := [key for key in keys if key not in there]:
        raise ReadmeError(f"these results have no line {', '.join(missing)} for a short table")
    head = [f"| | median, least to greatest of {results.repeat} |", "|---|---|"]
    body = [
        f"| {_cell(line.what)} | {_cell(line.found)} |"
        for line in found
        if not keys or line.key in keys
    ]
    return "\n".join([*head, *body, "", _provenance(results), ""])


def operations(results: Results) -> str:
    """Give a Markdown table of FLOPs, peers over the smallest of ours, counted in several ways.

    Raises:
        ReadmeError: no FLOPs were counted in that run.
    """
    if results.flops is None:
        raise ReadmeError("these results hold no FLOPs: run bench/run.py with the section flops")
    drawn = results.flops.tables
    peers, ours = drawn[0].columns, drawn[0].lines[0][0]
    lines = [(f"over {ours}", *peers), ("---",) * (len(peers) + 1)]
    for one in drawn:
        ratios = one.lines[0][1][: len(peers)]
        cells = (f"{ratio:.3g}" if ratio is not None else "" for ratio in ratios)
        lines.append((one.title, *cells))
    return "\n".join(["| " + " | ".join(map(_cell, line)) + " |" for line in lines] + [""])


def _between(marker: str, results: Path) -> str:
    name, _, kind = marker.partition("#")
    file = results / f"{name}.json"
    if not file.is_file():
        raise ReadmeError(f"<!-- bench:{marker} -->: there is no {file}")
    kinds: dict[str, Callable[[Results], str]] = {
        "": table,
        SHORT: lambda run: table(run, TELLING),
        FLOPS: operations,
    }
    if kind not in kinds:
        raise ReadmeError(f"<!-- bench:{marker} -->: there is #{SHORT}, #{FLOPS}, or neither")
    return kinds[kind](load(file))


def _lines(results: Results) -> list[Line]:
    """Give every line of a run's table."""
    return [
        *_first_tokens(results),
        *_rates(results),
        *_peers(results),
        *_alone(results),
        *_memory(results),
        *_start(results),
        *_busy(results),
    ]


def _first_tokens(results: Results) -> list[Line]:
    case = main_case(results, "ttft")
    asked = f", a question of {case}" if case else ""
    return [
        Line(row.side, f"{wording.what('ttft')}{asked}: {_own(row.side)}", _value(row))
        for row in chosen(results, "ttft")
        if row.side in OURS
    ]


def _rates(results: Results) -> list[Line]:
    """Decoding with the face resident; all our ways decode alike."""
    mine = {row.side: row for row in chosen(results, "decode") if row.side in OURS}
    row = mine.get("resident") or next(iter(mine.values()), None)
    if row is None:
        return []
    reached = f", {wording.percent(row.share)} of the bound: {row.bound_by}" if row.share else ""
    return [Line("decode", wording.what("decode"), _value(row) + reached)]


def _peers(results: Results) -> list[Line]:
    """One line a peer: its time to first token against ours with the face resident, and new."""
    warm = {duel.peer: duel for duel in duels(results, "ttft", "resident")}
    exact = {duel.peer: duel for duel in duels(results, "ttft", "exact")}
    cold = {duel.peer: duel for duel in duels(results, "ttft", "cold") if CACHED not in duel.peer}
    lines = []
    for peer in dict.fromkeys([*cold, *exact, *warm]):
        told = (cold, warm) if peer in cold or peer in warm else (exact,)
        parts = [
            f"{wording.times(found[peer].advantage)} as long as {wording.side(found[peer].ours)}"
            for found in told
            if peer in found
        ]
        name = f"{wording.side(peer)}, {wording.what('ttft')}"
        lines.append(Line(peer, name, f"takes {'; '.join(parts)}"))
    return lines


def _alone(results: Results) -> list[Line]:
    """What our side costs beside llama.cpp decoding text."""
    return [
        Line("decode, ours over",
             f"{wording.what('decode')}, ours over {wording.side(duel.peer)}",
             wording.times(duel.advantage))
        for ours in OURS
        for duel in duels(results, "decode", ours)
        if duel.peer == "llama.cpp"
    ][:1]  # fmt: skip


def _memory(results: Results) -> list[Line]:
    lines = []
    for key, row in zip(("peak", "peak, held"), peaks(results), strict=True):
        if row is not None:
            case = f"{HELD}{row.case.rpartition(HELD)[2]}" if HELD in row.case else row.case
            lines.append(Line(key, f"{wording.what('peak')}, {case}", _value(row)))
    return lines


def _start(results: Results) -> list[Line]:
    found = [row for name in results.measured for row in rows(results, name, "start")]
    return [
        Line("start", f"{wording.what('start')}, {_own(row.side)}", _value(row))
        for row in found[:1]
    ]


def _busy(results: Results) -> list[Line]:
    """One line: how many times slower ours is beside a busy core, the face resident if it was."""
    load_duels = results.load.duels if results.load else ()
    sides = [duel.ours for duel in load_duels if duel.ours in OURS]
    side = "resident" if "resident" in sides else next(iter(sides), "")
    parts = [
        f"{wording.what(duel.what)} {wording.times(duel.advantage)} slower"
        for duel in load_duels
        if duel.ours == side and duel.advantage.greatest < WIDE * duel.advantage.least
    ]
    return [Line("busy", f"beside a busy core, {_own(side)}", "; ".join(parts))] if parts else []


def _provenance(results: Results) -> str:
    machine, subject = results.machine, results.subject
    return (
        f"{weights(subject.weights)} "
        f"{subject.name}, language {subject.language}, vision {subject.vision}, "
        f"on {machine.threads} threads of {machine.processor}, {wording.date(results.when)}, "
        f"commit {results.commit}."
    )


def _own(side: str) -> str:
    return wording.side(side).removeprefix("ours, ")


def _value(row: Row) -> str:
    spread = wording.around(row.spread, row.unit)
    return wording.quantity(row.spread.value, row.unit) + (f" ({spread})" if spread else "")


def _cell(text: str) -> str:
    """Text as Markdown takes it in a table: in plain spaces, its bars and angles harmless."""
    plain = text.replace(wording.SPACE, " ").replace(wording.THIN, " ")
    return plain.replace("|", "\\|").replace("<", "&lt;")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Write the measured tables of README and docs from bench/measured."
    )
    parser.add_argument("--check", action="store_true", help="only say whether they agree")
    parser.add_argument(
        "--page", type=Path, action="append", metavar="FILE", help="another page, as often as given"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
