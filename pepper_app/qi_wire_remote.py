"""An object of a robot's, to call and to hear.

Owns: which of an object's methods a call means, how arguments are sent, and who hears a signal.
Knows nothing of how one gets to the object. What describes the object comes from it, as all of
libqi's do: names, signatures and numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from threading import Event
from typing import Final

from uservlm.pepper_app.qi_wire_message import DYNAMIC, Kind, Message
from uservlm.pepper_app.qi_wire_peer import MAIN, Peer
from uservlm.pepper_app.qi_wire_signature import CodecError, parse
from uservlm.pepper_app.qi_wire_values import META, Reference, decode, encode
from uservlm.pepper_app.service import RobotError, Value

ANSWER_S: Final = 5.0
_LINKS = count(1)


@dataclass(frozen=True)
class _Method:
    number: int
    takes: str
    gives: str


class Remote:
    """An object at the other end of a connection."""

    def __init__(self, peer: Peer, name: str, reference: Reference, closing: Event) -> None:
        """Know an object.

        Args:
            peer: where it is.
            name: for errors.
            reference: what it is.
            closing: when set, no call is waited for.

        Raises:
            RobotError: what describes it makes no sense.
        """
        self._peer, self._name, self.reference = peer, name, reference
        self._closing = closing
        self._methods: dict[str, list[_Method]] = {}
        self._signals: dict[str, tuple[int, str]] = {}
        try:
            for number, one in reference.meta["methods"].items():
                made = _Method(number, one["parametersSignature"], one["returnSignature"])
                self._methods.setdefault(one["name"], []).append(made)
            for number, one in reference.meta["signals"].items():
                self._signals[one["name"]] = number, one["signature"]
        except (KeyError, TypeError, AttributeError) as error:
            raise RobotError(f"{name} does not say what it can do: {error}") from error

    @classmethod
    def of_service(cls, peer: Peer, name: str, service: int, closing: Event) -> Remote:
        """Ask a service what it is.

        Raises:
            RobotError: it does not answer.
        """
        asked = Message(Kind.CALL, 0, service, MAIN, 2, encode("I", 0))
        answer = peer.call(asked, ANSWER_S, name, closing)
        return cls(peer, name, Reference(decode(META, answer.payload), service, MAIN), closing)

    def call(self, method: str, *arguments: Value, seconds: float = ANSWER_S) -> Value:
        """Call, and wait for what it answers; an object is a `Remote`.

        Raises:
            RefusedError: it refuses.
            RobotError: there is no such method, no answer, or we are being closed.
        """
        what = f"{self._name}.{method}"
        found, payload, flags = self._fitting(method, what, arguments)
        message = Message(
            Kind.CALL,
            0,
            self.reference.service,
            self.reference.object,
            found.number,
            payload,
            flags,
        )
        answer = self._peer.call(message, seconds, what, self._closing)
        form = "m" if answer.flags & DYNAMIC else found.gives
        try:
            value = decode(form, answer.payload)
        except CodecError as error:
            raise CodecError(f"{what}: {error}") from error
        if isinstance(value, Reference):
            return Remote(self._peer, what, value, self._closing)
        return value

    def listen(self, signal: str, act: Callable[..., None]) -> None:
        """Hear a signal from now on, or a property's changes.

        Args:
            signal: its name.
            act: gets what it carries, in the order it was sent; returns at once. What does not fit
                the signal's own form is not told.

        Raises:
            RobotError: there is no such signal, or no answer.
        """
        if signal not in self._signals:
            raise RobotError(f"the robot has no {self._name}.{signal}")
        number, form = self._signals[signal]
        where = self.reference

        def heard(message: Message) -> None:
            try:
                values = decode("m" if message.flags & DYNAMIC else form, message.payload)
            except CodecError:
                return
            act(*values) if isinstance(values, tuple) else act(values)

        self._peer.on_event((where.service, where.object, number), heard)
        self.call("registerEvent", where.service, number, next(_LINKS))

    def takes(self, method: str) -> str:
        """Give what a method takes, as a signature.

        Raises:
            RobotError: there is no such method.
        """
        if method not in self._methods:
            raise RobotError(f"the robot has no {self._name}.{method}")
        return self._methods[method][0].takes

    def _fitting(
        self, method: str, what: str, arguments: tuple[Value, ...]
    ) -> tuple[_Method, bytes, int]:
        """Choose among the methods of a name: the first that takes these arguments as they are.

        Raises:
            RobotError: there is none.
        """
        candidates = [
            one
            for one in self._methods.get(method, [])
            if one.takes == "m" or len(parse(one.takes).parts) == len(arguments)
        ]
        for one in sorted(candidates, key=lambda one: "m" in one.takes):
            try:
                return one, encode(one.takes, arguments), 0
            except TypeError:
                continue
        if not candidates:
            number = f" that takes {len(arguments)} values" if method in self._methods else ""
            raise RobotError(f"the robot has no {what}{number}")
        try:
            return candidates[0], encode("m", arguments), DYNAMIC  # the other side may convert
        except TypeError as error:
            raise RobotError(f"{what}: {error}") from error
