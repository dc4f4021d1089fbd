"""The whole path at the robot's own pace: package, Python 2.7, brain, first word, and silence.

What is timed here is timed on this machine, beside whatever else it does: the times are printed;
asserted is what the app promises, that a stop takes half a second at most.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("qi")

from serving import Serving
from stage import SERVICE, Stage, brain, stage

CALL = "How do I make a video call?"
STOPS_S = 0.5
"""From the wish to silence."""
PARTS = ("asked", "sentence", "voice", "word")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as users build it, and as qipkg finds nothing wrong with it."""
    file = tmp_path_factory.mktemp("package") / "uservlm.pkg"
    command = [sys.executable, "-m", "uservlm.pepper_app.package", "--out", str(file)]
    subprocess.run([*command, "--listen", "dialog,words"], check=True)
    return file


@pytest.fixture(scope="module")
def acting(
    pocket_bundle: Path, file: Path, python27: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stage, Serving]]:
    folder = tmp_path_factory.mktemp("proof")
    with (
        stage(folder, python=shlex.join(python27), pace=1, file=file) as robot,
        brain(pocket_bundle, folder, robot) as mind,
    ):
        robot.state("alone")
        robot.page_loads()
        yield robot, mind


def test_the_service_runs_in_the_robots_own_python(acting: tuple[Stage, Serving]) -> None:
    robot, _ = acting
    [[_, started, *_]] = [
        deed["values"] + [None]
        for deed in robot.deeds("ALServiceManager", "started")
        if deed["values"][0] == SERVICE
    ]
    assert started == "asked"
    running = [
        (process / "exe").resolve().name
        for process in Path("/proc").glob("[0-9]*")
        if robot.url in _command(process) and "onboard" in _command(process)
    ]
    assert running and all(name == "python2.7" for name in running)


def test_each_stop_brings_silence_in_half_a_second_and_every_first_word_is_timed(
    acting: tuple[Stage, Serving], capsys: pytest.CaptureFixture[str]
) -> None:
    robot, mind = acting
    robot.arrives("grace")
    stops = {
        "a hand on its head": lambda: robot.do("touch", sensor="FrontTactilTouched"),
        "a hand on its back": lambda: robot.do("touch", sensor="RearTactilTouched"),
        "the tablet": lambda: robot.presses("stop"),
        "the word": lambda: robot.do("say", text="stop"),
        "an event": lambda: robot.bus.call("ALMemory", "raiseEvent", "UserVLM/Stop", 1),
    }
    heard = partial(robot.deeds, "ALSpeechRecognition", "recognised")
    lines = []
    for way, stop in stops.items():
        since = robot.now()
        robot.do("ask", text=CALL)
        robot.state("speaking", since)
        robot.until(lambda since=since: robot.said(since), "no word")
        stopped = robot.now()
        stop()
        if way == "the word":  # it takes time to say
            stopped = robot.until(partial(heard, stopped), "not heard")[0]["at"]
        report = robot.report(since)
        broken = partial(robot.deeds, "ALTextToSpeech", "interrupted", stopped)
        silent = robot.until(broken, "it goes on")[0]["at"]
        assert silent - stopped < STOPS_S, way
        assert report["outcome"] == "stopped"
        parts = "  ".join(f"{part} {report['seconds'][part]:.2f}" for part in PARTS)
        lines.append(f"{parts}   silent {silent - stopped:.2f} s after {way}")
        robot.quiet(1.5)
        assert not robot.said(silent + 0.01), "nothing more is said"
        assert mind.client.get("/v1/state").json()["queue"]["running"] == 0
    with capsys.disabled():
        print(
            "\nseconds from the end of a question, Python 2.7, pocket weights, the virtual robot:"
        )
        print("\n".join(lines))


def test_a_stop_while_the_text_is_being_prepared_counts_too(acting: tuple[Stage, Serving]) -> None:
    robot, _ = acting
    since = robot.now()
    robot.do("ask", text=CALL)
    robot.state("speaking", since)
    stopped = robot.now()
    robot.do("touch", sensor="MiddleTactilTouched")
    robot.report(since)
    robot.quiet(1.5)
    last = max(deed["at"] for deed in robot.deeds("ALTextToSpeech", "", stopped))
    spoken = robot.deeds("ALTextToSpeech", "says", stopped)
    ends = robot.deeds("ALTextToSpeech", "interrupted", stopped)
    assert not spoken or ends[0]["at"] - stopped < STOPS_S, (spoken, ends, last)


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:  # it has ended meanwhile
        return ""
