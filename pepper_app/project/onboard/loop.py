"""The one thread on which everything of the app happens, and its clock.

Owns: the order in which things are done, timers, and that nobody else touches the app's state:
whoever has news, on whatever thread, posts it here. Knows nothing of robots.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import errno
import fcntl
import heapq
import os
import select
import time
from collections import deque
from itertools import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Deque, List, Optional, Tuple

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
        self._posted = deque()  # type: Deque[Timer]
        self._bell = _Bell()
        self._timers = []  # type: List[Tuple[float, int, Timer]]
        self._numbers = count()
        self._ended = False

    def now(self):  # type: () -> float
        """Give seconds of the app's time since an unknown moment; never runs backwards."""
        return seconds() * self._pace

    def post(self, act, *values):  # type: (Callable[..., Any], *Any) -> None
        """Have something done soon; may be called on every thread."""
        self._posted.append(Timer(act, values))
        self._bell.ring()

    def after(self, seconds, act, *values):  # type: (float, Callable[..., Any], *Any) -> Timer
        """Have something done later; call it on the loop's own thread."""
        timer = Timer(act, values)
        heapq.heappush(self._timers, (self.now() + seconds, next(self._numbers), timer))
        return timer

    def after_real(self, seconds, act, *values):
        # type: (float, Callable[..., Any], *Any) -> Timer
        """As `after`, in seconds of the world: for what takes its time whatever the pace."""
        return self.after(seconds * self._pace, act, *values)

    def end(self):  # type: () -> None
        """Let `run` return; may be called on every thread, and by a signal's handler."""
        self._ended = True  # `run` looks twice a second; a lock here could be the interrupted one

    def run(self):  # type: () -> None
        """Do what is posted and what is due, until the end."""
        while not self._ended:
            self.turn(LONGEST_S)

    def turn(self, longest):  # type: (float) -> None
        """Do what is due, and one thing that was posted; wait for that.

        Args:
            longest: seconds of the world's time to wait at most.
        """
        while self._timers and self._timers[0][0] <= self.now():
            heapq.heappop(self._timers)[2].fire()
            if self._ended:
                return
        if self._timers:
            longest = min(longest, max(0.0, (self._timers[0][0] - self.now()) / self._pace))
        if not self._posted:
            self._bell.wait(longest)
        if self._posted:
            self._posted.popleft().fire()


class _Bell(object):
    """Wakes one thread from all others: a pipe, since Python 2.7's own waits nap up to 50 ms."""

    def __init__(self):  # type: () -> None
        self._out, self._in = os.pipe()
        for end in (self._out, self._in):
            fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_NONBLOCK)
            fcntl.fcntl(end, fcntl.F_SETFD, fcntl.fcntl(end, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)

    def __del__(self):  # type: () -> None
        """Close the pipe; whoever may still ring holds the bell."""
        os.close(self._out)
        os.close(self._in)

    def ring(self):  # type: () -> None
        """Wake it, or let its next wait return at once."""
        try:
            os.write(self._in, b"!")
        except OSError as error:
            if error.errno != errno.EAGAIN:  # full: it will wake anyway
                raise

    def wait(self, longest):  # type: (float) -> None
        """Wait for a ring.

        Args:
            longest: seconds to wait at most; a signal may end it sooner.
        """
        try:
            select.select([self._out], [], [], longest)
            os.read(self._out, 4096)
        except (OSError, select.error) as error:
            if error.args[0] not in (errno.EAGAIN, errno.EINTR):  # nobody has rung
                raise
