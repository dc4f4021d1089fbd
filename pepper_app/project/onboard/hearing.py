"""The robot's own recognisers: dialog topics, and a vocabulary.

Owns: what each has to be given, and that all of it is given back, in its order. Knows nothing of
what follows from a word. `UserVLM/Question` and its like in ALMemory, from any recogniser, and from
our own dialog topics, are heard by `life.py`; free speech is `ears.py`'s.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import io
import logging
import os

from .crossing import text
from .events import Events
from .problem import RobotError, SettingError
from .way import Way
from .words import COMMANDS, ROBOT_LANGUAGES, SUGGESTIONS, TOPICS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Text, Tuple

    from .loop import Loop
    from .naoqi import Robot
    from .settings import Settings

    Want = Callable[[Text, Text], Any]

NAME = "UserVLM"
DIALOG, WORDS = "ALDialog", "ALSpeechRecognition"
TOPIC, TOPIC_FOLDER = "uservlm", "dialog"
RECOGNISED = "WordRecognized"
SURE = 0.4
"""Of a phrase of the vocabulary; below, it was something else."""
_LOG = logging.getLogger("uservlm")


class Topics(Way):
    """ALDialog with the topic of this package; what it understands comes as events."""

    def __init__(self, robot, language, folder):  # type: (Robot, Text, Text) -> None
        """Load the topic.

        Args:
            robot: whose dialog.
            language: en or fr.
            folder: of the package.

        Raises:
            RobotError: no ALDialog (yet), or it refuses the topic.
            SettingError: the package lacks it.
        """
        self._robot = robot
        path = os.path.join(folder, TOPIC_FOLDER, "uservlm_%s.top" % TOPICS[language])
        try:
            with io.open(path, encoding="utf-8") as file:
                content = file.read()
        except (IOError, OSError) as error:
            raise SettingError("the package has no topic for ALDialog: %s" % error)
        self._before = robot.call(DIALOG, "getLanguage")
        try:
            robot.call(DIALOG, "setLanguage", ROBOT_LANGUAGES[language])
            _load(robot, content)
            robot.call(DIALOG, "activateTopic", TOPIC)
            robot.call(DIALOG, "subscribe", NAME)
        except RobotError:
            self.close()
            raise

    def close(self):  # type: () -> None
        """See `Way`."""
        _give_back(
            self._robot,
            (DIALOG, "unsubscribe", NAME),
            (DIALOG, "deactivateTopic", TOPIC),
            (DIALOG, "unloadTopic", TOPIC),
            (DIALOG, "setLanguage", self._before),
        )


class Vocabulary(Way):
    """ALSpeechRecognition with the suggested questions and the commands; nothing else is heard."""

    def __init__(self, loop, robot, settings, language, want):
        # type: (Loop, Robot, Settings, Text, Want) -> None
        """Listen.

        Args:
            loop: where words arrive.
            robot: whose ears.
            settings: the suggestions.
            language: en or fr.
            want: gets what is wanted and the text.

        Raises:
            RobotError: no recogniser (yet), or it refuses.
        """
        self._robot, self._want = robot, want
        self._means = {}  # type: Dict[Text, Text]
        for command, phrases in COMMANDS[language].items():
            for phrase in phrases:
                self._means[phrase] = command
        questions = settings.suggestions or SUGGESTIONS[language]
        self._questions = dict((_spoken(question), question) for question in questions)
        self._before = robot.call(WORDS, "getLanguage")
        phrases_ = sorted(self._means) + sorted(self._questions)
        try:
            robot.call(WORDS, "pause", True)
            robot.call(WORDS, "setLanguage", ROBOT_LANGUAGES[language])
            robot.call(WORDS, "setVocabulary", phrases_, False)
            robot.call(WORDS, "pause", False)
            robot.call(WORDS, "subscribe", NAME)
            self._events = Events(loop, robot, {RECOGNISED: self._recognised})
        except RobotError:
            self._stop()
            raise

    def close(self):  # type: () -> None
        """See `Way`."""
        self._events.close()
        self._stop()

    def _stop(self):  # type: () -> None
        _give_back(
            self._robot,
            (WORDS, "unsubscribe", NAME),
            (WORDS, "pause", True),
            (WORDS, "setLanguage", self._before),
            (WORDS, "pause", False),
        )

    def _recognised(self, value):  # type: (Any) -> None
        """Take in phrase, confidence, and less likely ones; anybody may raise anything."""
        if not isinstance(value, list) or len(value) < 2:
            return
        phrase, confidence = value[0], value[1]
        if not text(phrase) or not isinstance(confidence, float) or confidence < SURE:
            return
        if phrase in self._means:
            self._want(self._means[phrase], phrase)
        elif phrase in self._questions:
            self._want("ask", self._questions[phrase])


def commanded(sentence, language):  # type: (Text, Text) -> Text
    """Give what a sentence of free speech wants: a command, or `ask`."""
    said = _spoken(sentence)
    for command, phrases in COMMANDS[language].items():
        if said in [_spoken(phrase) for phrase in phrases]:
            return command
    return "ask"


def _load(robot, content):  # type: (Robot, Text) -> None
    """Load our topic; it is loaded already where an app before us was killed.

    Raises:
        RobotError: ALDialog refuses it.
    """
    try:
        robot.call(DIALOG, "loadTopicContent", content)
    except RobotError as error:
        _LOG.info("is the topic there? %s", error)
        robot.call(DIALOG, "unloadTopic", TOPIC)
        robot.call(DIALOG, "loadTopicContent", content)


def _give_back(robot, *calls):  # type: (Robot, *Tuple[Any, ...]) -> None
    """Call one after the other, for each relies on the one before; what fails is back already."""
    for call in calls:
        try:
            robot.call(*call)
        except RobotError as error:
            _LOG.debug("%s", error)


def _spoken(written):  # type: (Text) -> Text
    """Give a text as a recogniser writes it."""
    kept = "".join(sign if sign.isalnum() or sign in "'-" else " " for sign in written.lower())
    return " ".join(kept.split())
