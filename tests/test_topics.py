"""What may be said to the app through ALDialog: every phrase and its event, over real libqi."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

pytest.importorskip("qi")

from virtual_pepper import Client, Ears, client, pepper, wait_for

from uservlm.models.knowledge import topics
from uservlm.pepper_app.package import PROJECT
from uservlm.pepper_app.project.onboard.words import COMMANDS, SUGGESTIONS, TOPICS

WANTS = {one: one.title() for one in ("stop", "forget", "remember", "know", "yes", "no")}
EVENTS = ("Question", *WANTS.values())
CONCEPT = re.compile(r"concept:\((\w+)\) \[(.*)\]")
RULE = re.compile(r'u:\(.*~(\w+).*\) \$UserVLM/(\w+)=(?:"([^"]*)"|1)')


@dataclass(frozen=True)
class Phrase:
    """Something that may be said, and what it is to mean."""

    said: str
    event: str
    value: str


def text(language: str) -> str:
    return (PROJECT / f"dialog/uservlm_{TOPICS[language]}.top").read_text("utf-8")


def phrases(language: str) -> list[Phrase]:
    """Read the vocabulary, and nothing else may be in the file."""
    concepts: dict[str, list[str]] = {}
    found = []
    for line in text(language).splitlines():
        if concept := CONCEPT.fullmatch(line):
            concepts[concept[1]] = [
                quoted or word for quoted, word in re.findall(r'"([^"]+)"|(\S+)', concept[2])
            ]
        elif rule := RULE.fullmatch(line):
            event, value = rule[2], rule[3] or "1"
            found += [Phrase(said, event, value) for said in concepts.pop(rule[1])]
        else:
            assert not line or line.startswith(("#", "topic: ~uservlm()", "language: ")), line
    assert found and not concepts, "a concept that no rule has"
    return found


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with pepper("--quiet", "--pace", "500") as robot:
        yield robot.url


@pytest.fixture(params=sorted(TOPICS))
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Listening:
    """A robot with one topic, and ears for all its events."""

    def __init__(self, bus: Client, language: str) -> None:
        self._bus = bus
        self._ears: dict[str, Ears] = {name: bus.event(f"UserVLM/{name}") for name in EVENTS}
        self._misses = bus.event("Dialog/NotUnderstood")
        self._topic = bus.call("ALDialog", "loadTopicContent", text(language))
        bus.call("ALDialog", "activateTopic", self._topic)
        bus.call("ALDialog", "subscribe", "test")

    def means(self, said: str) -> list[tuple[str, str]]:
        """Say something; gives the events it raised."""
        before = self._misses.heard.copy()
        for ears in self._ears.values():
            ears.heard.clear()
        self._bus.do("say", text=said)
        wait_for(lambda: self._heard() or self._misses.heard != before)
        return self._heard()

    def _heard(self) -> list[tuple[str, str]]:
        return [(name, str(value)) for name, ears in self._ears.items() for value in ears.heard]


@pytest.fixture
def listening(url: str, language: str) -> Iterator[Listening]:
    with client(url) as bus:
        yield Listening(bus, language)
        bus.call("ALDialog", "unsubscribe", "test")
        bus.call("ALDialog", "unloadTopic", "uservlm")
        assert bus.recorded("ALTextToSpeech", "says") == [], "a rule speaks nothing"


def test_every_phrase_raises_its_event_and_no_other(listening: Listening, language: str) -> None:
    known = phrases(language)
    assert len(known) > 60
    for phrase in known:
        assert listening.means(phrase.said) == [(phrase.event, phrase.value)], phrase


def test_a_question_may_be_put_to_pepper_politely(listening: Listening, language: str) -> None:
    please = {"en": "please", "fr": "s'il te plaît"}[language]
    asked = [phrase for phrase in phrases(language) if phrase.event == "Question"]
    for phrase in asked:
        said = f"Pepper, {phrase.said}, {please}?"
        assert listening.means(said) == [("Question", phrase.value)], said


def test_other_words_raise_nothing(listening: Listening) -> None:
    for said in ("hello", "yes but why", "how do I make a cake", "non stop", "pepper", "please"):
        assert listening.means(said) == [], said


def test_the_app_s_own_words_are_understood(listening: Listening, language: str) -> None:
    """What the recogniser without topics listens for, and what the tablet suggests."""
    for want, said in COMMANDS[language].items():
        for phrase in said:
            assert listening.means(phrase) == [(WANTS[want], "1")], phrase
    for question in SUGGESTIONS[language]:
        [(event, _)] = listening.means(question)
        assert event == "Question", question


def test_no_phrase_means_two_things(language: str) -> None:
    said = [phrase.said.lower() for phrase in phrases(language)]
    assert sorted(said) == sorted(set(said))


def test_the_questions_are_those_the_pocket_model_was_taught() -> None:
    taught = {question for topic in topics() for question in topic.train}
    asked = {phrase.value for phrase in phrases("en") if phrase.event == "Question"}
    assert len(asked) == 8 and asked <= taught


def test_both_languages_ask_the_same_things() -> None:
    shapes = [re.findall(r"~(\w+)", text(language)) for language in sorted(TOPICS)]
    assert shapes[0] == shapes[1]


def test_the_list_of_topics_names_both() -> None:
    lines = (PROJECT / "dialog/uservlm.dlg").read_text().split()
    assert lines == ["multilanguage:topic", "enu:uservlm_enu.top", "frf:uservlm_frf.top"]
