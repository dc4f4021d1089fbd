"""ALMemory's events, however they can be had.

Owns: the choice between `ALMemory.subscriber` and, where NAOqi 2.5 refuses that to Python 3
("Invalid signature": libqi-python issues 13 and 18), asking for the events' times again and again.
Knows nothing of what an event means.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import logging

from .problem import RobotError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Mapping, Optional, Text, Tuple

    from .loop import Loop, Timer
    from .naoqi import Ear, Robot

POLL_S = 0.1
MEMORY = "ALMemory"
_LOG = logging.getLogger("uservlm")


class Events(object):
    """Hears a set of events until it is closed."""

    def __init__(self, loop, robot, acts):
        # type: (Loop, Robot, Mapping[Text, Callable[[Any], Any]]) -> None
        """Begin to hear.

        Args:
            loop: where the events arrive.
            robot: whose memory.
            acts: what is done with the value of each event, by its name.

        Raises:
            RobotError: there is no ALMemory.
        """
        self._loop, self._robot = loop, robot
        self._ears = []  # type: List[Ear]
        self._polled = {}  # type: Dict[Text, _Polled]
        self._timer = None  # type: Optional[Timer]
        self._open = True
        for name, act in acts.items():
            self._hear(name, act)
        if self._polled:
            self._poll()

    def close(self):  # type: () -> None
        """Hear no more."""
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
        for ear in self._ears:
            ear.close()

    def _hear(self, name, act):  # type: (Text, Callable[[Any], Any]) -> None
        if not self._polled:  # once refused is always refused
            try:
                self._ears.append(self._robot.event(name, act))
                return
            except RobotError as error:
                if "signature" not in ("%s" % (error,)).lower():
                    raise
                _LOG.info("no subscriber (%s): asking again and again instead", error)
        self._polled[name] = _Polled(act)

    def _poll(self):  # type: () -> None
        """Ask for all of them, and again when the last answer is there."""
        left = [len(self._polled)]

        def done(name, value, error):  # type: (Text, Any, Optional[RobotError]) -> None
            if not self._open:
                return
            self._polled[name].see(value, error)
            left[0] -= 1
            if not left[0]:
                self._timer = self._loop.after(POLL_S, self._poll)

        for name in self._polled:

            def answered(value, error, name=name):
                # type: (Any, Optional[RobotError], Text) -> None
                done(name, value, error)

            self._robot.begin(answered, MEMORY, "getTimestamp", name)


class _Polled(object):
    """One event that is asked for; what was there before does not count."""

    def __init__(self, act):  # type: (Callable[[Any], Any]) -> None
        self._act = act
        self._asked = False
        self._at = None  # type: Optional[Tuple[int, ...]]

    def see(self, stamped, error):  # type: (Any, Optional[RobotError]) -> None
        """Take [value, seconds, microseconds] in; an error: the event has never been raised."""
        asked, before = self._asked, self._at
        self._asked = True
        if error is not None or not isinstance(stamped, (list, tuple)) or len(stamped) < 3:
            return
        self._at = tuple(stamped[1:3])
        if asked and self._at != before:
            self._act(stamped[0])
