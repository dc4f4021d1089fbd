"""The virtual Pepper in a process of its own, and a program that talks to it, for tests.

Owns: the process and the sessions. Everything is over real libqi.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qi_bus import ANSWER_MS, wait_for

from uservlm.pepper_app.qi_session import load_library


class Ears:
    """Keeps what a signal carries; libqi keeps the order for methods of an object."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def hear(self, *values: Any) -> None:
        self.heard.append(values[0] if len(values) == 1 else values)


class Client:
    """One program on the robot's bus."""

    def __init__(self, url: str) -> None:
        qi = load_library()

        self.session = qi.Session()
        self.session.connect(url, _async=True).value(ANSWER_MS)
        self._kept: list[Any] = []

    def service(self, name: str) -> Any:
        return self.session.service(name, _async=True).value(ANSWER_MS)

    def call(self, service: str, method: str, *arguments: Any) -> Any:
        return self.begin(service, method, *arguments).value(ANSWER_MS)

    def begin(self, service: str, method: str, *arguments: Any) -> Any:
        return getattr(self.service(service), method)(*arguments, _async=True)

    def refusal(self, service: str, method: str, *arguments: Any) -> str:
        future = self.begin(service, method, *arguments)
        assert future.hasError(ANSWER_MS), f"{method} answered {future.value()!r}"
        return str(future.error())

    def event(self, name: str) -> Ears:
        """Hear an event of ALMemory's."""
        subscriber = self.call("ALMemory", "subscriber", name)
        ears = Ears()
        subscriber.signal.connect(ears.hear)
        self._kept.append(subscriber)
        return ears

    def signal(self, service: str, name: str) -> Ears:
        """Hear a signal of a service."""
        proxy = self.service(service)
        ears = Ears()
        getattr(proxy, name).connect(ears.hear)
        self._kept.append(proxy)
        return ears

    def offer(self, name: str, made: Any) -> None:
        """Register a service where the robot can reach it."""
        if not self.session.endpoints():
            self.session.listen("tcp://127.0.0.1:0")
        self.session.registerService(name, made)
        self._kept.append(made)

    def do(self, step: str, **values: Any) -> None:
        """Let something happen."""
        self.call("VirtualPepper", "do", step, values)

    def recorded(self, who: str = "", what: str = "", since: float = 0.0) -> list[dict[str, Any]]:
        told = self.call("VirtualPepper", "recorded", who, what, float(since))
        found: list[dict[str, Any]] = json.loads(told)
        return found

    def values(self, who: str, what: str) -> list[list[Any]]:
        return [deed["values"] for deed in self.recorded(who, what)]

    def close(self) -> None:
        self.session.close(_async=True).wait(1000)


class Pepper:
    """The process."""

    def __init__(self, *options: str, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                *("-m", "uservlm.pepper_app.virtual", "--listen", "tcp://127.0.0.1:0"),
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        assert self.process.stdout is not None
        first = ""
        for line in self.process.stdout:
            first += line
            if line.startswith("virtual Pepper at "):
                self.url = line.split()[-1]
                return
        raise AssertionError(f"no robot: {first}{self.process.communicate()[1]}")

    def end(self) -> str:
        """Ask it to end; gives what it printed."""
        self.process.terminate()
        told, errors = self.process.communicate(timeout=20)
        assert self.process.returncode == 0, (self.process.returncode, errors)
        assert not errors, errors
        return told


@contextmanager
def pepper(*options: str, env: dict[str, str] | None = None) -> Iterator[Pepper]:
    """Have one; a long transcript fills the pipe that nobody reads: give --quiet."""
    made = Pepper(*options, env=env)
    try:
        yield made
        made.end()
    finally:
        made.process.kill()
        made.process.communicate()


@contextmanager
def client(url: str) -> Iterator[Client]:
    """Have a program that talks to it."""
    made = Client(url)
    try:
        yield made
    finally:
        made.close()


def wait_until_back(url: str) -> None:
    """Wait until one can connect."""

    def back() -> bool:
        try:
            Client(url).close()
        except RuntimeError:
            return False
        return True

    wait_for(back)


__all__ = ["Client", "Ears", "Pepper", "client", "pepper", "wait_for", "wait_until_back"]
