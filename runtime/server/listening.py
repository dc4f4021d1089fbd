"""Listening to one speaker: what waits to be decoded, and what was heard of it.

Owns: what of the sound and text of one speaker is held, and that nothing of it is left when they
are muted. Knows nothing of recognisers: `ears.py` decodes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Lock
from time import monotonic
from typing import Any, Final

from uservlm.runtime.errors import BusyError
from uservlm.runtime.server.faults import SoundError
from uservlm.runtime.server.limits import Limits

_UNTAKEN: Final = 32
"""What was heard and nobody took; the oldest goes first."""
_TAKE_S: Final = 20.0
"""For a piece to be decoded; a machine that takes longer cannot hear."""


@dataclass(frozen=True)
class Heard:
    """What somebody said."""

    text: str = field(repr=False)
    final: bool
    """Whether they have paused, so that it stays as it is; else it may still change and grow."""


@dataclass
class Round:
    """What one stream hears, from a mute, a drop or the beginning to the next."""

    stream: Any = None
    """The recogniser's; made by who decodes, and used on that thread alone."""
    partial: str = field(default="", repr=False)


@dataclass(frozen=True)
class Piece:
    """Sound that waits to be decoded."""

    pcm: bytes = field(repr=False)
    round: Round
    done: Event = field(default_factory=Event)
    """Set when it was decoded, or dropped."""


class Listening:
    """One speaker; every method from any thread."""

    def __init__(
        self,
        hand_in: Callable[[Listening], None],
        limits: Limits,
        told: Callable[[Heard], None] | None = None,
    ) -> None:
        """Hear nothing yet.

        Args:
            hand_in: asks for a call of `next`, once for each piece.
            limits: how much sound may come at once, and wait.
            told: of what is heard; None: `take` gives it.
        """
        self._hand_in, self._limits, self._told = hand_in, limits, told
        self._lock = Lock()
        self._waiting: deque[Piece] = deque()
        self._heard: deque[Heard] = deque(maxlen=_UNTAKEN)
        self._round = Round()
        self.seen = monotonic()
        """When sound came last."""
        self.closed = False
        self.muted = False

    def put(self, pcm: bytes) -> Piece | None:
        """Take sound; returns at once.

        Args:
            pcm: int16, little endian, one channel, 16 kHz.

        Returns:
            What waits to be decoded; None: nobody listens now.

        Raises:
            SoundError: half a sample, or too much at once.
            BusyError: decoding does not keep up; what waited was dropped.
        """
        check_sound(pcm, self._limits)
        self.seen = monotonic()
        with self._lock:
            if self.closed or self.muted:
                return None
            waiting = sum(len(piece.pcm) for piece in self._waiting)
            late = waiting + len(pcm) > self._limits.unheard_bytes
            if late:
                self._begin_anew()
            else:
                piece = Piece(pcm, self._round)
                self._waiting.append(piece)
        if late:
            raise BusyError("the ears do not keep up: what waited was dropped")
        self._hand_in(self)
        return piece

    def take(self, pcm: bytes) -> list[Heard]:
        """Take sound, wait until it was decoded, and give what was heard since the last time.

        Args:
            pcm: see `put`; of nothing only what was heard is given.

        Raises:
            SoundError: half a sample, or too much at once.
            BusyError: decoding does not keep up.
        """
        piece = self.put(pcm)
        if piece is not None and not piece.done.wait(_TAKE_S):
            raise BusyError("the ears do not keep up")
        with self._lock:
            heard = list(self._heard)
            self._heard.clear()
        return heard

    def mute(self) -> None:
        """Drop what is in progress, and whatever comes until `unmute`."""
        with self._lock:
            self.muted = True
            self._begin_anew()

    def unmute(self) -> None:
        """Listen again, from now on."""
        with self._lock:
            self.muted = False

    def drop(self) -> None:
        """Let go of what is in progress, and go on."""
        with self._lock:
            self._begin_anew()

    def close(self) -> None:
        """Let go of everything, for good."""
        with self._lock:
            self.closed = True
            self._begin_anew()

    @property
    def partial(self) -> str:
        """What has been said of a sentence that is not whole yet."""
        return self._round.partial

    def next(self) -> Piece | None:
        """Give what is to be decoded next; None: it was dropped."""
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def tell(self, of: Round, heard: Heard) -> None:
        """Hand over what was heard, unless it was dropped meanwhile."""
        with self._lock:
            if of is not self._round:
                return
            if self._told is None:
                self._heard.append(heard)
        if self._told is not None:
            self._told(heard)

    def _begin_anew(self) -> None:
        """Forget sound and text; the lock is held."""
        self._round = Round()
        for piece in self._waiting:
            piece.done.set()
        self._waiting.clear()
        self._heard.clear()


def check_sound(pcm: bytes, limits: Limits) -> None:
    """Refuse what is no sound.

    Raises:
        SoundError: half a sample, or too much at once.
    """
    if len(pcm) > limits.sound_bytes or len(pcm) % 2:
        raise SoundError(
            "give int16, little endian, of one channel at 16 kHz, "
            f"at most {limits.sound_bytes:,} bytes at a time"
        )
