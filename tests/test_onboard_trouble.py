"""A robot that misbehaves, and an app that ends: the conversation goes well all the same.

The app is the installed package in the robot's own Python 2.7, or in Python 3 where a PC may run
it; the brain is the pocket model. A brain that misbehaves is in `test_onboard_brain_trouble.py`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("qi")

from conversing import (
    CALL,
    FEEL,
    VERSIONS,
    Truth,
    command_of,
    converses,
    known,
    leaves_nothing,
)
from serving import Serving
from stage import ENDS_S, OWN, SERVICE, Stage, beside, brain, play, stage

SLOW = "slow-network"
"""Takes its time in seconds of the world, whatever the pace."""
REAL = (SLOW, "flicker")
"""What a busy machine makes worse when the robot's time runs too fast."""
TROUBLES = [
    ("invalid-signature", "3"),
    ("invalid-signature", "2.7"),
    ("none-frames", "2.7"),
    ("late-services", "2.7"),
    ("flicker", "2.7"),
    (SLOW, "2.7"),
    *((SLOW, version) for version in VERSIONS if version == "3"),
    ("no-tablet", "2.7"),
    ("no-topics", "2.7"),
]


def wrong_with(robot: Stage) -> list[str]:
    """Give what the app must never do, and has done."""
    wrong = robot.deeds("ALAutonomousLife", "setState") + robot.deeds("ALServiceManager", "SIGKILL")
    return [f"{deed['who']} {deed['what']}" for deed in wrong]


@pytest.mark.parametrize(("trouble", "version"), TROUBLES)
def test_a_conversation_goes_well_whatever_the_robot_does(
    pocket_bundle: Path, tmp_path: Path, trouble: str, version: str, request: pytest.FixtureRequest
) -> None:
    pace, python = 2.0 if trouble in REAL else 4.0, command_of(request, version)
    listen = ["dialog", "words"] if trouble == "no-topics" else ["words"]
    with (
        stage(tmp_path, "--misbehave", trouble, pace=pace, python=python, listen=listen) as robot,
        brain(pocket_bundle, tmp_path, robot) as mind,
    ):
        robot.state("alone")
        if trouble != "no-tablet":
            robot.page_loads()
        converses(robot, mind)
        assert robot.stop() < ENDS_S
        assert robot.held() == [] and wrong_with(robot) == []
        leaves_nothing(robot, CALL, Truth(mind).of(CALL, "grace"))


def test_a_page_that_does_not_load_is_loaded_again(pocket_bundle: Path, tmp_path: Path) -> None:
    with (
        stage(tmp_path, "--misbehave", "tablet-first-page") as robot,
        brain(pocket_bundle, tmp_path, robot),
    ):
        loads = "ALTabletService", "load"
        robot.until(lambda: robot.deeds("ALTabletService", "onLoadPageError"), "it loads")
        robot.until(lambda: len(robot.deeds(*loads)) > 1, "not loaded again")
        robot.page_loads()
        robot.arrives("sam")
        since = robot.now()
        robot.presses("ask", CALL)
        assert robot.report(since)["outcome"] == "answered"


def test_without_a_camera_it_says_that_it_cannot_see(
    pocket_bundle: Path, tmp_path: Path, python27: list[str]
) -> None:
    python = " ".join(python27)
    with play(pocket_bundle, tmp_path, "--misbehave", "no-camera", python=python) as (robot, mind):
        since = robot.now()
        robot.do("arrive", who="grace")
        robot.until(lambda: robot.said(since), "no greeting")
        since = robot.now()
        robot.do("ask", text=CALL)
        robot.hears("I cannot see you well", since)
        assert robot.report(since)["outcome"] == "failed"
        robot.leaves("grace")
        assert known(mind) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stop_reaches_a_text_that_is_still_prepared(
    pocket_bundle: Path, tmp_path: Path, version: str, request: pytest.FixtureRequest
) -> None:
    """ALTextToSpeech.stopAll does not; and what is said next is not stopped with it.

    The robot itself is told when to be touched: a test that watched it would come too late on a
    busy machine. How soon it falls silent is `test_onboard_proof.py`'s to say.
    """
    python = command_of(request, version)
    with play(pocket_bundle, tmp_path, pace=1.0, python=python) as (robot, mind):
        truth = Truth(mind)
        first, second = truth.of(CALL, "sam"), truth.of(FEEL, "sam")
        robot.arrives("sam")
        since = robot.now()
        robot.do("ask", text=CALL)
        robot.do("touch_over", sensor="MiddleTactilTouched", text=" ".join(first.split()[:2]))
        robot.until(lambda: robot.deeds("ALTouch", "touched", since), "nothing is prepared")
        touched = robot.deeds("ALTouch", "touched", since)[0]["at"]
        robot.until(lambda: robot.deeds("ALTextToSpeech", "interrupted", touched), "it goes on")
        asked = robot.now()
        robot.do("ask", text=FEEL)
        assert robot.report(asked)["outcome"] == "answered"
        begun = robot.deeds("ALTextToSpeech", "says", since)
        before = [deed["values"][0] for deed in begun if deed["at"] < touched]
        assert set(before) <= OWN, "it was not being prepared any more"
        spoken = [deed["values"][0] for deed in robot.deeds("ALTextToSpeech", "spoke", touched)]
        assert first not in spoken and second in spoken


RESTARTS: dict[str, Callable[[Stage], object]] = {
    "alone": lambda robot: robot.state("alone"),
    "ready": lambda robot: robot.arrives("grace"),
    "speaking": lambda robot: (
        robot.arrives("grace"),
        robot.do("ask", text=CALL),
        robot.state("speaking"),
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_beside_the_robot_it_finds_naoqi_again(
    pocket_bundle: Path, tmp_path: Path, version: str, request: pytest.FixtureRequest
) -> None:
    """Services come late after a restart; nobody who has not agreed is kept over it."""
    python = command_of(request, version)
    with (
        stage(tmp_path, begin=False) as robot,
        beside(robot, python, {"listen": ["dialog", "words"]}) as app,
        brain(pocket_bundle, tmp_path, robot) as mind,
    ):
        for number, happens in enumerate(RESTARTS.values()):
            robot.state("alone")
            happens(robot)
            robot.bus.call("VirtualPepper", "misbehave", ["late-services"] if number else [])
            since = robot.now()
            robot.do("restart")
            robot.back()
            robot.until(lambda: "ALPeople" in str(robot.held()), "not found again")
            robot.bus.session.waitForService("UserVLM")
            assert app.poll() is None
            robot.until(lambda: not known(mind), "a stranger is kept")
        robot.page_loads(since)
        robot.bus.call("VirtualPepper", "misbehave", [])
        converses(robot, mind, "sam")
        app.terminate()
        app.wait(ENDS_S)
        assert robot.held() == [] and wrong_with(robot) == []
        leaves_nothing(robot, CALL, Truth(mind).of(CALL, "sam"))


def test_beside_a_robot_that_restarts_again_and_again_every_visit_is_answered(
    pocket_bundle: Path, tmp_path: Path, python27: list[str]
) -> None:
    """As `restarts` does: every 20 s, for 1 s."""
    with (
        stage(tmp_path, "--misbehave", "restarts", begin=False, pace=2.0) as robot,
        beside(robot, " ".join(python27), {}),
        brain(pocket_bundle, tmp_path, robot) as mind,
    ):
        truth = Truth(mind).of(FEEL, "sam")
        for _ in range(2):
            robot.back()
            robot.bus.session.waitForService("UserVLM")
            robot.arrives("sam")
            assert robot.asks(FEEL)["said"] == truth


def test_after_a_restart_the_service_can_be_started_again(
    pocket_bundle: Path, tmp_path: Path, python27: list[str]
) -> None:
    """Naoqi ends the service with itself; nobody starts it, since it starts by no boot either."""
    python = " ".join(python27)
    with play(pocket_bundle, tmp_path, python=python, listen=["words"]) as (robot, mind):
        robot.arrives("grace")
        robot.do("restart")
        robot.back()
        robot.bus.session.waitForService("UserVLM")
        assert robot.bus.call("ALServiceManager", "isServiceRunning", SERVICE) is False
        assert robot.held() == []
        since = robot.now()
        robot.start()
        robot.until(lambda: "ALPeople" in str(robot.held()), "the app does not begin")
        robot.until(lambda: not known(mind), "a stranger is kept")
        robot.page_loads(since)
        converses(robot, mind, "sam")


def thinking(robot: Stage, mind: Serving) -> None:
    mind.process.send_signal(signal.SIGSTOP)
    since = robot.now()
    robot.do("ask", text=CALL)
    robot.state("thinking", since)


def away(robot: Stage, mind: Serving) -> None:
    since = robot.now()
    mind.kill()
    robot.state("away", since)


def speaking(robot: Stage, _: Serving) -> None:
    since = robot.now()
    robot.do("ask", text=CALL)
    robot.state("speaking", since)


def asking(robot: Stage, _: Serving) -> None:
    robot.asks(CALL)
    robot.state("asking")


STATES: dict[str, Callable[[Stage, Serving], object]] = {
    "alone": lambda robot, _: robot.leaves("sam"),
    "ready": lambda *_: None,
    "speaking": speaking,
    "asking": asking,
    "thinking": thinking,
    "away": away,
}
ENDINGS = [(state, "2.7", ()) for state in STATES] + [
    ("speaking", "2.7", (SLOW,)),
    ("thinking", "2.7", (SLOW, "invalid-signature")),
    ("speaking", "3", ()),
]


@pytest.mark.parametrize(("state", "version", "troubles"), ENDINGS)
def test_it_ends_at_once_and_gives_everything_back(
    pocket_bundle: Path,
    tmp_path: Path,
    state: str,
    version: str,
    troubles: tuple[str, ...],
    request: pytest.FixtureRequest,
) -> None:
    python = command_of(request, version)
    settings = {"language": "fr", "listen": ["dialog", "words"]}
    options = ("--misbehave", *troubles)
    with play(pocket_bundle, tmp_path, *options, python=python, **settings) as (robot, mind):
        assert robot.bus.call("ALTextToSpeech", "getLanguage") == "French"
        robot.arrives("sam")
        STATES[state](robot, mind)
        since = robot.now()
        assert robot.stop() < ENDS_S
        left = robot.now()
        assert robot.held() == [] and wrong_with(robot) == []
        for service in ("ALTextToSpeech", "ALDialog", "ALSpeechRecognition"):
            assert robot.bus.call(service, "getLanguage") == "English", service
        tablet = robot.deeds("ALTabletService")[-3:]
        assert {deed["what"] for deed in tablet} == {"hideWebview", "cleanWebview", "scale"}
        [scale] = [deed["values"] for deed in tablet if deed["what"] == "scale"]
        assert scale == [pytest.approx(1.34)]
        assert robot.deeds("ALLeds")[-1]["what"] == "reset"
        spoken = robot.deeds("ALTextToSpeech", "says", since)
        assert not [deed for deed in spoken if deed["at"] > left], "it goes on"
        [stopped] = robot.deeds("ALServiceManager", "stopped", since)
        assert stopped["values"] == [SERVICE, "asked"]


def test_it_ends_at_once_where_there_is_no_robot(tmp_path: Path, python27: list[str]) -> None:
    with stage(tmp_path, begin=False) as robot, beside(robot, " ".join(python27), {}) as app:
        robot.do("restart", seconds=20.0)
        robot.gone()
        app.terminate()
        assert app.wait(ENDS_S) == 0
        robot.back()
