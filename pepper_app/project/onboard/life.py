"""The app for as long as the robot's connection lasts.

Owns: which parts there are, that each is started as soon as the robot has what it needs (services
come late after a boot), and that all of them give back what they hold. Knows nothing of what the
parts do.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import json
import logging
import os

from .brain import Brains, Door
from .brain_http import HttpDoor
from .brain_qi import QiDoor
from .camera import Camera
from .conversation import TABLET, TOUCH, VOICE, Conversation
from .crossing import text as is_text
from .debts import Debts
from .ears import Free
from .events import Events
from .faces import EVENT as FACE
from .faces import Faces
from .hearing import Topics, Vocabulary, commanded
from .lights import Lights
from .naoqi import Robot
from .people import ENTERED, People
from .problem import RobotError
from .speaker import VOICE as TEXT_TO_SPEECH
from .speaker import Speaker
from .tablet import Tablet
from .touch import Touch
from .words import ROBOT_LANGUAGES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Mapping, Set, Text

    from .loop import Loop
    from .settings import Settings
    from .visit import Turn
    from .way import Way

APPLICATION = "uservlm"
"""The package's uuid."""
TRY_S, LONGEST_TRY_S = 1.0, 15.0
QUESTION = "UserVLM/Question"
EVENTS = {
    QUESTION: "ask",
    "UserVLM/Stop": "stop",
    "UserVLM/Forget": "forget",
    "UserVLM/Know": "know",
    "UserVLM/Remember": "remember",
    "UserVLM/Yes": "yes",
    "UserVLM/No": "no",
}
"""What any recogniser may raise in ALMemory, and our dialog topics do."""
REPORT = "UserVLM/LastTurn"
_LOG = logging.getLogger("uservlm")


class Life(object):
    """Runs until the connection is lost, or the loop ends; `close` it in any case."""

    def __init__(self, loop, url, settings, folder, data, guests):
        # type: (Loop, Text, Settings, Text, Text, Set[Text]) -> None
        """Connect, and begin.

        Args:
            loop: where everything happens.
            url: of the robot.
            settings: the deployer's.
            folder: of the package.
            data: a folder that may be written to.
            guests: whom the brain still has to let go of; outlives this.

        Raises:
            RobotError: the robot is not there, or lacks its memory or its voice.
        """
        self._loop, self._settings, self._folder = loop, settings, folder
        self._parts = []  # type: List[Any]
        self._ways = []  # type: List[Way]
        self._lights = None  # type: Any
        self._tablet = None  # type: Any
        self._shown = {}  # type: Mapping[Text, Any]
        self.robot = Robot(loop, url, self._lost, self._withdrawn)
        try:
            self._language_before = ""
            self.language = self._choose_language()
            self._http = HttpDoor(loop, settings.brain, settings.token) if settings.brain else None
            self._qi = QiDoor(loop, self.robot)
            doors = []  # type: List[Door]
            if not settings.token:  # else whoever is on the robot's bus could pose as the brain
                doors.append(self._qi)
            if self._http is not None:
                doors.append(self._http)
            self.brain = Brains(loop, doors, self._brain_changed)
            debts = self._debts = Debts(loop, self.brain, os.path.join(data, "forget.json"), guests)
            self._speaker = Speaker(loop, self.robot, self._speaking)
            self.talk = Conversation(
                loop, self.brain, self._speaker, debts, settings, self.language
            )
            debts.keeps_nobody = not self.talk.recognition.anybody
            self.talk.shows, self.talk.finished = self._show, self._report
            self._hear()
            self._begin()
        except RobotError:
            self._leave()
            raise
        _LOG.info("with the robot at %s", url)

    def close(self):  # type: () -> None
        """Give everything back."""
        self.talk.close()
        for part in reversed(self._parts):
            part.close()
        self.brain.close()
        self._leave()

    def _leave(self):  # type: () -> None
        if self._language_before:
            self.robot.begin(None, TEXT_TO_SPEECH, "setLanguage", self._language_before)
        self.robot.close()

    def _choose_language(self):  # type: () -> Text
        """Take the deployer's language, else the robot's if we speak it, else English."""
        now = self.robot.call(TEXT_TO_SPEECH, "getLanguage")
        ours = dict((name, code) for code, name in ROBOT_LANGUAGES.items())
        wanted = self._settings.language or ours.get(now, "en")
        if ROBOT_LANGUAGES[wanted] != now:
            self.robot.call(TEXT_TO_SPEECH, "setLanguage", ROBOT_LANGUAGES[wanted])
            self._language_before = now
        return wanted

    def _hear(self):  # type: () -> None
        """Hear what does not depend on a part."""
        acts = {"ALTextToSpeech/TextStarted": self._word}  # type: Dict[Text, Any]
        for event, what in EVENTS.items():
            acts[event] = self._wanted(what)
        touch = Touch(self._loop, lambda what: self.talk.want(what, "", TOUCH))
        acts.update(touch.events())
        self._parts.append(Events(self._loop, self.robot, acts))

    def _begin(self):  # type: () -> None
        """Start every part, now or as soon as that is possible."""
        robot, loop, settings, talk = self.robot, self._loop, self._settings, self.talk

        def people():  # type: () -> None
            part = People(loop, robot, settings, talk.focus)
            self._parts.append(part)
            self._parts.append(Events(loop, robot, {ENTERED: part.entered}))

        def camera():  # type: () -> None
            talk.looking.camera = Camera(loop, robot)
            self._parts.append(talk.looking.camera)
            talk.look()

        def faces():  # type: () -> None
            learns = settings.learn_faces and talk.recognition.anybody
            part = talk.looking.faces = talk.consents.faces = Faces(
                loop, robot, learns, talk.recognition.on_sight
            )
            self._parts.append(part)
            self._parts.append(Events(loop, robot, {FACE: part.detected}))
            self._debts.seen_by(part)

        def lights():  # type: () -> None
            robot.call("ALLeds", "listGroups")
            self._lights = Lights(robot)
            self._parts.append(self._lights)
            talk.changed()

        def tablet():  # type: () -> None
            pressed = lambda what, text: talk.want(what, text, TABLET)  # noqa: E731
            self._tablet = Tablet(loop, robot, APPLICATION, pressed)
            self._parts.append(self._tablet)
            self._tablet.show(self._shown)

        starts = [camera, faces, people, lights, tablet] + [
            self._way(name) for name in settings.listen
        ]
        for start in starts:
            loop.post(self._start, start)  # one by one, so that an end in between is seen

    def _way(self, name):  # type: (Text) -> Callable[[], None]
        """Give what starts a way to hear."""

        def spoken(what, text):  # type: (Text, Text) -> None
            self.talk.want(what, text, VOICE)

        def free(sentence):  # type: (Text) -> None
            spoken(commanded(sentence, self.language), sentence)

        def start():  # type: () -> None
            if name == "dialog":
                way = Topics(self.robot, self.language, self._folder)  # type: Way
            elif name == "words":
                way = Vocabulary(self._loop, self.robot, self._settings, self.language, spoken)
            else:
                way = Free(self._loop, self.robot, self._http, free)
            way.speaking(self._speaker.speaking)
            self._parts.append(way)
            self._ways.append(way)

        start.__name__ = str(name)
        return start

    def _start(self, start, wait=TRY_S):  # type: (Callable[[], None], float) -> None
        before = len(self._parts)
        try:
            start()
        except RobotError as error:
            for part in reversed(self._parts[before:]):
                part.close()
            del self._parts[before:]
            _LOG.log(
                logging.INFO if wait == TRY_S else logging.DEBUG,
                "%s comes later: %s",
                start.__name__,
                error,
            )
            self._loop.after(wait, self._start, start, min(wait * 1.5, LONGEST_TRY_S))

    def _wanted(self, what):  # type: (Text) -> Callable[[Any], None]
        def heard(value):  # type: (Any) -> None
            text = value if what == "ask" and is_text(value) else ""
            if text or what != "ask":
                self.talk.want(what, text, VOICE)

        return heard

    def _word(self, value):  # type: (Any) -> None
        if value:
            self.talk.word(value)

    def _show(self, state):  # type: (Mapping[Text, Any]) -> None
        if self._shown.get("turns") and not state["turns"] and state["state"] == "alone":
            self.robot.begin(None, "ALMemory", "insertData", QUESTION, "")  # it was theirs
        self._shown = state
        if self._lights is not None:
            self._lights.show(state["state"])
        if self._tablet is not None:
            self._tablet.show(state)

    def _speaking(self):  # type: () -> None
        for way in self._ways:
            way.speaking(self._speaker.speaking)
        self.talk.speaking()

    def _report(self, turn):  # type: (Turn) -> None
        """Tell whoever wants to know how long a turn took; nothing of its text."""
        heard = turn.times["heard"]
        seconds = dict((name, round(at - heard, 3)) for name, at in turn.times.items())
        told = {
            "turn": turn.id,
            "outcome": _outcome(turn),
            "sentences": turn.sentences,
            "tries": turn.tries,
            "seconds": seconds,
        }
        self.robot.begin(None, "ALMemory", "raiseEvent", REPORT, json.dumps(told, sort_keys=True))

    def _brain_changed(self, there):  # type: (bool) -> None
        self.talk.brain_changed(there)

    def _lost(self):  # type: () -> None
        _LOG.warning("the robot hangs up")
        self._loop.end()

    def _withdrawn(self, name):  # type: (Text) -> None
        for way in self._ways:
            way.left(name)
        if name == self._qi.name:
            self._qi.left()
        self.brain.left(name)


def _outcome(turn):  # type: (Turn) -> Text
    if turn.failed:
        return "failed"
    return "answered" if turn.sentences and not turn.stopped else "stopped"
