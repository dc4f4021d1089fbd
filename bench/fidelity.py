"""How faithful is resident attention? `python bench/fidelity.py BUNDLE [--record]`.

Owns: which pictures and questions are taken, and how the figures are shown. They are measured by
`both_ways.py`. Pictures of real people (--pictures) are read into memory. Only averages over all
cases are printed or recorded: no answer, no picture, nothing of anybody.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from uservlm.bench.arguments import count
from uservlm.bench.both_ways import Fidelity, measure, record
from uservlm.converters.calibration import calibration_folder
from uservlm.converters.cases import QUESTIONS, SEED, Case, spread_cases
from uservlm.converters.proving import verdict
from uservlm.models.pictures import picture_at
from uservlm.runtime.adapters import NO_ADAPTER, choose
from uservlm.runtime.bundle import Bundle, open_bundle
from uservlm.runtime.errors import RequestError, UserVLMError
from uservlm.runtime.manifest import ENOUGH

if TYPE_CHECKING:
    from uservlm.runtime.image import Picture

CASES = 64
"""Pairs of picture and question by default."""
FIGURES = {
    "first_token_top1": "same first token",
    "first_token_kl": "KL of the first token, nats",
    "same_answer": "same greedy answer",
    "rouge1": "ROUGE-1 F1 of the answer",
}
"""What is measured, and its words in the table."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; 0 when that was possible, 2 otherwise."""
    given = _parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        bundle = open_bundle(given.bundle)
        chosen = choose(given.adapter, None, bundle.manifest)
        questions = QUESTIONS if given.questions is None else read_questions(given.questions)
        pictures = find_pictures(given.pictures, given.cases, len(questions))
        cases = spread(len(pictures), questions, given.cases)
        check_cases(len(cases), given.record)
        if len(cases) < given.cases:
            console.print(f"{len(cases)} different cases, not {given.cases}, are all there are")
        with Progress(console=console, transient=True) as progress:
            step = progress.add_task("asking exactly and resident", total=2 * len(cases))
            found = measure(
                bundle, pictures, cases, chosen, given.tokens, given.threads,
                lambda count: progress.advance(step, count),
            )  # fmt: skip
        if given.record:
            check_cases(found.agreement.cases, True)
            record(bundle, found.agreement, chosen)
    except UserVLMError as error:
        print(f"uservlm: {error}", file=sys.stderr)
        return 2
    Console().print(table(found))
    print(f"{verdict(found.agreement)}{'; recorded' if given.record else ''}")
    print(compact(bundle, chosen, found, given.pictures is not None, given.record))
    return 0


def find_pictures(folder: Path | None, cases: int, questions: int) -> list[Picture]:
    """Give the pictures of a folder, or as many drawn people as the cases need.

    Raises:
        ImageError: no such folder, or no picture in it.
    """
    if folder is None:
        return [picture_at(SEED, index) for index in range(ceil(cases / questions))]
    return list(calibration_folder(folder).files)


def read_questions(file: Path) -> tuple[str, ...]:
    """Read one question a line; blank lines and those that begin with # are passed over.

    Raises:
        RequestError: the file cannot be read, or holds no question.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{file} cannot be read: {error}; give a UTF-8 text file") from error
    questions = tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not questions:
        raise RequestError(f"{file} holds no question: write one on each line")
    return questions


def spread(pictures: int, questions: Sequence[str], count: int) -> list[Case]:
    """Give the cases of `spread_cases` sorted by picture, so that each is looked at once."""
    return sorted(spread_cases(pictures, questions, count), key=lambda case: case.picture)


def check_cases(count: int, record: bool) -> None:
    """Refuse what would measure or decide nothing.

    Raises:
        RequestError: names the number and the least.
    """
    least = ENOUGH if record else 1
    if count < least:
        why = "--record would write figures that decide nothing" if record else "nothing to measure"
        raise RequestError(f"{count} cases: {why}; give {least} or more")


def table(found: Fidelity) -> Table:
    """Lay the figures out for a terminal."""
    cases = found.agreement.cases
    left_out = f", {found.skipped} questions without a head left out" if found.skipped else ""
    shown = Table(
        title=f"resident against exact: {cases} cases, {found.pictures} pictures{left_out}"
    )
    shown.add_column("figure")
    shown.add_column("measured", justify="right")
    shown.add_column("95 % interval", justify="right")
    for name, words in FIGURES.items():
        figure = found.figures[name]
        low, high = figure.interval.low, figure.interval.high
        shown.add_row(words, f"{figure.value:.4g}", f"{low:.4g} … {high:.4g}")
    return shown


def compact(
    bundle: Bundle, adapter: str | None, found: Fidelity, own_pictures: bool, recorded: bool
) -> str:
    """Give one line of JSON; each figure is [value, low, high]."""
    manifest = bundle.manifest
    figures = {
        name: [round(value, 6) for value in (one.value, one.interval.low, one.interval.high)]
        for name, one in found.figures.items()
    }
    line = {
        "bench": "fidelity",
        "bundle": manifest.name,
        "weights": manifest.source.model,
        "language": manifest.precision.language,
        "vision": manifest.precision.vision,
        "adapter": adapter or NO_ADAPTER,
        "cases": found.agreement.cases,
        "pictures": found.pictures,
        "own_pictures": own_pictures,
        "skipped": found.skipped,
        **figures,
        "threshold": found.agreement.threshold,
        "faithful": found.agreement.faithful,
        "recorded": recorded,
    }
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Measure how often resident attention answers as exact attention does."
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="drawn people otherwise")
    parser.add_argument("--questions", type=Path, metavar="FILE", help="one on each line")
    parser.add_argument(
        "--cases",
        type=int,
        default=CASES,
        help="pairs of picture and question; default: %(default)s",
    )
    parser.add_argument("--adapter", metavar="NAME", help="one that the bundle keeps apart")
    parser.add_argument("--tokens", type=count, help="of each answer that are looked at, at most")
    parser.add_argument("--threads", type=count, help="to compute with")
    parser.add_argument(
        "--record", action="store_true", help='write it into the bundle; attention="auto" obeys'
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
