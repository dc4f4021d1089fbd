"""How the virtual Pepper's services are declared, and what their calls go through.

Owns: the check of arguments against a signature, refusals, and the slow network. Knows nothing of
any service, nor of libqi: a `Bus` carries what they say.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from uservlm.pepper_app.service import Method, Reply, RobotError, Service, Value
from uservlm.pepper_app.virtual_world import SLOW_S, World


class Bus(Protocol):
    """What a service of the robot's speaks through."""

    def tell(self, service: str, signal: str, *values: Value) -> None:
        """Emit a signal of a service that is offered; of one that is not yet, nothing."""

    def call(self, service: str, method: str, *arguments: Value) -> None:
        """Call somebody else's service, soon; what fails is recorded."""

    def make(self, service: Service) -> Made:
        """Make an object that a method may answer ("o")."""


class Made(Protocol):
    """An object with signals."""

    @property
    def object(self) -> Any:
        """What a method answers."""

    def tell(self, signal: str, *values: Value) -> None:
        """Emit a signal."""


class Part(Protocol):
    """One or more services of the robot's."""

    def services(self) -> list[Service]:
        """Say what is offered."""

    def held(self) -> list[str]:
        """Name the subscriptions that nobody has given back: service and subscriber."""


class Calls:
    """Makes the methods of one service."""

    def __init__(self, world: World, service: str) -> None:
        self._world, self._service = world, service

    def method(
        self, name: str, parameters: str, returns: str, work: Callable[..., Value], about: str = ""
    ) -> Method:
        """Declare a method whose answer is what `work` gives, under the world's lock."""

        def answer(reply: Reply, *arguments: Value) -> None:
            with self._world.lock:
                value = work(*arguments)
            self.later(0.0, reply, value)

        return self.slow(name, parameters, returns, answer, about)

    def did(self, name: str, parameters: str, returns: str = "v", answer: Value = None) -> Method:
        """Declare a method that is but recorded, with one answer for all."""

        def work(*arguments: Value) -> Value:
            self._world.did(self._service, name, *arguments)
            return answer

        return self.method(name, parameters, returns, work)

    def slow(
        self, name: str, parameters: str, returns: str, work: Callable[..., None], about: str = ""
    ) -> Method:
        """Declare a method that replies itself, when it likes."""
        kinds = split(parameters)

        def handle(reply: Reply, *arguments: Value) -> None:
            try:
                if len(arguments) != len(kinds) or not all(map(fits, kinds, arguments)):
                    given = ", ".join(type(argument).__name__ for argument in arguments)
                    raise RobotError(f"{name} takes ({parameters}), not ({given})")
                work(reply, *arguments)
            except RobotError as error:
                self._world.did(self._service, "refused", f"{name}: {error}")
                reply.error(f"{self._service}::{name} {error}")

        return Method(name, parameters, returns, handle, about)

    def later(self, seconds: float, reply: Reply, value: Value) -> None:
        """Answer, after the network's delay and some real seconds more."""
        if "slow-network" in self._world.misbehaving:
            seconds += SLOW_S
        if seconds:
            self._world.after(seconds * self._world.pace, lambda: reply.value(value))
        else:
            reply.value(value)


def split(signature: str) -> list[str]:
    """Take a list of signatures apart: "s[s]i" is s, [s] and i."""
    parts, depth, begun = [], 0, 0
    for place, letter in enumerate(signature, 1):
        depth += (letter in "([{") - (letter in ")]}")
        if depth == 0:
            parts.append(signature[begun:place])
            begun = place
    return parts


def fits(kind: str, value: Value) -> bool:
    """Tell whether a value may stand for a signature; NAOqi takes whole numbers for others."""
    if kind[0] == "[":
        return isinstance(value, list | tuple) and all(fits(kind[1:-1], one) for one in value)
    number = isinstance(value, int | float) and math.isfinite(value)
    return {
        "s": isinstance(value, str),
        "i": number and value == int(value) and abs(value) < 2**31,
        "f": number,
        "d": number,
        "b": isinstance(value, bool | int),
        "r": isinstance(value, bytes),
    }.get(kind[0], True)
