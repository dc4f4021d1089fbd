"""The virtual Pepper's memory, camera, people, faces and microphones, over real libqi."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qi")

import qi
from virtual_pepper import Client, Pepper, client, pepper, wait_for

from uservlm.models.demo import USERS
from uservlm.models.drawing import render
from uservlm.pepper_app.frames import BGR, GREY, RGB, YUV422, to_rgb

PACE = 20
ZONE_2 = "EngagementZones/PersonEnteredZone2"


@pytest.fixture(scope="module")
def robot() -> Iterator[Pepper]:
    with pepper("--pace", str(PACE)) as made:
        yield made


@pytest.fixture
def bus(robot: Pepper) -> Iterator[Client]:
    with client(robot.url) as made:
        yield made
        for name in made.call("VirtualPepper", "people"):
            made.do("leave", who=name)
        made.call("VirtualPepper", "misbehave", [])


def test_memory_keeps_tells_and_times(bus: Client) -> None:
    for value in ("text", 3, 2.5, [1, ["a", [2.0]]], {"a": 1}, None):
        bus.call("ALMemory", "insertData", "Mine", value)
        assert bus.call("ALMemory", "getData", "Mine") == value
    ears = bus.event("Mine")
    bus.call("ALMemory", "insertData", "Mine", "silent")
    bus.call("ALMemory", "raiseEvent", "Mine", ["loud", 1])
    wait_for(lambda: ears.heard)
    assert ears.heard == [["loud", 1]], "insertData tells nobody"
    value, seconds, micros = bus.call("ALMemory", "getTimestamp", "Mine")
    assert value == ["loud", 1] and seconds > 1.6e9 and 0 <= micros < 1e6
    assert bus.call("ALMemory", "getListData", ["Mine", "None of it"]) == [["loud", 1], None]
    assert "no such key" in bus.refusal("ALMemory", "getData", "None of it")
    assert "takes (sm)" in bus.refusal("ALMemory", "raiseEvent", 3, 4)


def test_subscribe_to_event_calls_a_service_back(bus: Client) -> None:
    class Listener:
        def __init__(self) -> None:
            self.heard: list[tuple[object, ...]] = []

        def onEvent(self, name: object, value: object, message: object) -> None:
            self.heard.append((name, value, message))

    listener = Listener()
    bus.offer("Listener", listener)
    bus.call("ALMemory", "subscribeToEvent", "Heard", "Listener", "onEvent")
    assert bus.call("ALMemory", "getSubscribers", "Heard") == ["Listener"]
    for number in range(20):
        bus.call("ALMemory", "raiseEvent", "Heard", [number])
    wait_for(lambda: len(listener.heard) == 20)
    assert listener.heard == [("Heard", [number], "") for number in range(20)]
    bus.call("ALMemory", "unsubscribeToEvent", "Heard", "Listener")
    bus.call("ALMemory", "subscribeToEvent", "Heard", "Nobody", "onEvent")
    bus.call("ALMemory", "raiseEvent", "Heard", 1)
    wait_for(lambda: any("Nobody" in v[0] for v in bus.values("VirtualPepper", "refused")))
    bus.call("ALMemory", "unsubscribeToEvent", "Heard", "Nobody")
    assert len(listener.heard) == 20


@pytest.mark.parametrize("space", [GREY, YUV422, RGB, BGR])
def test_a_frame_shows_who_is_there(bus: Client, space: int) -> None:
    handle = bus.call("ALVideoDevice", "subscribeCamera", "test", 0, 1, space, 10)
    try:
        empty = bus.call("ALVideoDevice", "getImageRemote", handle)
        bus.do("arrive", who="grace")
        frame = bus.call("ALVideoDevice", "getImageRemote", handle)
        assert len(frame) == 12 and isinstance(frame[6], bytearray)
        width, height, _, told, seconds, micros = frame[:6]
        assert (width, height, told, frame[7]) == (320, 240, space, 0)
        assert seconds > 1.6e9 and 0 <= micros < 1e6
        assert frame[8] == pytest.approx(0.4913, abs=1e-3) and frame[10] == -frame[8]
        assert frame[6] != empty[6]
        drawn = render(USERS["Grace"], 320, 240)
        seen = to_rgb(width, height, space, bytes(frame[6])).astype(int)
        if space in (RGB, BGR):
            assert (seen == drawn).all()
        elif space == GREY:
            light = drawn @ np.array([0.257, 0.504, 0.098]) + 16
            assert np.abs(seen[..., 0] - light).max() < 1.5
        else:
            assert np.abs(seen - drawn).mean() < 6, "chroma is shared by two pixels"
        assert bus.call("ALVideoDevice", "releaseImage", handle) is True
        assert bus.call("ALVideoDevice", "releaseImage", handle) is False
    finally:
        assert bus.call("ALVideoDevice", "unsubscribe", handle) is True
    assert bus.call("ALVideoDevice", "getImageRemote", handle) is None
    assert bus.call("ALVideoDevice", "unsubscribe", handle) is False


def test_six_of_one_name_and_no_seventh(bus: Client) -> None:
    wanted = ("subscribeCamera", "many", 0, 0, RGB, 5)
    handles = [bus.call("ALVideoDevice", *wanted) for _ in range(6)]
    assert len(set(handles)) == 6
    assert "6 subscribers" in bus.refusal("ALVideoDevice", *wanted)
    bus.call("ALVideoDevice", "unsubscribeAllInstances", "many")
    assert bus.call("ALVideoDevice", "getSubscribers") == []
    for camera, size, space, fps in ((2, 1, 11, 5), (0, 9, 11, 5), (0, 1, 17, 5), (1, 4, 11, 5)):
        bus.refusal("ALVideoDevice", "subscribeCamera", "bad", camera, size, space, fps)


def test_people_are_told_as_events_and_as_signals_while_somebody_has_subscribed(
    bus: Client,
) -> None:
    arrived, left = (
        bus.event("PeoplePerception/JustArrived"),
        bus.event("PeoplePerception/JustLeft"),
    )
    signal = bus.signal("ALPeoplePerception", "justArrived")
    zone = bus.event("EngagementZones/PersonEnteredZone1")
    nearer = bus.signal("ALEngagementZones", "personApproached")
    bus.do("arrive", who="sam", zone=3)
    bus.do("leave", who="sam")
    for service in ("ALPeoplePerception", "ALEngagementZones"):
        bus.call(service, "subscribe", "test")
    bus.do("arrive", who="sam", zone=2)
    wait_for(lambda: arrived.heard and signal.heard)
    [visit] = arrived.heard
    assert signal.heard == [visit], "only the second time: before, nobody had subscribed"
    assert not zone.heard
    bus.do("approach", who="sam", zone=1)
    wait_for(lambda: zone.heard and nearer.heard)
    assert bus.call("ALMemory", "getData", "PeoplePerception/PeopleList") == [visit]
    key = f"PeoplePerception/Person/{visit}/Distance"
    assert bus.call("ALMemory", "getData", key) == 1.0
    _, [[person, distance, *_]], *_, camera = bus.call(
        "ALMemory", "getData", "PeoplePerception/PeopleDetected"
    )
    assert (person, distance, camera) == (visit, 1.0, 0)
    bus.do("leave", who="sam")
    wait_for(lambda: left.heard)
    assert left.heard == [visit]
    assert "no such key" in bus.refusal("ALMemory", "getData", key)
    bus.do("arrive", who="sam")
    wait_for(lambda: len(arrived.heard) == 2)
    assert arrived.heard[1] != visit, "an id is a visit's, not a person's"
    for service in ("ALPeoplePerception", "ALEngagementZones"):
        bus.call(service, "unsubscribe", "test")
        assert "not subscribed" in bus.refusal(service, "unsubscribe", "test")


def test_an_extractor_sees_for_its_own_subscribers_and_whoever_is_there_already(
    bus: Client,
) -> None:
    arrived, zone = bus.event("PeoplePerception/JustArrived"), bus.event(ZONE_2)
    bus.do("arrive", who="sam", zone=2)
    bus.call("ALEngagementZones", "subscribe", "test")
    wait_for(lambda: zone.heard)
    bus.call("ALEngagementZones", "unsubscribe", "test")
    bus.do("leave", who="sam")
    bus.do("arrive", who="grace", zone=2)
    bus.call("ALPeoplePerception", "subscribe", "test")
    wait_for(lambda: arrived.heard)
    bus.call("ALPeoplePerception", "unsubscribe", "test")
    assert len(arrived.heard) == len(zone.heard) == 1
    assert arrived.heard != zone.heard


def test_a_face_is_learnt_and_recognised(bus: Client) -> None:
    ears = bus.event("FaceDetected")
    assert bus.call("ALFaceDetection", "learnFace", "Nobody") is False, "nobody is there"
    bus.call("ALFaceDetection", "subscribe", "test")
    bus.do("arrive", who="grace")
    wait_for(lambda: ears.heard)
    stamp, [[shape, extra], reco], *_ = ears.heard[-1]
    assert len(stamp) == 2 and shape[0] == 0 and len(shape) == 5
    assert [len(extra), len(extra[3]), len(extra[4]), len(extra[7]), len(extra[8])] == [
        9,
        *(14, 14, 6, 16),
    ]
    assert reco == [4] and extra[2] == ""
    assert bus.call("ALFaceDetection", "learnFace", "Grace") is True
    wait_for(lambda: ears.heard[-1] and ears.heard[-1][1][-1] == [2, ["Grace"]])
    assert bus.call("ALFaceDetection", "getLearnedFacesList") == ["Grace"]
    bus.do("leave", who="grace")
    wait_for(lambda: ears.heard[-1] == [])
    assert bus.call("ALFaceDetection", "forgetPerson", "Grace") is True
    assert bus.call("ALFaceDetection", "forgetPerson", "Grace") is False
    bus.call("ALFaceDetection", "unsubscribe", "test")


def test_microphones_send_raw_samples_with_the_robots_own_voice_in_them(bus: Client) -> None:
    heard: list[tuple[int, int, list[int], bytes]] = []

    class Listener:
        @qi.bind(returnType=qi.Void, paramsType=(qi.Int32, qi.Int32, qi.Dynamic, qi.Buffer))
        def processRemote(self, channels: int, count: int, stamp: list[int], data: bytes) -> None:
            heard.append((channels, count, stamp, bytes(data)))

    def loudest() -> int:
        return int(np.abs(np.frombuffer(heard[-1][3], "<i2").astype(int)).max())

    bus.offer("Microphone", Listener())
    assert "48000" in bus.refusal("ALAudioDevice", "setClientPreferences", "x", 16000, 0, 0)
    bus.call("ALAudioDevice", "setClientPreferences", "Microphone", 16000, 3, 0)
    bus.call("ALAudioDevice", "subscribe", "Microphone")
    wait_for(lambda: len(heard) > 2)
    channels, count, stamp, data = heard[0]
    assert (channels, count, len(data), len(stamp)) == (1, 1365, 2 * 1365, 2)
    wait_for(lambda: loudest() < 500)
    bus.do("say", text="a b c d e f g h i j k l m n o p q r s t")
    wait_for(lambda: 5000 < loudest() < 7000)
    wait_for(lambda: loudest() < 500)
    speaking = bus.begin("ALTextToSpeech", "say", "I speak for long enough to be heard here. " * 3)
    wait_for(lambda: loudest() > 8000)
    speaking.value(10_000)
    assert bus.call("VirtualPepper", "held") == ["ALAudioDevice Microphone"]
    bus.call("ALAudioDevice", "unsubscribe", "Microphone")


def test_all_microphones_hear_a_file_that_somebody_plays(bus: Client, tmp_path: Path) -> None:
    heard: list[tuple[int, int, bytes]] = []

    class Listener:
        @qi.bind(returnType=qi.Void, paramsType=(qi.Int32, qi.Int32, qi.Dynamic, qi.Buffer))
        def processRemote(self, channels: int, count: int, stamp: list[int], data: bytes) -> None:
            heard.append((channels, count, bytes(data)))

    file = str(tmp_path / "said.wav")
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16000)
        sound.writeframes(np.full(16000 * 4, 12000, "<i2").tobytes())
    bus.offer("Four", Listener())
    bus.call("ALAudioDevice", "setClientPreferences", "Four", 48000, 0, 0)
    bus.call("ALAudioDevice", "subscribe", "Four")
    bus.do("say", text="said", audio=file)

    def at_once() -> bool:
        samples = [np.frombuffer(data, "<i2").reshape(4096, 4) for *_, data in heard]
        return any(np.median(one) > 11900 and (one == one[:, :1]).all() for one in samples)

    wait_for(at_once)
    assert {(channels, count) for channels, count, _ in heard} == {(4, 4096)}
    bus.call("ALAudioDevice", "unsubscribe", "Four")
    for wrong in ("/nowhere.wav", __file__, "nul\0"):
        bus.refusal("VirtualPepper", "do", "say", {"text": "x", "audio": wrong})


def test_a_microphone_that_would_get_spoilt_samples_is_refused_aloud(bus: Client) -> None:
    """libqi-python would hand it the text "b'\\x00…'"."""

    class Listener:
        def processRemote(self, *_: object) -> None:
            raise AssertionError("it must not be called")

    bus.offer("Undeclared", Listener())
    bus.call("ALAudioDevice", "subscribe", "Undeclared")
    wait_for(lambda: any("raw" in v[0] for v in bus.values("VirtualPepper", "refused")))
    assert "not subscribed" in bus.refusal("ALAudioDevice", "unsubscribe", "Undeclared")
