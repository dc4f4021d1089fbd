"""Every way of asking the robot, from the sound or the word to the answer and back to silence.

The app is the installed package in the robot's own Python 2.7 and in Python 3, the brain is the
pocket model, and where free speech is heard, sound goes through real sherpa-onnx with a model of
tones (tones.py). The virtual Pepper's "say" reaches its recognisers and its microphone alone.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("qi")
pytest.importorskip("sherpa_onnx")

from serving import Serving, serving
from stage import OWN, Stage, brain, package, stage
from tones import tone_model, wav
from virtual_pepper import wait_for

from uservlm.pepper_app.project.onboard.clean import speakable
from uservlm.pepper_app.project.onboard.settings import Settings
from uservlm.pepper_app.project.onboard.terms import Terms

PACE = 8.0
CALL = "How do I make a video call?"
BOTH = pytest.mark.parametrize("python", ["python27", "python3"], indirect=True)
OLD = pytest.mark.parametrize("python", ["python27"], indirect=True)
NEW = pytest.mark.parametrize("python", ["python3"], indirect=True)
SAID = {
    "en": {
        "ask": "how do i make a video call",
        "remember": "remember me",
        "know": "do you know me",
        "forget": "forget me",
        "stop": "stop",
        "yes": "yes",
        "no": "no",
    },
    "fr": {
        "ask": "comment faire un appel vidéo",
        "remember": "souviens-toi de moi",
        "know": "tu me reconnais",
        "forget": "oublie-moi",
        "stop": "arrête",
        "yes": "oui",
        "no": "non",
    },
}
HOLDS = {
    "dialog": "ALDialog UserVLM",
    "words": "ALSpeechRecognition UserVLM",
    "free": "ALAudioDevice UserVLM",
}
SECRET = "xylophone"


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tone_model(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest) -> str:
    old = request.param == "python27"
    return shlex.join(request.getfixturevalue("python27")) if old else sys.executable


@pytest.fixture(scope="module")
def robot(python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A robot, on which the app has not been started; `mind` is its brain."""
    with stage(tmp_path_factory.mktemp("robot"), pace=PACE, python=python, begin=False) as made:
        yield made


@pytest.fixture
def lonely(python: str, tmp_path: Path) -> Iterator[Stage]:
    """A robot at whose door no brain is."""
    with stage(tmp_path, pace=PACE, python=python, begin=False) as made:
        yield made


@pytest.fixture(scope="module")
def mind(robot: Stage, pocket_bundle: Path, speech: Path) -> Iterator[Serving]:
    """A brain with ears, at the robot's door."""
    with brain(pocket_bundle, robot.folder.parent, robot, "--hear", str(speech)) as made:
        yield made


@pytest.fixture(scope="module")
def far(
    pocket_bundle: Path, speech: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    """A brain with ears that no robot knows of."""
    with serving(pocket_bundle, tmp_path_factory.mktemp("far"), "--hear", str(speech)) as made:
        yield made


@contextmanager
def app(robot: Stage, **settings: Any) -> Iterator[None]:
    """Have the app installed anew and running; nothing of it is left on the robot afterwards."""
    since, before = robot.now(), robot.held()
    file = package(robot.folder.parent / "again.pkg", settings)
    assert robot.bus.call("PackageManager", "install", str(file)) is True
    robot.start()
    robot.until(lambda: robot.deeds("ALTabletService", "showWebview", since), "no page")
    robot.presses("hello")
    robot.until(lambda: robot.deeds("ALTabletService", "executeJS", since), "nothing is shown")
    robot.until(lambda: robot.tablet()["state"] == "alone", "no brain")
    for way in settings["listen"]:
        hears(robot, way)
    try:
        yield
    finally:
        for who in robot.bus.call("VirtualPepper", "people"):
            robot.do("leave", who=who)
        robot.stop()
    assert [one for one in robot.held() if one not in before] == []
    assert "beginning anew" not in robot.log(), robot.log()
    assert robot.bus.call("ALTextToSpeech", "getLanguage") == "English"
    for part in ("ALDialog", "ALSpeechRecognition"):
        assert robot.bus.call(part, "getLanguage") == "English"


def hears(robot: Stage, way: str) -> None:
    robot.until(lambda: HOLDS[way] in str(robot.held()), f"{way} is not there")


def speaks(robot: Stage, text: str, aloud: Path | None = None, step: str = "say") -> None:
    """Say something; where its sound matters, as a file."""
    sound = {} if aloud is None else {"audio": str(wav(aloud / f"{text}.wav", text))}
    robot.do(step, text=text, **sound)


def asked(robot: Stage) -> list[str]:
    """Give what the app took for questions, as the tablet shows it."""
    return [turn["text"] for turn in robot.tablet()["turns"] if turn["who"] == "person"]


def last(text: str) -> str:
    """Give the end of a text of our own, as the robot is recorded to say it: by the sentence."""
    return re.split(r"(?<=[.!?])\s+", speakable(text))[-1]


def visit(robot: Stage, say: Callable[[str], None], language: str) -> None:
    """Come, ask, and say everything that the app understands."""
    terms = Terms(Settings(), language)
    begun = robot.arrives("grace")
    assert any(greeting[:5] in robot.said(begun)[0] for greeting in terms.says("hello"))

    def answers(what: str, key: str) -> float:
        since = robot.now()
        say(SAID[language][what])
        robot.hears(last(terms.says(key)[0]), since)
        robot.quiet(0.7)
        return since

    since = robot.now()
    say(SAID[language]["ask"])
    assert robot.report(since)["outcome"] == "answered"
    question = asked(robot)[0].lower()
    assert [word for word in SAID[language]["ask"].split() if word not in question] == []
    robot.hears(last(terms.question), since)
    robot.quiet(0.7)
    answers("no", "not_kept")
    answers("know", "not_known")
    answers("remember", "ask_consent")
    since = answers("yes", "kept")
    robot.until(lambda: robot.bus.call("ALFaceDetection", "getLearnedFacesList"), "no face")
    since = answers("forget", "forgotten")
    robot.until(lambda: not robot.bus.call("ALFaceDetection", "getLearnedFacesList"), "a face")
    if language != "en":
        assert not OWN & set(robot.said(begun)), "English"


def stops(robot: Stage, say: Callable[[str], None], language: str) -> None:
    """Ask, and say stop into the answer."""
    since = robot.now()
    say(SAID[language]["ask"])
    robot.state("speaking", since)
    say(SAID[language]["stop"])
    robot.until(lambda: robot.deeds("ALTextToSpeech", "interrupted", since), "it goes on")
    assert robot.report(since)["outcome"] == "stopped"


# -- words and topics -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("python", "way", "language"),
    [("python27", "dialog", "fr"), ("python27", "words", "fr"), ("python3", "dialog", "en")],
    indirect=["python"],
)
def test_recognised_phrases_are_questions_and_commands(
    robot: Stage, mind: Serving, way: str, language: str
) -> None:
    def say(text: str) -> None:
        speaks(robot, text)

    with app(robot, listen=[way], language=language):
        visit(robot, say, language)
        stops(robot, say, language)


@OLD
def test_an_app_that_was_killed_finds_its_topic_loaded_and_goes_on(
    robot: Stage, mind: Serving
) -> None:
    with app(robot, listen=["dialog"]):
        kill(robot)
        robot.until(lambda: "topic uservlm" in str(robot.held()), "who has unloaded it?")
        since = robot.now()
        robot.start()
        robot.until(lambda: robot.deeds("ALDialog", "activateTopic", since), "no topic")
        robot.until(lambda: robot.deeds("ALTabletService", "showWebview", since), "no page")
        robot.presses("hello")
        robot.arrives("sam")
        speaks(robot, "how can i make a video call")
        assert robot.report(since)["outcome"] == "answered"
        [camera] = [one for one in robot.held() if one.endswith("UserVLM_0")]
        robot.bus.call("ALVideoDevice", "unsubscribe", camera.split()[-1])  # by nobody else


def kill(robot: Stage) -> None:
    """Kill the app as nobody should, and wait until the robot has seen it."""
    home = robot.folder / "apps" / "uservlm"
    for one in Path("/proc").glob("[0-9]*"):
        try:
            mine = (one / "cwd").resolve() == home and b"onboard" in (one / "cmdline").read_bytes()
        except OSError:  # it has gone, or is somebody else's
            continue
        if mine:
            os.kill(int(one.name), signal.SIGKILL)
    name = "uservlm.App"
    robot.until(lambda: not robot.bus.call("ALServiceManager", "isServiceRunning", name), "alive")


# -- somebody else's recogniser -------------------------------------------------------------------


@OLD
def test_any_recogniser_may_raise_a_question_and_nothing_else_comes_of_what_is_none(
    robot: Stage, mind: Serving
) -> None:
    def raises(event: str, value: object) -> None:
        robot.bus.call("ALMemory", "raiseEvent", event, value)

    with app(robot, listen=["words"]):
        robot.arrives("sam")
        for wrong in (7, None, 3.5, [CALL], {"text": CALL}, "", "  \n"):
            raises("UserVLM/Question", wrong)
            raises("WordRecognized", [wrong, 0.9])
        robot.quiet()
        assert asked(robot) == []
        since = robot.now()
        raises("UserVLM/Question", CALL)
        raises("UserVLM/Question", "how do i make a VIDEO call")
        assert robot.report(since)["outcome"] == "answered"
        assert asked(robot) == [CALL]
        robot.hears(last(Terms(Settings(), "en").question), since)
        robot.quiet(0.7)
        raises("UserVLM/No", 1)
        robot.hears("I will forget you when you leave", since)
        robot.quiet()
        since = robot.now()
        raises("UserVLM/Question", "Am I alone? " * 20_000)
        robot.state("speaking", since)
        raises("UserVLM/Stop", None)
        assert robot.report(since)["outcome"] == "stopped"
        assert len(asked(robot)[-1]) <= 500


@NEW
def test_what_three_recognisers_understand_is_one_question(robot: Stage, mind: Serving) -> None:
    with app(robot, listen=["dialog", "words"]):
        robot.arrives("sam")
        since = robot.now()
        robot.do("ask", text=CALL)
        assert robot.report(since)["outcome"] == "answered"
        assert asked(robot) == [CALL] and len(robot.reports(since)) == 1
        heard = robot.deeds("ALSpeechRecognition", "recognised", since)
        assert heard and robot.deeds("ALDialog", "matched", since)
        assert not robot.deeds("ALTextToSpeech", "interrupted", since)


# -- free speech ----------------------------------------------------------------------------------


@BOTH
def test_free_speech_goes_from_the_microphone_to_the_brain_and_is_answered(
    robot: Stage, mind: Serving, python: str, tmp_path: Path
) -> None:
    def say(text: str) -> None:
        speaks(robot, text, tmp_path)

    with app(robot, listen=["free"]):
        if python != sys.executable:
            visit(robot, say, "en")
        own_voice(robot, tmp_path)


def own_voice(robot: Stage, sounds: Path) -> None:
    """The microphone hears the robot itself: it is muted, and so is whoever talks over it."""
    if not robot.bus.call("VirtualPepper", "people"):
        robot.arrives("grace")
    robot.until(lambda: robot.tablet()["state"] == "ready", "not seen")
    robot.quiet(1.0)  # it hears nothing while it greets, nor just afterwards
    since, before = robot.now(), asked(robot)
    speaks(robot, "am i alone", sounds)
    speaks(robot, "stop", sounds, "talk_over")
    assert robot.report(since)["outcome"] == "answered"
    robot.quiet(3.0)
    assert not robot.deeds("ALTextToSpeech", "interrupted", since)
    assert asked(robot) == [*before, "am i alone"], "and not mm, which its voice sounds like"
    since = robot.now()
    speaks(robot, "am i wearing glasses", sounds)
    assert robot.report(since)["outcome"] == "answered"


@BOTH
def test_free_speech_goes_over_http_where_there_is_no_other_way(
    lonely: Stage, far: Serving, python: str, tmp_path: Path
) -> None:
    def say(text: str) -> None:
        speaks(lonely, text, tmp_path)

    with app(lonely, listen=["free"], brain=far.url):
        assert "UserVLMMicrophone" in str(lonely.held())
        if python != sys.executable:
            visit(lonely, say, "en")
        own_voice(lonely, tmp_path)


# -- ears that come and go ------------------------------------------------------------------------


def heard(robot: Stage, sounds: Path) -> None:
    """Somebody is heard by the ears there are now, and answered."""
    hears(robot, "free")
    robot.until(lambda: robot.tablet()["state"] in ("ready", "asking"), "no brain")
    robot.quiet(0.7)
    since = robot.now()
    speaks(robot, "am i alone", sounds)
    assert robot.report(since)["outcome"] == "answered"


def test_ears_are_found_when_they_come_and_again_when_the_brain_is_another(
    pocket_bundle: Path, speech: Path, tmp_path: Path
) -> None:
    with stage(tmp_path, pace=PACE, listen=["free"]) as robot:
        robot.do("arrive", who="grace")
        with brain(pocket_bundle, tmp_path, robot):
            robot.page_loads()
            robot.until(lambda: robot.tablet()["state"] == "ready", "no brain")
            assert HOLDS["free"] not in str(robot.held())
        for _ in range(2):
            with brain(pocket_bundle, tmp_path, robot, "--hear", str(speech)) as mind:
                heard(robot, tmp_path)
                mind.kill()
            gone = robot.now()
            robot.until(lambda: HOLDS["free"] not in str(robot.held()), "it streams to nobody")
            assert robot.now() - gone < 5 * PACE
    assert robot.log().count("the brain hears: UserVLMEars") == 2


@OLD
def test_over_http_too_ears_are_found_when_they_come_and_again_after_a_restart(
    lonely: Stage, pocket_bundle: Path, speech: Path, tmp_path: Path
) -> None:
    with serving(pocket_bundle, tmp_path) as deaf:
        address, port = deaf.url, int(deaf.url.rsplit(":", 1)[1])
        file = package(tmp_path / "http.pkg", {"listen": ["free"], "brain": address})
        assert lonely.bus.call("PackageManager", "install", str(file)) is True
        lonely.start()
        lonely.page_loads()
        lonely.until(lambda: lonely.tablet()["state"] == "alone", "no brain")
        assert "Microphone" not in str(lonely.held()), "nobody would hear"
        deaf.kill()
    lonely.do("arrive", who="grace")
    for _ in range(2):
        with serving(pocket_bundle, tmp_path, "--hear", str(speech), port=port) as mind:
            heard(lonely, tmp_path)
            mind.kill()
        lonely.until(lambda: "Microphone" not in str(lonely.held()), "it streams to nobody")
    assert lonely.log().count("no ears") == 3, "said once each time, and not all the while"


# -- what is written down -------------------------------------------------------------------------


@BOTH
def test_no_word_that_is_heard_said_or_shown_is_logged(
    robot: Stage, mind: Serving, tmp_path: Path
) -> None:
    """The robot runs the app at INFO; beside it, a second one tells all it can."""
    question = f"do you like my {SECRET}"
    with app(robot, listen=["free", "dialog"]), verbose(robot, tmp_path) as told:
        robot.arrives("grace")
        begun = robot.now()
        speaks(robot, question, tmp_path)
        robot.report(begun)
        robot.quiet()
        for raised in (SECRET, f'{{"do": "{SECRET}"}}', f'{{"do": "ask", "text": "{SECRET}"}}'):
            robot.do("tablet", event=raised)
        robot.bus.call("ALMemory", "raiseEvent", "UserVLM/Question", f"{SECRET}? \ud7ff")
        robot.state("speaking", begun)
        robot.quiet()
        said = robot.said(begun)
    written = robot.log() + told.read_text()
    assert written.count("with the robot") >= 2 and "INFO not understood" in written
    assert any(text not in OWN for text in said)
    for text in (SECRET, *said):
        assert text.lower() not in written.lower()
    assert SECRET not in mind.log.read_text()


@contextmanager
def verbose(robot: Stage, folder: Path) -> Iterator[Path]:
    """Have the app once more, as its own process, and with everything in its log."""
    home = robot.folder / "apps" / "uservlm"
    log = folder / "verbose.log"
    command = [sys.executable, "-m", "onboard", "--verbose", "--pace", str(PACE)]
    command += ["--qi-url", robot.url, "--data", str(folder / "data")]
    command += ["--settings", str(folder / "none.json")]
    with log.open("wb") as told:
        process = subprocess.Popen(command, cwd=home, stdout=told, stderr=told)
    try:
        wait_for(lambda: "the brain answers" in log.read_text())
        yield log
        process.terminate()
        assert process.wait(15) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
