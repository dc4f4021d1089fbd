"""A virtual Pepper with the app installed, and a brain beside it: whole processes, for tests.

Owns: their start and end, and what a test asks of them. Everything between them is real libqi or
HTTP; the app is the package, installed through PackageManager and run by ALServiceManager.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from serving import Serving, serving
from virtual_pepper import Client, client, pepper, wait_until_back

from uservlm.pepper_app.package import pack
from uservlm.pepper_app.project.onboard.lights import COLOURS
from uservlm.pepper_app.project.onboard.settings import Settings
from uservlm.pepper_app.project.onboard.terms import Terms
from uservlm.pepper_app.project.onboard.words import SAYS

SERVICE = "uservlm.App"
PACE = 4.0
"""How much faster than a robot's time runs, where a brain has to keep up."""
WAIT_S = 30.0
"""Of the clock, for what must happen."""
ENDS_S = 10.0
"""Of the clock, from SIGTERM to the app's end, as the app promises."""
PROJECT = Path(__file__).resolve().parents[1] / "pepper_app" / "project"


class Stage:
    """Everything that a visit needs."""

    def __init__(self, url: str, bus: Client, folder: Path, pace: float) -> None:
        self.url, self.bus, self.folder, self.pace = url, bus, folder, pace
        self._looked = 0.0

    def do(self, step: str, **values: Any) -> None:
        self.bus.do(step, **values)

    def now(self) -> float:
        """Give the robot's time."""
        now: float = self.bus.call("VirtualPepper", "now")
        return now

    def deeds(self, who: str = "", what: str = "", since: float = 0.0) -> list[dict[str, Any]]:
        return self.bus.recorded(who, what, since)

    def said(self, since: float = 0.0) -> list[str]:
        """Give each sentence that was begun."""
        return [deed["values"][0] for deed in self.deeds("ALTextToSpeech", "says", since)]

    def hears(self, part: str, since: float = 0.0, seconds: float = WAIT_S) -> float:
        """Wait until the robot says something; gives the robot's time of it."""

        def found() -> float | None:
            for deed in self.deeds("ALTextToSpeech", "says", since):
                if part.lower() in deed["values"][0].lower():
                    return float(deed["at"])
            return None

        return self.until(found, f"{part!r} in {self.said(since)}", seconds)

    def until(
        self, true: Callable[[], Any], what: object, seconds: float = WAIT_S, every: float = 0.05
    ) -> Any:
        end = time.monotonic() + seconds
        while not (found := true()):
            assert time.monotonic() < end, f"{what}\n{self.log()}\n{self.told()}"
            time.sleep(every)
        return found

    def quiet(self, seconds: float = 1.0) -> None:
        """Wait until the robot has said nothing for some of its seconds."""

        begun = max(0.0, self.now() - 60)

        def quiet() -> bool:
            spoken = self.deeds("ALTextToSpeech", since=begun)
            active = [one for one in spoken if one["what"] in ("says", "spoke", "interrupted")]
            return not active or (
                active[-1]["what"] != "says" and self.now() - active[-1]["at"] > seconds
            )

        self.until(quiet, "it goes on and on")

    def arrives(self, who: str) -> float:
        """Let somebody come, and wait until they are looked at; gives the robot's time before."""
        since = self.now()
        self.do("arrive", who=who)
        self.state("ready", since)
        self.until(lambda: self.said(since), "no greeting")
        self.quiet()
        return since

    def leaves(self, who: str) -> None:
        """Let somebody go, and wait until the robot is alone."""
        since = self.now()
        self.do("leave", who=who)
        self.state("alone", since)

    def asks(self, question: str) -> dict[str, Any]:
        """Ask, and wait for the end of the answer; gives the app's report and what was said."""
        since = self.now()
        self.do("ask", text=question)
        report = self.report(since)
        self.quiet(0.2)
        said = [text for text in self.said(since) if text not in OWN]
        return {**report, "said": " ".join(said), "since": since}

    def report(self, since: float) -> dict[str, Any]:
        """Wait for the end of a turn."""
        report: dict[str, Any] = self.until(lambda: self.reports(since), "no report")[-1]
        return report

    def reports(self, since: float) -> list[dict[str, Any]]:
        """Give what the app has reported of its turns."""
        raised = [deed["values"] for deed in self.deeds("ALMemory", "raiseEvent", since)]
        return [json.loads(value) for name, value in raised if name == "UserVLM/LastTurn"]

    def state(self, wanted: str, since: float = 0.0) -> None:
        """Wait for a state as the eyes show it."""
        self.until(lambda: self.eyes(since) == wanted, f"never {wanted}")

    def eyes(self, since: float = 0.0) -> str:
        """Give the state that the eyes show, if they have changed."""
        deeds = self.deeds("ALLeds", "fadeRGB", since)
        shown = {colour: state for state, colour in COLOURS.items()}
        return shown[deeds[-1]["values"][1]] if deeds else ""

    def tablet(self) -> dict[str, Any]:
        """Give what the tablet was told last."""
        scripts = self.bus.values("ALTabletService", "executeJS")
        shown: dict[str, Any] = json.loads(scripts[-1][0].removeprefix("UserVLM.show(")[:-1])
        return shown

    def page_loads(self, since: float = 0.0) -> None:
        """Do what the page does once it is there; the virtual tablet has no browser."""
        shown = ("ALTabletService", "showWebview", since)
        told = ("ALTabletService", "executeJS", since)
        self.until(lambda: self.deeds(*shown), "no page")
        self.presses("hello")
        self.until(lambda: self.deeds(*told), "the page is told nothing")

    def presses(self, do: str, text: str = "") -> None:
        self.do("tablet", event=json.dumps({"do": do, **({"text": text} if text else {})}))

    def held(self) -> list[str]:
        found: list[str] = self.bus.call("VirtualPepper", "held")
        return found

    def stop(self) -> float:
        """End the app as the robot does; gives how long it took, in seconds of the clock."""
        begun = time.monotonic()
        self.bus.call("ALServiceManager", "stopService", SERVICE)
        return time.monotonic() - begun

    def gone(self) -> None:
        """Wait until naoqi has hung up."""
        end = time.monotonic() + WAIT_S
        while self.bus.session.isConnected():
            assert time.monotonic() < end, "naoqi stays"
            time.sleep(0.02)

    def back(self) -> None:
        """Wait until naoqi has gone and is there again, and talk to that one."""
        self.gone()
        wait_until_back(self.url)
        self.bus.close()
        self.bus = Client(self.url)
        self.bus.session.waitForService("ALServiceManager")

    def touched(self, since: float) -> float:
        """Wait until what is said is interrupted; gives seconds of the robot's since the touch."""
        begun = self.until(lambda: self.deeds("ALTouch", "touched", since), "not touched")
        at = float(begun[-1]["at"])
        ended = self.until(lambda: self.deeds("ALTextToSpeech", "interrupted", at), "it goes on")
        return float(ended[0]["at"]) - at

    def start(self) -> None:
        assert self.bus.call("ALServiceManager", "startService", SERVICE) is True

    def told(self) -> str:
        """Give what the robot did at last, but for the camera."""
        deeds = [one for one in self.deeds() if one["who"] != "ALVideoDevice"][-60:]
        return "\n".join(
            f"{one['at']:.2f} {one['who']} {one['what']} {one['values']}"[:160] for one in deeds
        )

    def log(self) -> str:
        """Give the app's own log."""
        file = self.folder / "logs" / f"{SERVICE}.log"
        return file.read_text() if file.is_file() else "no log"


OWN = {
    sentence
    for texts in (*SAYS["en"].values(), (Terms(Settings(), "en").question,))
    for text in texts
    for sentence in re.split(r"(?<=[.!?])\s+", text)
}
"""What the robot says of its own accord, by the sentence."""


@contextmanager
def stage(
    folder: Path,
    *options: str,
    pace: float = PACE,
    python: str = sys.executable,
    begin: bool = True,
    file: Path | None = None,
    **settings: Any,
) -> Iterator[Stage]:
    """Have a robot with the app, which nobody has started if not `begin`; no brain yet.

    `file` is a package that was built before, with settings of its own.
    """
    home = folder / "home"
    home.mkdir(exist_ok=True)
    robot = folder / "robot"
    given = ("--quiet", "--pace", str(pace), "--folder", str(robot), "--python", python, *options)
    environment = {**os.environ, "HOME": str(home), "USERVLM_PACE": str(pace)}
    with pepper(*given, env=environment) as made, client(made.url) as bus:
        acting = Stage(made.url, bus, robot, pace)
        bus.session.waitForService("PackageManager")
        file = file or package(folder / "uservlm.pkg", settings)
        assert bus.call("PackageManager", "install", str(file)) is True, file
        if begin:
            acting.start()
            acting.until(lambda: "UserVLM" in str(acting.held()), "the app does not begin")
        yield acting
        acting.stop()
        assert "beginning anew" not in acting.log(), f"it has crashed\n{acting.log()}"


@contextmanager
def beside(
    robot: Stage, python: str, settings: dict[str, Any]
) -> Iterator[subprocess.Popen[bytes]]:
    """Have the app run on a PC beside the robot; its log is where the service's would be."""
    written = robot.folder.parent / "beside.json"
    written.write_text(json.dumps(settings))
    log = robot.folder / "logs" / f"{SERVICE}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [*shlex.split(python), "-B", "-m", "onboard", "--qi-url", robot.url]
    command += ["--settings", str(written), "--data", str(robot.folder.parent / "data")]
    with log.open("ab") as told:
        process = subprocess.Popen(
            [*command, "--pace", str(robot.pace)], cwd=PROJECT, stdout=told, stderr=told
        )
    try:
        robot.until(lambda: "UserVLM" in str(robot.held()), "the app does not begin")
        yield process
        process.terminate()
        assert process.wait(ENDS_S) == 0, robot.log()
    finally:
        process.kill()
        process.wait()


def package(file: Path, settings: dict[str, Any]) -> Path:
    """Write the package with settings."""
    file.write_bytes(pack(settings).content)
    return file


@contextmanager
def brain(bundle: Path, folder: Path, robot: Stage | None, *options: str) -> Iterator[Serving]:
    """Have a brain, at the robot's door if there is a robot."""
    home = folder / "brain"
    home.mkdir(exist_ok=True)
    door = () if robot is None else ("--robot", robot.url)
    with serving(bundle, home, *door, *options) as made:
        if robot is not None:
            robot.bus.session.waitForService("UserVLM")
        yield made


@contextmanager
def play(bundle: Path, folder: Path, *options: str, **more: Any) -> Iterator[tuple[Stage, Serving]]:
    """Have all of it, with the brain at the robot's door."""
    with ExitStack() as open_:
        acting = open_.enter_context(stage(folder, *options, **more))
        thinking = open_.enter_context(brain(bundle, folder, acting))
        acting.state("alone")
        acting.page_loads()
        yield acting, thinking


__all__ = [
    *("COLOURS", "ENDS_S", "OWN", "SERVICE", "Client", "Stage"),
    *("beside", "brain", "package", "play", "stage"),
]
