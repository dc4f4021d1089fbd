"""What the virtual Pepper says, understands and shows, over real libqi."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("qi")

from virtual_pepper import Client, Pepper, client, pepper, wait_for

PACE = 20
TEXT = "One two three four five. Six seven eight nine ten."
TOPIC = """topic: ~example()
language: enu
# a comment
concept:(stop) [stop "be quiet" "shut up"]
u:(~stop {please}) $UserVLM/Stop=1
u:(["how do I" "how can I"] _*) $UserVLM/Asked=$1 Let me see.
u:(hello) Hello you! ^call(ALLeds.off(FaceLeds))
"""


@pytest.fixture(scope="module")
def robot() -> Iterator[Pepper]:
    with pepper("--pace", str(PACE)) as made:
        yield made


@pytest.fixture
def bus(robot: Pepper) -> Iterator[Client]:
    with client(robot.url) as made:
        yield made


def test_speech_takes_the_time_of_its_words_and_tells_how_it_goes(bus: Client) -> None:
    status, sentences = (
        bus.event("ALTextToSpeech/Status"),
        bus.event("ALTextToSpeech/CurrentSentence"),
    )
    words = bus.event("ALTextToSpeech/CurrentWord")
    begun = time.monotonic()
    bus.call("ALTextToSpeech", "say", TEXT)
    took = (time.monotonic() - begun) * PACE
    assert 4.0 <= took < 8.0, "ten words at 2.5 a second"
    wait_for(lambda: [what for _, what in status.heard] == ["enqueued", "started", "done"])
    assert len({task for task, _ in status.heard}) == 1
    wait_for(lambda: len(words.heard) == 10)
    assert sentences.heard == ["One two three four five.", "Six seven eight nine ten."]
    assert " ".join(words.heard) == TEXT
    assert bus.values("ALTextToSpeech", "spoke")[-1] == [TEXT]
    bus.call("ALTextToSpeech", "setParameter", "speed", 200.0)
    begun = time.monotonic()
    bus.call("ALTextToSpeech", "say", TEXT)
    assert (time.monotonic() - begun) * PACE < took - 1
    bus.call("ALTextToSpeech", "resetSpeed")


def test_texts_wait_for_each_other_and_stop_all_ends_both(bus: Client) -> None:
    status = bus.event("ALTextToSpeech/Status")
    first, second = (bus.begin("ALTextToSpeech", "say", TEXT * 10) for _ in range(2))
    wait_for(lambda: [what for _, what in status.heard].count("started") == 1)
    assert first.isRunning() and second.isRunning()
    bus.call("ALTextToSpeech", "stopAll")
    assert not first.hasError(2000) and not second.hasError(2000)
    wait_for(lambda: [what for _, what in status.heard].count("stopped") == 2)
    assert [what for _, what in status.heard].count("started") == 1
    spoken = bus.values("ALTextToSpeech", "interrupted")[-1][0]
    assert (TEXT * 10).startswith(spoken) and len(spoken) < len(TEXT * 10)


def test_what_an_animated_text_would_execute_is_recorded_and_not_spoken(bus: Client) -> None:
    before = bus.event("Danger")
    text = "Hi ^call(ALSystem.shutdown()) ^start(animations/Stand/Gestures/Hey_1) there $Danger=1 !"
    bus.call("ALAnimatedSpeech", "say", text + " ^pCall(A.b(c)) \\rspd=80\\ you")
    assert bus.values("ALAnimatedSpeech", "executes") == [
        ["^call(ALSystem.shutdown())"],
        ["^start(animations/Stand/Gestures/Hey_1)"],
        ["$Danger=1"],
        ["^pCall(A.b(c))"],
    ]
    assert bus.values("ALTextToSpeech", "spoke")[-1] == ["Hi there ! you"]
    assert not before.heard
    bus.call("ALAnimatedSpeech", "say", "Plain.", {"bodyLanguageMode": "disabled"})
    assert len(bus.values("ALAnimatedSpeech", "executes")) == 4
    bus.refusal("ALAnimatedSpeech", "say", "Plain.", {"bodyLanguageMode": "wild"})


def test_stop_all_while_an_animated_text_is_prepared_stops_nothing() -> None:
    """As on a robot: whoever wants it quiet asks again until the future ends."""
    with pepper("--pace", "1") as made, client(made.url) as bus:
        speaking = bus.begin("ALAnimatedSpeech", "say", "One")
        bus.call("ALTextToSpeech", "stopAll")
        wait_for(lambda: bus.values("ALTextToSpeech", "says"))
        bus.call("ALTextToSpeech", "stopAll")
        assert not speaking.hasError(1000)
        deeds = [deed["what"] for deed in bus.recorded("ALTextToSpeech")]
        assert deeds == ["stopAll", "says", "stopAll", "interrupted"]


def test_a_closed_vocabulary_is_understood_and_nothing_else(bus: Client) -> None:
    asr, heard = "ALSpeechRecognition", bus.event("WordRecognized")
    bus.call(asr, "subscribe", "test")
    assert "pause" in bus.refusal(asr, "setVocabulary", ["yes"], False)
    for step, *values in (
        ("pause", True),
        ("setVocabulary", ["yes", "stop"], False),
        ("pause", False),
    ):
        bus.call(asr, step, *values)
    bus.do("say", text="What is the capital of France?")
    bus.do("say", text="Yes!")
    wait_for(lambda: heard.heard)
    bus.call(asr, "pause", True)
    bus.do("say", text="stop")
    bus.call(asr, "setVocabulary", ["stop"], True)
    wait_for(lambda: bus.values("people", "says")[-1] == ["stop"])
    bus.do("ask", text="never heard while paused")
    asked = bus.event("UserVLM/Question")
    wait_for(lambda: asked.heard == ["never heard while paused"])
    assert [phrase for phrase, _ in heard.heard] == ["yes"]
    bus.call(asr, "pause", False)
    bus.do("say", text="please stop now")
    wait_for(lambda: len(heard.heard) == 2)
    assert heard.heard[1][0] == "<...> stop <...>" and 0 < heard.heard[1][1] <= 1
    bus.call(asr, "unsubscribe", "test")


def test_a_topic_raises_its_events_and_free_words_take_a_licence(
    bus: Client, tmp_path: Path
) -> None:
    stopped, asked = bus.event("UserVLM/Stop"), bus.event("UserVLM/Asked")
    dialog, file = "ALDialog", tmp_path / "example.top"
    file.write_text(TOPIC, "utf-8")
    assert bus.call(dialog, "loadTopic", str(file)) == "example"
    assert "loaded already" in bus.refusal(dialog, "loadTopicContent", TOPIC)
    assert "line 2" in bus.refusal(dialog, "loadTopicContent", "topic: ~x()\nproposal: hm")
    bus.call(dialog, "forceInput", "stop")
    assert not stopped.heard, "the topic is not active"
    bus.call(dialog, "activateTopic", "example")
    bus.call(dialog, "subscribe", "test")
    bus.call(dialog, "forceInput", "How can I book a doctor?")
    wait_for(lambda: asked.heard == ["book a doctor"])
    bus.do("say", text="be quiet, please")
    wait_for(lambda: stopped.heard == ["1"])
    bus.do("say", text="How do I sleep?")
    wait_for(lambda: bus.values(dialog, "not understood")[-1:] == [["How do I sleep?"]])
    bus.do("say", text="Hello")
    wait_for(lambda: ["Hello you!"] in bus.values("ALTextToSpeech", "spoke"))
    assert bus.values(dialog, "executes") == [["^call(ALLeds.off(FaceLeds))"]]
    assert asked.heard == ["book a doctor"]
    for step, name in (
        ("deactivateTopic", "example"),
        ("unloadTopic", "example"),
        ("unsubscribe", "test"),
    ):
        bus.call(dialog, step, name)
    assert bus.call(dialog, "getAllLoadedTopics") == []


def test_head_touches_are_felt_and_let_go(bus: Client) -> None:
    ears = bus.event("FrontTactilTouched")
    bus.do("touch", sensor="FrontTactilTouched", seconds=1.0)
    wait_for(lambda: ears.heard == [1.0, 0.0])
    assert bus.call("ALMemory", "getData", "FrontTactilTouched") == 0.0
    assert "no sensor" in bus.refusal("VirtualPepper", "do", "touch", {"sensor": "Nose"})


def test_lights_life_and_awareness_keep_and_record_what_they_are_told(bus: Client) -> None:
    bus.call("ALLeds", "fadeRGB", "FaceLeds", 0x00FF00, 0.5)
    bus.call("ALLeds", "fadeRGB", "FaceLeds", "red", 0.5)
    assert bus.values("ALLeds", "fadeRGB") == [["FaceLeds", 0xFF00, 0.5], ["FaceLeds", "red", 0.5]]
    assert "no group" in bus.refusal("ALLeds", "off", "NoseLeds")
    state = bus.event("AutonomousLife/State")
    for wanted in ("interactive", "disabled", "solitary"):
        bus.call("ALAutonomousLife", "setState", wanted)
    wait_for(lambda: len(state.heard) == 3)
    assert bus.call("ALMotion", "robotIsWakeUp") is False, "disabled is rest"
    bus.call("ALMotion", "wakeUp")
    assert bus.call("ALRobotPosture", "goToPosture", "StandInit", 0.5) is True
    bus.call("ALBasicAwareness", "pauseAwareness")
    assert bus.call("ALBasicAwareness", "isAwarenessPaused") is True
    bus.call("ALBasicAwareness", "resumeAwareness")
    bus.call("ALBasicAwareness", "setEngagementMode", "FullyEngaged")
    assert "no mode" in bus.refusal("ALBasicAwareness", "setTrackingMode", "Feet")


def test_the_tablet_shows_a_page_and_says_what_comes_from_it(bus: Client) -> None:
    tablet = "ALTabletService"
    events, touches = bus.signal(tablet, "onJSEvent"), bus.signal(tablet, "onTouchDown")
    finished = bus.signal(tablet, "onPageFinished")
    assert "no page" in bus.refusal("VirtualPepper", "do", "tablet", {"event": "x"})
    assert bus.call(tablet, "loadApplication", "not-there") is False
    assert bus.call(tablet, "showWebview") is False
    assert bus.call(tablet, "showWebview", "http://198.18.0.1:8088/") is True
    wait_for(lambda: finished.heard)
    bus.call(tablet, "executeJS", "show('hi')")
    bus.do("tablet", event="stop")
    bus.do("tap", x=640, y=400)
    wait_for(lambda: events.heard == ["stop"] and touches.heard == [(640.0, 400.0)])
    assert bus.values(tablet, "executeJS") == [["show('hi')"]]
    assert bus.call(tablet, "hideWebview") is True
