"""The qi door: a brain as the service `UserVLM` in the robot's own directory, its ears beside it.

Owns: which parts make up the door, which of two implementations of the protocol speaks for it, and
that the brain shows its health. Knows nothing of what they do. libqi where it is, else our own
(`qi_wire_*.py`); USERVLM_QI=libqi or USERVLM_QI=wire asks for one of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from threading import Event
from typing import Any, Final

from uservlm.pepper_app import brain_service, ears_service
from uservlm.pepper_app.brain_service import BrainService
from uservlm.pepper_app.ears_service import EarsService
from uservlm.pepper_app.qi_keeper import FIRST_PAUSE_S, Keeper
from uservlm.pepper_app.qi_session import open_session
from uservlm.pepper_app.qi_wire_session import open_wire_session
from uservlm.pepper_app.robot import Login, Robot, read_password, robot_at
from uservlm.pepper_app.service import Connect, NoLibraryError, Session
from uservlm.runtime.errors import RequestError
from uservlm.runtime.server.brain import Brain
from uservlm.runtime.server.ears import Ears

__all__ = ["Login", "QiDoor", "open_qi_door", "read_password"]

IMPLEMENTATION_VARIABLE: Final = "USERVLM_QI"


class QiDoor:
    """Open until it is closed, whether the robot is there or not; close it before the brain."""

    def __init__(
        self,
        brain: Brain,
        connect: Connect,
        first_pause_s: float = FIRST_PAUSE_S,
        ears: Ears | None = None,
    ) -> None:
        """Begin to look for the robot; waits for nothing.

        Args:
            brain: answers, and is told how the door is.
            connect: opens a session with the robot.
            first_pause_s: see `Keeper`.
            ears: offered too, if there are any.
        """
        self._service = BrainService(brain, partial(self._emit, brain_service.NAME))
        self._ears = EarsService(ears, partial(self._emit, ears_service.NAME)) if ears else None
        services = [self._service.declare()]
        if self._ears is not None:
            services.append(self._ears.declare())
        self._keeper = Keeper(
            services,
            connect,
            partial(brain.door, "qi"),
            self._hang_up,
            first_pause_s,
        )
        self._brain = brain
        self._leave = brain.hub.watch(self._watch, ("turn", "turns"))
        self._keeper.start()

    def close(self) -> None:
        """Withdraw the services; returns within two seconds."""
        self._leave()
        self._keeper.close()
        self._service.close()
        if self._ears is not None:
            self._ears.drop()

    def _emit(self, service: str, signal: str, *texts: str) -> None:
        self._keeper.emit(service, signal, *texts)

    def _hang_up(self) -> None:
        """Nobody hears these turns any more, and nobody's sound comes."""
        self._brain.cancel_all("qi")
        if self._ears is not None:
            self._ears.drop()

    def _watch(self, *_: Any) -> None:
        self._keeper.refresh()


def open_qi_door(
    brain: Brain, url: str, login: Login | None = None, ears: Ears | None = None
) -> QiDoor:
    """Offer a brain to a robot, now or as soon as it is there.

    Args:
        brain: answers.
        url: tcp://HOST[:9559], or tcps://HOST[:9503] for NAOqi 2.9.
        login: for tcps.
        ears: to offer beside it.

    Raises:
        RequestError: no such address, tcps without a password, or USERVLM_QI names no
            implementation.
    """
    wanted = os.environ.get(IMPLEMENTATION_VARIABLE, "")
    known = {"": _open_either, "libqi": open_session, "wire": open_wire_session}
    if wanted not in known:
        raise RequestError(f"{IMPLEMENTATION_VARIABLE}={wanted}: set it to libqi or wire, or not")
    return QiDoor(brain, partial(known[wanted], robot_at(url, login)), ears=ears)


def _open_either(robot: Robot, lost: Callable[[], None], closing: Event) -> Session:
    """Connect with libqi, or without it where it is missing.

    Raises:
        RobotError: nobody there, refused, or given up.
    """
    try:
        return open_session(robot, lost, closing)
    except NoLibraryError:
        return open_wire_session(robot, lost, closing)
