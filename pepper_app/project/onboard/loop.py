"""The one thread on which everything of the app happens, and its clock.

Owns: the order in which things are done, timers, and that nobody else touches the app's state:
whoever has news, on whatever thread, posts it here. Knows nothing of robots.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import heapq
import os
import time
from itertools import count

try:
    from queue import Empty, Queue
except ImportError:  # Python 2.7
    from Queue import Empty, Queue  # type: ignore[import-not-found,no-redef]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, List, Optional, Tuple

LONGEST_S = 0.5
"""Python 2.7 sees no signal while it waits for ever."""

if hasattr(time, "monotonic"):
    seconds = time.monotonic
else:

    def seconds():  # type: () -> float
        """Give seconds since the machine was started; Linux counts them in hundredths."""
        return os.times()[4]


class Timer(object):
    """Something that will be done later."""

    def __init__(self, act, values):  # type: (Callable[..., Any], Tuple[Any, ...]) -> None
        self._act = act  # type: Optional[Callable[..., Any]]
        self._values = values

    def cancel(self):  # type: () -> None
        """Do it no more; nothing happens when it has been done."""
        self._act = None

    def fire(self):  # type: () -> None
        """Do it, if it still is to be done."""
        act, self._act = self._act, None
        if act is not None:
            act(*self._values)


class Loop(object):
    """See the module."""

    def __init__(self, pace=1.0):  # type: (float) -> None
        """Begin to count time.

        Args:
            pace: how much faster than the world's it runs; for the virtual robot.
        """
        self._pace = pace
        self._queue = Queue()  # type: Queue[Timer]
        self._timers = []  # type: List[Tuple[float, int, Timer]]
        self._numbers = count()
        self._ended = False

    def now(self):  # type: () -> float
        """Give seconds of the app's time since an unknown moment; never runs backwards."""
        return seconds() * self._pace

    def post(self, act, *values):  # type: (Callable[..., Any], *Any) -> None
        """Have something done soon; may be called on every thread."""
        self._queue.put(Timer(act, values))

    def after(self, seconds, act, *values):  # type: (float, Callable[..., Any], *Any) -> Timer
        """Have something done later; call it on the loop's own thread."""
        timer = Timer(act, values)
        heapq.heappush(self._timers, (self.now() + seconds, next(self._numbers), timer))
        return timer

    def end(self):  # type: () -> None
        """Let `run` return; may be called on every thread, and by a signal's handler."""
        self._ended = True  # `run` looks twice a second; a lock here could be the interrupted one

    def run(self):  # type: () -> None
        """Do what is posted and what is due, until the end."""
        while not self._ended:
            self.turn(LONGEST_S)

    def turn(self, longest):  # type: (float) -> None
        """Do what is due, and wait for one thing more.

        Args:
            longest: seconds of the world's time to wait at most.
        """
        while self._timers and self._timers[0][0] <= self.now():
            heapq.heappop(self._timers)[2].fire()
            if self._ended:
                return
        if self._timers:
            longest = min(longest, max(0.0, (self._timers[0][0] - self.now()) / self._pace))
        try:
            posted = self._queue.get(timeout=longest) if longest > 0 else self._queue.get(False)
        except Empty:
            return
        posted.fire()
