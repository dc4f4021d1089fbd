"""Touches of the head: a touch is *stop*, a hand left on the back of it is *forget me*.

Owns: which sensor means what, and for how long. Knows nothing of what follows.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Optional, Text

    from .loop import Loop, Timer

HEAD = ("FrontTactilTouched", "MiddleTactilTouched", "RearTactilTouched")
BACK = "RearTactilTouched"
HOLD_S = 3.0


class Touch(object):
    """Feels for as long as somebody tells it the events."""

    def __init__(self, loop, want):  # type: (Loop, Callable[[Text], Any]) -> None
        """Feel nothing yet; `want` gets stop or forget."""
        self._loop, self._want = loop, want
        self._held = None  # type: Optional[Timer]
        self._forgot = False
        """Whether the hand that asked to be forgotten may still lie there."""

    def events(self):  # type: () -> Dict[Text, Callable[[Any], Any]]
        """Give what is to be done with each event of ALMemory's."""
        return dict((sensor, self._feel(sensor)) for sensor in HEAD)

    def _feel(self, sensor):  # type: (Text) -> Callable[[Any], Any]
        def felt(value):  # type: (Any) -> None
            if self._held is not None and sensor == BACK:
                self._held.cancel()
                self._held = None
            if sensor == BACK:
                leaves, self._forgot = self._forgot and not value, False
                if leaves:
                    return  # it would cut off the answer to what it asked for
            # Where events are asked for, a short touch may be over when it is seen: any news of
            # the sensor is one.
            self._want("stop")
            if value and sensor == BACK:
                self._held = self._loop.after(HOLD_S, self._hold)

        return felt

    def _hold(self):  # type: () -> None
        self._held, self._forgot = None, True
        self._want("forget")
