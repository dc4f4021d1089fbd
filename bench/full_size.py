"""The engine at full size beside PyTorch: `python bench/full_size.py BUNDLE --checkpoint FOLDER`.

Owns: the order of measuring and the table of ratios. Both sides are loaded in processes of their
own and take turns, so that what else the machine does meets both; every ratio is of medians,
with the least and greatest ratio of neighbouring measurements beside it. The bound of decoding
is the weights' bytes over the read bandwidth measured between the same turns. JSON comes last.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from uservlm.runtime.bundle import Bundle, open_bundle
from uservlm.runtime.cores import thread_count
from uservlm.runtime.errors import UserVLMError

READ_GIGABYTES: Final = 1.0
"""Far beyond what a cache holds of it."""
STARTS: Final = 3


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    value: float
    """The ratio or figure: a median."""
    least: float
    greatest: float
    unit: str
    goal: str
    detail: str


class Side:
    """A child process that takes a time when told to."""

    def __init__(self, side: str, first: str, second: str) -> None:
        """Start it and wait until its models are loaded."""
        command = [sys.executable, "-m", "uservlm.bench.full_size_child", side, first, second]
        start = perf_counter()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()
        self.ready_s = perf_counter() - start

    def __call__(self, command: str) -> dict[str, float]:
        """Have one thing measured."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a side ended with code {self._process.wait()}; see above")
        found: dict[str, float] = json.loads(line)
        return found


def measure(bundle: Bundle, checkpoint: Path | None, rounds: int) -> list[Row]:
    """Measure everything, both sides in turn."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="uservlm-bench-"))

        def side(name: str, first: str, second: str) -> Side:
            opened = Side(name, first, second)
            stack.callback(opened.close)
            return opened

        engine = side("engine", str(bundle.path), folder)
        engine("keep")
        cold = engine("cold")  # also the last first-time work: vision has run once
        reader = side("reader", str(READ_GIGABYTES), str(thread_count(None)))
        tokens = int(cold["prefix_tokens"]) - bundle.manifest.architecture.image_tokens
        other = side("original", str(checkpoint), str(tokens)) if checkpoint else None
        turns = [_round(engine, reader, other) for _ in range(rounds)]
        with busy(thread_count(None)):
            loaded = [engine("warm") for _ in range(rounds)]
        engine("close")
        with_budget = side("frugal", str(bundle.path), folder)
        peak = with_budget("memory")["peak_bytes"]
        with_budget.close()
        starts = [_start(bundle, folder) for _ in range(STARTS)]
    rows = _against(turns) if checkpoint else []
    rows.append(_decoding(turns, bundle.language.stat().st_size))
    rows.append(
        Row(
            "peak memory",
            peak / 1e9,
            peak / 1e9,
            peak / 1e9,
            "GB",
            "<= 2.5",
            "VmHWM, memory_mb=2500",
        )
    )
    rows += _under_load(turns, loaded)
    spread = median(starts), min(starts), max(starts)
    rows.append(Row("process start to answer", *spread, "s", "<= 3", "user restored from disk"))
    return rows


def ratio(above: Sequence[float], below: Sequence[float]) -> tuple[float, float, float]:
    """Give the ratio of medians, and the least and greatest of the pairs."""
    pairs = [a / b for a, b in zip(above, below, strict=True)]
    return median(above) / median(below), min(pairs), max(pairs)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many processes computing beside us."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def _round(engine: Side, reader: Side, other: Side | None) -> dict[str, dict[str, float]]:
    found = {"cold": engine("cold")}
    if other is not None:
        found["original"] = other("first")
    found["before"] = reader("read")
    found["warm"] = engine("warm")
    found["after"] = reader("read")
    return found


def _start(bundle: Bundle, folder: str) -> float:
    side = Side("started", str(bundle.path), folder)
    side.close()
    return side.ready_s


def _against(turns: Sequence[dict[str, dict[str, float]]]) -> list[Row]:
    theirs = [turn["original"]["ttft_s"] for turn in turns]
    rows = []
    for name, goal in (("warm", ">= 30"), ("cold", "> 1")):
        ours = [turn[name]["ttft_s"] for turn in turns]
        detail = f"{median(theirs):.2f} s against {median(ours):.3f} s"
        if name == "cold":
            vision = median(turn[name]["vision_s"] for turn in turns)
            detail += f", {vision:.2f} of it vision"
        rows.append(
            Row(f"{name} TTFT, PyTorch bf16 / ours", *ratio(theirs, ours), "x", goal, detail)
        )
    return rows


def _decoding(turns: Sequence[dict[str, dict[str, float]]], size: int) -> Row:
    bounds = [
        size / max(turn["before"]["bytes_per_s"], turn["after"]["bytes_per_s"]) for turn in turns
    ]
    tokens = [turn["warm"]["token_s"] for turn in turns]
    detail = f"{median(bounds) * 1e3:.1f} ms bound, {median(tokens) * 1e3:.1f} ms a token"
    return Row("decode, bound / ours", *ratio(bounds, tokens), "", ">= 0.85", detail)


def _under_load(
    turns: Sequence[dict[str, dict[str, float]]], loaded: Sequence[dict[str, float]]
) -> list[Row]:
    rows = []
    for name, key in (("decode", "token_s"), ("warm TTFT", "ttft_s")):
        idle, beside = [turn["warm"][key] for turn in turns], [turn[key] for turn in loaded]
        detail = f"{median(idle) * 1e3:.0f} ms alone, {median(beside) * 1e3:.0f} ms beside"
        what = f"{name} beside {thread_count(None)} busy processes"
        rows.append(Row(what, *ratio(beside, idle), "x", "<= 2.3", detail))
    return rows


def _table(rows: Sequence[Row], title: str) -> Table:
    table = Table(title=title)
    for heading in ("what", "found", "least to greatest", "goal", "detail"):
        table.add_column(heading)
    for row in rows:
        spread = f"{row.least:.2f} to {row.greatest:.2f}"
        found = f"{row.value:.2f} {row.unit}".strip()
        table.add_row(row.what, found, spread, row.goal, row.detail)
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", metavar="BUNDLE", help="folder made by converters/export.py")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FOLDER", help="the original; without it no PyTorch"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: 3")
    options = parser.parse_args(arguments)
    try:
        bundle = open_bundle(options.bundle, verify=False)
    except UserVLMError as error:
        print(f"full_size: {error}", file=sys.stderr)
        return 2
    rows = measure(bundle, options.checkpoint, options.rounds)
    manifest = bundle.manifest
    title = f"{manifest.source.model}, {manifest.precision.language}: ratios of medians"
    Console(stderr=True, width=120).print(_table(rows, title))
    record: dict[str, Any] = {"bundle": bundle.path.name, "rows": [asdict(row) for row in rows]}
    print(json.dumps(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
