"""The behavior's one box, run by the robot's Python 2.7 and by ours, against a virtual Pepper."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from xml.etree import ElementTree

import pytest

pytest.importorskip("qi")

from virtual_pepper import Client, Pepper, client, pepper

from uservlm.pepper_app.package import PROJECT

XAR = "{http://www.aldebaran-robotics.com/schema/choregraphe/project.xsd}"
NAOQI = """
import sys
import qi
qi.logging.setLevel(qi.logging.FATAL)
session = qi.Session()
session.connect(sys.argv[1])

class GeneratedClass(object):  # what Choregraphe puts before a box's own class
    def __init__(self):
        self.logger = self
    def session(self):
        return session
    def packageUid(self):
        return "uservlm"
    def getParameter(self, name):
        return {"Service": "App"}[name]
    def onStopped(self):
        tell("stopped")
    def info(self, text):
        tell("info " + text)
    def warning(self, text):
        tell("warning " + text)
    def error(self, text):
        tell("error " + text)

def tell(text):
    sys.stdout.write(text.replace("\\n", " ") + "\\n")
    sys.stdout.flush()
"""
DRIVE = """
box = MyClass()
box.onLoad()
tell("loaded")
while True:
    line = sys.stdin.readline().strip()
    if not line:
        break
    getattr(box, line)()
    tell("done " + line)
session.close()
"""
MANIFEST = """<package uuid="uservlm" version="1.0.0"><names/><contents/><services>
<service name="App" autorun="false" execStart="/usr/bin/python2 app.py"/></services></package>"""
ENDS = ("outputowner", "indexofoutput", "inputowner", "indexofinput")
LIMIT_S = 30
MANAGER, TABLET = "ALServiceManager", "ALTabletService"


def root() -> ElementTree.Element:
    return ElementTree.parse(PROJECT / "behavior_1/behavior.xar").getroot()


def script() -> str:
    [own] = [text.text for text in root().iter(f"{XAR}content") if (text.text or "").strip()]
    return str(own).strip()


class Box:
    """The box in a process of its own."""

    def __init__(self, python: list[str], place: Path, url: str) -> None:
        (place / "box.py").write_text("\n".join((NAOQI, script(), DRIVE)))
        self._process = subprocess.Popen(
            [*python, str(place / "box.py"), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._limit = Timer(LIMIT_S, self._process.kill)
        self._limit.start()
        assert self.line() == "loaded"

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def does(self, what: str) -> list[str]:
        """Call one of its methods; gives what it told meanwhile."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        told = []
        while (line := self.line()) != f"done {what}":
            assert line, "the box has died"
            told.append(line)
        return told

    def close(self) -> None:
        self._limit.cancel()
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def robot() -> Iterator[Pepper]:
    with pepper("--python", sys.executable, "--patience", "0.5") as made:
        yield made


@pytest.fixture
def bus(robot: Pepper) -> Iterator[Client]:
    with client(robot.url) as made:
        yield made
        made.call("PackageManager", "removePkg", "uservlm")


@pytest.fixture(params=["2.7", "3"])
def box(
    request: pytest.FixtureRequest, tmp_path: Path, robot: Pepper, bus: Client
) -> Iterator[Box]:
    """Loaded, with the package installed."""
    install(bus, tmp_path)
    two = request.param == "2.7"
    python = request.getfixturevalue("python27") if two else [sys.executable]
    with closing(Box(python, tmp_path, robot.url)) as made:
        yield made


@contextmanager
def closing(made: Box) -> Iterator[Box]:
    try:
        yield made
    finally:
        made.close()


def install(bus: Client, place: Path, page: bool = True) -> None:
    with zipfile.ZipFile(place / "one.pkg", "w") as packed:
        packed.writestr("manifest.xml", MANIFEST)
        packed.writestr("app.py", "import time; time.sleep(60)")
        if page:
            packed.writestr("html/index.html", "<p>")
    assert bus.call("PackageManager", "install", str(place / "one.pkg")) is True


def running(bus: Client) -> bool:
    return bool(bus.call(MANAGER, "isServiceRunning", "uservlm.App"))


def test_it_runs_the_service_and_shows_the_page_until_it_is_stopped(box: Box, bus: Client) -> None:
    shown = len(bus.recorded(TABLET, "showWebview"))
    assert box.does("onInput_onStart") == [] and running(bus)
    assert bus.values(TABLET, "load")[-1][0].endswith("/apps/uservlm/")
    assert len(bus.recorded(TABLET, "showWebview")) == shown + 1
    assert box.does("onInput_onStart") == [], "once is enough"
    assert box.does("onInput_onStop") == ["stopped"] and not running(bus)
    assert box.does("onUnload") == [], "nothing is left to be stopped"
    assert box.does("onInput_onStart") == [] and running(bus), "it can start again"
    assert box.does("onUnload") == [] and not running(bus)


def test_it_ends_when_the_service_ends(box: Box, bus: Client) -> None:
    box.does("onInput_onStart")
    bus.call(MANAGER, "stop", "uservlm.App")
    assert box.line() == "info uservlm.App has ended: asked"
    assert box.line() == "stopped"
    assert box.does("onUnload") == []


def test_a_service_that_runs_already_is_taken_over(box: Box, bus: Client) -> None:
    bus.call(MANAGER, "start", "uservlm.App")
    starts = len(bus.recorded(MANAGER, "started"))
    assert box.does("onInput_onStart") == [] and running(bus)
    assert len(bus.recorded(MANAGER, "started")) == starts
    assert box.does("onInput_onStop") == ["stopped"] and not running(bus)


def test_without_the_service_it_says_why_and_ends(box: Box, bus: Client, tmp_path: Path) -> None:
    bus.call("PackageManager", "removePkg", "uservlm")
    error, stopped = box.does("onInput_onStart")
    assert "error uservlm.App does not start" in error and "no service" in error
    assert stopped == "stopped"
    install(bus, tmp_path)
    assert box.does("onInput_onStart") == [] and running(bus)


def test_without_a_page_the_app_runs_all_the_same(box: Box, bus: Client, tmp_path: Path) -> None:
    install(bus, tmp_path, page=False)
    [warning] = box.does("onInput_onStart")
    assert warning == "warning no page on the tablet: it has no page of this package"
    assert running(bus)
    assert box.does("onInput_onStop") == ["stopped"]


def test_the_diagram_joins_the_box_to_the_behavior() -> None:
    assert root().get("xar_version") == "3"
    [outer, inner] = root().iter(f"{XAR}Box")
    names = {"1": "onLoad", "2": "onStart", "3": "onStop", "4": "onStopped"}
    for box in (outer, inner):
        ports = [*box.findall(f"{XAR}Input"), *box.findall(f"{XAR}Output")]
        assert {port.get("id"): port.get("name") for port in ports} == names
    links = [[link.get(end) for end in ENDS] for link in root().iter(f"{XAR}Link")]
    own = inner.get("id")
    assert links == [["0", "2", own, "2"], [own, "4", "0", "4"]]
    [parameter] = inner.findall(f"{XAR}Parameter")
    services = ElementTree.parse(PROJECT / "manifest.xml").getroot().iter("service")
    assert [service.get("name") for service in services] == [parameter.get("value")]
