"""The qi door: a brain as the service `UserVLM` in the robot's own directory.

Owns: which parts make up the door, and that the brain shows its health. Knows nothing of what they
do. Where libqi is missing the door says so and stays shut; the brain answers over HTTP anyway.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from uservlm.pepper_app.brain_service import BrainService
from uservlm.pepper_app.qi_keeper import FIRST_PAUSE_S, Keeper
from uservlm.pepper_app.qi_session import open_session
from uservlm.pepper_app.robot import Login, read_password, robot_at
from uservlm.pepper_app.service import Connect
from uservlm.runtime.server.brain import Brain

__all__ = ["Login", "QiDoor", "open_qi_door", "read_password"]


class QiDoor:
    """Open until it is closed, whether the robot is there or not; close it before the brain."""

    def __init__(
        self, brain: Brain, connect: Connect, first_pause_s: float = FIRST_PAUSE_S
    ) -> None:
        """Begin to look for the robot; waits for nothing.

        Args:
            brain: answers, and is told how the door is.
            connect: opens a session with the robot.
            first_pause_s: see `Keeper`.
        """
        self._service = BrainService(brain, self._emit)
        self._keeper = Keeper(
            self._service.declare(),
            connect,
            partial(brain.door, "qi"),
            self._hang_up,
            first_pause_s,
        )
        self._brain = brain
        self._leave = brain.hub.watch(self._watch, ("turn", "turns"))
        self._keeper.start()

    def close(self) -> None:
        """Withdraw the service; returns within two seconds."""
        self._leave()
        self._keeper.close()
        self._service.close()

    def _emit(self, signal: str, *texts: str) -> None:
        self._keeper.emit(signal, *texts)

    def _hang_up(self) -> None:
        """Nobody hears these turns any more."""
        self._brain.cancel_all("qi")

    def _watch(self, *_: Any) -> None:
        self._keeper.refresh()


def open_qi_door(brain: Brain, url: str, login: Login | None = None) -> QiDoor:
    """Offer a brain to a robot, now or as soon as it is there.

    Args:
        brain: answers.
        url: tcp://HOST[:9559], or tcps://HOST[:9503] for NAOqi 2.9.
        login: for tcps.

    Raises:
        RequestError: no such address, or tcps without a password.
    """
    return QiDoor(brain, partial(open_session, robot_at(url, login)))
