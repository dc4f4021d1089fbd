"""Nobody is taken for somebody else, kept without their own yes, or remembered after all.

As in `test_onboard_visits.py`: the installed package in Python 2.7, the pocket, real libqi.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("qi")

from serving import Serving, serving
from stage import Stage, stage

CALL = "How do I make a video call?"


class Mind:
    """A brain that can go and come back."""

    def __init__(self, bundle: Path, folder: Path, robot: Stage) -> None:
        self._bundle, self._folder, self._robot = bundle, folder, robot
        self._context: Any = None
        self.brain: Serving
        self.come()

    def come(self) -> None:
        self._context = serving(self._bundle, self._folder, "--robot", self._robot.url)
        self.brain = self._context.__enter__()
        self._robot.bus.session.waitForService("UserVLM")

    def go(self) -> None:
        assert self.brain.stop() == 0
        self._context.__exit__(None, None, None)

    def known(self) -> list[str]:
        return [user["id"] for user in self.brain.client.get("/v1/users").json()["data"]]

    def kept(self) -> list[str]:
        users = self.brain.client.get("/v1/users").json()["data"]
        return [user["id"] for user in users if user["consent"]]


@pytest.fixture(scope="module")
def acting(
    pocket_bundle: Path, python27: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stage, Mind]]:
    folder, python = tmp_path_factory.mktemp("play"), shlex.join(python27)
    (folder / "brain").mkdir()
    with stage(folder, python=python, pace=5, listen=["words"]) as robot:
        mind = Mind(pocket_bundle, folder / "brain", robot)
        robot.state("alone")
        robot.page_loads()
        yield robot, mind
        mind.go()


@pytest.fixture
def mind(acting: tuple[Stage, Mind]) -> Mind:
    return acting[1]


@pytest.fixture
def robot(acting: tuple[Stage, Mind]) -> Iterator[Stage]:
    robot, mind = acting
    yield robot
    for who in robot.bus.call("VirtualPepper", "people"):
        robot.do("leave", who=who)
    robot.until(lambda: robot.tablet()["state"] in ("alone", "away"), "never alone")
    mind.brain.client.delete("/v1/users")
    robot.bus.call("ALFaceDetection", "clearDatabase")


def faces(robot: Stage) -> list[str]:
    return list(robot.bus.call("ALFaceDetection", "getLearnedFacesList"))


def is_kept(robot: Stage, mind: Mind, who: str) -> str:
    """Let somebody come, agree and be learnt; gives their id."""
    before = faces(robot)
    robot.arrives(who)
    robot.asks(CALL)
    robot.state("asking")
    robot.presses("yes")
    robot.until(mind.kept, "not kept")
    robot.until(lambda: faces(robot) != before, "no face")
    robot.quiet()
    return mind.kept()[0]


def test_a_yes_with_somebody_else_in_view_keeps_nobody(robot: Stage, mind: Mind) -> None:
    robot.arrives("grace")
    robot.asks(CALL)
    robot.state("asking")
    since = robot.now()
    robot.do("arrive", who="sam", zone=2)  # while the question is being said
    robot.quiet()
    robot.do("say", text="yes")
    robot.hears("alone in front of me", since)
    assert not mind.kept() and not faces(robot)
    assert not robot.deeds("ALFaceDetection", "learnFace", since)


def test_somebody_who_comes_while_a_face_is_learnt_undoes_it(robot: Stage, mind: Mind) -> None:
    robot.arrives("grace")
    robot.asks(CALL)
    robot.state("asking")
    since = robot.now()
    robot.presses("yes")
    robot.until(lambda: robot.deeds("ALFaceDetection", "learnFace", since), "no face is learnt")
    robot.do("arrive", who="sam", zone=2)
    robot.until(lambda: robot.deeds("ALFaceDetection", "forgetPerson", since), "a doubtful face")
    assert not faces(robot) and len(mind.kept()) == 1


def test_with_two_near_nobody_is_asked_and_remember_me_waits(robot: Stage, mind: Mind) -> None:
    robot.do("arrive", who="sam", zone=3)
    since = robot.arrives("grace")
    robot.asks(CALL)
    robot.quiet(1.5)
    robot.do("say", text="remember me")
    robot.hears("alone in front of me", since)
    assert not [text for text in robot.said(since) if "hall I remember" in text]
    robot.do("leave", who="sam")
    robot.until(lambda: robot.bus.call("VirtualPepper", "people") == ["grace"], "sam stays")
    robot.quiet(2.5)
    before = mind.known()
    later = robot.now()
    robot.do("say", text="remember me")
    robot.hears("shall I remember you", later)
    robot.quiet()
    robot.do("say", text="yes")
    robot.until(mind.kept, "not kept")
    assert mind.kept() != before, "the picture with sam in it is not kept"


def test_who_was_only_heard_is_not_the_one_who_comes_next(robot: Stage, mind: Mind) -> None:
    robot.do("arrive", who="grace", zone=3)
    first = robot.asks(CALL)
    robot.do("leave", who="grace")
    robot.quiet(6.0)
    since = robot.arrives("sam")
    assert robot.tablet()["turns"] == [] or CALL not in str(robot.tablet()["turns"])
    second = robot.asks(CALL)
    assert second["said"] != first["said"]
    assert any(text.startswith(("Hello", "Hi")) for text in robot.said(since))


@pytest.mark.parametrize("said", ["forgotten you", "keep nothing about you"])
def test_forget_me_right_after_a_yes_leaves_nothing(robot: Stage, mind: Mind, said: str) -> None:
    """Before it is known whether they were kept before, and when the brain was told to keep."""
    robot.arrives("grace")
    if said == "forgotten you":
        since = robot.now()
        robot.presses("know")
        robot.hears("I do not recognise you", since)
        robot.quiet()
    robot.asks(CALL)
    robot.state("asking")
    since = robot.now()
    robot.presses("yes")
    robot.presses("forget")
    robot.hears(said, since)
    robot.quiet(5.0)
    assert not mind.kept() and not faces(robot)


def test_forget_me_while_being_looked_at_reaches_who_is_kept(robot: Stage, mind: Mind) -> None:
    is_kept(robot, mind, "grace")
    robot.leaves("grace")
    since = robot.now()
    robot.do("arrive", who="grace")
    robot.until(lambda: robot.tablet()["state"] != "alone", "not seen")
    robot.presses("forget")
    robot.hears("forgotten you", since)
    robot.until(lambda: not mind.kept() and not faces(robot), "still kept")


def test_who_is_forgotten_while_the_brain_is_away_is_forgotten_when_it_is_back(
    robot: Stage, mind: Mind
) -> None:
    kept = is_kept(robot, mind, "grace")
    robot.leaves("grace")
    mind.go()
    robot.state("away")
    since = robot.now()
    robot.do("arrive", who="grace")
    robot.until(lambda: robot.said(since), "no greeting")
    robot.quiet()
    robot.do("say", text="forget me")
    robot.hears("as soon as I can", since)
    [debts] = robot.folder.parent.rglob("forget.json")
    robot.until(lambda: not faces(robot), "the robot itself can forget at once")
    assert json.loads(debts.read_text())["brain"] == [kept]
    robot.stop()  # the promise outlives the app
    robot.start()
    mind.come()
    robot.until(lambda: not mind.kept(), "still kept")
    robot.until(lambda: json.loads(debts.read_text()) == {"brain": [], "robot": []}, "owed")
    robot.page_loads()
    assert "We have met before" not in str(robot.said(since))


def test_faces_of_other_programs_are_left_alone_and_ours_go_with_the_brains_memory(
    robot: Stage, mind: Mind
) -> None:
    robot.do("arrive", who="sam")
    robot.bus.call("ALFaceDetection", "learnFace", "Bob")
    robot.do("leave", who="sam")
    kept = is_kept(robot, mind, "grace")
    assert sorted(faces(robot)) == sorted(["Bob", kept])
    robot.leaves("grace")
    robot.arrives("sam")
    assert robot.asks(CALL)["outcome"] == "answered"
    mind.brain.client.delete(f"/v1/users/{kept}")  # at the brain's own page, or by its time
    robot.stop()
    robot.start()
    robot.until(lambda: faces(robot) == ["Bob"], "a face outlives the consent to it")
    robot.page_loads()
