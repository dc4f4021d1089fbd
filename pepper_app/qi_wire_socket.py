"""One connection of the qi protocol, as bytes: what has come in part, and what waits to be sent.

Owns: the socket, framing, the order in which messages go out, and when a connection has to go: who
sends garbage, sends half a message and no more, or does not read what they asked for. Knows nothing
of what messages mean. Reading and closing are the loop's thread's (`qi_wire_loop.py`); sending is
anybody's: what the socket takes at once is sent at once.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import Final

from uservlm.pepper_app.qi_wire_message import Message, unpack
from uservlm.pepper_app.qi_wire_signature import CodecError

GREETING_S: Final = 5.0
"""For a first whole message."""
PART_S: Final = 20.0
"""For the rest of a message to come, since something last did."""
WHOLE_S: Final = 120.0
"""For a whole message, since it began."""
UNREAD_S: Final = 10.0
"""For somebody to read on."""
QUEUED_BYTES: Final = 2**20
"""Who lets more wait than this has stopped reading."""
OWN_QUEUED_BYTES: Final = 64 * 2**20
HELD_BYTES: Final = 192 * 2**20
"""Of all that strangers sent, in parts and in calls that are worked on."""
_PIECE: Final = 2**16
_WAIT: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Allowance:
    """How many bytes of strangers' may be held at one time, all of them together."""

    def __init__(self, most: int = HELD_BYTES) -> None:
        self._left, self._lock = most, Lock()

    def take(self, count: int) -> bool:
        """Hold more, if that may be; the same number is given back."""
        with self._lock:
            if count > self._left:
                return False
            self._left -= count
            return True

    def give(self, count: int) -> None:
        """Let go again."""
        with self._lock:
            self._left += count


class Connection:
    """A connection; `heard` and `gone` are called by the loop's thread alone."""

    def __init__(
        self,
        plain: socket.socket,
        allowance: Allowance,
        heard: Callable[[Message], None],
        gone: Callable[[], None],
        ours: bool = False,
    ) -> None:
        """Take over a connected socket.

        Args:
            plain: the socket, also of TLS.
            allowance: shared by all connections.
            heard: told each message.
            gone: told once, when it is closed.
            ours: whether we connected, so that it is never too many, and what waits to be sent is
                what we want to send.
        """
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.socket = plain
        self.changed: Callable[[Connection], None] = lambda _: None
        """The loop's: called when `wants_write` or `ended` is another."""
        self.ours = ours
        self.ended = ""
        """Why it has to be closed."""
        self.greeted = False
        """Whether a whole message has come."""
        self.heard_at = monotonic()
        self._allowance, self._heard, self._gone = allowance, heard, gone
        self._coming, self._held = bytearray(), 0
        self._began = monotonic()
        self._queue: deque[memoryview] = deque()
        self._queued, self._most_queued = 0, OWN_QUEUED_BYTES if ours else QUEUED_BYTES
        self._sent_at = monotonic()
        self._lock = Lock()

    @property
    def wants_write(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._queue)

    def send(self, message: Message) -> bool:
        """Send soon, behind what was sent before; from any thread.

        Returns:
            False where it is closed, or the other side does not read.
        """
        data = memoryview(message.packed())
        with self._lock:
            if self.ended:
                return False
            waiting = bool(self._queue)
            if self._queued > self._most_queued:
                self.ended = "what is sent is not read"
            else:
                self._queue.append(data)
                self._queued += len(data)
                if not waiting:
                    self._sent_at = monotonic()
                    self._send_queued()
            same = not self.ended and bool(self._queue) == waiting
        if not same:
            self.changed(self)
        return not self.ended

    def write(self) -> None:
        """Send what waits; the loop's."""
        with self._lock:
            self._send_queued()

    def _send_queued(self) -> None:
        try:
            while self._queue:
                count = self.socket.send(self._queue[0])
                self._sent_at = monotonic()
                self._queued -= count
                if count < len(self._queue[0]):
                    self._queue[0] = self._queue[0][count:]
                else:
                    self._queue.popleft()
        except _WAIT:
            pass
        except OSError as error:
            self._end(f"the connection broke: {error}")

    def read(self) -> None:
        """Take what has come; the loop's."""
        for _ in range(4):  # and then the others' turn
            with self._lock:
                try:
                    piece = self.socket.recv(_PIECE)
                except _WAIT:
                    return
                except OSError as error:
                    return self._end(f"the connection broke: {error}")
            if not piece:
                return self._end("the other side has hung up")
            self._take(piece)
            if self.ended or len(piece) < _PIECE:
                return

    def _take(self, piece: bytes) -> None:
        if not self._allowance.take(len(piece)):
            return self._end("too much is under way from everybody together")
        self._held += len(piece)
        now = self.heard_at = monotonic()
        if not self._coming:
            self._began = now
        self._coming += piece
        place = 0
        try:
            while True:
                message, size = unpack(self._coming, place)
                if message is None:
                    break
                place += size
                self.greeted, self._began = True, now
                self._heard(message)
        except CodecError as error:
            self._end(str(error))
        if place:
            del self._coming[:place]
            self._allowance.give(self._held - len(self._coming))
            self._held = len(self._coming)

    def look_after(self, now: float) -> None:
        """End it if it has waited for too long; the loop's."""
        if self._coming and (now - self.heard_at > PART_S or now - self._began > WHOLE_S):
            self._end("the rest of a message does not come")
        elif self._queue and now - self._sent_at > UNREAD_S:
            self._end("what is sent is not read")
        elif not self.greeted and now - self._began > GREETING_S:
            self._end("nothing comes")

    def end(self, why: str) -> None:
        """Close it soon; from any thread."""
        self._end(why)
        self.changed(self)

    def _end(self, why: str) -> None:
        self.ended = self.ended or why

    def shut(self) -> None:
        """Close the socket alone, where no loop runs any more."""
        with self._lock:
            self._end("closed")
            self._queue.clear()
            self.socket.close()

    def close(self) -> None:
        """Close it; the loop's, once."""
        self.shut()
        self._coming.clear()
        self._allowance.give(self._held)
        self._held = 0
        self._gone()
