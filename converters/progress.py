"""What a person sees while an export runs: one line per step, with a bar where one can be counted.

Owns: the terminal. Knows nothing of the steps themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Steps:
    """Show steps on a console; a quiet one shows nothing but warnings."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or Console(stderr=True)
        self.quiet = quiet

    @contextmanager
    def step(self, words: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show a step while its block runs; call what it gives with the amount just done."""
        columns = (TextColumn("{task.description:<42}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, disable=self.quiet) as bars:
            task = bars.add_task(words, total=total)
            yield lambda done: bars.advance(task, done)
            bars.update(task, total=total or 1, completed=total or 1)

    def say(self, line: str) -> None:
        """Print a line."""
        if not self.quiet:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def warn(self, line: str) -> None:
        """Print a line that must be seen."""
        self.console.print(f"[yellow]warning:[/] {line}", highlight=False)
