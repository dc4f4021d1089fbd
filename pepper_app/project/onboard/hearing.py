"""Ways to hear what people say: dialog topics, a vocabulary, and the brain's own ears.

Owns: what each way has to be given, and that all of it is given back. Knows nothing of what
follows from a word. `UserVLM/Question` and its like in ALMemory, from any recogniser, and from our
own dialog topics, are heard by `life.py`.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import io
import logging
import os

from .problem import SettingError
from .visit import fresh
from .words import COMMANDS, ROBOT_LANGUAGES, SUGGESTIONS, TOPICS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Optional, Text

    from .brain_http import HttpDoor
    from .loop import Loop, Timer
    from .naoqi import Robot
    from .problem import BrainError
    from .settings import Settings

    Want = Callable[[Text, Text], Any]

NAME = "UserVLM"
DIALOG, WORDS, AUDIO = "ALDialog", "ALSpeechRecognition", "ALAudioDevice"
EARS = "UserVLMEars"
TOPIC_FOLDER = "dialog"
SURE = 0.4
"""Of a phrase of the vocabulary; below, it was something else."""
RATE, FRONT = 16000, 3
SEND_BYTES = RATE * 2 * 3 // 10
"""0.3 s of sound are sent at once over HTTP."""
ECHO_S = 0.6
_LOG = logging.getLogger("uservlm")


class Way(object):
    """Listens until it is closed."""

    def mute(self, muted):  # type: (bool) -> None
        """Listen to nothing while the robot speaks."""

    def close(self):  # type: () -> None
        """Give everything back."""
        raise NotImplementedError


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
        robot.call(DIALOG, "setLanguage", ROBOT_LANGUAGES[language])
        self._topic = robot.call(DIALOG, "loadTopicContent", content)
        robot.call(DIALOG, "activateTopic", self._topic)
        robot.call(DIALOG, "subscribe", NAME)

    def close(self):  # type: () -> None
        """See `Way`."""
        self._robot.begin(None, DIALOG, "unsubscribe", NAME)
        self._robot.begin(None, DIALOG, "deactivateTopic", self._topic)
        self._robot.begin(None, DIALOG, "unloadTopic", self._topic)
        self._robot.begin(None, DIALOG, "setLanguage", self._before)


class Vocabulary(Way):
    """ALSpeechRecognition with the suggested questions and the commands; nothing else is heard."""

    def __init__(self, robot, settings, language, want):
        # type: (Robot, Settings, Text, Want) -> None
        """Listen.

        Args:
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
        robot.call(WORDS, "pause", True)
        robot.call(WORDS, "setLanguage", ROBOT_LANGUAGES[language])
        phrases_ = sorted(self._means) + sorted(self._questions)
        robot.call(WORDS, "setVocabulary", phrases_, False)
        robot.call(WORDS, "pause", False)
        robot.call(WORDS, "subscribe", NAME)

    def recognised(self, value):  # type: (Any) -> None
        """Take in `WordRecognized`: phrase, confidence, and less likely ones."""
        if not isinstance(value, list) or len(value) < 2 or not isinstance(value[1], float):
            return
        phrase, confidence = value[0], value[1]
        if confidence < SURE:
            return
        if phrase in self._means:
            self._want(self._means[phrase], phrase)
        elif phrase in self._questions:
            self._want("ask", self._questions[phrase])

    def close(self):  # type: () -> None
        """See `Way`."""
        self._robot.begin(None, WORDS, "unsubscribe", NAME)
        self._robot.begin(None, WORDS, "pause", True)
        self._robot.begin(None, WORDS, "setLanguage", self._before)
        self._robot.begin(None, WORDS, "pause", False)


class BrainEars(Way):
    """The robot's microphone streams to the brain's own service; what it understands comes back."""

    def __init__(self, robot, want):  # type: (Robot, Want) -> None
        """Connect the two.

        Raises:
            RobotError: the brain has no ears (yet), or there is no microphone.
        """
        self._robot = robot
        self._ear = robot.hear(EARS, "heard", lambda text: want("ask", text))
        robot.call(AUDIO, "setClientPreferences", EARS, RATE, FRONT, 0)
        robot.call(AUDIO, "subscribe", EARS)

    def mute(self, muted):  # type: (bool) -> None
        """See `Way`."""
        self._robot.begin(None, EARS, "mute", muted)

    def close(self):  # type: () -> None
        """See `Way`."""
        self._ear.close()
        self._robot.begin(None, AUDIO, "unsubscribe", EARS)


class HttpEars(Way):
    """The robot's microphone comes here, and goes to the brain over HTTP."""

    def __init__(self, loop, robot, door, want):
        # type: (Loop, Robot, HttpDoor, Want) -> None
        """Listen.

        Raises:
            RobotError: no microphone (yet), or it cannot reach us.
        """
        self._loop, self._robot, self._door, self._want = loop, robot, door, want
        self._service, self._session = fresh("UserVLMMicrophone"), fresh("ears")
        self._held, self._muted, self._sending, self._open = bytearray(), False, False, True
        robot.microphone(self._service, self._sound)
        robot.call(AUDIO, "setClientPreferences", self._service, RATE, FRONT, 0)
        robot.call(AUDIO, "subscribe", self._service)

    def mute(self, muted):  # type: (bool) -> None
        """See `Way`."""
        self._muted = muted
        if muted:
            self._held = bytearray()
            self._session = fresh("ears")  # what was begun is not gone on with

    def close(self):  # type: () -> None
        """See `Way`."""
        self._open = False
        self._robot.begin(None, AUDIO, "unsubscribe", self._service)

    def _sound(self, buffer):  # type: (bytes) -> None
        """Take a buffer: int16, little-endian, one channel."""
        if self._muted or not self._open:
            return
        self._held += buffer
        if len(self._held) >= SEND_BYTES and not self._sending:
            sound, self._held = bytes(self._held[-64 * 1024 :]), bytearray()
            self._sending = True
            session = self._session

            def heard(texts, error):  # type: (Any, Optional[BrainError]) -> None
                self._sending = False
                if error is not None:
                    _LOG.info("not heard: %s", error)
                elif session == self._session and self._open:
                    for text in texts:
                        self._want("ask", text)

            self._door.hear(session, sound, heard)


class Muting(object):
    """Mutes a way while the robot speaks, and for as long as its voice may be in the room."""

    def __init__(self, loop, way):  # type: (Loop, Way) -> None
        """Listen."""
        self._loop, self._way = loop, way
        self._muted = False
        self._timer = None  # type: Optional[Timer]

    def speaking(self, speaks):  # type: (bool) -> None
        """Note whether the robot speaks."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if speaks and not self._muted:
            self._muted = True
            self._way.mute(True)
        elif not speaks and self._muted:
            self._timer = self._loop.after(ECHO_S, self._listen)

    def _listen(self):  # type: () -> None
        self._muted = False
        self._way.mute(False)


def commanded(text, language):  # type: (Text, Text) -> Text
    """Give what a sentence of free speech wants: a command, or `ask`."""
    said = _spoken(text)
    for command, phrases in COMMANDS[language].items():
        if said in [_spoken(phrase) for phrase in phrases]:
            return command
    return "ask"


def _spoken(text):  # type: (Text) -> Text
    """Give a text as a recogniser writes it."""
    kept = "".join(sign if sign.isalnum() or sign in "'-" else " " for sign in text.lower())
    return " ".join(kept.split())
