r"""What the virtual Pepper says: ALTextToSpeech and ALAnimatedSpeech.

Owns: that speech takes time, word by word and one text after the other, its events, and what
ALAnimatedSpeech would have executed: `^call(...)`, `^start(...)` and `$event=value` are cut from
the text and recorded as "executes", and nothing else happens, so a test can prove that model text
never gets there. Knows nothing of sound; `virtual_audio.py` asks whether it speaks.

As on the robot (naoqi.md, 2.2), `stopAll` during the preparation of an animated text stops nothing,
and ALAnimatedSpeech has no stop of its own. Tags between backslashes are taken out and recorded,
but neither pauses nor bookmarks follow from them; no gesture is made.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from uservlm.pepper_app.service import Reply, RobotError, Service, Value
from uservlm.pepper_app.virtual_calls import Calls
from uservlm.pepper_app.virtual_memory import Memory
from uservlm.pepper_app.virtual_world import World

TTS: Final = "ALTextToSpeech"
ANIMATED: Final = "ALAnimatedSpeech"
WORDS_PER_S: Final = 2.5
PREPARE_S: Final = 0.3
LANGUAGES: Final = ("English", "French")
MODES: Final = ("disabled", "random", "contextual")
_COMMAND: Final = re.compile(r"\^\w+(?:\((?:[^()]|\([^()]*\))*\))?|\$[\w/]+=\S+")
_TAG: Final = re.compile(r"\\+[A-Za-z]+(?:=[^\\]*)?\\+")
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+")


@dataclass
class _Task:
    """One text on its way."""

    id: int
    text: str
    done: Callable[[], None]
    words: list[tuple[str, str]] = field(default_factory=list)
    """Each word; with the sentence, where it begins one."""
    spoken: list[str] = field(default_factory=list)
    over: bool = False


class Speech:
    """See the module."""

    def __init__(self, world: World, memory: Memory) -> None:
        self._world, self._memory = world, memory
        self._waiting: deque[_Task] = deque()
        self._now: _Task | None = None
        self.preparing = ""
        """The text that ALAnimatedSpeech prepares to say."""
        self._ids = count(1)
        self._language, self._volume, self._mode = LANGUAGES[0], 1.0, "contextual"
        self._parameters = {"speed": 100.0, "pitchShift": 1.0}
        self._calls = {name: Calls(world, name) for name in (TTS, ANIMATED)}

    @property
    def speaking(self) -> bool:
        """Whether it speaks."""
        return self._now is not None

    def services(self) -> list[Service]:
        """See `Part`."""
        tts, animated = self._calls[TTS], self._calls[ANIMATED]
        method = tts.method
        plain = (
            tts.slow("say", "s", "v", self._say),
            tts.slow("say", "ss", "v", self._say_in),
            method("stopAll", "", "v", self._stop_all),
            method("setLanguage", "s", "v", self._set_language),
            method("getLanguage", "", "s", lambda: self._language),
            method("getAvailableLanguages", "", "[s]", lambda: list(LANGUAGES)),
            method("setVolume", "f", "v", self._set_volume),
            method("getVolume", "", "f", lambda: self._volume),
            method("setParameter", "sf", "v", self._set_parameter),
            method("getParameter", "s", "f", self._parameter),
            method("resetSpeed", "", "v", lambda: self._set_parameter("speed", 100.0)),
        )
        moving = (
            animated.slow("say", "s", "v", self._say_animated),
            animated.slow("say", "sm", "v", self._say_animated),
            animated.method("setBodyLanguageModeFromStr", "s", "v", self._set_mode),
            animated.method("getBodyLanguageModeToStr", "", "s", lambda: self._mode),
        )
        return [Service(TTS, plain), Service(ANIMATED, moving)]

    def held(self) -> list[str]:
        """See `Part`."""
        return []

    def say(self, text: str, done: Callable[[], None] = lambda: None) -> None:
        """Speak, after whatever is waiting."""
        task = _Task(next(self._ids), _TAG.sub(" ", text).strip(), done)
        for tag in _TAG.findall(text):
            self._world.did(TTS, "tag", tag)
        for sentence in _SENTENCE.split(task.text):
            words = sentence.split()
            task.words += [(word, "" if place else sentence) for place, word in enumerate(words)]
        self._status(task, "enqueued")
        self._waiting.append(task)
        if self._now is None:
            self._begin()

    def _begin(self) -> None:
        if not self._waiting:
            return
        task = self._now = self._waiting.popleft()
        self._status(task, "started")
        self._memory.event("ALTextToSpeech/TextStarted", 1)
        self._word(task)

    def _word(self, task: _Task) -> None:
        """Say the next word, or end."""
        if task.over:
            return
        if len(task.spoken) == len(task.words):
            self._end(task, "done")
            return
        word, sentence = task.words[len(task.spoken)]
        if sentence:
            self._world.did(TTS, "says", sentence)
            self._memory.event("ALTextToSpeech/CurrentSentence", sentence)
        self._memory.event("ALTextToSpeech/CurrentWord", word)
        task.spoken.append(word)
        seconds = 100 / WORDS_PER_S / self._parameters["speed"]
        self._world.after(seconds, lambda: self._word(task))

    def _end(self, task: _Task, status: str) -> None:
        task.over, self._now = True, None
        spoken = " ".join(task.spoken)
        if status == "done":
            self._world.did(TTS, "spoke", spoken)
        else:
            self._world.did(TTS, "interrupted", spoken)
            self._memory.event("ALTextToSpeech/TextInterrupted", 1)
        self._memory.event("ALTextToSpeech/TextStarted", 0)
        self._memory.event("ALTextToSpeech/TextDone", 1)
        self._status(task, status)
        task.done()
        self._begin()

    def _stop_all(self) -> None:
        """Stop what is spoken, and drop what waits."""
        self._world.did(TTS, "stopAll")
        dropped = list(self._waiting)
        self._waiting.clear()
        if self._now is not None:
            self._end(self._now, "stopped")
        for task in dropped:
            task.over = True
            self._status(task, "stopped")
            task.done()

    def _status(self, task: _Task, status: str) -> None:
        self._memory.event("ALTextToSpeech/Status", [task.id, status])

    def _say(self, reply: Reply, text: str) -> None:
        with self._world.lock:
            self.say(text, lambda: self._calls[TTS].later(0.0, reply, None))

    def _say_in(self, reply: Reply, text: str, language: str) -> None:
        _known(language, LANGUAGES)
        self._say(reply, text)

    def _say_animated(self, reply: Reply, text: str, configuration: Value = None) -> None:
        """Prepare, execute what is to be executed, and speak the rest."""
        if configuration is not None:
            if not isinstance(configuration, dict):
                raise RobotError("a configuration is a map")
            _known(str(configuration.get("bodyLanguageMode", self._mode)), MODES)
        with self._world.lock:
            for command in _COMMAND.findall(text):
                self._world.did(ANIMATED, "executes", command)
            spoken = " ".join(_COMMAND.sub(" ", text).split())
            self._world.did(ANIMATED, "prepares", spoken)
            self.preparing = spoken
            self._world.after(PREPARE_S, lambda: self._prepared(reply, spoken))

    def _prepared(self, reply: Reply, spoken: str) -> None:
        self.preparing = ""
        self.say(spoken, lambda: self._calls[ANIMATED].later(0.0, reply, None))

    def _set_mode(self, mode: str) -> None:
        self._mode = _known(mode, MODES)
        self._world.did(ANIMATED, "setBodyLanguageMode", mode)

    def _set_language(self, language: str) -> None:
        self._language = _known(language, LANGUAGES)
        self._world.did(TTS, "setLanguage", language)

    def _set_volume(self, volume: float) -> None:
        if not 0 <= volume <= 1:
            raise RobotError("a volume is 0 to 1")
        self._volume = volume
        self._world.did(TTS, "setVolume", volume)

    def _set_parameter(self, name: str, value: float) -> None:
        self._parameter(name)
        if name == "speed" and not 50 <= value <= 400:
            raise RobotError("a speed is 50 to 400")
        self._parameters[name] = value
        self._world.did(TTS, "setParameter", name, value)

    def _parameter(self, name: str) -> float:
        return self._parameters[_known(name, tuple(self._parameters))]


def _known(value: str, values: tuple[str, ...]) -> str:
    """Check a word.

    Raises:
        RobotError: it is none of them.
    """
    if value not in values:
        raise RobotError(f"no {value!r}; there are {', '.join(values)}")
    return value
