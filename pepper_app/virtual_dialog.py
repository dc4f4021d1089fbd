"""ALDialog: topics that are loaded, active and listened to.

Owns: which topics are, and what follows when a sentence matches one of their rules: its events
(`$Key=value`) are raised, its words spoken, and its `^call(...)` recorded. Knows nothing of how a
rule is written. Free words (`*`) match what is forced in, never what is heard: that takes a licence
for the remote recogniser, which no robot of ours has.

Not there: focus, tags, proposals, user data, dynamic concepts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from uservlm.pepper_app.service import RobotError, Service
from uservlm.pepper_app.virtual_calls import Calls
from uservlm.pepper_app.virtual_memory import Memory
from uservlm.pepper_app.virtual_speech import LANGUAGES, Speech
from uservlm.pepper_app.virtual_topics import Topic, match, read
from uservlm.pepper_app.virtual_world import World

NAME: Final = "ALDialog"
_EVENT: Final = re.compile(r'\$([A-Za-z][\w/]*)=("[^"]*"|\S+)')
_COMMAND: Final = re.compile(r"\^\w+(?:\((?:[^()]|\([^()]*\))*\))?")


class Dialog:
    """See the module."""

    def __init__(self, world: World, memory: Memory, speech: Speech) -> None:
        self._world, self._memory, self._speech = world, memory, speech
        self._topics: dict[str, Topic] = {}
        self._active: list[str] = []
        self._subscribers: set[str] = set()
        self._language = LANGUAGES[0]

    def services(self) -> list[Service]:
        """See `Part`."""
        method = Calls(self._world, NAME).method
        methods = (
            method("loadTopic", "s", "s", self._load_file),
            method("loadTopicContent", "s", "s", self._load),
            method("unloadTopic", "s", "v", self._unload),
            method("activateTopic", "s", "v", self._activate),
            method("deactivateTopic", "s", "v", self._deactivate),
            method("getAllLoadedTopics", "", "[s]", lambda: sorted(self._topics)),
            method("getActivatedTopics", "", "[s]", lambda: list(self._active)),
            method("subscribe", "s", "v", self._subscribe),
            method("unsubscribe", "s", "v", self._unsubscribe),
            method("setLanguage", "s", "v", self._set_language),
            method("getLanguage", "", "s", lambda: self._language),
            method("forceInput", "s", "v", lambda said: self._take(said, spoken=False)),
        )
        return [Service(NAME, methods)]

    def held(self) -> list[str]:
        """See `Part`."""
        return [f"{NAME} {name}" for name in sorted(self._subscribers)] + [
            f"{NAME} topic {name}" for name in sorted(self._topics)
        ]

    def hear(self, said: str) -> None:
        """Answer what somebody says, if anybody has subscribed."""
        if self._subscribers:
            self._take(said, spoken=True)

    def _take(self, said: str, spoken: bool) -> None:
        active = [self._topics[name] for name in self._active]
        found = match(active, said, spoken)
        if found is None:
            self._world.did(NAME, "not understood", said)
            self._memory.event("Dialog/NotUnderstood", 1)
            return
        rule, captured = found
        self._world.did(NAME, "matched", said)
        self._memory.event("Dialog/LastInput", said)
        self._memory.event("Dialog/MatchedInput", said)

        def fill(text: str) -> str:
            for number, part in enumerate(captured, 1):
                text = text.replace(f"${number}", part)
            return text.strip('"')

        for key, value in _EVENT.findall(rule.answer):
            self._memory.event(key, fill(value))
        for command in _COMMAND.findall(rule.answer):
            self._world.did(NAME, "executes", fill(command))
        answer = fill(_COMMAND.sub(" ", _EVENT.sub(" ", rule.answer)).strip())
        self._memory.event("Dialog/LastAnswer", answer)
        self._memory.event("Dialog/Answered", answer)
        if answer:
            self._speech.say(answer)

    def _load_file(self, path: str) -> str:
        try:
            return self._load(Path(path).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise RobotError(f"{path}: {error}") from error

    def _load(self, content: str) -> str:
        if "no-topics" in self._world.misbehaving:
            raise RobotError("the topic cannot be compiled")
        topic = read(content)
        if topic.name in self._topics:
            raise RobotError(f"topic {topic.name} is loaded already")
        self._topics[topic.name] = topic
        self._world.did(NAME, "loadTopic", topic.name)
        return topic.name

    def _loaded(self, name: str) -> str:
        if name not in self._topics:
            raise RobotError(f"no topic {name} is loaded")
        return name

    def _unload(self, name: str) -> None:
        if self._loaded(name) in self._active:
            self._deactivate(name)
        del self._topics[name]
        self._world.did(NAME, "unloadTopic", name)

    def _activate(self, name: str) -> None:
        if self._loaded(name) not in self._active:
            self._active.append(name)
        self._world.did(NAME, "activateTopic", name)

    def _deactivate(self, name: str) -> None:
        if self._loaded(name) not in self._active:
            raise RobotError(f"topic {name} is not active")
        self._active.remove(name)
        self._world.did(NAME, "deactivateTopic", name)

    def _subscribe(self, name: str) -> None:
        self._subscribers.add(name)
        self._world.did(NAME, "subscribe", name)
        self._memory.event("Dialog/IsStarted", 1)

    def _unsubscribe(self, name: str) -> None:
        self._world.did(NAME, "unsubscribe", name)
        if name not in self._subscribers:
            raise RobotError(f"{name} has not subscribed")
        self._subscribers.discard(name)
        self._memory.event("Dialog/IsStarted", int(bool(self._subscribers)))

    def _set_language(self, language: str) -> None:
        if language not in LANGUAGES:
            raise RobotError(f"no language {language}; there are {', '.join(LANGUAGES)}")
        self._language = language
        self._world.did(NAME, "setLanguage", language)
