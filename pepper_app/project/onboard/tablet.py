"""The tablet: shows the conversation, and hears what is pressed on it.

Owns: the page's loading, until it really is there, and the form of what goes to it and comes back;
`html/` is the page itself. Knows nothing of what follows.

The page is shown once and changed by script from then on: every `showWebview` flickers. A page that
fails to load at boot is loaded again (both seen on a real Pepper: reference, PepperEvolution).
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import json
import logging
import re

from .crossing import text as is_text
from .problem import RobotError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Mapping, Optional, Text

    from .loop import Loop, Timer
    from .naoqi import Ear, Robot

TABLET = "ALTabletService"
SCALE = 1.0
"""Of the page; NAOqi's own is 1.34."""
PATIENCE_S, LATE_S = 5.0, 5.0
AGAIN_S = 1.0
WANTS = ("ask", "stop", "yes", "no", "know", "remember", "forget")
LONGEST = 500
"""Characters of a text that are taken from the page."""
LONGEST_EVENT = 8000
"""Characters of what it raises; JSON may write one as twelve."""
_HALF = re.compile("[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]")
"""Half a character, which JSON can write and nothing else can send."""
_LOG = logging.getLogger("uservlm")


class Tablet(object):
    """Shows the page until it is closed."""

    def __init__(self, loop, robot, application, pressed):
        # type: (Loop, Robot, Text, Callable[[Text, Text], Any]) -> None
        """Show the page.

        Args:
            loop: where it is done.
            robot: whose tablet.
            application: the package's uuid, below whose name the robot's web server has the page.
            pressed: gets what is wanted (one of `WANTS`) and the text.

        Raises:
            RobotError: no tablet (yet), or it has no such page.
        """
        self._loop, self._robot, self._application = loop, robot, application
        self._pressed = pressed
        self._state = None  # type: Optional[Mapping[Text, Any]]
        self._sent = None  # type: Optional[Mapping[Text, Any]]
        self._ready, self._sending, self._open = False, False, True
        self._retry = None  # type: Optional[Timer]
        self._ears = []  # type: List[Ear]
        try:
            self._begin()
        except RobotError:
            self._deaf()
            raise
        self._retry = loop.after(PATIENCE_S, self._load_again)

    def _begin(self):  # type: () -> None
        """Hear the page before it is loaded, or its first word is lost."""
        robot, application = self._robot, self._application
        self._ears.append(robot.hear(TABLET, "onJSEvent", self._raised))
        self._ears.append(robot.hear(TABLET, "onLoadPageError", self._failed))
        if robot.call(TABLET, "loadApplication", application) is not True:
            raise RobotError("the robot has no page of %s: is the package installed?" % application)
        self._scale = robot.call(TABLET, "getOnTouchScaleFactor")
        robot.call(TABLET, "setOnTouchWebviewScaleFactor", SCALE)
        robot.call(TABLET, "showWebview")

    def show(self, state):  # type: (Mapping[Text, Any]) -> None
        """Show this from now on; the page gets the whole of it each time."""
        if state != self._state:
            self._state = state
            if self._ready:
                self._send()

    def close(self):  # type: () -> None
        """Give the tablet back."""
        self._open = False
        if self._retry is not None:
            self._retry.cancel()
        self._deaf()
        self._robot.begin(None, TABLET, "hideWebview")
        self._robot.begin(None, TABLET, "cleanWebview")
        self._robot.begin(None, TABLET, "setOnTouchWebviewScaleFactor", self._scale)

    def _deaf(self):  # type: () -> None
        for ear in self._ears:
            ear.close()

    def _send(self):  # type: () -> None
        """Send the latest, one after the other: two on their way could overtake each other."""
        if self._state is None or self._sending or not self._open:
            return
        self._sending, self._sent = True, self._state
        # ASCII alone: U+2028 would end a line of JavaScript.
        script = "UserVLM.show(%s)" % json.dumps(self._state, sort_keys=True)
        self._robot.begin(self._arrived, TABLET, "executeJS", script)
        self._loop.after_real(LATE_S, self._late, self._sent)

    def _late(self, sent):  # type: (Mapping[Text, Any]) -> None
        """Go on when an answer has not come: it will not."""
        if self._sending and self._sent is sent:
            self._arrived(None, None)

    def _arrived(self, _, error):  # type: (Any, Optional[RobotError]) -> None
        self._sending = False
        if error is not None:
            _LOG.warning("%s.executeJS failed", TABLET)  # the error may hold the conversation
            self._loop.after(AGAIN_S, self._send)
        elif self._sent is not self._state:
            self._send()

    def _raised(self, *values):  # type: (*Any) -> None
        """Read what the page says; whoever is on the robot's bus can say anything."""
        told = _read(values[0]) if len(values) == 1 else {}
        do, text = told.get("do"), told.get("text", "")
        if do == "hello":
            self._ready, self._sent = True, None  # what is on its way may be a former page's
            if self._retry is not None:
                self._retry.cancel()
            self._send()
        elif do in WANTS and is_text(text):
            self._pressed(do, _HALF.sub("", text.strip()[:LONGEST]))
        else:
            _LOG.info("not understood from the tablet")

    def _failed(self, *_):  # type: (*Any) -> None
        """Load again, in a while."""
        self._ready = False
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._loop.after(1.0, self._load_again)

    def _load_again(self):  # type: () -> None
        if not self._open or self._ready:
            return
        self._retry = self._loop.after(PATIENCE_S, self._load_again)
        self._robot.begin(None, TABLET, "loadApplication", self._application)
        self._robot.begin(None, TABLET, "showWebview")


def _read(event):  # type: (Any) -> Dict[Text, Any]
    """Read an event; nothing of it when the page cannot have raised it."""
    if not is_text(event) or len(event) > LONGEST_EVENT:
        return {}
    try:
        told = json.loads(event)
    except (ValueError, RuntimeError):  # no JSON; too deep
        return {}
    return told if isinstance(told, dict) else {}
