"""The brain as the service `UserVLM` in the robot's own directory.

Owns: its methods as they are called, and that no sentence of an answer is lost or said twice.
Knows nothing of HTTP. The service is described in docs/serving.md, "The robot's door".
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import re

from .brain import Door
from .crossing import text
from .problem import GONE, BrainError, RobotError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional, Text, Tuple

    from .brain import Done, Said
    from .camera import Frame
    from .loop import Loop
    from .naoqi import Ear, Robot

SERVICE = "UserVLM"
_CODE = re.compile(r"^\S+: ([a-z_]+): (.*)", re.DOTALL)


class QiDoor(Door):
    """See the module."""

    name = SERVICE

    def __init__(self, loop, robot):  # type: (Loop, Robot) -> None
        """Know where to look."""
        self._loop, self._robot = loop, robot
        self._turns = {}  # type: Dict[Text, _Answer]
        self._ear = None  # type: Optional[Ear]

    def open(self, done):  # type: (Done) -> None
        """See `Door`."""

        def answered(_, error):  # type: (Any, Optional[RobotError]) -> None
            if error is None and self._ear is None:
                try:
                    self._ear = self._robot.hear(SERVICE, "sentence", self._sentence)
                except RobotError as lacking:  # it has gone, or is somebody else's
                    error = lacking
            done(None, _brain_error(error))

        self._robot.begin(answered, SERVICE, "ping")

    def left(self):  # type: () -> None
        """Note that the service has gone, and our ear with it."""
        self._ear = None

    def look(self, frame, user, done):  # type: (Frame, Text, Done) -> None
        """See `Door`."""
        if user:
            self._begin(done, "prepareAs", user, *_values(frame))
        else:
            self._begin(done, "prepare", *_values(frame))

    def identify(self, frame, done):  # type: (Frame, Done) -> None
        """See `Door`."""

        def found(who, error):  # type: (Any, Optional[BrainError]) -> None
            known = error is None and isinstance(who, dict) and who.get("kind") == "known"
            name = who.get("name") if known else ""
            done(name if text(name) else "", error)

        self._begin(found, "identify", *_values(frame))

    def wake(self, user, done):  # type: (Text, Done) -> None
        """See `Door`."""
        self._begin(done, "prepareUser", user)

    def ask(self, question, user, turn, said, done):
        # type: (Text, Text, Text, Said, Done) -> None
        """See `Door`."""
        answer = self._turns[turn] = _Answer(said)

        def answered(whole, error):  # type: (Any, Optional[BrainError]) -> None
            self._turns.pop(turn, None)
            if text(whole):
                answer.rest(whole)
            done(whole, error)

        self._begin(answered, "ask", question, user, turn)

    def cancel(self, turn):  # type: (Text) -> None
        """See `Door`."""
        self._turns.pop(turn, None)
        self._robot.begin(None, SERVICE, "cancel", turn)

    def remember(self, user, how, keeps, days, done):
        # type: (Text, Text, Text, int, Done) -> None
        """See `Door`."""
        self._begin(done, "remember", user, how, keeps, days)

    def about(self, user, done):  # type: (Text, Done) -> None
        """See `Door`."""
        self._begin(done, "about", user)

    def forget(self, user, done):  # type: (Text, Done) -> None
        """See `Door`."""
        self._begin(done, "forget", user)

    def close(self):  # type: () -> None
        """See `Door`."""
        for turn in list(self._turns):
            self.cancel(turn)

    def _begin(self, done, method, *values):  # type: (Done, Text, *Any) -> None
        def answered(value, error):  # type: (Any, Optional[RobotError]) -> None
            done(value, _brain_error(error))

        self._robot.begin(answered, SERVICE, method, *values)

    def _sentence(self, *told):  # type: (*Any) -> None
        """Take a sentence in; whoever is on the robot's bus can send this signal too."""
        if len(told) == 2 and text(told[0]) and text(told[1]) and told[0] in self._turns:
            self._turns[told[0]].add(told[1])


class _Answer(object):
    """What has been heard of one; the reply may overtake the last signals."""

    def __init__(self, said):  # type: (Said) -> None
        self._said = said
        self._heard = ""

    def add(self, sentence):  # type: (Text) -> None
        self._heard += sentence
        self._said(sentence)

    def rest(self, whole):  # type: (Text) -> None
        """Say what of the whole answer has not been heard."""
        heard, place = "".join(self._heard.split()), 0
        for sign in heard:
            while place < len(whole) and whole[place] != sign and whole[place].isspace():
                place += 1
            if place == len(whole) or whole[place] != sign:
                return  # heard something else than was answered: what is said stays said
            place += 1
        if whole[place:].strip():
            self._said(whole[place:].strip())


def _brain_error(error):  # type: (Optional[RobotError]) -> Optional[BrainError]
    """Read `Service.method: code: message`; anything else means that nobody answers."""
    if error is None:
        return None
    told = "%s" % (error,)  # `str` would not take its accents in Python 2.7
    found = _CODE.match(told)
    return BrainError(found.group(1), found.group(2)) if found else BrainError(GONE, told)


def _values(frame):  # type: (Frame) -> Tuple[int, int, int, bytes]
    return frame.width, frame.height, frame.space, frame.pixels
