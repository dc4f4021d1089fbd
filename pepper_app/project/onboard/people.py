"""Sees who is in front of the robot.

Owns: the subscriptions to ALPeoplePerception and ALEngagementZones, and when they are asked.
Knows nothing of conversations; `presence.py` judges.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

from .presence import Presence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Text

    from .loop import Loop
    from .naoqi import Robot
    from .problem import RobotError
    from .settings import Settings

NAME = "UserVLM"
EXTRACTORS = ("ALPeoplePerception", "ALEngagementZones")
LIST = "PeoplePerception/PeopleList"
DISTANCE = "PeoplePerception/Person/%d/Distance"
ENTERED = "EngagementZones/PersonEnteredZone1"
LOOK_S = 0.4


class People(object):
    """See the module."""

    def __init__(self, loop, robot, settings, changed):
        # type: (Loop, Robot, Settings, Callable[[Optional[int]], Any]) -> None
        """Begin to look.

        Args:
            loop: where it is done.
            robot: whose eyes.
            settings: near_m and far_m.
            changed: gets whom the robot is with, or None, whenever that changes.

        Raises:
            RobotError: the robot cannot see people (yet).
        """
        self._loop, self._robot, self._changed = loop, robot, changed
        self._presence = Presence(settings.near_m, settings.far_m)
        self._open, self._asking = True, False
        self._subscribed = []  # type: List[Text]
        for extractor in EXTRACTORS:
            robot.call(extractor, "subscribe", NAME)
            self._subscribed.append(extractor)
        self._timer = loop.after(0.0, self._tick)

    def entered(self, _):  # type: (Any) -> None
        """Look now: somebody has come near, says `ENTERED`."""
        self._look()

    def close(self):  # type: () -> None
        """Look no more."""
        self._open = False
        self._timer.cancel()
        for extractor in self._subscribed:
            self._robot.begin(None, extractor, "unsubscribe", NAME)

    def _tick(self):  # type: () -> None
        self._timer = self._loop.after(LOOK_S, self._tick)
        self._look()

    def _look(self):  # type: () -> None
        if not self._asking:
            self._asking = True
            self._robot.begin(self._listed, "ALMemory", "getListData", [LIST])

    def _listed(self, found, error):  # type: (Any, Optional[RobotError]) -> None
        ids = found[0] if error is None and found else None
        if not isinstance(ids, list) or not all(isinstance(one, int) for one in ids):
            ids = []
        if not ids:
            self._seen({})
            return

        def measured(metres, error):  # type: (Any, Optional[RobotError]) -> None
            if error is not None or not isinstance(metres, list):
                metres = []
            self._seen(dict((one, m) for one, m in zip(ids, metres) if isinstance(m, (int, float))))

        self._robot.begin(measured, "ALMemory", "getListData", [DISTANCE % one for one in ids])

    def _seen(self, distances):  # type: (Dict[int, float]) -> None
        self._asking = False
        if not self._open:
            return
        before = self._presence.focus
        focus = self._presence.see(self._loop.now(), distances)
        if focus != before:
            self._changed(focus)
