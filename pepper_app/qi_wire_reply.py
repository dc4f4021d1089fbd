"""The answer to one call that came by the qi protocol.

Owns: that the first word counts, in which form an answer goes out, and that whoever cancels, or is
gone, is heard of. Knows nothing of methods.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from uservlm.pepper_app.qi_wire_message import DYNAMIC, Kind, Message
from uservlm.pepper_app.qi_wire_peer import Peer
from uservlm.pepper_app.qi_wire_values import encode
from uservlm.pepper_app.service import Value


class WireReply:
    """`service.Reply` on a connection."""

    def __init__(self, peer: Peer, call: Message, done: Callable[[WireReply], None]) -> None:
        """Answer a call.

        Args:
            peer: who called.
            call: the message; to a post nothing is sent.
            done: told once, when something was said.
        """
        self.call = call
        self.peer = peer
        self.returns = "m"
        """The form of the answer, as the method declares it."""
        self.wanted = ""
        """And as the caller wants it, if they say so and it can be had."""
        self._done = done
        self._lock, self._said, self._cancelled = Lock(), False, False
        self._act: Callable[[], None] | None = None

    def value(self, value: Value) -> None:
        """See `service.Reply`.

        Raises:
            TypeError: it is no plain value, or not of the type that is declared.
        """
        self._say(self._answer(value))

    def packed(self, payload: bytes) -> None:
        """Answer with what is encoded already."""
        self._say(self.call.answer(Kind.REPLY, payload))

    def error(self, text: str) -> None:
        """See `service.Reply`; who cancelled sees that instead."""
        with self._lock:
            cancelled = self._cancelled and "RemoteCancelableCalls" in self.peer.can
        self._say(self.call.answer(Kind.CANCELED) if cancelled else self.call.refusal(text))

    def when_cancelled(self, act: Callable[[], None]) -> None:
        """See `service.Reply`."""
        with self._lock:
            self._act, asked = act, self._cancelled
        if asked:
            act()

    def cancel(self) -> None:
        """Note that the caller no longer waits."""
        with self._lock:
            self._cancelled, act = True, self._act
        if act is not None:
            act()

    def _answer(self, value: Value) -> Message:
        if self.wanted:
            try:
                form = encode("s", self.wanted) + encode(self.wanted, value)
            except TypeError:
                return self.call.answer(Kind.REPLY, encode(self.returns, value))
            return self.call.answer(Kind.REPLY, form, DYNAMIC)
        return self.call.answer(Kind.REPLY, encode(self.returns, value))

    def _say(self, answer: Message) -> None:
        with self._lock:
            if self._said:
                return
            self._said = True
        if self.call.kind == Kind.CALL:
            self.peer.connection.send(answer)
        self._done(self)
