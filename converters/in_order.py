"""Work done by several threads whose results come out in the order of the work.

Owns: that no more than a few results are held at once. Knows nothing of what is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Task], Result], tasks: Iterable[Task], threads: int
) -> Iterator[tuple[Task, Result]]:
    """Run `work` on each task and give (task, result) in order.

    Unlike `Executor.map`, which starts everything at once, at most `threads` + 1 tasks are under
    way or waiting to be taken, so a slow reader does not fill the memory.
    """
    remaining = iter(tasks)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[Task, Future[Result]]] = deque(
            (task, pool.submit(work, task)) for task in islice(remaining, threads + 1)
        )
        try:
            while waiting:
                task, future = waiting.popleft()
                result = future.result()
                waiting.extend((more, pool.submit(work, more)) for more in islice(remaining, 1))
                yield task, result
        finally:
            for _, future in waiting:
                future.cancel()
