"""`python -m uservlm.pepper_app.virtual`: a Pepper without hardware, on real libqi.

Owns: the command. A directory on loopback with the NAOqi 2.5 services that an app needs, each in a
`virtual_*.py` of its own, whose docstring says what it lacks. It prints what the robot does.

What is not modelled at all: the body (no joints, gestures, wheels, battery), sound that can be
recognised (unless a scenario plays a WAV file), a browser in the tablet, Autonomous Life's own
choice of activities, Wi-Fi, logins (NAOqi 2.9), and every service no `virtual_*.py` declares.
People come and go in one step, are always seen, and are recognised without fail. Extractors see
only while somebody has subscribed; on a robot, its own life may have subscribed before.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from uservlm.pepper_app.service import RobotError
from uservlm.pepper_app.virtual_naoqi import ADDRESS, Setting
from uservlm.pepper_app.virtual_pictures import DRAWN
from uservlm.pepper_app.virtual_robot import VirtualPepper
from uservlm.pepper_app.virtual_scenario import read
from uservlm.pepper_app.virtual_services import PATIENCE_S
from uservlm.pepper_app.virtual_world import MISBEHAVIOURS, Deed


def main(arguments: Sequence[str] | None = None) -> int:
    """Be a robot until the scenario ends it, or a signal."""
    options = _options(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="virtual-pepper-") as place:
            return _run(options, Path(options.folder or place))
    except RobotError as error:
        print(f"virtual Pepper: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace, folder: Path) -> int:
    """Run it.

    Raises:
        RobotError: it cannot be made as it should be.
    """
    steps = read(options.scenario) if options.scenario else []
    setting = Setting(
        folder=folder,
        listen=options.listen,
        pictures=options.pictures,
        pace=options.pace,
        misbehave=tuple(options.misbehave),
        patience_s=options.patience,
        python=tuple(shlex.split(options.python)) or (sys.executable,),
    )
    _warn(options.listen)
    with VirtualPepper(setting, None if options.quiet else _show) as robot:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: robot.ended.set())
        print(f"virtual Pepper at {robot.url}", flush=True)
        robot.play(steps)
        robot.ended.wait()
    return 0


def _show(deed: Deed) -> None:
    print(deed, flush=True)


def _warn(address: str) -> None:
    """Say so when others than this machine can get in."""
    host = urlsplit(address).hostname or ""
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local:
        print(
            f"virtual Pepper: {address} is open to the network: whoever reaches it can install "
            "packages here, which run as you",
            file=sys.stderr,
        )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    misbehaviours = "\n".join(f"  {name:<18} {what}" for name, what in MISBEHAVIOURS.items())
    parser = argparse.ArgumentParser(
        prog="python -m uservlm.pepper_app.virtual",
        description="A Pepper without hardware: NAOqi 2.5's services on real libqi.",
        epilog=f"misbehaviours:\n{misbehaviours}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--listen", default=ADDRESS, help="where its directory is; port 0: any")
    parser.add_argument("--scenario", type=Path, help="a TOML file with what happens")
    parser.add_argument("--pictures", default=DRAWN, help="a folder with NAME.png, or drawn")
    parser.add_argument("--misbehave", nargs="*", default=[], metavar="NAME", help="see below")
    parser.add_argument("--pace", type=float, default=1.0, help="how much faster time runs")
    parser.add_argument("--folder", type=Path, help="where packages stay; else they are dropped")
    parser.add_argument("--python", default="", help="the command for the robot's Python 2.7")
    parser.add_argument(
        "--patience", type=float, default=PATIENCE_S, help="seconds from SIGTERM to SIGKILL"
    )
    parser.add_argument("--quiet", action="store_true", help="print no transcript")
    options = parser.parse_args(arguments)
    if not 0.01 <= options.pace <= 1000:
        parser.error("--pace is 0.01 to 1000")
    return options


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # libqi's threads may abort an interpreter that is being taken down
