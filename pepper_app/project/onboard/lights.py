"""Shows what the robot is doing with the LEDs of its eyes.

Owns: the colour of each state, and that the eyes are reset in the end. Knows nothing of how a
state comes about.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import logging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Text

    from .naoqi import Pending, Robot
    from .problem import RobotError

LEDS, EYES = "ALLeds", "FaceLeds"
FADE_S = 0.3
CLOSING_S = 1.0
"""Of the world's, for the last fade when the app ends."""
_LOG = logging.getLogger("uservlm")
COLOURS = {
    "alone": 0xFFFFFF,
    "looking": 0x00C8FF,
    "ready": 0x00FF50,
    "thinking": 0x8000FF,
    "speaking": 0x0050FF,
    "asking": 0xFFB000,
    "away": 0xFF3000,
}
"""0xRRGGBB of each state."""


class Lights(object):
    """See the module."""

    def __init__(self, robot):  # type: (Robot) -> None
        """Change nothing yet."""
        self._robot = robot
        self._wanted = self._shown = None  # type: Optional[Text]
        self._call = None  # type: Optional[Pending]

    def show(self, state):  # type: (Text) -> None
        """Show a state; one after the other: two on their way could overtake each other."""
        self._wanted = state
        if self._call is None and state != self._shown:
            self._shown = state
            self._call = self._robot.begin(
                self._faded, LEDS, "fadeRGB", EYES, COLOURS[state], FADE_S
            )

    def close(self):  # type: () -> None
        """Give the eyes back."""
        if self._call is not None:
            self._call.wait(CLOSING_S)
        if self._shown is not None:
            self._robot.begin(None, LEDS, "reset", EYES)

    def _faded(self, _, error):  # type: (Any, Optional[RobotError]) -> None
        self._call = None
        if error is not None:
            _LOG.warning("%s", error)
        if self._wanted is not None:
            self.show(self._wanted)
