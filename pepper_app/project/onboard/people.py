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
LISTED, VISIBLE = "PeoplePerception/PeopleList", "PeoplePerception/VisiblePeopleList"
DISTANCE = "PeoplePerception/Person/%d/Distance"
ENTERED = "EngagementZones/PersonEnteredZone1"
LOOK_S = 0.4
LATE_S = 3.0
"""Of the world's; an answer that has not come by then will not."""


class People(object):
    """See the module."""

    def __init__(self, loop, robot, settings, changed):
        # type: (Loop, Robot, Settings, Callable[[Optional[int], int], Any]) -> None
        """Begin to look.

        Args:
            loop: where it is done.
            robot: whose eyes.
            settings: near_m and far_m.
            changed: gets whom the robot is with, or None, and how many more are in view, whenever
                that changes.

        Raises:
            RobotError: the robot cannot see people (yet).
        """
        self._loop, self._robot, self._changed = loop, robot, changed
        self._presence = Presence(settings.near_m, settings.far_m)
        self._open = True
        self._asked = None  # type: Optional[_Asked]
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
        """Ask who is there, unless that is being asked."""
        if self._asked is None:
            asked = self._asked = _Asked()
            self._loop.after_real(LATE_S, self._late, asked)
            self._robot.begin(
                lambda found, error: self._listed(asked, found, error),
                "ALMemory",
                "getListData",
                [VISIBLE, LISTED],
            )

    def _listed(self, asked, found, error):
        # type: (_Asked, Any, Optional[RobotError]) -> None
        if asked is not self._asked:
            return
        lists = found if error is None and isinstance(found, list) else []
        visible, asked.listed = (_ids(lists[place : place + 1]) for place in (0, 1))
        if not visible:
            self._seen({})
            return

        def measured(metres, error):  # type: (Any, Optional[RobotError]) -> None
            if asked is self._asked:
                known = metres if error is None and isinstance(metres, list) else []
                self._seen(
                    dict((one, m) for one, m in zip(visible, known) if isinstance(m, (int, float)))
                )

        keys = [DISTANCE % one for one in visible]
        self._robot.begin(measured, "ALMemory", "getListData", keys)

    def _seen(self, distances):  # type: (Dict[int, float]) -> None
        asked, self._asked = self._asked, None
        if not self._open or asked is None:
            return
        presence = self._presence
        before = presence.focus, presence.others
        presence.see(self._loop.now(), distances, asked.listed)
        if (presence.focus, presence.others) != before:
            self._changed(presence.focus, presence.others)

    def _late(self, asked):  # type: (_Asked) -> None
        if asked is self._asked:
            self._asked = None


class _Asked(object):
    """One look; what comes back after its time does not count."""

    listed = []  # type: List[int]


def _ids(lists):  # type: (List[Any]) -> List[int]
    """Read a list of people, if it is one."""
    ids = lists[0] if lists else None
    return ids if isinstance(ids, list) and all(isinstance(one, int) for one in ids) else []
