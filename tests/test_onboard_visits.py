"""Visits to the robot: who is answered what, who is remembered, and what stops it.

The app is the installed package, its service runs in the robot's own Python 2.7, the brain is the
pocket model, and everything between them and the virtual Pepper is real libqi.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("qi")

from serving import Serving
from stage import Stage, play

CALL = "How do I make a video call?"
LONG = "Tell me a long story."
FORGOTTEN = "I have forgotten you"


@pytest.fixture(scope="module")
def acting(
    pocket_bundle: Path, python27: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stage, Serving]]:
    folder, python = tmp_path_factory.mktemp("play"), shlex.join(python27)
    with play(pocket_bundle, folder, python=python, pace=8, listen=["words"]) as made:
        yield made


@pytest.fixture
def robot(acting: tuple[Stage, Serving]) -> Iterator[Stage]:
    robot, _ = acting
    yield robot
    for who in robot.bus.call("VirtualPepper", "people"):
        robot.do("leave", who=who)
    robot.until(lambda: robot.tablet()["state"] == "alone", "never alone")


@pytest.fixture
def mind(acting: tuple[Stage, Serving]) -> Serving:
    return acting[1]


def known(mind: Serving) -> list[str]:
    return [user["id"] for user in mind.client.get("/v1/users").json()["data"]]


def only(robot: Stage, mind: Serving) -> str:
    """Give the id of the only one who is known."""
    robot.until(lambda: len(known(mind)) == 1, "more are known, or nobody")
    return known(mind)[0]


def test_two_people_ask_the_same_and_hear_what_fits_them(robot: Stage, mind: Serving) -> None:
    heard = {}
    for who in ("grace", "sam"):
        since = robot.arrives(who)
        assert any("ello" in text or "Hi" in text for text in robot.said(since))
        only(robot, mind)
        heard[who] = robot.asks(CALL)
        assert heard[who]["outcome"] == "answered" and heard[who]["tries"] == 1
        robot.leaves(who)
        robot.until(lambda: not known(mind), "a stranger is kept")
    assert heard["grace"]["said"] != heard["sam"]["said"]


def test_who_says_yes_is_remembered_recognised_and_answered_warm(
    robot: Stage, mind: Serving
) -> None:
    robot.arrives("grace")
    since = robot.now()
    first = robot.asks(CALL)
    robot.hears("Shall I remember you", since)
    assert robot.tablet()["user"] == {"kept": False}
    assert robot.tablet()["offers"] == ["know", "remember"]
    robot.state("asking", since)
    robot.quiet()
    robot.do("say", text="yes")
    robot.hears("When you come back", since)
    user = only(robot, mind)
    about = mind.client.get(f"/v1/users/{user}").json()
    assert about["consent"]["how"] == "said yes to the robot, which had asked"
    robot.until(lambda: robot.tablet()["user"].get("how") == about["consent"]["how"], "no tablet")
    robot.until(lambda: robot.bus.call("ALFaceDetection", "getLearnedFacesList"), "no face")
    robot.leaves("grace")
    assert known(mind) == [user]
    robot.arrives("sam")
    assert robot.asks(CALL)["said"] != first["said"]
    robot.leaves("sam")
    again = robot.arrives("grace")
    assert "We have met before" not in str(robot.said(again)), "she has not asked"
    assert not robot.deeds("ALFaceDetection", "subscribe", again), "nor is she compared"
    robot.do("say", text="do you know me")
    robot.hears("We have met before", again)
    robot.until(lambda: known(mind) == [user], "the guest she was is forgotten")
    assert robot.tablet()["offers"] == ["forget"]
    robot.quiet()
    warm = robot.asks(CALL)
    assert warm["said"] == first["said"]
    assert known(mind) == [user] and mind.client.get(f"/v1/users/{user}").json()["resident"]
    assert not robot.deeds("ALVideoDevice", "getImageRemote", warm["since"]), "no second look"
    since = robot.now()
    robot.do("say", text="forget me")
    robot.hears(FORGOTTEN, since)
    robot.until(lambda: user not in known(mind), "still known")
    assert robot.bus.call("ALFaceDetection", "getLearnedFacesList") == []


@pytest.mark.parametrize("way", ["touch", "tablet"])
def test_forget_me_works_by_touch_and_tablet(robot: Stage, mind: Serving, way: str) -> None:
    robot.arrives("sam")
    robot.asks(CALL)
    robot.presses("remember")
    robot.hears("Shall I remember you")
    robot.presses("yes")
    robot.until(lambda: robot.tablet()["user"].get("kept"), "not kept")
    user = only(robot, mind)
    assert mind.client.get(f"/v1/users/{user}").json()["consent"]["how"].startswith("pressed yes")
    since = robot.now()
    if way == "touch":
        robot.do("touch", sensor="RearTactilTouched", seconds=8.0)
    else:
        robot.presses("forget")
    said = robot.hears(FORGOTTEN, since)
    robot.quiet(0.5)
    assert not robot.deeds("ALTextToSpeech", "interrupted", said), "by a hand that was taken away"
    robot.until(lambda: user not in known(mind), "still known")
    robot.until(lambda: not robot.bus.call("ALFaceDetection", "getLearnedFacesList"), "a face")
    again = robot.asks(CALL)
    assert again["outcome"] == "answered", "a stranger is served"
    assert robot.tablet()["user"] == {"kept": False}


@pytest.mark.parametrize("answer", ["no", "nothing", "a question"])
def test_without_a_yes_nobody_is_kept(robot: Stage, mind: Serving, answer: str) -> None:
    robot.arrives("grace")
    since = robot.now()
    robot.asks(CALL)
    robot.hears("Shall I remember you", since)
    robot.quiet()
    if answer == "no":
        robot.do("say", text="no")
        robot.hears("I will forget you when you leave", since)
    elif answer == "a question":
        robot.asks("Am I wearing glasses?")
        robot.quiet()
    else:
        robot.state("ready", since)
    asked = [text for text in robot.said(since) if "hall I remember" in text]
    assert len(asked) == 1, "asked once a visit"
    robot.do("say", text="yes")
    robot.leaves("grace")
    robot.until(lambda: not known(mind), "kept without a yes")


def test_a_question_over_the_answer_is_answered_and_the_robots_own_voice_is_not(
    robot: Stage,
) -> None:
    robot.arrives("sam")
    since = robot.now()
    robot.do("ask", text=CALL)
    robot.state("speaking", since)
    saying = robot.until(lambda: robot.said(robot.report(since) and since), "")[-1]
    robot.bus.call("ALMemory", "raiseEvent", "UserVLM/Question", saying.lower())
    robot.bus.call("ALMemory", "raiseEvent", "UserVLM/Question", " ".join(saying.split()[2:7]))
    robot.quiet(0.5)
    assert not robot.deeds("ALTextToSpeech", "interrupted", since), "it interrupted itself"
    robot.state("asking", since)
    since = robot.now()
    robot.do("ask", text=CALL)
    robot.state("speaking", since)
    other = robot.now()
    robot.do("ask", text="Am I wearing glasses?")
    robot.hears("glasses", other)
    assert robot.deeds("ALTextToSpeech", "interrupted", since)


def test_who_leaves_is_not_talked_after(robot: Stage) -> None:
    robot.arrives("grace")
    since = robot.now()
    robot.do("ask", text=CALL)
    robot.state("speaking", since)
    left = robot.now()
    robot.leaves("grace")
    assert robot.deeds("ALTextToSpeech", "interrupted", left)
    assert robot.tablet()["turns"] == [] and robot.tablet()["user"] is None


def test_the_tablet_shows_the_conversation_and_takes_questions(robot: Stage) -> None:
    robot.arrives("sam")
    since = robot.now()
    robot.presses("ask", CALL)
    robot.report(since)
    robot.quiet()
    shown = robot.tablet()
    lines = [(turn["who"], turn["text"]) for turn in shown["turns"]]
    place = lines.index(("person", CALL))
    who, answer = lines[place + 1]
    assert who == "robot" and answer in " ".join(robot.said(since))
    assert shown["suggestions"] and all(turn["done"] for turn in shown["turns"])


def test_somebody_who_is_only_heard_is_looked_at_and_answered(robot: Stage) -> None:
    robot.do("arrive", who="grace", zone=3)
    report = robot.asks(CALL)
    assert report["outcome"] == "answered"
    assert not [text for text in report["said"] if "hall I remember" in text]


def test_two_in_view_do_not_become_one(robot: Stage, mind: Serving) -> None:
    robot.arrives("grace")
    robot.asks(CALL)
    robot.presses("remember")
    robot.presses("yes")
    robot.until(lambda: robot.tablet()["user"].get("kept"), "not kept")
    robot.until(lambda: robot.bus.call("ALFaceDetection", "getLearnedFacesList"), "no face")
    since = robot.now()
    robot.do("arrive", who="sam")
    robot.do("approach", who="grace", zone=3)
    robot.until(lambda: robot.said(since), "sam is not greeted")
    robot.until(lambda: robot.tablet()["state"] == "ready", "sam is not seen")
    assert robot.tablet()["user"] == {"kept": False}, "sam is not grace"
    robot.leaves("sam")
