"""An answer while it is made: what the reader of a turn holds in their hands.

Owns: when a turn is handed in, the deadline of its first piece, and its early end. Knows nothing of
how it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock
from time import monotonic
from typing import Generic, NoReturn, TypeVar

from uservlm.runtime.errors import CancelledError, DeadlineError
from uservlm.runtime.worker import Ticket

Item = TypeVar("Item")


class Stream(Generic[Item]):
    """An iterator that can be cancelled from any thread; the turn is handed in with the first item.

    Closing it, leaving its `with` block or letting go of it ends the turn too.
    """

    def __init__(self, begin: Callable[[], Ticket[Item]], deadline_s: float | None = None) -> None:
        """Hand in nothing yet.

        Args:
            begin: hands the turn in.
            deadline_s: seconds from then to the first item, waiting included.
        """
        self._begin, self._deadline_s = begin, deadline_s
        self._ticket: Ticket[Item] | None = None
        self._last: float | None = None
        self._cancelled = self._closed = False

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if self._closed:
            raise StopIteration
        if self._cancelled:
            raise CancelledError("the turn was cancelled")
        if self._ticket is None:
            self._last = None if self._deadline_s is None else monotonic() + self._deadline_s
            self._ticket = self._begin()
            if self._cancelled:  # meanwhile: `cancel` saw no ticket
                self._ticket.stop(CancelledError("the turn was cancelled"))
        try:
            item = self._ticket.take(self._left())
        except TimeoutError:
            self._give_up(self._ticket)
        self._last = None
        return item

    def cancel(self) -> None:
        """End the turn from any thread: its reader gets a CancelledError."""
        self._cancelled = True
        if self._ticket is not None:
            self._ticket.stop(CancelledError("the turn was cancelled"))

    def close(self) -> None:
        """End the turn, and return when the engine has let go of it."""
        self._closed = True
        if self._ticket is not None:
            self._ticket.stop(CancelledError("its reader closed the stream"))
            self._ticket.wait()

    def __enter__(self) -> Stream[Item]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self._ticket is not None:
            self._ticket.stop(CancelledError("its reader let go of the stream"))

    def _left(self) -> float | None:
        return None if self._last is None else max(0.0, self._last - monotonic())

    def _give_up(self, ticket: Ticket[Item]) -> NoReturn:
        late = DeadlineError(
            f"no word within {self._deadline_s} s: give more time, or ask when fewer are waiting"
        )
        ticket.stop(late)
        ticket.wait()
        self._closed = True
        raise late


class Prepared(Generic[Item]):
    """Work ahead that nobody has to wait for."""

    def __init__(self, ticket: Ticket[Item]) -> None:
        """Watch a turn that was handed in."""
        self._ticket = ticket
        self._item: tuple[Item] | None = None
        self._lock = Lock()

    @property
    def done(self) -> bool:
        """Whether it has ended, however it did."""
        return self._ticket.done

    def wait(self, seconds: float | None = None) -> Item:
        """Give what was prepared.

        Args:
            seconds: to wait at most; None waits as long as it takes.

        Raises:
            TimeoutError: it is not ready.
            CancelledError: it was cancelled.
        """
        with self._lock:
            if self._item is None:
                self._item = (self._ticket.take(seconds),)
                self._ticket.wait()
            return self._item[0]

    def cancel(self) -> None:
        """Give it up; what was finished by then stays."""
        self._ticket.stop(CancelledError("the preparation was cancelled"))
