"""What somebody sees who waits for an audit: a bar, how long the rest takes, what a stop leaves.

Owns: these words, and the arithmetic of the time. An audit of real weights takes half a day or more
on two cores, and nobody should find that out at its end. Knows nothing of what is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress

from uservlm.converters.progress import rounded

_WINDOW: Final = 1800.0
"""Seconds behind which the bar's pace is measured: an answer of real weights takes some ten."""


@dataclass(frozen=True)
class Work:
    """How much is asked."""

    people: int
    kept: int
    """Of these, how many an earlier run asked."""
    answers: int
    """In all, own pictures' among them."""
    kept_answers: int
    own_pictures: int
    """Asked about behind the drawn people."""


class Waiting:
    """Counts answers and people, and says once how long the rest will take."""

    def __init__(
        self,
        work: Work,
        say: Callable[[str], None],
        move: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work, self._say, self._move, self._clock = work, say, move, clock
        self._began, self._answers, self._told = clock(), 0, False

    def answered(self, count: int) -> None:
        """Count answers."""
        self._answers += count
        self._move(count)

    def person_done(self) -> None:
        """Say, behind the first person, how long the others take."""
        work, self._told, told = self._work, True, self._told
        rest = work.answers - work.kept_answers - self._answers
        if told or rest <= 0:
            return
        took = self._clock() - self._began
        others = work.people - work.kept - 1
        whom = [f"{others} more people"] if others else []
        whom += [f"{work.own_pictures} own pictures"] if work.own_pictures else []
        self._say(
            f"about {rounded(took / self._answers * rest)} for {' and '.join(whom)}; it may be "
            "stopped: the same command goes on behind the last person"
        )


@contextmanager
def waiting(work: Work, journal: Path) -> Iterator[Waiting]:
    """Show on stderr how far an audit is: a bar on a terminal, elsewhere lines alone."""
    console = Console(stderr=True)

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    if work.kept:
        say(f"{work.kept} of {work.people} people are kept from an earlier run, in {journal}")
    bar = Progress(
        console=console,
        transient=True,
        speed_estimate_period=_WINDOW,
        disable=not console.is_terminal,
    )
    with bar:
        step = bar.add_task("asking", total=work.answers, completed=work.kept_answers)
        yield Waiting(work, say, lambda count: bar.advance(step, count))


def interrupted(people: int, kept: int, journal: Path, own_pictures: bool) -> str:
    """Say what an audit leaves that was stopped with Ctrl-C."""
    if not kept:
        return "audit interrupted: nothing is kept, since no drawn person was done"
    own = "; own pictures are asked about anew" if own_pictures else ""
    return (
        f"audit interrupted: {kept} of {people} people are kept in {journal}; the same command "
        f"goes on behind them, `rm {journal}` drops them{own}"
    )
