"""The robot's own Python, 2.7, with libqi 1.8.3, against the virtual Pepper's libqi 3.1.5.

Owns: what a program in the head can count on, and what differs from Python 3; each program here is
run by Python 2.7 in a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("qi")

import qi
from qi_bus import ANSWER_MS
from virtual_pepper import Client, Pepper, client, pepper, wait_for

from uservlm.pepper_app.frames import RGB
from uservlm.pepper_app.qi_object import LibqiService
from uservlm.pepper_app.service import Method, Reply, Service, Value
from uservlm.toolchain import python27 as made

COUNT = 200
LIMIT_S = 30
TEXT = "Zoë 你 \U0001f600"
START = """# -*- coding: utf-8 -*-
import hashlib, json, os, signal, sys, time
import qi
qi.logging.setLevel(qi.logging.FATAL)

def tell(value):
    print json.dumps(value)
    sys.stdout.flush()

def wait_for(true):
    last = time.time() + 20
    while not true():
        assert time.time() < last
        time.sleep(0.01)

class Ears(object):
    def __init__(self):
        self.heard = []
    def first(self, *values):
        self.heard.append(values)
    second = first

session = qi.Session()
session.connect(sys.argv[sys.argv.index("--qi-url") + 1])
"""
CALLS = """
memory = session.service("ALMemory")
values = [u"{text}", u"{text}".encode("utf-8"), {{u"{text}": [u"{text}", 1, 1.5, True, None]}}]
for value in values:
    memory.insertData("Said", value)
    tell(repr(memory.getData("Said")))
try:
    memory.getData("Nothing")
except RuntimeError as error:
    tell(str(error))
calls = [memory.getData(key, _async=True) for key in ("Said", "Nothing")]
tell([calls[0].wait(5000) == qi.FutureState.FinishedWithValue, calls[0].hasError(5000)])
tell([calls[1].hasError(5000), "no such key" in calls[1].error()])
"""
FRAME = """
camera = session.service("ALVideoDevice")
handle = camera.subscribeCamera("head", 0, 1, {space}, 10)
frame = camera.getImageRemote(handle)
camera.unsubscribe(handle)
tell([frame[0], frame[1], frame[3], type(frame[6]).__name__, hashlib.sha1(frame[6]).hexdigest()])
brain = session.service("Brain")
for pixels in (frame[6], bytes(frame[6])):
    tell(brain.prepare(frame[0], frame[1], frame[3], pixels))
"""
EVENTS = """
ears = Ears()
subscriber = session.service("ALMemory").subscriber("Spoken")
link = subscriber.signal.connect(ears.first)
tell("listens")
wait_for(lambda: len(ears.heard) == 2)
subscriber.signal.disconnect(link)
tell(repr(ears.heard))
"""
ORDER = """
ears, teller = Ears(), session.service("Teller")
teller.first.connect(ears.first)
teller.second.connect(ears.second)
teller.begin()
wait_for(lambda: len(ears.heard) == {count})
tell([int(number) for number, in ears.heard])
"""
OFFERS = """
class Head(object):
    def __init__(self):
        self.nodded = qi.Signal("(m)")
        self.events = []
    def greet(self, name):
        self.nodded({"to": name})
        return [type(name).__name__, "Hello " + name]
    @qi.bind("i", ("r",))
    def measure(self, pixels):
        assert isinstance(pixels, bytearray)
        return len(pixels)
    def onEvent(self, event, value, message):
        self.events.append([event, value])
    def known(self):
        return self.events

session.listen("tcp://127.0.0.1:0")
session.registerService("Head", Head())
session.service("ALMemory").subscribeToEvent("Spoken", "Head", "onEvent")
tell("offers")
"""
WAITS = """
ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
tell("waits")
while not ended:
    time.sleep(0.1)
tell("leaves")
"""
END = """
session.close()  # else libqi may call an interpreter that is no more
"""
MANIFEST = """<package uuid="head" version="1.0.0"><names/><contents/><services>
<service name="Main" autorun="true" execStart="/usr/bin/python2 head.py"/></services></package>"""


class Program:
    """A program in Python 2.7."""

    def __init__(self, python27: list[str], place: Path, url: str, *parts: str) -> None:
        file = place / "program.py"
        file.write_text("".join((START, *parts, END)))
        self.process = subprocess.Popen(
            [*python27, str(file), "--qi-url", url], stdout=subprocess.PIPE, text=True
        )

    def says(self) -> Any:
        """Wait for the next thing that it tells."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it has ended: {self.process.wait(LIMIT_S)}"
        return json.loads(line)

    def ends(self) -> int:
        """Wait until it has ended; gives its exit code."""
        return self.process.wait(LIMIT_S)


@pytest.fixture(scope="module")
def robot() -> Iterator[Pepper]:
    with pepper() as made:
        yield made


@pytest.fixture
def bus(robot: Pepper) -> Iterator[Client]:
    with client(robot.url) as made:
        yield made


@contextmanager
def program(python27: list[str], place: Path, robot: Pepper, *parts: str) -> Iterator[Program]:
    started = Program(python27, place, robot.url, *parts)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.communicate()


def test_it_runs_from_anywhere_and_leaves_the_environment_to_its_children(
    python27: list[str], tmp_path: Path
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('not mine')")
    ask = "import json, os, sys; print json.dumps([sys.version, sys.executable, dict(os.environ)])"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "LD_LIBRARY_PATH": "/mine"}
    told = subprocess.check_output(
        [
            *python27,
            "-c",
            f"import subprocess, sys; subprocess.call([sys.executable, '-c', '{ask}'])",
        ],
        cwd="/",
        env=environment,
        text=True,
        timeout=LIMIT_S,
    )
    version, executable, found = json.loads(told)
    assert version.startswith("2.7.18 ") and [executable] == python27
    del environment["PYTHONPATH"]
    assert {**found, "PWD": ""} == {**environment, "PWD": ""}


def test_it_is_made_once(python27: list[str]) -> None:
    before = made.PLACE.stat().st_ino
    assert made.python27() == python27
    assert made.PLACE.stat().st_ino == before


def test_where_it_cannot_be_had_one_line_says_why(tmp_path: Path) -> None:
    (tmp_path / "toolchain").mkdir()
    copy = shutil.copy(made.__file__, tmp_path / "toolchain")
    done = subprocess.run(
        [sys.executable, copy],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("python27: no apt-get") and done.stderr.count("\n") == 1
    assert not (tmp_path / ".cache").exists()


def test_texts_come_as_bytes_and_integers_as_long(
    python27: list[str], robot: Pepper, bus: Client, tmp_path: Path
) -> None:
    """Sent as unicode or UTF-8, a text is the same to Python 3; what comes back is UTF-8."""
    with program(python27, tmp_path, robot, CALLS.format(text=TEXT)) as head:
        text = repr(TEXT.encode())[1:]
        assert [head.says(), head.says()] == [text, text]
        assert head.says() == f"{{{text}: [{text}, 1L, 1.5, True, None]}}"
        assert "no such key" in head.says()
        assert [head.says(), head.says()] == [[True, False], [True, True]]
        assert head.ends() == 0
    assert bus.call("ALMemory", "getData", "Said") == {TEXT: [TEXT, 1, 1.5, True, None]}


def test_a_frame_arrives_and_is_passed_on_byte_by_byte(
    python27: list[str], robot: Pepper, bus: Client, tmp_path: Path
) -> None:
    def prepare(reply: Reply, width: Value, height: Value, space: Value, pixels: Value) -> None:
        assert isinstance(pixels, bytes)
        reply.value(hashlib.sha1(pixels).hexdigest())

    method = Method("prepare", "iiir", "s", prepare, "")
    bus.offer("Brain", LibqiService(Service("Brain", (method,)), qi).object)
    handle = bus.call("ALVideoDevice", "subscribeCamera", "test", 0, 1, RGB, 10)
    frame = bus.call("ALVideoDevice", "getImageRemote", handle)
    bus.call("ALVideoDevice", "unsubscribe", handle)
    digest = hashlib.sha1(frame[6]).hexdigest()
    with program(python27, tmp_path, robot, FRAME.format(space=RGB)) as head:
        assert head.says() == [320, 240, RGB, "bytearray", digest]
        assert [head.says(), head.says()] == [digest, digest]
        assert head.ends() == 0


def test_an_event_of_the_memory_is_heard(
    python27: list[str], robot: Pepper, bus: Client, tmp_path: Path
) -> None:
    with program(python27, tmp_path, robot, EVENTS) as head:
        assert head.says() == "listens"
        for value in ([TEXT, 0.5], None):
            bus.call("ALMemory", "raiseEvent", "Spoken", value)
        assert head.says() == f"[([{repr(TEXT.encode())[1:]}, 0.5],), (None,)]"
        assert head.ends() == 0


def test_two_signals_are_heard_in_order_by_the_methods_of_one_object(
    python27: list[str], robot: Pepper, bus: Client, tmp_path: Path
) -> None:
    def begin(reply: Reply) -> None:
        reply.value(None)
        for number in range(COUNT):
            teller.emit("second" if number % 2 else "first", str(number))

    signals = {"first": "s", "second": "s"}
    method = Method("begin", "", "v", begin, "")
    teller = LibqiService(Service("Teller", (method,), signals), qi)
    bus.offer("Teller", teller.object)
    with program(python27, tmp_path, robot, ORDER.format(count=COUNT)) as head:
        assert head.says() == list(range(COUNT))
        assert head.ends() == 0


def test_its_own_service_is_called_and_told_of_events(
    python27: list[str], robot: Pepper, bus: Client, tmp_path: Path
) -> None:
    with program(python27, tmp_path, robot, OFFERS, WAITS) as head:
        assert [head.says(), head.says()] == ["offers", "waits"]
        nods = bus.signal("Head", "nodded")
        assert bus.call("Head", "greet", TEXT) == ["str", f"Hello {TEXT}"]
        wait_for(lambda: nods.heard == [{"to": TEXT}])
        assert bus.call("Head", "measure", bytes(range(256))) == 256
        bus.call("ALMemory", "raiseEvent", "Spoken", [TEXT, 1])
        wait_for(lambda: bus.call("Head", "known") == [["Spoken", [TEXT, 1]]])
        head.process.terminate()
        assert head.says() == "leaves" and head.ends() == 0
    with pytest.raises(RuntimeError, match="Head"):
        bus.service("Head")


def test_sigterm_is_heard_while_it_waits(
    python27: list[str], robot: Pepper, tmp_path: Path
) -> None:
    with program(python27, tmp_path, robot, WAITS) as head:
        assert head.says() == "waits"
        head.process.terminate()
        assert head.says() == "leaves"
        assert head.ends() == 0


def test_a_wait_without_a_limit_is_deaf_to_sigterm(
    python27: list[str], robot: Pepper, tmp_path: Path
) -> None:
    """In Python 2.7 a lock cannot be interrupted; a wait with a limit looks up between naps."""
    waits = """
import threading
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
threading.Timer(0.3, tell, ["waits"]).start()
ended.wait({})
tell("ended")
"""
    for limit, deaf in (("", True), ("3600", False)):
        with program(python27, tmp_path, robot, waits.format(limit)) as head:
            assert head.says() == "waits"
            head.process.terminate()
            if deaf:
                with pytest.raises(subprocess.TimeoutExpired):
                    head.process.wait(0.7)
            else:
                assert head.says() == "ended" and head.ends() == 0


def test_the_virtual_pepper_runs_a_package_s_service_with_it(
    python27: list[str], tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "head.pkg", "w") as packed:
        packed.writestr("manifest.xml", MANIFEST)
        packed.writestr("head.py", "".join((START, OFFERS, WAITS, END)))
    options = ("--folder", str(tmp_path / "robot"), "--python", *python27)
    with pepper(*options) as robot, client(robot.url) as bus:
        assert bus.call("PackageManager", "install", str(tmp_path / "head.pkg")) is True
        bus.session.waitForService("Head", _async=True).value(ANSWER_MS)
        assert bus.call("Head", "greet", "Sam") == ["str", "Hello Sam"]
        assert bus.call("ALServiceManager", "stopService", "head.Main") is True
        assert "SIGKILL" not in [deed["what"] for deed in bus.recorded("ALServiceManager")]
    log = (tmp_path / "robot" / "logs" / "head.Main.log").read_text()
    assert [json.loads(line) for line in log.splitlines()] == ["offers", "waits", "leaves"]
