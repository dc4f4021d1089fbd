"""The ears on the robot's bus: what a virtual Pepper's microphones hear, over real libqi."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest

pytest.importorskip("qi")
pytest.importorskip("sherpa_onnx")

from tones import hum, silence, tone_model, tones, wav
from virtual_pepper import Client, Pepper, client, pepper, wait_for

from uservlm.pepper_app.ears_service import EarsService
from uservlm.pepper_app.qi_door import QiDoor, open_qi_door
from uservlm.pepper_app.qi_session import open_session
from uservlm.pepper_app.robot import robot_at
from uservlm.pepper_app.service import Method, Reply, Service
from uservlm.runtime import UserVLM
from uservlm.runtime.server.brain import Brain
from uservlm.runtime.server.ears import Ears
from uservlm.runtime.server.listening import Heard

EARS = "UserVLMEars"
SAMPLES = 1365
BUFFER = 2 * SAMPLES
PACE = 5
STAMP = [1, 2]
PAUSE = silence(1.2)


@pytest.fixture(scope="module")
def robot() -> Iterator[Pepper]:
    with pepper("--pace", str(PACE)) as made:
        yield made


@pytest.fixture(scope="module")
def ears(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ears]:
    opened = Ears.open(tone_model(tmp_path_factory.mktemp("speech")))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def door(robot: Pepper, ears: Ears, tiny_bundle: Path) -> Iterator[QiDoor]:
    with UserVLM.load(tiny_bundle, threads=1) as vlm:
        brain = Brain(vlm)
        made = open_qi_door(brain, robot.url, ears=ears)
        wait_for(lambda: brain.doors["qi"]["state"] == "open")
        assert brain.doors["qi"]["detail"].startswith("UserVLM and UserVLMEars at tcp://")
        yield made
        made.close()
        brain.close()


class Told:
    """What the ears tell; libqi keeps the order for methods of one object."""

    def __init__(self, bus: Client) -> None:
        self.all: list[tuple[str, str]] = []
        self._proxy = bus.service(EARS)
        for name in ("heard", "partial"):
            getattr(self._proxy, name).connect(getattr(self, name))

    def heard(self, text: str) -> None:
        self.all.append(("heard", text))

    def partial(self, text: str) -> None:
        self.all.append(("partial", text))

    @property
    def whole(self) -> list[str]:
        return [text for name, text in self.all if name == "heard"]


@pytest.fixture
def bus(robot: Pepper, door: QiDoor) -> Iterator[Client]:
    with client(robot.url) as made:
        made.call(EARS, "mute", True)
        made.call(EARS, "mute", False)
        yield made


def speak(bus: Client, pcm: bytes) -> None:
    """Send sound as ALAudioDevice does, but faster."""
    for place in range(0, len(pcm), BUFFER):
        piece = pcm[place : place + BUFFER]
        bus.call(EARS, "processRemote", 1, len(piece) // 2, STAMP, bytearray(piece))


def test_what_the_microphone_hears_is_told_on_the_bus(
    robot: Pepper, bus: Client, tmp_path: Path
) -> None:
    told = Told(bus)
    question = wav(tmp_path / "question.wav", "how do i look")
    bus.call("ALAudioDevice", "setClientPreferences", EARS, 16000, 3, 0)
    bus.call("ALAudioDevice", "subscribe", EARS)
    try:
        for number in range(2):
            bus.do("ask", text="How do I look?", audio=str(question))
            wait_for(lambda number=number: len(told.whole) > number)
    finally:
        bus.call("ALAudioDevice", "unsubscribe", EARS)
    assert told.whole == ["how do i look"] * 2
    partials = [text for name, text in told.all if name == "partial"]
    assert partials and all("how do i look".startswith(text) for text in partials)
    assert not any("UserVLMEars" in str(one) for one in bus.values("VirtualPepper", "refused"))


def test_the_robot_does_not_hear_itself_while_it_is_muted(bus: Client, tmp_path: Path) -> None:
    told = Told(bus)
    bus.call("ALAudioDevice", "setClientPreferences", EARS, 16000, 3, 0)
    bus.call("ALAudioDevice", "subscribe", EARS)
    try:
        bus.call("ALTextToSpeech", "say", "one two three four")
        wait_for(lambda: told.whole)
        assert set(" ".join(told.whole).split()) == {"mm"}, "there is no echo cancellation"
        told.all.clear()
        bus.call(EARS, "mute", True)
        assert bus.call(EARS, "muted") is True
        bus.call("ALTextToSpeech", "say", "one two three four")
        time.sleep(2 / PACE)
        bus.call(EARS, "mute", False)
        bus.do("say", text="Yes", audio=str(wav(tmp_path / "yes.wav", "yes")))
        wait_for(lambda: told.whole)
    finally:
        bus.call("ALAudioDevice", "unsubscribe", EARS)
    assert told.whole == ["yes"]


def test_who_has_asked_for_other_sound_is_told_what_to_ask_for(bus: Client) -> None:
    bus.call("ALAudioDevice", "setClientPreferences", EARS, 48000, 0, 0)
    bus.call("ALAudioDevice", "subscribe", EARS)

    def refused() -> list[str]:
        return [str(one[0]) for one in bus.values("VirtualPepper", "refused") if EARS in str(one)]

    wait_for(refused)
    assert "bad_sound: give one microphone at 16 kHz: setClientPreferences" in refused()[0]


@pytest.mark.parametrize(
    ("told", "arguments"),
    [
        ("bad_sound: give one microphone", (4, 10, STAMP, bytearray(80))),
        ("bad_sound: give one microphone", (0, 0, STAMP, bytearray(0))),
        ("bad_sound: the buffer has not", (1, 10, STAMP, bytearray(18))),
        ("bad_sound: the buffer has not", (1, -10, STAMP, bytearray(20))),
        ("bad_sound: the buffer has not", (1, 1, STAMP, bytearray(1))),
        ("bad_sound: give int16", (1, 40_000, STAMP, bytearray(80_000))),
        ("bad_request: channels: give a whole number", ("1", 10, STAMP, bytearray(20))),
        ("bad_request: buffer: give a raw buffer", (1, 10, STAMP, [1, 2])),
    ],
)
def test_what_is_no_sound_is_refused(bus: Client, told: str, arguments: tuple[Any, ...]) -> None:
    assert bus.refusal(EARS, "processRemote", *arguments).startswith(told)
    assert "mute: give true" in bus.refusal(EARS, "mute", "yes")
    heard = Told(bus)
    speak(bus, tones("ok") + PAUSE)
    wait_for(lambda: heard.whole)
    assert heard.whole == ["ok"]


def test_any_time_stamp_will_do(bus: Client) -> None:
    for stamp in (None, [], 3.5, "now", {"a": 1}):
        bus.call(EARS, "processRemote", 1, 4, stamp, bytearray(8))


def test_a_buffer_is_taken_at_once_whatever_the_ears_do(bus: Client, ears: Ears) -> None:
    gate, held = threading.Event(), threading.Event()

    def hold(_: Heard) -> None:
        held.set()
        gate.wait(20)

    slow = ears.listen(hold)
    slow.put(tones("a b c"))
    assert held.wait(20)
    took = []
    for _ in range(20):
        begun = time.perf_counter()
        bus.call(EARS, "processRemote", 1, SAMPLES, STAMP, bytearray(BUFFER))
        took.append(time.perf_counter() - begun)
    gate.set()
    slow.close()
    assert median(took) < 0.05, took


def test_what_comes_in_order_is_taken_in_order(robot: Pepper, bus: Client, ears: Ears) -> None:
    """As `ordered` services are; several at once would overtake each other."""
    taken: list[int] = []

    def take(reply: Reply, number: int) -> None:
        time.sleep(0.001 * (number % 2))
        taken.append(number)
        reply.value(None)

    ordered = EarsService(ears, lambda *_: None).declare().ordered
    session = open_session(robot_at(robot.url, None), lambda: None, threading.Event())
    session.offer(Service("Counter", (Method("take", "i", "v", take),), ordered=ordered))
    counter = bus.service("Counter")
    for future in [counter.take(number, _async=True) for number in range(500)]:
        future.value(20_000)
    session.close()
    assert taken == list(range(500))


def test_who_muted_and_went_with_the_connection_leaves_nobody_deaf(
    robot: Pepper, door: QiDoor
) -> None:
    with client(robot.url) as bus:
        bus.call(EARS, "mute", True)
    door._hang_up()
    with client(robot.url) as bus:
        assert bus.call(EARS, "muted") is False
        told = Told(bus)
        speak(bus, hum(1) + PAUSE)
        wait_for(lambda: told.whole)
        assert told.whole == ["mm"]
