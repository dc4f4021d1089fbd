"""What a person sees while an export runs: one line per step, and how long the rest will take.

Owns: the terminal, and the arithmetic of the remaining time. Knows nothing of the steps themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

Plan = Sequence[tuple[str, float]]
"""Steps in order, each with the seconds it is expected to take."""

TRUST_SECONDS, TRUST_SHARE = 1.0, 0.02
"""How much finished work, in seconds and as a share of the plan, outweighs the plan's own speed."""
OWN_SHARE = 0.1
"""How much of a step must be counted before its own pace outweighs that of the steps before."""
UNCOUNTED, FIRST_COUNT, COUNTED = 0.9, 0.25, 0.98
"""The share of a running step that is at most taken as done: never counted, not yet, counted."""


@dataclass(frozen=True)
class Running:
    """A step that runs, in seconds since it began."""

    estimated: float
    """By the plan."""
    elapsed: float
    counts: bool
    """It says how far it is; the next three are then of its last count."""
    fraction: float = 0.0
    at: float = 0.0
    times: int = 0
    """How often it has counted."""


@dataclass(frozen=True)
class Left:
    """What remains of a plan."""

    seconds: float
    overdue: bool
    """The running step takes longer than expected."""

    def __str__(self) -> str:
        about = f"about {rounded(self.seconds)} left"
        return f"longer than expected, {about}" if self.overdue else about


def left(
    running: Running | None, future: float, finished: float, took: float, total: float
) -> Left:
    """Estimate the time to the end of a plan.

    Steps to come take their planned time, times what finished and running steps took per planned
    second. A step that counts is judged by its own pace the more of it is counted; between two
    counts it is taken to move on, but no further than two usual counts, and one that never counts
    no further than 9/10: so the estimate of a step that stands still grows.

    Args:
        running: the step of the plan that runs.
        future: planned seconds of the steps to come.
        finished: planned seconds of the finished ones.
        took: what the finished ones took, seconds.
        total: planned seconds of all steps that this run makes.
    """
    trust = max(TRUST_SECONDS, TRUST_SHARE * total)
    pace = (took + trust) / (finished + trust)
    if running is None:
        return Left(pace * future, False)
    planned, elapsed = running.estimated, running.elapsed
    done = _share_done(running, pace)
    own_trust = OWN_SHARE * planned
    own_pace = (elapsed + own_trust * pace) / (done * planned + own_trust)
    overdue = elapsed > pace * planned
    certain = done if running.counts else min(elapsed / (pace * planned), 1.0)
    pace = (took + elapsed + trust) / (finished + certain * planned + trust)
    return Left(own_pace * planned * (1 - done) + pace * future, overdue)


def _share_done(running: Running, pace: float) -> float:
    """Give the share of a running step that is taken as done, short of 1."""
    planned = running.estimated
    by_time = running.elapsed / (pace * planned)
    if not running.counts:
        return min(by_time, UNCOUNTED)
    if not running.times:
        return min(by_time, FIRST_COUNT)
    own_trust = OWN_SHARE * planned
    own_pace = (running.at + own_trust * pace) / (running.fraction * planned + own_trust)
    since = (running.elapsed - running.at) / (own_pace * planned) if own_pace else 0.0
    usual = running.fraction / running.times
    return min(running.fraction + min(since, 2 * usual), COUNTED)


def rounded(seconds: float) -> str:
    """Say a duration as people do: 45 s, 3 min, 1 h 10 min; never less than 1 s."""
    if seconds < 10:
        return f"{max(1, round(seconds))} s"
    if seconds < 57.5:
        return f"{5 * round(seconds / 5)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(5 * round(seconds / 300), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


class Forecast:
    """Follow a plan by the clock: what is finished, what runs, what is left."""

    def __init__(self, plan: Plan, clock: Callable[[], float] = time.monotonic) -> None:
        self._future = [(words, seconds) for words, seconds in plan if seconds > 0]
        self._total = sum(seconds for _, seconds in self._future)
        self._clock = clock
        self._finished = self._took = 0.0
        self._estimated: float | None = None
        self._began = clock()
        self._counts = False
        self._last = (0.0, 0.0, 0)

    def begin(self, words: str, counts: bool) -> None:
        """Start a step; one that is not in the plan changes nothing."""
        self._estimated = self._take(words)
        self._began = self._clock()
        self._counts = counts
        self._last = (0.0, 0.0, 0)

    def count(self, fraction: float) -> None:
        """Note which share of the running step is done, 0 to 1."""
        self._last = (min(fraction, 1.0), self._clock() - self._began, self._last[2] + 1)

    def end(self) -> float:
        """Finish the running step and give the seconds it took."""
        took = self._clock() - self._began
        if self._estimated is not None:
            self._finished += self._estimated
            self._took += took
        self._estimated = None
        return took

    def skip(self, words: str) -> None:
        """Take a step out of the plan: it need not run."""
        self._total -= self._take(words) or 0.0

    def left(self) -> Left | None:
        """Estimate what remains; None when the plan is done, or there is none."""
        if self._estimated is None and not self._future:
            return None
        future = sum(seconds for _, seconds in self._future)
        return left(self._running(), future, self._finished, self._took, self._total)

    def _running(self) -> Running | None:
        if self._estimated is None:
            return None
        return Running(self._estimated, self._clock() - self._began, self._counts, *self._last)

    def _take(self, words: str) -> float | None:
        for place, (name, seconds) in enumerate(self._future):
            if name == words:
                del self._future[place]
                return seconds
        return None


class Steps:
    """Show steps on a console; a quiet one shows nothing but warnings."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or Console(stderr=True)
        self.quiet = quiet
        self._forecast = Forecast(())

    def plan(self, plan: Plan) -> None:
        """Say which steps will run, with their expected seconds; steps outside it are allowed."""
        self._forecast = Forecast(plan)
        expected = self._forecast.left()
        if expected:
            self.say(str(expected))

    def reuse(self, words: str) -> None:
        """Say that a step need not run: its files are there from an earlier run."""
        self._forecast.skip(words)
        self.say(f"{words}: kept from an earlier run")

    @contextmanager
    def step(self, words: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show a step while its block runs; call what it gives with the amount just done.

        One step ends before the next begins. On a terminal its bar moves and what is left of the
        plan stands beside it; elsewhere one line says what it took.
        """
        self._forecast.begin(words, counts=bool(total))
        columns = (
            TextColumn("{task.description:<42}", markup=False),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            _LeftColumn(self._forecast),
        )
        moves = self._moves()
        with Progress(*columns, console=self.console, disable=self.quiet or not moves) as bars:
            task = bars.add_task(words, total=total)
            done = 0

            def advance(amount: int) -> None:
                nonlocal done
                done += amount
                bars.advance(task, amount)
                if total:
                    self._forecast.count(done / total)

            yield advance
            took = self._forecast.end()
            bars.update(task, total=total or 1, completed=total or 1)
        if not moves:
            rest = self._forecast.left()
            self.say(f"{words}: {took:.1f} s" + (f", {rest}" if rest else ""))

    def say(self, line: str) -> None:
        """Print a line."""
        if not self.quiet:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def warn(self, line: str) -> None:
        """Print a line that must be seen."""
        said = Text.assemble(("warning:", "yellow"), " ", line)
        self.console.print(said, highlight=False, soft_wrap=True)

    def _moves(self) -> bool:
        """Tell whether lines can be written over: forced colours alone make no terminal."""
        console = self.console
        return console.is_terminal and not console.is_dumb_terminal and console.file.isatty()


class _LeftColumn(ProgressColumn):
    """What is left of the plan, beside the running step."""

    def __init__(self, forecast: Forecast) -> None:
        super().__init__()
        self._forecast = forecast

    def render(self, task: Task) -> Text:
        """Give the sentence; nothing once the step is done."""
        expected = None if task.finished else self._forecast.left()
        return Text(str(expected) if expected else "")
