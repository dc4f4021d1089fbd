"""A virtual Pepper with the app installed, and a brain beside it: whole processes, for tests.

Owns: their start and end, and what a test asks of them. Everything between them is real libqi or
HTTP; the app is the package, installed through PackageManager and run by ALServiceManager.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from serving import Serving, serving
from virtual_pepper import Client, client, pepper

from uservlm.pepper_app.package import pack
from uservlm.pepper_app.project.onboard.lights import COLOURS
from uservlm.pepper_app.project.onboard.words import SAYS

SERVICE = "uservlm.App"
PACE = 4.0
"""How much faster than a robot's time runs, where a brain has to keep up."""
WAIT_S = 30.0
"""Of the clock, for what must happen."""


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

    def until(self, true: Callable[[], Any], what: object, seconds: float = WAIT_S) -> Any:
        end = time.monotonic() + seconds
        while not (found := true()):
            assert time.monotonic() < end, f"{what}\n{self.log()}\n{self.told()}"
            time.sleep(0.05)
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


        def reports() -> list[str]:
            raised = [deed["values"] for deed in self.deeds("ALMemory", "raiseEvent", since)]
            return [value for name, value in raised if name == "UserVLM/LastTurn"]

        report: dict[str, Any] = json.loads(self.until(reports, "no report")[-1])
        return report

    def state(self, wanted: str, since: float = 0.0) -> None:
        """Wait for a state as the eyes show it."""
        colour = COLOURS[wanted]

        def shown() -> bool:
            deeds = self.deeds("ALLeds", "fadeRGB", since)
            return bool(deeds) and deeds[-1]["values"][1] == colour

        self.until(shown, f"never {wanted}")

    def tablet(self) -> dict[str, Any]:
        """Give what the tablet was told last."""
        scripts = self.bus.values("ALTabletService", "executeJS")
        shown: dict[str, Any] = json.loads(scripts[-1][0].removeprefix("UserVLM.show(")[:-1])
        return shown

    def page_loads(self) -> None:
        """Do what the page does once it is there; the virtual tablet has no browser."""
        self.until(lambda: self.deeds("ALTabletService", "showWebview"), "no page")
        self.presses("hello")
        self.until(lambda: self.deeds("ALTabletService", "executeJS"), "the page is told nothing")

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
    for texts in SAYS["en"].values()
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
def play(
    bundle: Path, folder: Path, *options: str, **more: Any
) -> Iterator[tuple[Stage, Serving]]:
    """Have all of it, with the brain at the robot's door."""
    with ExitStack() as open_:
        acting = open_.enter_context(stage(folder, *options, **more))
        thinking = open_.enter_context(brain(bundle, folder, acting))
        acting.state("alone")
        acting.page_loads()
        yield acting, thinking


__all__ = ["COLOURS", "SERVICE", "Client", "Stage", "brain", "package", "play", "stage"]
