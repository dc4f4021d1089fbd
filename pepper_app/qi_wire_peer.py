"""Who is at the other end of a connection: the greeting, our calls of theirs, and theirs of ours.

Owns: capabilities and login, the numbers of calls and who waits for which, and who hears the events
that come. Knows nothing of what is called. Both ends may call, whoever connected: a robot calls a
service over the connection by which it was registered, where it can.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, TimeoutError
from itertools import count
from threading import Event, Lock
from time import monotonic
from typing import Final, Protocol

from uservlm.pepper_app.qi_wire_message import Kind, Message
from uservlm.pepper_app.qi_wire_signature import CodecError
from uservlm.pepper_app.qi_wire_socket import Allowance, Connection
from uservlm.pepper_app.qi_wire_values import decode, encode
from uservlm.pepper_app.robot import Login
from uservlm.pepper_app.service import RobotError, Value

MOST_CALLS: Final = 1024
"""Of ours that one peer has not answered."""
CAPABILITIES: Final = {
    **{"ClientServerSocket": True, "MessageFlags": True, "RemoteCancelableCalls": True},
    **{"MetaObjectCache": False, "ObjectPtrUID": False, "RelativeEndpointURI": False},
}
MAIN: Final = 1
"""The number of a service's own object."""
_AUTHENTICATE: Final = 8
_STATE: Final = "__qi_auth_state"
_DONE: Final = 3
_STEP_S: Final = 0.05
_LONGEST_TEXT: Final = 500


class RefusedError(RobotError):
    """The other end answered with an error; the text is theirs."""


class Host(Protocol):
    """What a peer's calls go to; called by the loop's thread, returns at once."""

    def called(self, peer: Peer, message: Message) -> None:
        """Take a call, a post or a cancel."""

    def left(self, peer: Peer) -> None:
        """Note that a peer is gone."""


class Peer:
    """The other end."""

    def __init__(
        self, plain: socket.socket, allowance: Allowance, host: Host, ours: bool = False
    ) -> None:
        """Take over a connected socket; the loop must be told of `connection`."""
        self.connection = Connection(plain, allowance, self._heard, self._gone, ours)
        self.can: frozenset[str] = frozenset()
        """The other end's capabilities."""
        self._host, self._introduced = host, ours
        self._numbers = count(1)
        self._waiting: dict[int, Future[Message]] = {}
        self._events: dict[tuple[int, int, int], Callable[[Message], None]] = {}
        self._when_gone: Callable[[], None] = lambda: None
        self._lock = Lock()

    def greet(self, login: Login | None, seconds: float, closing: Event) -> None:
        """Introduce us, and log in where there is a login.

        Raises:
            RefusedError: we may not come in.
            RobotError: no answer, or none that we know.
        """
        said: dict[str, Value] = dict(CAPABILITIES)
        if login is not None:
            said |= {"auth_user": login.user, "auth_token": login.password or ""}
        message = Message(Kind.CALL, 0, 0, 0, _AUTHENTICATE, encode("{sm}", said))
        answer = decode("{sm}", self.call(message, seconds, "the robot", closing).payload)
        if answer.get(_STATE, _DONE) != _DONE:
            raise RefusedError("the robot wants another kind of login")
        self.can = _capabilities(answer)

    def call(self, message: Message, seconds: float, what: str, closing: Event) -> Message:
        """Call, and wait for the reply.

        Raises:
            RefusedError: it is an error.
            RobotError: none came, too many calls wait, or we are being closed.
        """
        number, future = self._begin(message, what)
        last = monotonic() + seconds
        try:
            while not future.done():
                if self.connection.ended and future.cancel():
                    continue
                if closing.is_set() or monotonic() > last:
                    self._cancel(message, number)
                    raise RobotError(f"{what}: no answer within {seconds:g} s")
                try:
                    future.result(_STEP_S)
                except (TimeoutError, CancelledError):
                    continue
        finally:
            with self._lock:
                self._waiting.pop(number, None)
        if future.cancelled():
            raise RobotError(f"{what}: the connection is gone: {self.connection.ended}")
        return _checked(future.result(), what)

    def when_gone(self, act: Callable[[], None]) -> None:
        """Do something, quickly, when it is gone; at once if it is so already."""
        self._when_gone = act
        if self.connection.ended:
            act()

    def on_event(self, address: tuple[int, int, int], act: Callable[[Message], None]) -> None:
        """Hear an event: of a service, an object and a signal's number. By the loop's thread."""
        self._events[address] = act

    def _begin(self, message: Message, what: str) -> tuple[int, Future[Message]]:
        future: Future[Message] = Future()
        with self._lock:
            if len(self._waiting) >= MOST_CALLS:
                raise RobotError(f"{what}: {MOST_CALLS} calls are not answered yet")
            number = next(self._numbers) % 2**32
            self._waiting[number] = future
        numbered = Message(
            message.kind, number, *(message.service, message.object, message.action),
            message.payload, message.flags,
        )  # fmt: skip
        if not self.connection.send(numbered):
            future.cancel()
        return number, future

    def _cancel(self, message: Message, number: int) -> None:
        if "RemoteCancelableCalls" in self.can:
            payload = encode("I", number)
            self.connection.send(
                Message(Kind.CANCEL, 0, message.service, message.object, 0, payload)
            )

    def _heard(self, message: Message) -> None:
        if message.kind in (Kind.REPLY, Kind.ERROR, Kind.CANCELED):
            with self._lock:
                future = self._waiting.pop(message.number, None)
            if future is not None and future.set_running_or_notify_cancel():
                future.set_result(message)
        elif message.kind == Kind.EVENT:
            act = self._events.get((message.service, message.object, message.action))
            if act is not None:
                act(message)
        elif message.kind == Kind.CAPABILITY or message.service == 0:
            self._met(message)
        else:
            if not self._introduced:  # libqi of NAOqi 2.1 may begin with a call
                self._introduced = True
                capabilities = encode("{sm}", CAPABILITIES)
                self.connection.send(Message(Kind.CAPABILITY, 0, 0, 0, 0, capabilities))
            self._host.called(self, message)

    def _met(self, message: Message) -> None:
        """Let somebody introduce themselves."""
        if message.kind == Kind.CALL and message.action != _AUTHENTICATE:
            self.connection.send(message.refusal("bad_request: there is no such function"))
            return
        try:
            self.can = _capabilities(decode("{sm}", message.payload))
        except CodecError as error:
            self.connection.end(str(error))
            return
        self._introduced = True
        if message.kind == Kind.CALL:
            welcome = encode("{sm}", {**CAPABILITIES, _STATE: _DONE})
            self.connection.send(message.answer(Kind.REPLY, welcome))

    def _gone(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.cancel()
        self._events.clear()
        self._host.left(self)
        self._when_gone()


def _capabilities(said: dict[str, Value]) -> frozenset[str]:
    return frozenset(name for name in CAPABILITIES if said.get(name) is True)


def _checked(answer: Message, what: str) -> Message:
    """Give a reply that is no error.

    Raises:
        RefusedError: it is one.
    """
    if answer.kind == Kind.REPLY:
        return answer
    text = "it was cancelled"
    if answer.kind == Kind.ERROR:
        try:
            text = str(decode("m", answer.payload))
        except CodecError:
            text = "it failed"
    text = text.partition("\n")[0].partition(" [")[0].strip()[:_LONGEST_TEXT]
    raise RefusedError(f"{what}: {text or 'refused'}")
