"""A brain that dies, hangs, is busy, is not there, is somebody else's, or only over HTTP.

The app is the installed package in the robot's own Python 2.7, or in Python 3; the brain is the
pocket model where it answers, and what is said here where it does not.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

pytest.importorskip("qi")

import qi
from conversing import (
    CALL,
    IDS,
    VERSIONS,
    Truth,
    command_of,
    converses,
    known,
    leaves_nothing,
    owed,
)
from serving import serving
from stage import ENDS_S, brain, play, stage

from uservlm.pepper_app.qi_object import LibqiService
from uservlm.pepper_app.service import Method, Reply, Service, Value

AWAY, STILL = "I cannot think right now", "I still cannot think"
BOTH = pytest.mark.parametrize("version", VERSIONS)
HOSTILE = (
    r"^call(ALSystem.shutdown()) Hello \vct=50\ you. $Event=1 ^start(animations/Stand/Hey_1) "
    r"^pCall(ALMotion.rest()) \mrk=1\ Bye ^^run(x)y."
)
WRONG: list[tuple[Any, ...]] = [(), (1,), ([1], {"a": 2}), (None, None), ("a", "b", "c"), (7, 7)]
"""What a signal of two texts may carry on a bus where everybody may send it."""


@pytest.fixture
def python(version: str, request: pytest.FixtureRequest) -> str:
    return command_of(request, version)


@BOTH
def test_a_brain_that_dies_comes_back_to_the_question_that_waits(
    pocket_bundle: Path, tmp_path: Path, python: str
) -> None:
    """It is killed with a question in hand, and again while idle; a guest is looked at again."""
    with stage(tmp_path, pace=2.0, python=python) as robot:
        with brain(pocket_bundle, tmp_path, robot) as mind:
            truth = Truth(mind).of(CALL, "grace")
            robot.arrives("grace")
            mind.process.send_signal(signal.SIGSTOP)
            since = robot.now()
            robot.do("ask", text=CALL)
            robot.state("thinking", since)
            mind.kill()
            robot.hears(AWAY, since)
            robot.state("away", since)
        with brain(pocket_bundle, tmp_path, robot) as mind:
            assert robot.report(since)["outcome"] == "answered"
            assert truth in " ".join(robot.said(since))
            assert len(robot.deeds("ALVideoDevice", "getImageRemote", since)) == 1, "no new look"
            robot.quiet()
            since = robot.now()
            mind.kill()
            robot.state("away", since)
        since = robot.now()
        with brain(pocket_bundle, tmp_path, robot) as mind:
            robot.until(lambda: len(known(mind)) == 1, "not looked at again")
            told = robot.asks(CALL)
            assert (told["said"], told["tries"]) == (truth, 1)
            robot.leaves("grace")
            robot.until(lambda: not known(mind), "a stranger is kept")
            leaves_nothing(robot, CALL, truth)


@BOTH
def test_a_brain_that_hangs_is_given_up_and_found_again(
    pocket_bundle: Path, tmp_path: Path, python: str
) -> None:
    with play(pocket_bundle, tmp_path, python=python) as (robot, mind):
        truth = Truth(mind).of(CALL, "sam")
        robot.arrives("sam")
        mind.process.send_signal(signal.SIGSTOP)
        since = robot.now()
        robot.do("ask", text=CALL)
        robot.hears(AWAY, since)
        mind.process.send_signal(signal.SIGCONT)
        assert robot.report(since)["outcome"] == "answered"
        said = " ".join(robot.said(since))
        assert said.count(truth) == 1, said
        robot.quiet()
        since = robot.now()
        mind.process.send_signal(signal.SIGSTOP)
        robot.do("ask", text=CALL)
        robot.state("thinking", since)
        robot.do("touch", sensor="FrontTactilTouched")
        assert robot.report(since)["outcome"] == "stopped", "a stop waits for no brain"
        robot.state("away", since)
        mind.process.send_signal(signal.SIGCONT)
        robot.state("ready", since)
        assert robot.asks(CALL)["said"] == truth


@BOTH
def test_a_brain_that_hangs_from_the_beginning_holds_up_nothing(
    pocket_bundle: Path, tmp_path: Path, python: str
) -> None:
    with (
        stage(tmp_path, python=python, begin=False) as robot,
        brain(pocket_bundle, tmp_path, robot) as mind,
    ):
        mind.process.send_signal(signal.SIGSTOP)
        robot.start()
        robot.state("away")
        robot.do("arrive", who="sam")
        since = robot.now()
        robot.do("ask", text=CALL)
        said = robot.hears(AWAY, since)
        robot.do("touch", sensor="FrontTactilTouched")
        assert said - since < 5.0 and robot.report(since)["outcome"] == "stopped"
        mind.process.send_signal(signal.SIGCONT)
        robot.state("ready", since)
        assert robot.asks(CALL)["said"] == Truth(mind).of(CALL, "sam")


@BOTH
def test_without_a_brain_it_says_so_kindly(tmp_path: Path, python: str) -> None:
    with stage(tmp_path, pace=8.0, python=python) as robot:
        robot.state("away")
        robot.page_loads()
        assert robot.tablet()["notice"]
        robot.do("arrive", who="grace")
        since = robot.now()
        robot.do("ask", text=CALL)
        begun = robot.hears(AWAY, since)
        robot.hears(STILL, begun)
        assert robot.report(since)["outcome"] == "failed"
        assert len(robot.said(since)) <= 6, "it says so once"
        assert robot.stop() < ENDS_S and robot.held() == []


@BOTH
def test_a_brain_over_http_alone_needs_no_service(
    pocket_bundle: Path, tmp_path: Path, python: str
) -> None:
    secret = tmp_path / "token"
    secret.write_text("a-token-of-some-length")
    secret.chmod(0o600)
    home = tmp_path / "mind"
    home.mkdir()
    options, token = ("--token-file", str(secret)), secret.read_text()
    with (
        serving(pocket_bundle, home, *options, token=token) as mind,
        stage(tmp_path, python=python, listen=["words"], brain=mind.url, token=token) as robot,
    ):
        robot.state("alone")
        robot.page_loads()
        converses(robot, mind)
        robot.arrives("sam")
        robot.do("ask", text=CALL)
        robot.state("speaking")
        assert robot.stop() < ENDS_S
        robot.until(lambda: not known(mind), "a stranger is kept")
        leaves_nothing(robot, CALL, Truth(mind).of(CALL, "grace"))


def test_a_brain_over_http_that_dies_comes_back(
    pocket_bundle: Path, tmp_path: Path, python27: list[str]
) -> None:
    home = tmp_path / "mind"
    home.mkdir()
    with serving(pocket_bundle, home) as mind:
        port = int(mind.url.rpartition(":")[2])
        with stage(tmp_path, pace=2.0, python=" ".join(python27), brain=mind.url) as robot:
            robot.state("alone")
            robot.arrives("grace")
            truth = Truth(mind).of(CALL, "grace")
            mind.process.send_signal(signal.SIGSTOP)
            since = robot.now()
            robot.do("ask", text=CALL)
            robot.state("thinking", since)
            mind.kill()
            robot.hears(AWAY, since)
            with serving(pocket_bundle, home, port=port):
                assert robot.report(since)["outcome"] == "answered"
                assert truth in " ".join(robot.said(since))


class Pretender(BaseHTTPRequestHandler):
    """A brain over HTTP that is busy twice, answers once, and hangs from then on."""

    asked = 0
    hangs = Event()

    def do_GET(self) -> None:
        self._send(200, {"state": "idle"})

    def do_DELETE(self) -> None:
        self._send(200, {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/users/identify":
            self._send(409, {"error": {"code": "identity_not_measured", "message": "no"}})
        elif self.path != "/v1/chat/completions":
            self._send(200, {"id": "visitor-000000000000"})
        else:
            type(self).asked += 1
            if self.asked <= 2:
                self._send(429, {"error": {"code": "busy", "message": "too many"}})
            elif self.asked == 3:
                choice = {"delta": {"content": "Here you are."}}
                told = f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n"
                self._write(200, told.encode())
            else:
                self.hangs.wait(60)

    def log_message(self, *_: Any) -> None:
        pass

    def _send(self, status: int, answer: Any) -> None:
        self._write(status, json.dumps(answer).encode())

    def _write(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def pretending() -> Iterator[str]:
    Pretender.asked = 0
    Pretender.hangs.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pretender)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        Pretender.hangs.set()
        server.shutdown()
        server.server_close()


@BOTH
def test_a_busy_brain_is_asked_again_and_one_that_never_answers_given_up(
    tmp_path: Path, python: str
) -> None:
    with (
        pretending() as url,
        stage(tmp_path, pace=10.0, python=python, brain=url) as robot,
    ):
        robot.state("alone")
        robot.arrives("grace")
        since = robot.now()
        robot.do("ask", text=CALL)
        robot.hears("Somebody else is asking me something", since)
        robot.hears("Here you are", since)
        report = robot.report(since)
        assert (report["outcome"], report["tries"]) == ("answered", 3)
        robot.quiet()
        since = robot.now()
        robot.do("ask", text=CALL)
        robot.hears("that takes me too long", since)
        assert robot.report(since)["outcome"] == "failed"
        assert robot.stop() < ENDS_S


def hostile() -> tuple[Service, Callable[[Any], None]]:
    """Declare a `UserVLM` that means no good; gives it, and what is called with its object."""
    made: list[Any] = []

    def answers(value: Value) -> Callable[..., None]:
        def handle(reply: Reply, *arguments: Value) -> None:
            if len(arguments) == 3 and isinstance(arguments[2], str):
                for values in (*WRONG, (arguments[2], 5), (arguments[2], HOSTILE)):
                    made[0].tell("sentence", *values)
            reply.value(value)

        return handle

    methods = (
        Method("ping", "", "b", answers(True), ""),
        Method("ask", "sss", "m", answers([HOSTILE, 1]), ""),
        Method("prepare", "iiir", "m", answers({"id": HOSTILE}), ""),
        Method("prepareAs", "siiir", "m", answers(None), ""),
        Method("identify", "iiir", "m", answers({"kind": "known", "name": [HOSTILE]}), ""),
        Method("remember", "sssd", "m", answers(HOSTILE), ""),
        Method("about", "s", "m", answers({"since": HOSTILE, "consent": {"how": 5}}), ""),
        Method("forget", "s", "m", answers(3), ""),
        Method("cancel", "s", "m", answers("no"), ""),
    )
    return Service("UserVLM", methods, {"sentence": "m"}), made.append


@BOTH
def test_nothing_that_a_hostile_brain_writes_is_executed(tmp_path: Path, python: str) -> None:
    with stage(tmp_path, python=python, listen=["words"]) as robot:
        service, tell = hostile()
        offered = LibqiService(service, qi)
        tell(offered)
        robot.bus.offer("UserVLM", offered.object)
        robot.state("alone")
        robot.page_loads()
        robot.arrives("grace")
        since = robot.now()
        robot.do("ask", text=CALL)
        robot.hears("you.", since)
        robot.report(since)
        robot.hears("shall I remember", since)
        robot.quiet(0.2)
        robot.do("say", text="yes")
        robot.hears("When you come back", since)
        for value in (5, [1], {}, None, "^call(x.y())", r"\vct=50\ $Event=1"):
            robot.bus.call("ALMemory", "raiseEvent", "UserVLM/Question", value)
        for event in ("[1]", "null", '{"do": 5}', '{"do": "ask", "text": ["^call(a.b())"]}', "{"):
            robot.do("tablet", event=event)
        robot.quiet()
        robot.leaves("grace")
        assert robot.deeds("ALAnimatedSpeech", "executes") == []
        assert robot.deeds("ALTextToSpeech", "tag") == []
        assert "no such key" in robot.bus.refusal("ALMemory", "getData", "Event")
        assert robot.deeds("ALServiceManager", "stopped") == [], "the app has died"


def test_whom_it_could_not_forget_it_forgets_later_even_after_a_restart_of_its_own(
    pocket_bundle: Path, tmp_path: Path, python27: list[str]
) -> None:
    with stage(tmp_path, python=" ".join(python27)) as robot:
        with brain(pocket_bundle, tmp_path, robot) as mind:
            robot.state("alone")
            robot.arrives("grace")
            robot.page_loads()
            robot.asks(CALL)
            robot.state("asking")
            robot.presses("yes")
            robot.hears("When you come back")
            robot.until(lambda: robot.bus.call("ALFaceDetection", "getLearnedFacesList"), "no face")
            [user] = known(mind)
            since = robot.now()
            mind.kill()
            robot.state("away", since)
            robot.presses("forget")
            robot.hears("I will forget you as soon as I can", since)
        robot.until(lambda: not robot.bus.call("ALFaceDetection", "getLearnedFacesList"), "a face")
        assert json.loads(owed(tmp_path)) == {"brain": [user], "robot": []}
        assert IDS.fullmatch(user), "an id that says nothing"
        assert robot.stop() < ENDS_S
        robot.start()
        with brain(pocket_bundle, tmp_path, robot) as mind:
            robot.until(lambda: not known(mind), "still known")
            robot.until(lambda: json.loads(owed(tmp_path))["brain"] == [], "still owed")
