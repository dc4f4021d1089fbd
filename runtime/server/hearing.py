"""Who is listened to over HTTP: sessions by a name of the client's own.

Owns: the names. Knows nothing of routes, nor of how anything is heard.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock

from uservlm.runtime.server.ears import Ears
from uservlm.runtime.server.faults import NoEarsError
from uservlm.runtime.server.limits import Limits
from uservlm.runtime.server.listening import Listening, check_sound


@dataclass(frozen=True)
class Understood:
    """What one request brought."""

    heard: tuple[str, ...] = field(repr=False)
    """Whole, in order."""
    partial: str = field(repr=False)
    """What has been said since; it may still change."""


class Hearing:
    """Sessions; they end when nothing of them is heard for a while. Safe from several threads."""

    def __init__(self, ears: Ears | None, limits: Limits) -> None:
        """Listen to nobody yet; without ears everything is refused."""
        self._ears, self._limits = ears, limits
        self._sessions: dict[str, Listening] = {}
        self._lock = Lock()

    def take(self, session: str, pcm: bytes) -> Understood:
        """Hear a piece of sound; waits until it was decoded.

        Args:
            session: begins with its first piece.
            pcm: int16, little endian, one channel, 16 kHz.

        Raises:
            NoEarsError: the brain was started without.
            SoundError: half a sample, or too much at once.
            BusyError: too many are listened to, or decoding does not keep up.
        """
        check_sound(pcm, self._limits)
        listening = self._of(session)
        heard = listening.take(pcm)
        return Understood(tuple(one.text for one in heard if one.final), listening.partial)

    def drop(self, session: str) -> None:
        """End a session, with what is in progress.

        Raises:
            NoEarsError: the brain was started without.
        """
        if self._ears is None:
            raise NoEarsError("started without --hear")
        with self._lock:
            listening = self._sessions.pop(session, None)
        if listening is not None:
            listening.close()

    def _of(self, session: str) -> Listening:
        if self._ears is None:
            raise NoEarsError("started without --hear")
        with self._lock:
            for name in [name for name, one in self._sessions.items() if one.closed]:
                del self._sessions[name]
            if session not in self._sessions:
                self._sessions[session] = self._ears.listen()
            return self._sessions[session]
