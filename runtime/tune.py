"""`uservlm tune`: find out by measuring how this machine computes best, and write it down.

Owns: what is tried, in which order, and how the best is chosen. Each trial is a process of its own
(`tune_probe.py`), on a small model of the bundle's own matrix shapes (`sample_model.py`), so that a
minute is enough. Trials whose difference is within the noise leave the default as it is.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from math import sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from uservlm.runtime.bundle import Bundle, open_bundle
from uservlm.runtime.cores import thread_count
from uservlm.runtime.errors import EngineError, RequestError
from uservlm.runtime.sample_model import FORMATS, Sample, write_sample
from uservlm.runtime.settings import DEFAULTS, Settings, write_settings
from uservlm.runtime.tune_probe import Probe, Times

_LOG = logging.getLogger("uservlm.tune")

ANSWER: Final = 30
"""Tokens of the answer in a turn that is weighed."""
TURNS: Final = 5
"""Questions that one person asks: each bears this part of making them resident."""
NOISE: Final = 0.05
"""What is not better by more than this share is not better."""
LONGEST: Final = 120.0
"""Seconds after which a trial has failed."""


@dataclass(frozen=True)
class Trial:
    """One way of computing, and how long it took on the whole model."""

    quant: str
    settings: Settings
    idle: Times
    busy: Times | None = None
    """Beside as many busy processes as there are cores."""

    @property
    def turn(self) -> float:
        """Seconds that a person waits and listens; idle and busy count alike when both are known.

        Their geometric mean is taken: a machine is neither always idle nor always busy.
        """
        idle = seconds(self.idle)
        return idle if self.busy is None else sqrt(idle * seconds(self.busy))


@dataclass(frozen=True)
class Found:
    """What tuning found."""

    settings: Settings
    quant: str
    """The format that would be fastest here; the bundle keeps its own."""
    trials: tuple[Trial, ...]


def seconds(times: Times) -> float:
    """Weigh the three times as a conversation does."""
    return times.user / TURNS + times.question + ANSWER * times.token


def best(trials: Sequence[Trial]) -> Trial:
    """Give the fastest trial, or the first where that is no slower than noise."""
    fastest = min(trials, key=lambda trial: trial.turn)
    first = trials[0]
    return first if first.turn <= fastest.turn * (1 + NOISE) else fastest


class Tuner:
    """Runs trials for one bundle, the model to try them on being made as it is needed."""

    def __init__(self, bundle: Bundle, folder: Path, *, repeats: int = 3, answer: int = 12) -> None:
        """Prepare; small models go to `folder`."""
        self._architecture = bundle.manifest.architecture
        self.own = bundle.manifest.precision.language
        self._folder, self._repeats, self._answer = folder, repeats, answer
        self._samples: dict[str, Sample] = {}
        self.trials: list[Trial] = []

    def find(self) -> Found:
        """Try formats, then how the bundle's own is computed; each choice stands for the next."""
        formats = [self.own, *(name for name in FORMATS if name not in (self.own, "f16"))]
        packed = {name: self._packing(name) for name in formats}
        chosen = packed[self.own]
        chosen = best([chosen, *self._attention(chosen.settings)])
        chosen = best(self._waiting(chosen.settings))
        fastest = best([packed[name] for name in formats])
        return Found(chosen.settings, fastest.quant, tuple(self.trials))

    def _packing(self, quant: str) -> Trial:
        ways = [replace(DEFAULTS, repack=repack) for repack in (True, False)]
        return best([trial for way in ways for trial in self._try(quant, way)])

    def _attention(self, settings: Settings) -> list[Trial]:
        f16 = replace(settings, flash_attention=True)
        return [
            trial for way in (f16, replace(f16, kv="q8_0")) for trial in self._try(self.own, way)
        ]

    def _waiting(self, settings: Settings) -> list[Trial]:
        cores = thread_count(None)
        threads = (cores, 2 * cores)
        trials = []
        for waiting in ("briefly", "sleep", "spin"):
            way = replace(settings, waiting=waiting)
            trials += self._try(self.own, way, threads, busy=cores)
        return trials

    def _try(
        self, quant: str, settings: Settings, threads: tuple[int, ...] = (), busy: int = 0
    ) -> list[Trial]:
        """Run one process, or two where it is to be busy too: a trial for each thread count."""
        counts = threads or (thread_count(None),)
        idle = self._measure(quant, settings, counts, 0)
        others = self._measure(quant, settings, counts, busy) if busy else [None] * len(counts)
        found = [
            Trial(quant, replace(settings, threads=count) if threads else settings, alone, beside)
            for count, alone, beside in zip(counts, idle, others, strict=True)
        ]
        for trial in found:
            print(line(trial), file=sys.stderr)
        self.trials += found
        return found

    def _measure(
        self, quant: str, settings: Settings, threads: tuple[int, ...], busy: int
    ) -> Sequence[Times]:
        if quant not in self._samples:
            self._samples[quant] = write_sample(self._folder, self._architecture, quant)
        sample = self._samples[quant]
        probe = Probe(
            str(sample.path),
            asdict(settings),
            self._architecture.image_tokens,
            threads,
            busy,
            self._repeats,
            self._answer,
        )
        return [
            Times(times.threads, *(value / sample.share for value in _values(times)))
            for times in run_probe(probe)
        ]


def run_probe(probe: Probe) -> list[Times]:
    """Time a probe in a process of its own.

    Raises:
        EngineError: it failed or took too long.
    """
    command = [sys.executable, "-m", "uservlm.runtime.tune_probe"]
    given = json.dumps(asdict(probe))
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=LONGEST, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"a trial took more than {LONGEST:.0f} s: {probe.settings}") from error
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise EngineError(
            f"a trial ended with code {error.returncode} ({reason}): {probe.settings}"
        ) from error
    return [Times(**json.loads(text)) for text in done.stdout.splitlines()]


def line(trial: Trial) -> str:
    """Describe a trial in one line of a table; see HEADING."""
    way = trial.settings
    idle = f"{trial.idle.user:6.2f} {trial.idle.question:8.3f} {trial.idle.token * 1e3:6.1f}"
    busy = "" if trial.busy is None else f"{trial.busy.token / trial.idle.token:5.1f}x"
    return (
        f"{trial.quant:7} {'repacked' if way.repack else 'mapped':9} "
        f"{'flash' if way.flash_attention else 'plain':6} {way.kv:5} {way.waiting:8} "
        f"{way.threads or trial.idle.threads:3} {idle} {busy:6} {trial.turn:6.2f}"
    )


HEADING: Final = (
    "seconds to take a person in and to read a question, ms a token; beside as many busy\n"
    "processes as cores, times slower a token; seconds of a turn, which decides\n"
    "format  weights   attn   kv    waiting  thr user s quest. s tok ms busy   turn s"
)


def add_parser(commands: Any) -> None:
    """Add `tune` to the command line."""
    parser = commands.add_parser(
        "tune",
        help="measure how this machine computes best, and use it from now on",
        description="Takes about a minute for a 3B model on an otherwise idle machine.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="folder made by converters/export.py")
    parser.add_argument("--json", action="store_true", help="print JSON: one object")
    parser.add_argument("--dry-run", action="store_true", help="measure and write nothing")
    parser.set_defaults(run=tune)


def tune(options: argparse.Namespace) -> None:
    """Measure, print the table, write the file."""
    bundle = open_bundle(options.bundle, verify=False)
    print(HEADING, file=sys.stderr)
    with TemporaryDirectory(prefix="uservlm-tune-") as folder:
        found = Tuner(bundle, Path(folder)).find()
    if not options.dry_run:
        _write(bundle, found)
    record = {"settings": asdict(found.settings), "fastest_format": found.quant}
    print(json.dumps(record) if options.json else "\n".join(_told(bundle, found)))


def _write(bundle: Bundle, found: Found) -> None:
    measured = {"fastest_format": found.quant, "trials": [asdict(one) for one in found.trials]}
    try:
        write_settings(bundle, found.settings, measured)
    except OSError as error:
        raise RequestError(f"{bundle.path} cannot be written ({error}): use --dry-run") from error


def _told(bundle: Bundle, found: Found) -> Iterable[str]:
    own = bundle.manifest.precision.language
    yield "settings: " + ", ".join(f"{k}={v}" for k, v in asdict(found.settings).items())
    if found.quant != own:
        yield f"format: {found.quant} would be faster here than this bundle's {own}"
    else:
        yield f"format: {own}, the fastest here"


def _values(times: Times) -> tuple[float, float, float]:
    return times.user, times.question, times.token
