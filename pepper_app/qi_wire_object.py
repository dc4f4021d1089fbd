"""A declared service as an object that the qi protocol can call.

Owns: what it says of itself, its methods by number, who hears its signals, and that its properties
show the truth: what strangers emit or set changes nothing. Knows nothing of sockets.

Signals are put on each connection under one lock, so that what one thread emits arrives in order,
whatever the names. Work is done by threads of the service's own, one where calls come in order.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Final

from uservlm.pepper_app.qi_wire_message import DYNAMIC, RETURN_TYPE, Kind, Message
from uservlm.pepper_app.qi_wire_peer import MAIN, Peer
from uservlm.pepper_app.qi_wire_reply import WireReply
from uservlm.pepper_app.qi_wire_signature import CodecError, parse
from uservlm.pepper_app.qi_wire_values import META, decode, encode
from uservlm.pepper_app.service import Method, RobotError, Service, Value

_LOG = logging.getLogger("uservlm.qi")

FIRST: Final = 100
"""The number of a service's first member; those below are every object's."""
MOST_LINKS: Final = 256
"""Signals that one connection listens to."""
_THREADS: Final = 4
_OWN: Final = {
    0: ("registerEvent", "(IIL)", "L"),
    1: ("unregisterEvent", "(IIL)", "v"),
    2: ("metaObject", "(I)", META),
    3: ("terminate", "(I)", "v"),
    5: ("property", "(m)", "m"),
    6: ("setProperty", "(mm)", "v"),
    7: ("properties", "()", "[s]"),
    8: ("registerEventWithSignature", "(IILs)", "L"),
}
"""What every object has: name, parameters, and what it gives."""


class WireService:
    """`service.Offered` on our own connections."""

    def __init__(self, service: Service) -> None:
        """Make the object; it can be called once it has a number."""
        self.number = 0
        """In the directory."""
        self._service = service
        self._methods = dict(enumerate(service.methods, FIRST))
        names = [*service.signals, *service.properties]
        self._events = {
            name: number for number, name in enumerate(names, FIRST + len(self._methods))
        }
        self._forms = {name: f"({carries})" for name, carries in service.signals.items()}
        self._forms |= {name: f"({form})" for name, (form, _) in service.properties.items()}
        self._meta = encode(META, self._describe())
        self._links: dict[Peer, dict[int, int]] = {}
        """Who hears which event, by the number that they gave it."""
        self._shown: dict[str, Value] = {}
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(1 if service.ordered else _THREADS, service.name)
        self.refresh()

    def emit(self, signal: str, *texts: str) -> None:
        """See `service.Offered`."""
        payload = encode(self._forms[signal], texts)
        with self._lock:
            self._tell(signal, payload)

    def refresh(self) -> None:
        """See `service.Offered`."""
        with self._lock:
            for name, (_, truth) in self._service.properties.items():
                value = truth()
                if name not in self._shown or self._shown[name] != value:
                    self._shown[name] = value
                    self._tell(name, encode(self._forms[name], (value,)))

    def close(self) -> None:
        """Take no more calls; what has begun ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def left(self, peer: Peer) -> None:
        """Forget who is gone."""
        with self._lock:
            self._links.pop(peer, None)

    def call(self, reply: WireReply) -> None:
        """Begin to work on a call; returns at once."""
        action = reply.call.action
        if action in _OWN:
            try:
                reply.packed(self._own(action, reply))
            except RobotError as error:
                reply.error(f"bad_request: {error}")
            return
        method = self._methods.get(action)
        if method is None:
            # Also for a signal: what strangers emit is heard by nobody.
            reply.error(f"bad_request: {self._service.name} has no method {action}")
            return
        try:
            done = self._pool.submit(self._work, method, reply)
        except RuntimeError:  # closed meanwhile
            reply.error("draining: the service is closed")
        else:
            done.add_done_callback(partial(_settle, reply))

    def _work(self, method: Method, reply: WireReply) -> None:
        try:
            arguments = _arguments(reply, f"({method.parameters})")
        except CodecError as error:
            reply.error(f"bad_request: {method.name}: {error}")
            return
        reply.returns = method.returns
        method.handle(reply, *arguments)

    def _own(self, action: int, reply: WireReply) -> bytes:
        """Do what every object does and what takes no time; gives the answer, encoded.

        Raises:
            RobotError: it cannot be done.
        """
        if action == 2:
            return self._meta
        if action == 7:
            return encode("[s]", list(self._service.properties))
        if action in (3, 6):  # nobody ends it, and what is set is not kept
            return b""
        arguments = _arguments(reply, _OWN[action][1])
        if len(arguments) < _OWN[action][1].count("I") + 1:
            raise RobotError("arguments are missing")
        if action == 5:
            return self._property(arguments[0])
        if action == 1:
            return self._unlink(reply.peer, arguments[2])
        return self._link(reply.peer, arguments[1], arguments[2])

    def _link(self, peer: Peer, event: Value, link: Value) -> bytes:
        if event not in self._events.values() or not isinstance(link, int):
            raise RobotError(f"{self._service.name} has no such signal")
        with self._lock:
            links = self._links.setdefault(peer, {})
            if len(links) >= MOST_LINKS:
                raise RobotError(f"one connection hears {MOST_LINKS} signals and no more")
            links[link] = event
        return encode("L", link % 2**64)

    def _unlink(self, peer: Peer, link: Value) -> bytes:
        if isinstance(link, int):
            with self._lock:
                self._links.get(peer, {}).pop(link, None)
        return b""

    def _property(self, name: Value) -> bytes:
        for known, (form, _) in self._service.properties.items():
            if name in (known, self._events[known]):
                return encode("s", form) + encode(form, self._shown[known])
        raise RobotError(f"{self._service.name} has no such property")

    def _tell(self, name: str, payload: bytes) -> None:
        event = self._events[name]
        message = Message(Kind.EVENT, 0, self.number, MAIN, event, payload)
        for peer, links in self._links.items():
            if event in links.values():
                peer.connection.send(message)

    def _describe(self) -> dict[str, Value]:
        methods = {number: _about(number, *own, "") for number, own in _OWN.items()}
        for number, one in self._methods.items():
            methods[number] = _about(
                number, one.name, f"({one.parameters})", one.returns, one.about
            )
        events = self._events
        return {
            "methods": methods,
            "signals": {
                number: (number, name, self._forms[name]) for name, number in events.items()
            },
            "properties": {
                events[name]: (events[name], name, form)
                for name, (form, _) in self._service.properties.items()
            },
            "description": "",
        }


def _about(number: int, name: str, takes: str, gives: str, about: str) -> tuple[Value, ...]:
    return number, gives, name, takes, about, [], ""


def _arguments(reply: WireReply, form: str) -> tuple[Value, ...]:
    """Read what a call carries.

    Raises:
        CodecError: it is nothing of the kind.
    """
    flags = reply.call.flags
    form = "m" if flags & DYNAMIC else form
    if flags & RETURN_TYPE:
        arguments, wanted = decode(f"({form}s)", reply.call.payload)
        parse(wanted)
        reply.wanted = wanted
    else:
        arguments = decode(form, reply.call.payload)
    if isinstance(arguments, list):
        arguments = tuple(arguments)
    if not isinstance(arguments, tuple):
        raise CodecError("give a tuple of arguments")
    return arguments


def _settle(reply: WireReply, done: Future[None]) -> None:
    """Say that something went wrong, if it did; what, is for the log."""
    if done.cancelled():
        return reply.error("draining: the service is closed")
    error = done.exception()
    if error is not None:
        _LOG.error("a call failed: %s", error, exc_info=error)
        reply.error("internal: the call failed; the service's log says how")
