"""One thread, a queue, and how a job ends early."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator

import pytest

from uservlm.runtime.errors import BusyError, CancelledError, DeadlineError, EngineError
from uservlm.runtime.interrupt import Interrupt, Stopped
from uservlm.runtime.stream import Stream
from uservlm.runtime.worker import Ticket, Worker

Counting = Callable[[], Generator[int, None, None]]


@pytest.fixture
def interrupt() -> Interrupt:
    return Interrupt()


@pytest.fixture
def worker(interrupt: Interrupt) -> Iterator[Worker]:
    made = Worker(interrupt, waiting=3)
    yield made
    made.close()


def counting(to: int, gate: threading.Event | None = None) -> Counting:
    def work() -> Generator[int, None, None]:
        for number in range(to):
            yield number
            if gate is not None:
                assert gate.wait(10)

    return work


def computing(interrupt: Interrupt, began: threading.Event) -> Counting:
    """A job that looks at the flag as native code does."""

    def work() -> Generator[int, None, None]:
        yield 0
        began.set()
        for _ in range(1000):
            if interrupt.raised:
                raise Stopped
            time.sleep(0.005)
        yield 1

    return work


def failing() -> Generator[int, None, None]:
    yield 1
    raise ZeroDivisionError


def test_jobs_run_in_order_on_one_thread_that_is_not_ours(worker: Worker) -> None:
    names: list[str] = []

    def note() -> Generator[int, None, None]:
        names.append(threading.current_thread().name)
        yield len(names)

    tickets = [worker.submit(note) for _ in range(3)]
    assert [list(ticket) for ticket in tickets] == [[1], [2], [3]]
    assert len(set(names)) == 1 and threading.current_thread().name not in names


def test_a_reader_that_takes_its_time_holds_up_nobody(worker: Worker) -> None:
    slow, quick = worker.submit(counting(3)), worker.submit(counting(2))
    assert list(quick) == [0, 1]
    assert list(slow) == [0, 1, 2]
    assert list(slow) == [], "and the end stays the end"


def test_what_a_job_raises_reaches_its_reader_behind_its_items(worker: Worker) -> None:
    ticket = worker.submit(failing)
    assert next(ticket) == 1
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            next(ticket)
    assert list(worker.submit(counting(1))) == [0]


def test_a_running_job_is_interrupted_and_the_next_is_not(
    worker: Worker, interrupt: Interrupt
) -> None:
    began = threading.Event()
    first, second = worker.submit(computing(interrupt, began)), worker.submit(counting(2))
    assert next(first) == 0 and began.wait(10)
    first.stop(CancelledError("enough"))
    with pytest.raises(CancelledError, match="enough"):
        next(first)
    assert list(second) == [0, 1] and not interrupt.raised


def test_a_waiting_job_never_begins(worker: Worker) -> None:
    gate, seen = threading.Event(), []

    def never() -> Generator[int, None, None]:
        seen.append(1)
        yield 1

    first, second = worker.submit(counting(1, gate)), worker.submit(never)
    second.stop(CancelledError("not needed"))
    gate.set()
    with pytest.raises(CancelledError):
        next(second)
    assert list(first) == [0] and not seen


def test_stopping_a_job_that_is_over_does_nothing(worker: Worker, interrupt: Interrupt) -> None:
    ticket = worker.submit(counting(1))
    ticket.wait()
    ticket.stop(CancelledError("late"))
    assert list(ticket) == [0] and not interrupt.raised


def test_too_many_are_told_so(worker: Worker) -> None:
    gate = threading.Event()
    waiting = [worker.submit(counting(1, gate)) for _ in range(3)]
    with pytest.raises(BusyError, match="3 questions are waiting"):
        worker.submit(counting(1))
    gate.set()
    assert [list(ticket) for ticket in waiting] == [[0]] * 3
    assert worker.waiting == 0 and list(worker.submit(counting(1))) == [0]


def test_an_idle_job_waits_for_quiet_and_gives_way(worker: Worker, interrupt: Interrupt) -> None:
    began = threading.Event()
    idle = worker.when_idle(computing(interrupt, began), 0.05)
    assert began.wait(10), "nobody asked: it began"
    assert list(worker.submit(counting(2))) == [0, 1]
    assert next(idle) == 0
    with pytest.raises(CancelledError, match="a question came first"):
        next(idle)
    patient = worker.when_idle(counting(1), 60)
    assert worker.call(lambda: 5) == 5, "a duty does not wait for an idle job either"
    with pytest.raises(CancelledError):
        next(patient)


def test_a_deadline_counts_the_waiting(worker: Worker) -> None:
    gate = threading.Event()
    first = worker.submit(counting(1, gate))
    late = Stream(lambda: worker.submit(counting(1)), deadline_s=0.05)
    threading.Timer(0.2, gate.set).start()
    with pytest.raises(DeadlineError, match=r"0\.05 s"):
        next(late)
    assert list(late) == [] and list(first) == [0]
    assert list(Stream(lambda: worker.submit(counting(2)), deadline_s=10)) == [0, 1]


def test_a_stream_is_put_with_its_first_item_and_cancelled_from_anywhere(worker: Worker) -> None:
    handed: list[Ticket[int]] = []

    def begin() -> Ticket[int]:
        handed.append(worker.submit(counting(2)))
        return handed[-1]

    stream = Stream(begin)
    stream.cancel()
    with pytest.raises(CancelledError):
        next(stream)
    assert not handed
    gate = threading.Event()
    stream = Stream(lambda: worker.submit(counting(5, gate)))
    assert next(stream) == 0
    thread = threading.Thread(target=stream.cancel)
    thread.start()
    thread.join()
    gate.set()
    with pytest.raises(CancelledError):
        list(stream)


def test_letting_go_of_a_stream_ends_its_turn(worker: Worker) -> None:
    gate = threading.Event()
    stream = Stream(lambda: worker.submit(counting(10**6, gate)))
    next(stream)
    del stream
    gate.set()
    assert list(worker.submit(counting(1))) == [0]


def test_a_closed_worker_says_so(interrupt: Interrupt) -> None:
    worker, began, last = Worker(interrupt), threading.Event(), []
    running, waiting = worker.submit(computing(interrupt, began)), worker.submit(counting(1))
    assert began.wait(10)
    worker.close(lambda: last.append(threading.current_thread().name))
    worker.close()
    assert next(running) == 0 and len(last) == 1
    for ticket in (running, waiting):
        with pytest.raises(EngineError, match="closed"):
            next(ticket)
    for call in (lambda: worker.submit(counting(1)), lambda: worker.call(int)):
        with pytest.raises(EngineError, match="closed"):
            call()
    with pytest.raises(EngineError, match="closed"):
        next(worker.when_idle(counting(1), 0))


def test_a_job_that_was_stopped_while_it_waited_is_over_at_once(worker: Worker) -> None:
    """Its reader need not wait for the one before it: a server's client may be gone already."""
    gate = threading.Event()
    first, second = worker.submit(counting(2, gate)), worker.submit(counting(2))
    assert next(first) == 0
    second.stop(CancelledError("gone"))
    over = threading.Thread(target=second.wait, daemon=True)
    over.start()
    over.join(5)
    assert not over.is_alive() and not first.done
    gate.set()
