"""Quality of answers on a data set in the paper's form: `python bench/quality.py BUNDLE...`.

Owns: the options, the order of work and where results go. ROUGE-1 precision, recall and F1, and
with a model on disk BERTScore and the paper's Overall, of one bundle or several, exact and
resident, with and without adapters, on the same questions. The first way is what the others are
compared with.

What is written are figures: `quality.json`, `quality.html`, and one compact JSON line, the last on
stdout. Answers are about people in pictures, so they are written only with --keep-answers, for
their owner alone, and those of an earlier run do not outlive one without it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
OUT = Path("build", "quality")
TOKENS = 100
"""Of an answer at most, as in User-VLM's own example (anchors 1.3)."""
ANSWERS = "answers.json"
WIDTH = 120
"""Columns of the tables where they go into a file."""

if TYPE_CHECKING:
    from uservlm.bench.quality_measure import Judged, Replies
    from uservlm.bench.quality_published import PaperSet
    from uservlm.bench.quality_results import BundleFacts, DataSet, Quality


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; 0 when it was measured, 2 when it could not be."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported
    from uservlm.bench.quality_results import compact
    from uservlm.runtime.errors import UserVLMError
    from uservlm.runtime.telemetry import silence_telemetry

    silence_telemetry()
    given = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _prepare(given)
        found, paper, replies = _run(given)
        page = _write(given, found, paper, replies)
    except UserVLMError as error:
        print(f"uservlm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("uservlm: interrupted; nothing was written", file=sys.stderr)
        return 130
    _show(found, paper)
    print(f"{page}\n", file=sys.stderr)
    print(json.dumps(compact(found), ensure_ascii=False, separators=(",", ":")))
    return 0


def _run(given: argparse.Namespace) -> tuple[Quality, PaperSet | None, Replies]:
    from rich.console import Console
    from rich.progress import Progress

    from uservlm.bench import quality_measure as measure
    from uservlm.bench.quality_published import paper_set
    from uservlm.bench.quality_results import DataSet
    from uservlm.bench.quality_scores import BertJudge
    from uservlm.bench.quality_ways import described, open_all, ways_of
    from uservlm.models.acide import read_asked

    begun = perf_counter()
    bundles = open_all(given.bundles)
    ways = ways_of(bundles, given.attention, given.adapter)
    bert = None if given.bert is None else BertJudge(given.bert, given.bert_layer)
    questions, rows = measure.draw(read_asked(given.dataset, given.split), given.limit, given.seed)
    drawn = any(one.asked.annotation is not None for one in questions)
    paper = None if given.set is None else paper_set(given.set, rows, drawn)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        steps = len(questions) * len(ways)
        step = progress.add_task("asking", total=steps)
        replies = measure.ask(
            bundles, ways, questions, given.tokens, given.threads,
            lambda count: progress.advance(step, count),
        )  # fmt: skip
        step = progress.add_task("scoring", total=len(replies.questions) * len(ways))
        judged = measure.judge(
            replies, bert, given.seed, lambda count: progress.advance(step, count)
        )
    dataset = DataSet(
        name=given.dataset.resolve().name,
        paper=given.set,
        rows=rows,
        cases=len(replies.questions),
        left_out=replies.left_out,
        sha256=measure.asked_sha256(questions),
        seed=given.seed,
    )
    found = _found(given, {name: described(one) for name, one in bundles.items()}, dataset, judged)
    about = None if bert is None else bert.about
    return replace(found, bert=about, took_s=perf_counter() - begun), paper, replies


def _found(
    given: argparse.Namespace,
    bundles: Mapping[str, BundleFacts],
    dataset: DataSet,
    judged: Judged,
) -> Quality:
    from uservlm.bench.machine import commit, this_machine
    from uservlm.bench.quality_results import Quality
    from uservlm.bench.quality_scores import DRAWS, metrics
    from uservlm.runtime.cores import thread_count

    return Quality(
        when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        commit=commit(ROOT),
        took_s=0.0,
        machine=this_machine(thread_count(given.threads)),
        metrics=metrics(),
        tokens=given.tokens,
        draws=DRAWS,
        bundles=bundles,
        dataset=dataset,
        bert=None,
        scored=judged.scored,
        compared=judged.compared,
    )


def _write(
    given: argparse.Namespace, found: Quality, paper: PaperSet | None, replies: Replies
) -> Path:
    """Write the figures and the page, and the answers where they are wanted.

    Each file is whole or not there: it gets its name when it is written.
    """
    from uservlm.bench.quality_page import PAGE, render
    from uservlm.bench.quality_results import FILE
    from uservlm.bench.result_file import to_json

    texts = {FILE: to_json(found), PAGE: render(found, paper)}
    if given.keep_answers:
        texts[ANSWERS] = _answers(replies)
    drafts = {name: _draft(given.out, name) for name in texts}
    try:
        for name, text in texts.items():
            drafts[name].touch(mode=0o600 if name == ANSWERS else 0o666, exist_ok=False)
            drafts[name].write_text(text, encoding="utf-8")
        for name, draft in drafts.items():
            draft.replace(given.out / name)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
    return Path(given.out / PAGE)


def _draft(folder: Path, name: str) -> Path:
    return folder / f".{name}.partial"


def _answers(replies: Replies) -> str:
    """Give what was asked and said, in the order in which it was asked."""
    lines = [
        {
            "place": str(question.asked.place),
            "question": question.asked.question,
            "reference": question.asked.answer,
            "category": question.asked.category,
            "answers": [
                {**asdict(way), "text": said[at].text} for way, said in replies.by_way.items()
            ],
        }
        for at, question in enumerate(replies.questions)
    ]
    return json.dumps(lines, ensure_ascii=False, indent=1) + "\n"


def _show(found: Quality, paper: PaperSet | None) -> None:
    from rich.console import Console

    from uservlm.bench.quality_published import published
    from uservlm.bench.quality_table import facts, printed, sheets, warning

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)

    for sheet in sheets(found, paper):
        console.print(printed(sheet))
    for name, value in facts(found):
        console.print(f"{name}: {value}", markup=False, highlight=False)
    if paper is not None:
        about = published()
        console.print(f"{about.source}. {about.conditions}", markup=False, highlight=False)
    if warning(found):
        console.print(warning(found), style="bold")


def _prepare(given: argparse.Namespace) -> None:
    """See whether results can be written, and remove what a killed run left, and old answers.

    Raises:
        RequestError: they cannot be.
    """
    from uservlm.bench.quality_page import PAGE
    from uservlm.bench.quality_results import FILE
    from uservlm.bench.result_file import probe
    from uservlm.runtime.errors import RequestError

    folder: Path = given.out
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe(folder)
        for name in (FILE, PAGE, ANSWERS):
            _draft(folder, name).unlink(missing_ok=True)
        if not given.keep_answers:
            (folder / ANSWERS).unlink(missing_ok=True)
    except OSError as error:
        raise RequestError(f"--out {folder} cannot be written: {error.strerror}") from error


def _parser() -> argparse.ArgumentParser:
    from uservlm.bench.arguments import count
    from uservlm.bench.quality_published import published

    parser = argparse.ArgumentParser(
        description="Measure ROUGE-1 and BERTScore of answers on a set in the paper's form."
    )
    add = parser.add_argument
    add("bundles", type=Path, nargs="+", metavar="BUNDLE", help="the first is compared with")
    add("--dataset", type=Path, required=True, metavar="DIR", help="in the form of ACIDE's sets")
    add("--split", metavar="NAME", help="of the data set; default: all")
    add(
        "--set",
        metavar="NAME",
        help="the data set is this one of the paper's, whose figures are then shown beside ours: "
        + ", ".join(name for name, one in published().sets.items() if one.rows),
    )
    add("--attention", type=_list("exact", "resident"), default=("exact",), metavar="A,B",
        help="exact, resident or both; default: exact")  # fmt: skip
    add("--adapter", type=_list(), default=("none",), metavar="A,B",
        help="adapters that every bundle keeps apart, none for none; default: none")  # fmt: skip
    add("--limit", type=count, metavar="N", help="draw N questions at random; default: all")
    add("--seed", type=int, default=0, metavar="N", help="of that draw and of the intervals")
    add("--tokens", type=count, default=TOKENS, metavar="N",
        help="of an answer at most; default: %(default)s")  # fmt: skip
    add("--threads", type=count, metavar="N", help="to compute with")
    add("--bert", type=Path, metavar="DIR", help="a model on disk for BERTScore, as roberta-large")
    add("--bert-layer", type=int, metavar="N",
        help="whose states are compared, as 17 of roberta-large; default: the last")  # fmt: skip
    add("--out", type=Path, metavar="DIR", default=ROOT / OUT,
        help=f"default: {OUT} of the project")  # fmt: skip
    add("--keep-answers", action="store_true",
        help=f"write {ANSWERS} too: what was said about the people in the pictures")  # fmt: skip
    return parser


def _list(*choices: str) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        given = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        if not given or (choices and not set(given) <= set(choices)):
            known = ", ".join(choices) or "names, with commas between them"
            raise argparse.ArgumentTypeError(f"{text!r}: give {known}")
        return given

    return names


if __name__ == "__main__":
    sys.exit(main())
