"""A service of the robot's, declared without any library's types, and what offers one.

Owns: the forms that stand between what answers (`brain_service.py`) and what speaks the robot's
protocol (`qi_session.py`, with libqi). Knows nothing of either. Values are plain Python: None,
bool, int, float, str, bytes, list and dict of these; a raw buffer is bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Protocol, TypeAlias

from uservlm.runtime.errors import UserVLMError

Value: TypeAlias = Any
"""None, bool, int, float, str, bytes, list or dict; whatever a stranger sends, so check it."""


class RobotError(UserVLMError):
    """The robot is not there, or refuses; trying again later may help."""


class NoLibraryError(RobotError):
    """What speaks the robot's protocol is missing on this machine; trying again does not help."""


class Reply(Protocol):
    """What a caller waits for. The first word counts; each may be said from any thread."""

    def value(self, value: Value) -> None:
        """Answer."""

    def error(self, text: str) -> None:
        """Refuse; the caller sees this text and nothing else."""

    def when_cancelled(self, act: Callable[[], None]) -> None:
        """Do something, quickly, when the caller no longer waits; at once if that is so already."""


@dataclass(frozen=True)
class Method:
    """Something that can be called. Several of one name differ in the number of parameters."""

    name: str
    parameters: str
    """libqi's signatures, one behind the other: s text, r raw bytes, i int32, b bool, …"""
    returns: str
    """One signature; v is nothing."""
    handle: Callable[..., None]
    """Gets a Reply and the arguments, on a thread it must leave at once. Number and types are
    whatever the caller sent; what it raised would reach the caller with file and line."""
    about: str = ""
    """One line for who lists the service."""


@dataclass(frozen=True)
class Service:
    """What is offered under one name."""

    name: str
    methods: tuple[Method, ...] = ()
    signals: Mapping[str, str] = field(default_factory=dict)
    """How many texts each carries, by its name: "ss" for two. Anybody may emit them: never believe
    one."""
    properties: Mapping[str, tuple[str, Callable[[], Value]]] = field(default_factory=dict)
    """Signature and truth of each by its name. What is offered shows the truth, also again after
    somebody else has set it; nothing is ever read from it."""
    ordered: bool = False
    """Calls are handed over one by one, as they came, so that none may take long; else several at
    once."""


class Offered(Protocol):
    """A service while it is offered; every method from any thread."""

    def emit(self, signal: str, *texts: str) -> None:
        """Tell whoever listens; what one thread emits is sent in that order, whatever the names."""

    def refresh(self) -> None:
        """Show the properties as they are now."""


class Session(Protocol):
    """A connection to the robot's directory of services, with an address the robot can reach."""

    listening: str
    """Where callers come."""

    def offer(self, service: Service) -> Offered:
        """Register a service.

        Raises:
            RobotError: its name is taken, or the directory does not answer.
        """

    def close(self) -> None:
        """Withdraw what is offered, and leave; returns within a second."""


class Connect(Protocol):
    """Opens a session."""

    def __call__(self, lost: Callable[[], None], closing: Event) -> Session:
        """Connect and listen.

        Args:
            lost: called when the connection, or the entry in the directory, is gone; it is called
                from any thread, also more than once, and by closing too.
            closing: when set, give up.

        Raises:
            RobotError: nobody there, refused, or given up.
        """
