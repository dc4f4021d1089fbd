"""Shows what the robot is doing with the LEDs of its eyes.

Owns: the colour of each state, and that the eyes are reset in the end. Knows nothing of how a
state comes about.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Text

    from .naoqi import Robot

LEDS, EYES = "ALLeds", "FaceLeds"
FADE_S = 0.3
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
        self._shown = None  # type: Optional[Text]

    def show(self, state):  # type: (Text) -> None
        """Show a state."""
        if state != self._shown:
            self._shown = state
            self._robot.begin(None, LEDS, "fadeRGB", EYES, COLOURS[state], FADE_S)

    def close(self):  # type: () -> None
        """Give the eyes back."""
        if self._shown is not None:
            self._robot.begin(None, LEDS, "reset", EYES)
