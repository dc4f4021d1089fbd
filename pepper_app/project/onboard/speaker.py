"""Speaks: sentence after sentence, until it is told to stop.

Owns: what waits to be said, what is being said, and that a stop reaches the robot's voice at once.
Knows nothing of why something is said. Everything that is said goes through `clean.py`.

NAOqi 2.5 lets ALAnimatedSpeech prepare a text before it speaks, and `ALTextToSpeech.stopAll` does
not reach what is being prepared; so after a stop it is told again until the text has ended, and
nothing new is said before.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import logging
from collections import deque

from .clean import speakable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Deque, Optional, Text, Tuple

    from .loop import Loop, Timer
    from .naoqi import Pending, Robot
    from .problem import RobotError

ANIMATED, VOICE = "ALAnimatedSpeech", "ALTextToSpeech"
MODE = {"bodyLanguageMode": "contextual"}
STOP_AGAIN_S, STOPPED_S = 0.15, 1.5
"""Between two stops, and the time after which a text that was stopped is taken to have ended."""
LEAVE_TIMES, LEAVE_S = 6, 0.15
"""How often a text is stopped when the app ends, and how long each is waited for (the world's)."""
ECHO_S = 0.6
"""After its last word the robot's voice may still be on its way through a recogniser."""
STUCK_S, STUCK_WORD_S = 15.0, 1.0
"""A text that has not ended after this, and a second a word, will not."""
_LOG = logging.getLogger("uservlm")


class Speaker(object):
    """See the module."""

    def __init__(self, loop, robot, changed):  # type: (Loop, Robot, Callable[[], Any]) -> None
        """Be silent.

        Args:
            loop: where it is done.
            robot: whose voice.
            changed: called when it begins and ends to speak.
        """
        self._loop, self._robot, self._changed = loop, robot, changed
        self._waiting = deque()  # type: Deque[Tuple[Text, Callable[[], Any]]]
        self._now = None  # type: Optional[Text]
        self._round = 0
        self._busy, self._call = False, None  # type: bool, Optional[Pending]
        """What the robot has not ended yet, whether it is still wanted or was stopped."""
        self._hushing = None  # type: Optional[Timer]
        self._stuck = None  # type: Optional[Timer]
        self._ended_at = loop.now() - ECHO_S
        self._last = ""

    @property
    def speaking(self):  # type: () -> bool
        """Whether something is being said, or waits."""
        return self._now is not None or bool(self._waiting)

    def heard_as(self):  # type: () -> Text
        """Give what a microphone may hear of the robot itself now; nothing when it is silent."""
        if self._now is not None:
            return self._last + " " + self._now
        return self._last if self._loop.now() - self._ended_at < ECHO_S else ""

    def say(self, text, begins=None):  # type: (Text, Optional[Callable[[], Any]]) -> bool
        """Say something after what waits; gives False when nothing of it can be said.

        Args:
            text: a model's or our own.
            begins: called when the robot is given it.
        """
        clean = speakable(text)
        if not clean:
            return False
        silent = not self.speaking
        self._waiting.append((clean, begins or (lambda: None)))
        if not self._busy:
            self._next()
        if silent:
            self._changed()
        return True

    def stop(self):  # type: () -> None
        """Be silent at once."""
        if not self.speaking:
            return
        self._waiting.clear()
        if self._now is not None:
            self._over()
            self._hush(self._round, self._loop.now() + STOPPED_S)
        self._changed()

    def close(self):  # type: () -> None
        """Be silent, for good; waits for a text that is being prepared."""
        self._waiting.clear()
        for timer in (self._hushing, self._stuck):
            if timer is not None:
                timer.cancel()
        for _ in range(LEAVE_TIMES):
            if self._call is None:
                return
            self._quiet()
            if self._call.wait(LEAVE_S):
                return

    def _next(self):  # type: () -> None
        text, begins = self._waiting.popleft()
        self._round += 1
        self._now = text
        patience = STUCK_S + STUCK_WORD_S * len(text.split())
        self._stuck = self._loop.after(patience, self._give_up, self._round)

        def done(_, error, number=self._round):
            # type: (Any, Optional[RobotError], int) -> None
            if error is not None:
                _LOG.warning("%s.say failed", ANIMATED)  # the error may hold the text
            self._ended(number)

        self._busy = True
        begins()
        self._call = self._robot.begin(done, ANIMATED, "say", text, MODE)

    def _ended(self, number):  # type: (int) -> None
        """Go on: a text has been said, was stopped, or is given up."""
        if number != self._round or not self._busy:
            return
        self._busy, self._call = False, None
        if self._hushing is not None:
            self._hushing.cancel()
        wanted = self._now is not None
        if wanted:
            self._over()
        self._ended_at = self._loop.now()
        if self._waiting:
            self._next()
        elif wanted:
            self._changed()

    def _over(self):  # type: () -> None
        if self._stuck is not None:
            self._stuck.cancel()
        self._last, self._now = self._now or "", None
        self._ended_at = self._loop.now()

    def _give_up(self, number):  # type: (int) -> None
        _LOG.warning("%s.say does not end", ANIMATED)
        self._quiet()
        self._ended(number)

    def _hush(self, number, last):  # type: (int, float) -> None
        """Stop a text, again and again until it has ended."""
        if number != self._round or not self._busy:
            return
        self._quiet()
        if self._loop.now() < last:
            self._hushing = self._loop.after(STOP_AGAIN_S, self._hush, number, last)
        else:
            self._ended(number)

    def _quiet(self):  # type: () -> None
        self._robot.begin(None, VOICE, "stopAll")
