"""`python -m uservlm.pepper_app.rehearsal`: a whole conversation, without a robot.

Owns: that the virtual Pepper, the installed package and a brain come together, and a transcript
that a person can read. Knows nothing of what each of them does.

Everything is what a robot would have: the package is built, installed through PackageManager and
run by ALServiceManager (here by this Python, or by the command of `--python`), the brain is
`uservlm serve` in a process of its own, and all of them speak over libqi. The people are drawn.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Final

from uservlm.pepper_app.deploy_naoqi import Managers
from uservlm.pepper_app.package import pack
from uservlm.pepper_app.qi_session import open_client
from uservlm.pepper_app.robot import robot_at
from uservlm.pepper_app.service import RobotError, Value
from uservlm.pepper_app.virtual_naoqi import Setting
from uservlm.pepper_app.virtual_robot import VirtualPepper
from uservlm.pepper_app.virtual_scenario import read
from uservlm.pepper_app.virtual_world import Deed
from uservlm.runtime.errors import UserVLMError

SCENARIO: Final = Path(__file__).parent / "scenarios" / "two_visitors.toml"
BUNDLE: Final = Path("bundles/pocket")
REPORT: Final = "UserVLM/LastTurn"
STARTS_S: Final = 60.0
SERVING: Final = re.compile(r"serving \S+ on (http://\S+)")
EYES: Final = "ALLeds", "fadeRGB"


class Transcript:
    """Tells what happens, as it happens."""

    def __init__(self) -> None:
        """Begin with nobody there."""
        self._who: list[str] = []
        self.turns: list[dict[str, Value]] = []
        """What the app has reported of each."""

    def tell(self, deed: Deed) -> None:
        """Say what a deed means, if it means something to a reader."""
        line = self._line(deed)
        if line:
            print(f"{deed.at:7.1f} s  {line}", flush=True)

    def _line(self, deed: Deed) -> str:
        what, values = (deed.who, deed.what), deed.values
        if what == ("people", "arrive"):
            self._who.append(str(values[0]))
            return f"({values[0]} comes)"
        if what == ("people", "leave"):
            self._who.remove(str(values[0]))
            return f"({values[0]} leaves)"
        if deed.who == "people" and deed.what in ("asks", "says"):
            speaker = self._who[0] if self._who else "somebody"
            return f"{speaker}: {values[0]}"
        if what == ("ALTextToSpeech", "says"):
            return f"    Pepper: {values[0]}"
        if what == ("ALTextToSpeech", "interrupted"):
            return "    (Pepper falls silent)"
        if what == ("ALTouch", "touched"):
            return f"({self._who[0] if self._who else 'somebody'} touches its head)"
        if what == ("ALMemory", "raiseEvent") and values[0] == REPORT:
            return self._report(json.loads(values[1]))
        return ""

    def _report(self, turn: dict[str, Value]) -> str:
        self.turns.append(turn)
        seconds = turn["seconds"]
        if "word" not in seconds:
            return ""
        return (
            f"    (after {seconds['word']:.2f} s: asked the brain {seconds['asked']:.2f}, "
            f"first sentence {seconds['sentence']:.2f}, given to the voice {seconds['voice']:.2f})"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Rehearse; gives the exit status."""
    options = _options(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
            _rehearse(options, Path(folder))
    except UserVLMError as error:
        print(f"rehearsal: {error}", file=sys.stderr)
        return 2
    return 0


def _rehearse(options: argparse.Namespace, folder: Path) -> None:
    """Play the scenario.

    Raises:
        UserVLMError: a part of it cannot be had; says which.
    """
    steps = read(options.scenario)
    os.environ["USERVLM_PACE"] = str(options.pace)
    os.environ["XDG_DATA_HOME"] = str(folder)
    setting = Setting(
        folder=folder / "robot",
        listen="tcp://127.0.0.1:0",
        pace=options.pace,
        misbehave=tuple(options.misbehave),
        python=tuple(shlex.split(options.python)) or (sys.executable,),
    )
    transcript = Transcript()
    with VirtualPepper(setting, transcript.tell) as robot:
        with _brain(options.bundle, robot.url, folder) as address:
            _install(robot.url, folder)
            print(f"the robot is at {robot.url}, the brain's page at {address}", flush=True)
            robot.play(steps)
            robot.ended.wait()


def _install(url: str, folder: Path) -> None:
    """Bring the app onto the robot, and start it.

    Raises:
        UserVLMError: it does not come to that.
    """
    package = pack({"listen": ["words"]})
    file = folder / package.name
    file.write_bytes(package.content)
    closing = Event()
    client = open_client(robot_at(url, None), closing)
    try:
        managers = Managers(client, "the virtual Pepper", closing, STARTS_S)
        managers.install(str(file), package)
        for service in package.services:
            managers.start(service)
    finally:
        client.close()


@contextmanager
def _brain(bundle: Path, robot: str, folder: Path) -> Iterator[str]:
    """Have a brain at the robot's door; gives its address.

    Raises:
        RobotError: it does not start.
    """
    log = folder / "brain.log"
    command = [sys.executable, "-m", "uservlm.runtime", "serve", str(bundle), "--port", "0"]
    command += ["--robot", robot, "--users", str(folder / "people")]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=sink)
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until it serves.

    Raises:
        RobotError: it does not come to that.
    """
    end = time.monotonic() + STARTS_S
    while time.monotonic() < end and process.poll() is None:
        found = SERVING.search(log.read_text())
        if found:
            return found[1]
        time.sleep(0.1)
    raise RobotError(f"the brain did not start:\n{log.read_text().strip()[-1000:]}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m uservlm.pepper_app.rehearsal",
        description="A whole conversation with a Pepper that is not there.",
    )
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="of the brain")
    parser.add_argument("--scenario", type=Path, default=SCENARIO, help="a TOML file")
    parser.add_argument("--pace", type=float, default=1.0, help="how much faster time runs")
    parser.add_argument("--python", default="", help="the command for the robot's Python 2.7")
    parser.add_argument("--misbehave", nargs="*", default=[], metavar="NAME")
    options = parser.parse_args(arguments)
    if not 0.1 <= options.pace <= 20:
        parser.error("--pace is 0.1 to 20: the brain does not run faster with it")
    return options


if __name__ == "__main__":
    sys.exit(main())
