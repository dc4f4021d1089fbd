"""What the virtual Pepper hears in words: ALSpeechRecognition.

Owns: the closed vocabulary, and `WordRecognized` while somebody has subscribed and it is not
paused. Knows nothing of sound: words come to it as text. A phrase of the vocabulary is always
understood, with one confidence; anything else never is.

Not there: contexts, rules, grammars; the ears' and eyes' expressions are but recorded.
"""

from __future__ import annotations

import re
from typing import Final

from uservlm.pepper_app.service import RobotError, Service
from uservlm.pepper_app.virtual_calls import Calls
from uservlm.pepper_app.virtual_memory import Memory
from uservlm.pepper_app.virtual_speech import LANGUAGES
from uservlm.pepper_app.virtual_world import World

NAME: Final = "ALSpeechRecognition"
CONFIDENCE: Final = 0.55


class Hearing:
    """See the module."""

    def __init__(self, world: World, memory: Memory) -> None:
        self._world, self._memory = world, memory
        self._subscribers: set[str] = set()
        self._vocabulary: list[str] = []
        self._spotting, self._paused, self._language = False, False, LANGUAGES[0]
        self._parameters: dict[str, float] = {}

    def services(self) -> list[Service]:
        """See `Part`."""
        calls = Calls(self._world, NAME)
        method = calls.method
        methods = (
            method("subscribe", "s", "v", self._subscribe),
            method("subscribe", "sif", "v", lambda name, _, __: self._subscribe(name)),
            method("unsubscribe", "s", "v", self._unsubscribe),
            method("pause", "b", "v", self._pause),
            method("setVocabulary", "[s]b", "v", self._set_vocabulary),
            method("setLanguage", "s", "v", self._set_language),
            method("getLanguage", "", "s", lambda: self._language),
            method("getAvailableLanguages", "", "[s]", lambda: list(LANGUAGES)),
            method("setParameter", "sf", "v", self._set_parameter),
            method("getParameter", "s", "f", self._parameter),
            calls.did("setAudioExpression", "b"),
            calls.did("setVisualExpression", "b"),
        )
        return [Service(NAME, methods)]

    def held(self) -> list[str]:
        """See `Part`."""
        return [f"{NAME} {name}" for name in sorted(self._subscribers)]

    def hear(self, said: str) -> None:
        """Recognise what somebody says, if it listens."""
        if not self._subscribers or self._paused:
            return
        self._memory.event("SpeechDetected", True)
        heard = self._match(said)
        if heard:
            self._world.did(NAME, "recognised", heard)
            self._memory.event("WordRecognized", [heard, CONFIDENCE])
        self._memory.event("SpeechDetected", False)

    def _match(self, said: str) -> str:
        words = _words(said)
        for phrase in sorted(self._vocabulary, key=len, reverse=True):
            if _words(phrase) == words:
                return f"<...> {phrase} <...>" if self._spotting else phrase
            if self._spotting and f" {_words(phrase)} " in f" {words} ":
                return f"<...> {phrase} <...>"
        return ""

    def _running(self) -> None:
        running = bool(self._subscribers) and not self._paused
        self._memory.event("ALSpeechRecognition/IsRunning", running)

    def _subscribe(self, name: str) -> None:
        self._world.did(NAME, "subscribe", name)
        self._subscribers.add(name)
        self._running()

    def _unsubscribe(self, name: str) -> None:
        self._world.did(NAME, "unsubscribe", name)
        if name not in self._subscribers:
            raise RobotError(f"{name} has not subscribed")
        self._subscribers.discard(name)
        self._running()

    def _pause(self, paused: bool) -> None:
        self._world.did(NAME, "pause", bool(paused))
        self._paused = bool(paused)
        self._running()

    def _changes(self) -> None:
        """Refuse changes while it listens.

        Raises:
            RobotError: it does.
        """
        if self._subscribers and not self._paused:
            raise RobotError("the recogniser is running: pause it first")

    def _set_vocabulary(self, phrases: list[str], spotting: bool) -> None:
        self._changes()
        if not phrases or not all(isinstance(one, str) and one.strip() for one in phrases):
            raise RobotError("a vocabulary is a list of phrases")
        self._vocabulary, self._spotting = list(phrases), bool(spotting)
        self._world.did(NAME, "setVocabulary", list(phrases), bool(spotting))

    def _set_language(self, language: str) -> None:
        self._changes()
        if language not in LANGUAGES:
            raise RobotError(f"no language {language}; there are {', '.join(LANGUAGES)}")
        self._language = language
        self._world.did(NAME, "setLanguage", language)

    def _set_parameter(self, name: str, value: float) -> None:
        self._parameters[name] = value
        self._world.did(NAME, "setParameter", name, value)

    def _parameter(self, name: str) -> float:
        if name not in self._parameters:
            raise RobotError(f"no parameter {name} has been set")
        return self._parameters[name]


def _words(text: str) -> str:
    """Give a text's words in small letters, without what stands between them."""
    return " ".join(re.findall(r"[\w']+", text.lower()))
