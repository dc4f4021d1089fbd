"""What the virtual Pepper did, when, and what happens to it next.

Owns: the clock and its pace, the record of every deed, the transcript, timers, and which
misbehaviours are on. Knows nothing of NAOqi or libqi.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from threading import Condition, RLock, Thread
from time import monotonic, time
from typing import Final

from uservlm.pepper_app.service import RobotError, Value

MISBEHAVIOURS: Final = {
    "invalid-signature": "ALMemory.subscriber refuses, as NAOqi 2.5 does for Python 3",
    "none-frames": "every second frame is None",
    "late-services": "all but ALMemory and VirtualPepper come 2 s after the directory",
    "flicker": "people lists are empty for a moment, again and again",
    "restarts": "naoqi goes every 20 s, for 1 s",
    "slow-network": "answers take 0.15 s, frames 0.4 s",
    "no-camera": "there is no ALVideoDevice",
    "no-tablet": "there is no ALTabletService",
    "no-topics": "ALDialog refuses every topic",
    "tablet-first-page": "the tablet's first page does not load",
    "packages-busy": "PackageManager refuses to install",
    "packages-hang": "PackageManager never answers who wants to install",
    "packages-lose": "PackageManager says that it has installed, and has not",
    "services-late": "ALServiceManager hears of a new package 1 s after it is installed",
    "naoqi-2.9": "ALSystem says that this is NAOqi 2.9, and nothing else does",
}
SLOW_S: Final = 0.15
SLOW_FRAME_S: Final = 0.4


@dataclass(frozen=True)
class Deed:
    """Something the robot did, or that was done to it."""

    at: float
    """Seconds of the robot's own time since it was made."""
    who: str
    """The service."""
    what: str
    values: tuple[Value, ...] = ()

    def __str__(self) -> str:
        """Write it as a line of the transcript."""
        said = " ".join(_short(value) for value in self.values)
        return f"{self.at:8.2f}  {self.who:<19} {self.what:<20} {said}".rstrip()


@dataclass(order=True)
class _Timer:
    due: float
    number: int
    act: Callable[[], None] = field(compare=False)
    off: bool = field(default=False, compare=False)


class World:
    """One robot's time and memory of deeds; survives a restart of naoqi. Close it."""

    def __init__(self, pace: float = 1.0, show: Callable[[Deed], None] | None = None) -> None:
        """Begin.

        Args:
            pace: how much faster than a real robot's its time runs.
            show: is given each deed, quickly done.
        """
        self.pace = pace
        self.lock = RLock()
        self.misbehaving: set[str] = set()
        self._show, self._start = show, monotonic()
        self._deeds: list[Deed] = []
        self._timers: list[_Timer] = []
        self._numbers, self._closed = count(), False
        self._changed = Condition()
        self._thread = Thread(target=self._run, name="virtual-time", daemon=True)
        self._thread.start()

    def now(self) -> float:
        """Give the robot's time in seconds."""
        return (monotonic() - self._start) * self.pace

    def did(self, who: str, what: str, *values: Value) -> None:
        """Record a deed, and show it."""
        with self.lock:
            deed = Deed(self.now(), who, what, values)
            self._deeds.append(deed)
            if self._show is not None:
                self._show(deed)

    def recorded(self, who: str = "", what: str = "", since: float = 0.0) -> list[Deed]:
        """Give the deeds of one service, of one kind, or all, in their order."""
        with self.lock:
            first = bisect_left(self._deeds, since, key=lambda deed: deed.at)
            return [
                deed
                for deed in self._deeds[first:]
                if who in ("", deed.who) and what in ("", deed.what)
            ]

    def misbehave(self, names: Iterable[str]) -> None:
        """Let these misbehaviours be on, and no others.

        Raises:
            RobotError: there is none of such a name.
        """
        wanted = list(names)
        for name in wanted:
            if name not in tuple(MISBEHAVIOURS):
                raise RobotError(f"no misbehaviour {name}; there are {', '.join(MISBEHAVIOURS)}")
        self.misbehaving = set(wanted)

    def after(self, seconds: float, act: Callable[[], None]) -> Callable[[], None]:
        """Do something later, on the thread of time; gives what calls it off.

        Args:
            seconds: of the robot's time.
            act: is quick, and may raise `RobotError`, which is recorded.
        """
        timer = _Timer(monotonic() + seconds / self.pace, next(self._numbers), act)
        with self._changed:
            heapq.heappush(self._timers, timer)
            self._changed.notify()

        def call_off() -> None:
            timer.off = True

        return call_off

    def close(self) -> None:
        """Let no more time pass."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(2.0)

    def _run(self) -> None:
        while (timer := self._next()) is not None:
            with self.lock:
                if timer.off:
                    continue
                try:
                    timer.act()
                except RobotError as error:
                    self.did("VirtualPepper", "refused", str(error))

    def _next(self) -> _Timer | None:
        """Wait for the next timer; None: there will be no more."""
        with self._changed:
            while not self._closed:
                wait = self._timers[0].due - monotonic() if self._timers else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._timers)
                self._changed.wait(wait)
        return None


def stamp() -> list[int]:
    """Give the time as NAOqi writes it: seconds and microseconds."""
    now = time()
    return [int(now), int(now % 1 * 1e6)]


def _short(value: Value) -> str:
    """Write a value so that a person can read it."""
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, str):
        return value if len(value) <= 120 else f"{value[:117]}..."
    return f"{value:g}" if isinstance(value, float) else repr(value)
