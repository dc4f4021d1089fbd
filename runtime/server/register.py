"""Which turns are under way and which have been: the brain's book of turns.

Owns: their ids, how many there may be, who is before whom, how long one takes, and for how long an
ended one is remembered, in memory. Knows nothing of what a turn does.
"""

from __future__ import annotations

import secrets
from collections import deque
from math import ceil
from threading import Condition
from time import monotonic
from typing import Final

from uservlm.runtime.errors import BusyError
from uservlm.runtime.server.faults import DrainingError, TurnTakenError
from uservlm.runtime.server.limits import Limits
from uservlm.runtime.server.turn import Question, Turn

LONGEST_RETRY_S: Final = 60
_WEIGHT: Final = 0.2
"""Of the latest turn in the mean of what a turn takes."""


class Register:
    """The turns of one brain; safe to use from several threads."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._under_way: dict[str, tuple[Turn, float]] = {}
        self._past: deque[Turn] = deque(maxlen=limits.remembered_turns)
        self._mean_s, self._closed = 1.0, False
        self._lock = Condition()

    def enter(self, question: Question) -> Turn:
        """Begin a turn.

        Raises:
            DrainingError: no more are taken.
            BusyError: too many are under way.
            TurnTakenError: one of this id is.
        """
        with self._lock:
            if self._closed:
                raise DrainingError("no more turns are taken")
            name = question.turn or f"chatcmpl-{secrets.token_hex(12)}"
            if name in self._under_way:
                raise TurnTakenError(f"turn {name!r} is under way")
            if len(self._under_way) >= self._limits.waiting:
                raise BusyError(f"{len(self._under_way)} turns are under way")
            turn = Turn(name, question)
            if not self._under_way:
                turn.state = "thinking"
            self._under_way[name] = turn, monotonic()
        return turn

    def leave(self, turn: Turn, begun: bool = True) -> Turn | None:
        """Note that a turn has ended; gives the one whose thinking begins.

        Args:
            turn: under way until now.
            begun: False for one that was refused before anything was done for it.
        """
        with self._lock:
            _, entered = self._under_way.pop(turn.id)
            if begun:
                took = (monotonic() - entered) / (1 + len(self._under_way))
                self._mean_s += _WEIGHT * (took - self._mean_s)
            if begun and turn.remembered:
                self._past.append(turn)
            self._lock.notify_all()
            following = next((one for one, _ in self._under_way.values()), None)
            if following is None or following.state != "waiting":
                return None
            following.state = "thinking"
            return following

    def find(self, name: str) -> Turn | None:
        """Give a turn that is under way."""
        with self._lock:
            found = self._under_way.get(name)
        return found and found[0]

    @property
    def under_way(self) -> tuple[Turn, ...]:
        """Turns that wait or run, first come first."""
        with self._lock:
            return tuple(turn for turn, _ in self._under_way.values())

    @property
    def all(self) -> tuple[Turn, ...]:
        """Those remembered and those under way, oldest first."""
        with self._lock:
            return (*self._past, *(turn for turn, _ in self._under_way.values()))

    def forget(self, user: str | None) -> None:
        """End the turns about a user, and remember none of theirs; None: of nobody who is named.

        Turns about a picture alone may be about them too: they end by themselves, unremembered.
        """
        with self._lock:
            for turn, _ in self._under_way.values():
                if turn.user in (user, None):
                    turn.remembered = False
                if turn.user is not None and turn.user == user:
                    turn.cancel()
            stay = [turn for turn in self._past if turn.user not in (user, None)]
            self._past.clear()
            self._past.extend(stay)

    def forget_all(self) -> None:
        """End every turn, and remember none."""
        with self._lock:
            for turn, _ in self._under_way.values():
                turn.remembered = False
                turn.cancel()
            self._past.clear()

    @property
    def users(self) -> frozenset[str]:
        """The ids of those whose turns are remembered."""
        with self._lock:
            return frozenset(turn.user for turn in self._past if turn.user is not None)

    @property
    def closed(self) -> bool:
        """Whether no more turns are taken."""
        return self._closed

    def close(self) -> None:
        """Take no more turns; those under way go on."""
        with self._lock:
            self._closed = True

    def wait_until_empty(self, seconds: float) -> bool:
        """Wait for the turns under way; gives whether all have ended."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._under_way, seconds)

    @property
    def retry_after_s(self) -> int:
        """When a place may be free again, by what turns took lately."""
        return min(LONGEST_RETRY_S, max(1, ceil(self._mean_s)))
