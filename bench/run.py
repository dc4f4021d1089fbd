"""FLOPs and latency of this runtime and its peers, in one run: `python bench/run.py`.

Owns: the options, the order of the sections and where results go. With no option it measures the
pocket model that comes with the project, in less than five minutes on two cores. Results are
`results.json`, `report.html` with its figures beside it, and one compact JSON line, the last on
stdout; progress and tables go to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
REPEAT = 9
"""Samples of a figure; of a large model LARGE_REPEAT."""
LARGE_REPEAT = 3
LARGE_ANSWER = 16
"""Tokens of a timed answer of random weights, which never end it; the pocket ends its own."""

if TYPE_CHECKING:
    from uservlm.bench.job import Job
    from uservlm.bench.results import Results
    from uservlm.bench.subject import Found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the arguments say; 0 when it was measured, 2 when it could not be."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported
    try:
        from uservlm.bench import lineup, report, result_file, results
        from uservlm.runtime.errors import RequestError, UserVLMError
        from uservlm.runtime.telemetry import silence_telemetry
    except ModuleNotFoundError as error:
        print(f"{error}: run `make bootstrap` and use .venv/bin/python", file=sys.stderr)
        return 2
    silence_telemetry()
    parser = _parser(results.SECTIONS, tuple(lineup.PEERS))
    given = parser.parse_args(arguments)
    if given.checkpoint and not given.bundle:
        parser.error("--checkpoint belongs to --bundle: the others have their own")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # scratch folders go then too
    try:
        try:
            given.out.mkdir(parents=True, exist_ok=True)
            result_file.probe(given.out)
        except OSError as error:
            raise RequestError(f"--out {given.out} cannot be written: {error.strerror}") from error
        found = _run(given)
        results.save(found, given.out / results.FILE)
        page = report.write(found, given.out)
    except UserVLMError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; nothing was written", file=sys.stderr)
        return 130
    print(f"{page}\n", file=sys.stderr)
    print(json.dumps(compact(found), ensure_ascii=False, separators=(",", ":")))
    return 0


def compact(found: Results) -> dict[str, Any]:
    """Give the medians of everything, and the ratios with their spread, as one small object."""
    line: dict[str, Any] = {
        "bench": "run",
        "subject": found.subject.name,
        "weights": found.subject.weights,
        "commit": found.commit,
        "took_s": round(found.took_s, 1),
    }
    for name, section in found.measured.items():
        line[name] = {row.key: _short(row.spread.value) for row in section.rows}
        ratios = {duel.key: duel.advantage for duel in section.duels}
        if ratios:
            line[f"{name}_ratios"] = {
                key: [_short(one.value), _short(one.least), _short(one.greatest)]
                for key, one in ratios.items()
            }
    if found.growth is not None:
        line["growth"] = {curve.key: _short(curve.exponent.value) for curve in found.growth}
    if found.flops is not None:
        line["flops"] = {f"{one.model}/{one.case}": one.total for one in found.flops.counts}
    return line


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _run(given: argparse.Namespace) -> Results:
    from rich.console import Console

    console = Console(stderr=True)
    start = perf_counter()
    with console.status("") as status, TemporaryDirectory(prefix="uservlm-bench-") as scratch:
        said = ""

        def say(text: str) -> None:
            nonlocal said
            line = f"{perf_counter() - start:5.0f} s  {text}"
            status.update(line)
            if text != said and not console.is_terminal:
                console.print(line, highlight=False)
            said = text

        subject = _subject(given, say)
        job = _job(given, subject, Path(scratch), say)
        found = _measure(given, subject, job)
    return replace(found, took_s=perf_counter() - start)


def _subject(given: argparse.Namespace, say: Callable[[str], None]) -> Found:
    from uservlm.bench import subject

    if given.bundle:
        return subject.given(given.bundle, given.checkpoint)
    return subject.shaped(given.shape, say) if given.shape else subject.pocket(say)


def _job(given: argparse.Namespace, found: Found, scratch: Path, say: Callable[[str], None]) -> Job:
    from uservlm.bench.job import Job
    from uservlm.runtime.cores import thread_count

    job = Job(
        bundle=found.bundle,
        subject=found.subject,
        checkpoint=found.checkpoint,
        scratch=scratch,
        threads=thread_count(None),
        repeat=given.repeat or REPEAT,
        answer_tokens=None,
        say=say,
    )
    if job.large:
        job = replace(job, repeat=given.repeat or LARGE_REPEAT, answer_tokens=LARGE_ANSWER)
    return job


def _measure(given: argparse.Namespace, subject: Found, job: Job) -> Results:
    """Measure the sections that are wanted, the quick and undisturbed first."""
    from uservlm.bench import faithful, flops, growth, latency, limits, lineup, load, memory
    from uservlm.bench.bounds import Bounds
    from uservlm.bench.machine import commit, this_machine
    from uservlm.bench.results import SECTIONS, Results
    from uservlm.bench.subject import grown

    wanted = given.only or tuple(name for name in SECTIONS if name != "limits")
    found = Results(
        when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        commit=commit(ROOT),
        took_s=0.0,
        repeat=job.repeat,
        machine=this_machine(job.threads),
        subject=job.subject,
    )
    if "flops" in wanted:
        found = replace(found, flops=flops.measure(subject.architecture, job.say))
    if "latency" in wanted:
        chosen, missing = lineup.choose(job, given.peers)
        before = limits.measure(job)
        best = Bounds(job.subject, subject.architecture, limits.best(before))
        timed = latency.measure(job, best, chosen, missing)
        found = replace(found, limits=before, latency=timed)
    if "memory" in wanted:
        found = replace(found, memory=memory.measure(job))
    if "load" in wanted:
        found = replace(found, load=load.measure(job))
    if "growth" in wanted:
        found = replace(found, growth=growth.measure(job, grown(subject, job.say)))
    if "fidelity" in wanted:
        found = replace(found, fidelity=faithful.measure(job))
    return found


def _parser(sections: Sequence[str], peers: Sequence[str]) -> argparse.ArgumentParser:
    from uservlm.bench.arguments import count

    parser = argparse.ArgumentParser(
        description="Measure FLOPs, latency, memory, load, growth and fidelity; write a page."
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--shape", metavar="NAME", help="a published shape with random weights, as user-vlm-3b"
    )
    what.add_argument("--bundle", type=Path, metavar="DIR", help="a bundle of your own")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="what --bundle was made from, for its peers"
    )
    choices = [name for name in sections if name != "limits"]
    parser.add_argument(
        "--only", type=_names(choices), metavar="A,B", help=f"sections: {', '.join(choices)}"
    )
    parser.add_argument(
        "--repeat",
        type=count,
        metavar="N",
        help=f"samples of each figure; default: {REPEAT}, of a large model {LARGE_REPEAT}",
    )
    parser.add_argument(
        "--peers",
        type=_names([*peers, "none"]),
        metavar="A,B",
        help=f"instead of all that fit: {', '.join(peers)}, or none",
    )
    out = Path("build", "bench")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", default=ROOT / out, help=f"default: {out} of the project"
    )
    return parser


def _names(choices: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        given = tuple(part.strip() for part in text.split(",") if part.strip())
        if not given or not set(given) <= set(choices):
            raise argparse.ArgumentTypeError(f"{text!r}; choose from {', '.join(choices)}")
        return given

    return names


if __name__ == "__main__":
    sys.exit(main())
