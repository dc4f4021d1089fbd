"""One thread that computes; everybody else waits their turn in a queue.

Owns: the order of jobs, how many may wait, and how one is stopped. Knows nothing of what they do. A
job yields items; they are kept for its reader, who may take them late or never: a slow reader holds
up nobody. Jobs are turns, which people wait for, and idle jobs, which run when nobody does and stop
as soon as somebody asks.

The thread is `concurrent.futures`' own, so what a job raises reaches its reader unchanged. Signals
go to the main thread only: Ctrl-C interrupts a reader and never the computation itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from queue import Empty, SimpleQueue
from threading import Condition, Event
from typing import Any, Final, Generic, TypeAlias, TypeVar

from uservlm.runtime.errors import BusyError, CancelledError, EngineError, UserVLMError
from uservlm.runtime.interrupt import Interrupt, Stopped

_LOG = logging.getLogger("uservlm.worker")

MAX_WAITING: Final = 16
"""Turns that may wait; more would be answered after their askers have left."""

CLOSED: Final = "this engine is closed: load the bundle again"

Item = TypeVar("Item")
Result = TypeVar("Result")


Work: TypeAlias = Callable[[], Generator[Item, None, None]]


class _End:
    """Behind the last item."""


class Ticket(Generic[Item]):
    """A job that was handed in: an iterator over what it yields."""

    def __init__(self, worker: Worker, work: Work[Item], idle_s: float | None) -> None:
        """Made by `Worker.submit`."""
        self._worker, self._work, self._idle_s = worker, work, idle_s
        self._items: SimpleQueue[Item | _End] = SimpleQueue()
        self._reason: UserVLMError | None = None
        self._future: Future[None] | None = None
        self._over = Event()

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._reason is not None

    @property
    def done(self) -> bool:
        """Whether it will yield nothing more and has left the worker."""
        return self._future is not None and self._future.done()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        return self.take(None)

    def take(self, seconds: float | None) -> Item:
        """Give the next item.

        Args:
            seconds: to wait at most; None waits as long as it takes.

        Raises:
            StopIteration: there are no more.
            TimeoutError: none came in time.
            CancelledError: or another reason given to `stop`.
        """
        try:
            item = self._items.get(timeout=seconds)
        except Empty as error:
            raise TimeoutError from error
        if not isinstance(item, _End):
            return item
        self._items.put(item)  # for whoever asks again
        self._raise()
        raise StopIteration

    def stop(self, reason: UserVLMError) -> None:
        """Tell it to end at once, for a reason that its reader gets; too late, it does nothing."""
        self._worker.stop(self, reason)

    def wait(self) -> None:
        """Return when the worker has let go of it, however it ended."""
        self._over.wait()  # `futures.wait` would wait for a cancelled job's turn to come

    def _raise(self) -> None:
        assert self._future is not None
        error = None if self._future.cancelled() else self._future.exception()
        if self._reason is not None and (error is None or isinstance(error, Stopped)):
            raise self._reason
        if error is not None:
            raise error

    def _finish(self) -> None:
        self._items.put(_End())
        self._over.set()

    def _run(self) -> None:
        """Do the job; on the worker's thread."""
        with closing(self._work()) as items:
            for item in items:
                self._items.put(item)
                if self.stopped:
                    return


class Worker:
    """Runs jobs one after another on a thread of its own."""

    def __init__(self, interrupt: Interrupt, waiting: int = MAX_WAITING) -> None:
        """Start the thread.

        Args:
            interrupt: raised when the job that is running should stop.
            waiting: turns that may wait.
        """
        self._interrupt, self._most = interrupt, waiting
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="uservlm")
        self._lock = Condition()
        self._turns: list[Ticket[Any]] = []  # waiting or running, in order
        self._idle: list[Ticket[Any]] = []
        self._current: Ticket[Any] | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """Turns handed in and not done, the running one among them."""
        return len(self._turns)

    def submit(self, work: Work[Item]) -> Ticket[Item]:
        """Hand in a turn.

        Args:
            work: called on the worker's thread; its items go to the ticket.

        Raises:
            BusyError: too many turns are waiting.
            EngineError: the worker is closed.
        """
        ticket = Ticket(self, work, None)
        with self._lock:
            self._clear_the_way()
            if len(self._turns) >= self._most:
                count = len(self._turns)
                raise BusyError(f"{count} questions are waiting already: ask again later")
            self._turns.append(ticket)
            self._enter(ticket)
        return ticket

    def when_idle(self, work: Work[Item], after_s: float) -> Ticket[Item]:
        """Hand in an idle job, which begins when nobody has asked for `after_s` seconds.

        A worker that is closed or asked meanwhile never begins it, and says so to its ticket alone.
        """
        ticket = Ticket(self, work, after_s)
        with self._lock:
            if self._closed:
                ticket._reason = EngineError(CLOSED)
                ticket._future = Future()
                ticket._future.set_result(None)
                ticket._finish()
            else:
                self._idle.append(ticket)
                self._enter(ticket)
        return ticket

    def call(self, duty: Callable[[], Result]) -> Result:
        """Do something short on the worker's thread, behind what waits there, and give its result.

        Raises:
            EngineError: the worker is closed.
        """
        with self._lock:
            self._clear_the_way()
            future = self._pool.submit(duty)
        return future.result()

    def stop(self, ticket: Ticket[Any], reason: UserVLMError) -> None:
        """Stop one job, waiting or running."""
        with self._lock:
            self._stop(ticket, reason)

    def stop_all(self, reason: UserVLMError) -> int:
        """Stop every job; gives the number of turns among them."""
        with self._lock:
            turns = list(self._turns)
            for ticket in [*turns, *self._idle]:
                self._stop(ticket, reason)
        return len(turns)

    def close(self, last: Callable[[], None] | None = None) -> None:
        """Stop what runs, do a last duty on the thread, and end it; again does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.stop_all(EngineError(CLOSED))
        try:
            if last is not None:
                self._pool.submit(last).result()
        finally:
            self._pool.shutdown()

    def _enter(self, ticket: Ticket[Any]) -> None:
        ticket._future = self._pool.submit(self._run, ticket)
        ticket._future.add_done_callback(lambda _: self._end(ticket))

    def _clear_the_way(self) -> None:
        """Stop the idle jobs: somebody is waiting."""
        if self._closed:
            raise EngineError(CLOSED)
        for ticket in list(self._idle):  # who has not begun leaves it at once
            self._stop(ticket, CancelledError("a question came first"))

    def _stop(self, ticket: Ticket[Any], reason: UserVLMError) -> None:
        if ticket.done or ticket.stopped:
            return
        ticket._reason = reason
        assert ticket._future is not None
        ticket._future.cancel()  # one that has not begun need not wait for its place
        if ticket is self._current:
            self._interrupt.raise_()
        self._lock.notify_all()

    def _run(self, ticket: Ticket[Any]) -> None:
        with self._lock:
            if ticket._idle_s is not None:
                self._lock.wait_for(lambda: ticket.stopped, ticket._idle_s)
            if ticket.stopped:
                return
            self._interrupt.lower()
            self._current = ticket
        try:
            ticket._run()
        finally:
            with self._lock:
                self._current = None
                self._interrupt.lower()

    def _end(self, ticket: Ticket[Any]) -> None:
        with self._lock:
            jobs = self._turns if ticket._idle_s is None else self._idle
            jobs.remove(ticket)
        ticket._finish()
        if ticket._idle_s is not None and ticket._reason is None and ticket._future is not None:
            error = ticket._future.exception()  # nobody reads an idle job
            if error is not None:
                _LOG.error("an idle job failed: %s", error, exc_info=error)
