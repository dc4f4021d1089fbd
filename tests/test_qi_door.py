"""The service UserVLM over real libqi: a directory and a fuzzer in processes of their own."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("qi")

import qi_bus
from qi_bus import Client, Directory, Ears, wait_for

from uservlm.models.demo import QUESTIONS
from uservlm.pepper_app.frames import BGR, GREY, RGB, YUV422
from uservlm.pepper_app.qi_door import QiDoor, open_qi_door
from uservlm.runtime import UserVLM
from uservlm.runtime.server.brain import Brain
from uservlm.runtime.server.faults import Fault
from uservlm.runtime.server.limits import Limits
from uservlm.runtime.server.turn import Question, Turn

QUESTION = QUESTIONS[0]
PENDING = 20


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def directory() -> Iterator[Directory]:
    with qi_bus.directory() as made:
        yield made


@pytest.fixture(scope="module")
def brain(pocket_bundle: Path) -> Iterator[Brain]:
    with UserVLM.load(pocket_bundle, threads=1) as vlm:
        vlm._worker._most = PENDING + 4  # more wait here than the product lets wait
        made = Brain(vlm, replace(Limits(), waiting=PENDING + 4))
        yield made
        made.close()


@pytest.fixture(scope="module")
def door(brain: Brain, directory: Directory) -> Iterator[QiDoor]:
    made = open_qi_door(brain, directory.url)
    wait_for(lambda: brain.doors["qi"]["state"] == "open")
    yield made
    made.close()


@pytest.fixture
def client(door: QiDoor, directory: Directory) -> Iterator[Client]:
    made = Client(directory.url)
    yield made
    made.close()


@pytest.fixture(scope="module")
def grace(pictures: Path) -> np.ndarray:
    return np.asarray(Image.open(pictures / "grace.png").convert("RGB"))


@pytest.fixture(scope="module")
def sam(pictures: Path) -> np.ndarray:
    return np.asarray(Image.open(pictures / "sam.png").convert("RGB"))


@pytest.fixture
def held(brain: Brain) -> Iterator[threading.Event]:
    """Nobody is answered until the event is set."""
    gate = threading.Event()

    def wait() -> Generator[int, None, None]:
        yield 0
        gate.wait(30)

    brain.vlm._worker.submit(wait)
    yield gate
    gate.set()
    wait_for(lambda: not brain.vlm.waiting and not brain.register.under_way)


def test_two_people_get_different_answers(
    client: Client, grace: np.ndarray, sam: np.ndarray
) -> None:
    for name, pixels in (("grace", grace), ("sam", sam)):
        assert client.call("prepareAs", name, png(pixels)) == name
    answers = [client.call("ask", QUESTION, name) for name in ("grace", "sam")]
    assert answers[0] and answers[0] != answers[1]
    assert answers == [client.call("askAbout", QUESTION, png(one)) for one in (grace, sam)]


def test_signals_come_in_order_and_say_what_the_answer_says(
    client: Client, grace: np.ndarray
) -> None:
    ears = Ears(client)
    for turn in ("a", "b-2", "c_3"):
        answer = client.call("askAbout", QUESTIONS[1], png(grace), turn)
        wait_for(lambda of=turn: ears.ended(of))
        heard = ears.of(turn)
        assert heard[-1] == ("answered", answer)
        assert "".join(text for name, text in heard if name == "token") == answer
        spoken = [text for name, text in heard if name == "sentence"]
        assert len(spoken) > 1 and " ".join(spoken) == answer
        first = heard.index(("sentence", spoken[0]))
        told = "".join(text for name, text in heard[:first] if name == "token")
        assert told.startswith(spoken[0]) and len(told) < len(answer), "as soon as it is whole"


def test_a_picture_arrives_byte_by_byte_and_a_guest_is_kept(
    client: Client, brain: Brain, grace: np.ndarray
) -> None:
    """Raw buffers that are no text, and such as would pass as text, are both left as they are."""
    looked = brain.vlm.encode(grace).digest
    user = client.call("prepare", png(grace))
    assert user.startswith("guest-")
    assert brain.vlm.users.find(user).digest == looked
    client.call("prepareUser", user)
    plain = bytes(range(32, 127)) * 3
    assert client.refusal("prepare", plain).startswith("bad_image: ")
    assert client.call("prepareAs", "text", 19, 5, RGB, plain) == "text"
    frame = np.frombuffer(plain, np.uint8).reshape(5, 19, 3)
    assert brain.vlm.users.find("text").digest == brain.vlm.encode(frame).digest


def test_frames_of_each_colour_space_show_the_same_person(
    client: Client, brain: Brain, grace: np.ndarray
) -> None:
    height, width = grace.shape[:2]

    def digest(space: int, pixels: np.ndarray) -> str:
        client.call("prepareAs", "frame", width, height, space, pixels.tobytes())
        return brain.vlm.users.find("frame").digest

    def likeness(other: np.ndarray) -> float:
        ours = brain.vlm.users.find("frame").features.ravel()
        theirs = brain.vlm.encode(other).features.ravel()
        return float(ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs))

    looked = brain.vlm.encode(grace).digest
    assert digest(RGB, grace) == digest(BGR, grace[..., ::-1]) == looked
    grey = np.asarray(Image.fromarray(grace).convert("L"))
    assert digest(GREY, grey) == brain.vlm.encode(np.dstack([grey] * 3)).digest
    assert digest(YUV422, yuyv(grace)) != looked
    assert likeness(grace) > 0.97
    answer = client.call("askAbout", QUESTION, width, height, YUV422, yuyv(grace).tobytes())
    assert answer == client.call("askAbout", QUESTION, png(grace))


def yuyv(rgb: np.ndarray) -> np.ndarray:
    """BT.601 as a camera does it: every second U and V."""
    r, g, b = (rgb[..., channel].astype(float) for channel in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    pairs = np.stack([y[:, 0::2], u[:, 0::2], y[:, 1::2], v[:, 0::2]], axis=-1)
    return pairs.round().clip(0, 255).astype(np.uint8)


def test_twenty_waiting_calls_do_not_slow_ping(
    client: Client, brain: Brain, grace: np.ndarray, held: threading.Event
) -> None:
    waiting = [client.begin("askAbout", QUESTION, png(grace)) for _ in range(PENDING)]
    wait_for(lambda: len(brain.register.under_way) == PENDING)
    took = []
    for _ in range(50):
        begun = time.perf_counter()
        assert client.call("ping") is True
        took.append(time.perf_counter() - begun)
    assert not any(future.isFinished() for future in waiting)
    assert median(took) < 0.1, took
    held.set()
    assert len({future.value(qi_bus.ANSWER_MS) for future in waiting}) == 1


def test_who_cancels_the_future_cancels_the_turn(
    client: Client, brain: Brain, grace: np.ndarray, held: threading.Event
) -> None:
    ears = Ears(client)
    future = client.begin("askAbout", QUESTION, png(grace), "mine")
    wait_for(lambda: brain.register.find("mine"))
    future.cancel()
    wait_for(lambda: not brain.register.under_way)
    wait_for(future.isCanceled)
    wait_for(lambda: ears.ended("mine"))
    assert ears.of("mine")[-1][1] == "cancelled"


class Silent:
    def said(self, turn: Turn, text: str) -> None: ...

    def answered(self, turn: Turn) -> None: ...

    def failed(self, turn: Turn, fault: Fault) -> None: ...


def test_turns_are_cancelled_by_id_and_all_of_this_door(
    client: Client, brain: Brain, grace: np.ndarray, held: threading.Event
) -> None:
    futures = [client.begin("askAbout", QUESTION, png(grace), name) for name in ("a", "b", "c")]
    wait_for(lambda: len(brain.register.under_way) == 3)
    assert client.refusal("askAbout", QUESTION, png(grace), "a").startswith("turn_taken: ")
    assert client.call("cancel", "b") is True
    assert futures[1].error(qi_bus.ANSWER_MS) == "cancelled: the turn was cancelled"
    assert client.call("cancel", "b") is False
    other = brain.ask(Question(QUESTION, image=png(grace)), Silent())
    assert client.call("cancelAll") == 2
    assert all(future.hasError(qi_bus.ANSWER_MS) for future in futures)
    assert client.call("cancelAll") == 0
    assert brain.register.under_way == (other,), "who asked at another door goes on"


def test_refusals_have_a_code_and_nobody_is_forgotten_twice(
    client: Client, grace: np.ndarray
) -> None:
    client.call("prepareAs", "grace", png(grace))
    assert client.call("forget", "grace") is None
    for refused, arguments in {
        "unknown_user": ("forget", "grace"),
        "unknown_user: nobody is kept under that id": ("ask", QUESTION, "grace"),
        "bad_question": ("askAbout", "  ", png(grace)),
        "bad_request: say who asks": ("ask", QUESTION, ""),
        "bad_request: question: give text, not a number": ("ask", 7, "grace"),
        "bad_request: user: give text, not nothing": ("ask", QUESTION, None),
        "bad_request: a turn's id": ("ask", QUESTION, "grace", "no id"),
        "bad_image": ("askAbout", QUESTION, b"\xff\xd8\xff\xe0 half a picture"),
        "bad_request: a frame": ("askAbout", QUESTION, 640, 480, RGB, b"\xff" * 100),
        "bad_request: give colour space": ("identify", 1, 1, 17, b"\xff\x00"),
        "bad_request: width: give a whole number": ("prepare", "1", 1, RGB, b"\xff\x00"),
        "bad_request: picture: give a raw buffer": ("prepare", ["\xff"]),
        "identity_not_measured": ("identify", png(grace)),
    }.items():
        text = client.refusal(*arguments)
        assert text.startswith(refused), text
        assert "\n" not in text and "File" not in text


def test_strangers_change_neither_our_state_nor_our_signals(
    client: Client, brain: Brain, directory: Directory, grace: np.ndarray
) -> None:
    other = Client(directory.url)
    for _ in range(20):
        other.door.state.setValue("speaking")
    for arguments in (("t", "forged"), (1, None), ()):
        other.door.token(*arguments)
        other.door.failed(*arguments)
    wait_for(lambda: client.door.state.value() == "idle")
    assert brain.state == "idle" and not brain.register.under_way
    assert client.call("askAbout", QUESTION, png(grace))
    wait_for(lambda: client.door.state.value() == "idle")
    other.close()


def test_the_property_follows_the_brain(
    client: Client, brain: Brain, grace: np.ndarray, held: threading.Event
) -> None:
    assert client.door.state.value() == "idle"
    future = client.begin("askAbout", QUESTION, png(grace))
    wait_for(lambda: client.door.state.value() == "thinking")
    held.set()
    future.value(qi_bus.ANSWER_MS)
    wait_for(lambda: client.door.state.value() == "idle")


def test_anything_from_anybody_is_answered_or_refused_in_one_sentence(
    client: Client, directory: Directory, grace: np.ndarray
) -> None:
    done = qi_bus.run("fuzz", directory.url, "6", "1500")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["calls"] >= 1400 and found["unsent"] < 700
    for text in found["told"]:
        ours = text.partition(": ")[0].replace("_", "").isalpha() and "\n" not in text
        assert ours or text.startswith("Arguments types did not match"), text
        assert "/" not in text and "File" not in text and "internal" not in text
    assert client.call("askAbout", QUESTION, png(grace))
