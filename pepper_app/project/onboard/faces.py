"""NAOqi's own memory of faces, for people who agreed to be remembered.

Owns: the subscription to ALFaceDetection, which lasts no longer than somebody may be compared,
whose face it sees alone, and that learning and forgetting a face follow what somebody agreed to.
Labels are the brain's ids, which say nothing about anybody; labels of other programs are not
touched. Knows nothing of pictures; NAOqi keeps what it learns on the robot, in a form of its own.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import logging
import re

from .crossing import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Set, Text, Tuple

    from .loop import Loop
    from .naoqi import Robot
    from .problem import RobotError

    Done = Callable[[Any, Optional[RobotError]], Any]

FACES, NAME, EVENT = "ALFaceDetection", "UserVLM", "FaceDetected"
WAIT_S, BEGIN_S = 1.2, 6.0
"""For the recognition to make up its mind, for it averages over a few pictures; and to begin."""
FRESH_S = 3.0
"""A lone face that was recognised stays so, unless news of it stops."""
SURE = 0.5
"""Of the score of a face in one picture."""
ONE_KNOWN, UNKNOWN = 2, 4
"""Forms of `FaceDetected`'s last element: one known face, and a face to learn."""
_OURS = re.compile(r"visitor-[0-9a-f]{12}\Z")
_LOG = logging.getLogger("uservlm")


class Faces(object):
    """See the module; close it."""

    def __init__(self, loop, robot, learns, on_sight):  # type: (Loop, Robot, bool, bool) -> None
        """Begin to see faces, if that may be.

        Args:
            loop: where it is done.
            robot: whose memory.
            learns: whether faces are learnt and recognised; else they are but forgotten.
            on_sight: whether every face is; else only while somebody is waited for, or learnt.

        Raises:
            RobotError: the robot does not see faces (yet).
        """
        self._loop, self._robot = loop, robot
        self._recognises, self._on_sight = learns, learns and on_sight
        self._users = 0
        """How many have need of the subscription now."""
        self._begun = False
        """Whether anything has come of it."""
        self._waiting = []  # type: List[Callable[[Text], Any]]
        self._lone, self._lone_at = "", loop.now() - FRESH_S
        self._learning = set()  # type: Set[Text]
        self._unwanted = {}  # type: Dict[Text, List[Done]]
        """Whose face is to be forgotten as soon as it has been learnt."""
        if self._on_sight:
            robot.call(FACES, "subscribe", NAME)
            self._users = 1
        else:
            robot.call(FACES, "isProcessing")

    def detected(self, value):  # type: (Any) -> None
        """Take in `FaceDetected`; what other programs have it say is not for us to hear."""
        if not self._users:
            return
        if not self._begun:
            self._begun = True
            for found in self._waiting:
                self._loop.after(WAIT_S, self._late, found)
        label, known = _lone(value)
        if known:
            self._lone = label
        self._lone_at = self._loop.now()
        if label:
            waiting, self._waiting = self._waiting, []
            for done in waiting:
                done(label)

    def lone(self):  # type: () -> Text
        """Give the label of the only face that is seen, if it is one of ours; else nothing."""
        return self._lone if self._loop.now() - self._lone_at < FRESH_S else ""

    def who(self, done):  # type: (Callable[[Text], Any]) -> None
        """Find out whose face is seen; `done` gets a label of ours, or nothing."""
        if self.lone() or not self._recognises:
            done(self.lone())
            return
        self._begin()

        def found(label):  # type: (Text) -> None
            self._end()
            done(label)

        self._waiting.append(found)
        self._loop.after(WAIT_S if self._begun else BEGIN_S, self._late, found)

    def _late(self, found):  # type: (Callable[[Text], Any]) -> None
        if found in self._waiting:
            self._waiting.remove(found)
            found("")

    def learn(self, label):  # type: (Text) -> None
        """Learn the face that is nearest; it takes some seconds, and may fail."""
        if not self._recognises:
            return
        self._learning.add(label)
        self._begin()

        def learnt(well, error):  # type: (Any, Optional[RobotError]) -> None
            _LOG.info("a face was %s", "learnt" if well is True else "not learnt")
            self._learning.discard(label)
            self._end()
            for done in self._unwanted.pop(label, []):
                self.forget(label, done)

        self._robot.begin(learnt, FACES, "learnFace", label)

    def disturb(self):  # type: () -> None
        """Drop what is being learnt: somebody else is in view, and it may be their face."""
        for label in self._learning:
            self._unwanted.setdefault(label, []).append(_ignore)

    def forget(self, label, done):  # type: (Text, Done) -> None
        """Forget a face, when it has been learnt; it is no error when there is none."""
        if label in self._learning:
            self._unwanted.setdefault(label, []).append(done)
            return
        if self._lone == label:
            self._lone = ""
        self._robot.begin(done, FACES, "forgetPerson", label)

    def labels(self, done):  # type: (Callable[[List[Text]], Any]) -> None
        """Find out which of our labels the robot knows."""

        def told(found, error):  # type: (Any, Optional[RobotError]) -> None
            known = found if error is None and isinstance(found, list) else []
            done([label for label in known if ours(label)])

        self._robot.begin(told, FACES, "getLearnedFacesList")

    def close(self):  # type: () -> None
        """See no more."""
        if self._users:
            self._users = 0
            self._robot.begin(None, FACES, "unsubscribe", NAME)

    def _begin(self):  # type: () -> None
        """See faces, as long as somebody has need of it."""
        self._users += 1
        if self._users == 1:
            self._begun = False
            self._robot.begin(None, FACES, "subscribe", NAME)

    def _end(self):  # type: () -> None
        if self._users:  # it may have been closed
            self._users -= 1
            if not self._users:
                self._lone = ""
                self._robot.begin(None, FACES, "unsubscribe", NAME)


def _lone(value):  # type: (Any) -> Tuple[Text, bool]
    """Read `FaceDetected`: a label of ours, or nothing, and whether that is news.

    With two in view the known one may stand behind the one who is being talked to. An element that
    holds no recognition says nothing new of a face that is still there.
    """
    try:
        faces, recognised = value[1][:-1], value[1][-1]
        if len(faces) != 1:
            return "", True
        score, label = faces[0][1][1], faces[0][1][2]
        if recognised and recognised[0] == ONE_KNOWN and len(recognised[1]) == 1:
            label, score = recognised[1][0], 1.0
        if ours(label) and score >= SURE:
            return label, True
        return "", bool(recognised) and recognised[0] == UNKNOWN
    except (TypeError, ValueError, IndexError, KeyError):  # nobody, in one of its forms
        return "", True


def ours(label):  # type: (Any) -> bool
    """Tell whether a face was learnt by this app."""
    return text(label) and _OURS.match(label) is not None


def _ignore(*_):  # type: (*Any) -> None
    pass
