"""Takes a picture of whoever stands in front of the robot.

Owns: the subscription to the top camera, and that a frame which is not there yet is asked for
again. Knows nothing of what the picture is for; no picture is kept here or written anywhere.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

from .crossing import raw
from .problem import RobotError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, List, Optional, Text

    from .loop import Loop
    from .naoqi import Robot

    Taken = Callable[[Optional["Frame"], Optional[RobotError]], Any]

CAMERA = "ALVideoDevice"
NAME = "UserVLM"
TOP, VGA, RGB, FPS = 0, 2, 11, 10
PATIENCE = 5
AGAIN_S = 0.3


class Frame(object):
    """A picture as the robot's camera gives it."""

    def __init__(self, width, height, pixels):  # type: (int, int, bytes) -> None
        """Hold it.

        Args:
            width: in pixels.
            height: in pixels.
            pixels: uint8 [height, width, 3], RGB.
        """
        self.width, self.height, self.pixels = width, height, pixels
        self.space = RGB


class Camera(object):
    """Subscribed until it is closed."""

    def __init__(self, loop, robot):  # type: (Loop, Robot) -> None
        """Subscribe.

        Raises:
            RobotError: there is no camera (yet).
        """
        self._loop, self._robot = loop, robot
        self._handle = robot.call(CAMERA, "subscribeCamera", NAME, TOP, VGA, RGB, FPS)  # type: Text

    def take(self, taken, left=PATIENCE):  # type: (Taken, int) -> None
        """Take a picture.

        Args:
            taken: gets the frame and None, or None and the error.
            left: how often to try.
        """

        def answered(image, error):  # type: (Any, Optional[RobotError]) -> None
            if error is None:
                frame = _frame(image)
                self._robot.begin(None, CAMERA, "releaseImage", self._handle)
                if frame is not None:
                    taken(frame, None)
                    return
                error = RobotError("the camera gives no frame")
            if left > 1:
                self._loop.after(AGAIN_S, self.take, taken, left - 1)
            else:
                taken(None, error)

        self._robot.begin(answered, CAMERA, "getImageRemote", self._handle)

    def close(self):  # type: () -> None
        """Give the camera back."""
        self._robot.begin(None, CAMERA, "unsubscribe", self._handle)


def _frame(image):  # type: (Any) -> Optional[Frame]
    """Read what `getImageRemote` gives; None when that is no frame."""
    if not isinstance(image, list) or len(image) < 7:
        return None
    width, height, space, pixels = image[0], image[1], image[3], raw(image[6])
    if space != RGB or pixels is None or len(pixels) != width * height * 3:
        return None
    return Frame(width, height, pixels)
