"""NAOqi's own memory of faces, for people who agreed to be remembered.

Owns: the subscription to ALFaceDetection, whose face it sees now, and that learning and forgetting
a face follow what somebody agreed to. Labels are the brain's ids, which say nothing about anybody.
Knows nothing of pictures; NAOqi keeps what it learns on the robot, in a form of its own.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import logging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, List, Optional, Set, Text

    from .loop import Loop
    from .naoqi import Robot
    from .problem import RobotError

FACES, NAME, EVENT = "ALFaceDetection", "UserVLM", "FaceDetected"
WAIT_S = 1.2
"""For the recognition to make up its mind; it averages over a few pictures."""
ONE_KNOWN = 2
"""The form of `FaceDetected`'s last element when it knows one of those it sees."""
_LOG = logging.getLogger("uservlm")


class Faces(object):
    """Subscribed until it is closed."""

    def __init__(self, loop, robot):  # type: (Loop, Robot) -> None
        """Begin to see faces.

        Raises:
            RobotError: the robot does not see faces (yet).
        """
        self._loop, self._robot = loop, robot
        self._waiting = []  # type: List[Callable[[Text], Any]]
        self._known = 0
        self._learning = ""
        self._unwanted = set()  # type: Set[Text]
        """Who was forgotten while their face was being learnt."""
        robot.call(FACES, "subscribe", NAME)
        self._count()

    def detected(self, value):  # type: (Any) -> None
        """Take in `FaceDetected`."""
        label = _one_known(value)
        if label:
            self._tell(label)

    def who(self, done):  # type: (Callable[[Text], Any]) -> None
        """Find out whose face is seen from now on; `done` gets a label, or nothing."""
        if not self._known:
            done("")
            return
        self._waiting.append(done)

        def late():  # type: () -> None
            if done in self._waiting:
                self._waiting.remove(done)
                done("")

        self._loop.after(WAIT_S, late)

    def learn(self, label):  # type: (Text) -> None
        """Learn the face that is nearest; it takes some seconds, and may fail."""
        self._learning = label

        def learnt(well, error):  # type: (Any, Optional[RobotError]) -> None
            _LOG.info("a face was %s", "learnt" if well is True else "not learnt: %s" % error)
            self._learning = ""
            self._count()
            if label in self._unwanted:
                self._unwanted.discard(label)
                self.forget(label)

        self._robot.begin(learnt, FACES, "learnFace", label)

    def forget(self, label, done=None):
        # type: (Text, Optional[Callable[[Any, Optional[RobotError]], Any]]) -> None
        """Forget a face; it is no error when there is none."""
        if label == self._learning:
            self._unwanted.add(label)

        def forgotten(_, error):  # type: (Any, Optional[RobotError]) -> None
            self._count()
            if done is not None:
                done(None, error)

        self._robot.begin(forgotten, FACES, "forgetPerson", label)

    def close(self):  # type: () -> None
        """See no more."""
        self._robot.begin(None, FACES, "unsubscribe", NAME)

    def _count(self):  # type: () -> None
        def counted(labels, error):  # type: (Any, Optional[RobotError]) -> None
            self._known = len(labels) if error is None and isinstance(labels, list) else 0

        self._robot.begin(counted, FACES, "getLearnedFacesList")

    def _tell(self, label):  # type: (Text) -> None
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done(label)


def _one_known(value):  # type: (Any) -> Text
    """Read the label out of `FaceDetected`; nothing unless one face is seen, and is known.

    With two in view the known one may stand behind the one who is being talked to.
    """
    try:
        faces, (kind, labels) = value[1][:-1], value[1][-1]
        alone = len(faces) == 1 and kind == ONE_KNOWN and len(labels) == 1
        return labels[0] if alone else ""
    except (TypeError, ValueError, IndexError, KeyError):
        return ""
