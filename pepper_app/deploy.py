"""`python -m uservlm.pepper_app.deploy HOST`: the app on a Pepper, installed and running.

Owns: the command, and the order of things: look whether NAOqi can be spoken to, copy the package,
install it, take the copy away, start the service. Knows nothing of SSH (`deploy_ssh.py`) or of what
NAOqi is asked (`deploy_naoqi.py`).

The package holds the brain's token. It is made in memory, never on this machine's disk, and its
copy on the robot belongs to the robot's user alone. What is installed is as open as NAOqi makes it.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Final

from uservlm.pepper_app.deploy_naoqi import (
    INSTALL_S,
    INSTEAD,
    PACKAGES,
    SERVICES,
    EndedError,
    Managers,
    takes_logins_only,
)
from uservlm.pepper_app.package import Package, add_settings, pack, settings_of
from uservlm.pepper_app.qi_session import LibqiClient, open_client
from uservlm.pepper_app.robot import (
    PASSWORD_VARIABLE,
    PORTS,
    Login,
    Robot,
    facing,
    read_password,
    robot_at,
)
from uservlm.pepper_app.service import NoLibraryError, RobotError
from uservlm.runtime.errors import UserVLMError

if TYPE_CHECKING:
    from uservlm.pepper_app.ssh_login import Host

QICLI: Final = "/opt/aldebaran/bin/qicli call"


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy, or remove; gives the exit status."""
    options = _options(arguments)
    try:
        return _run(options)
    except NoLibraryError as error:
        print(f"deploy: {error}{_by_hand(options)}", file=sys.stderr)
    except UserVLMError as error:
        print(f"deploy: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("deploy: stopped", file=sys.stderr)
        return 130
    return 2


def _run(options: argparse.Namespace) -> int:
    """Do it.

    Raises:
        UserVLMError: it cannot be done.
    """
    package = pack(settings_of(options))
    password = read_password(options.password_file)
    login = Login(options.user, password)
    robot = robot_at(options.robot or f"tcp://{options.host}:{PORTS['tcp']}", login)
    closing = Event()
    client = _connect(robot, closing)
    try:
        managers = Managers(client, robot.host, closing, options.patience)
        version = managers.version()
        _say(f"{robot.host} has NAOqi {version or 'of an unknown version'}")
        if options.remove:
            removed = managers.remove(package)
            _say(f"{package.uuid} is {'removed' if removed else 'not installed'}")
        else:
            asyncio.run(_deploy(_host(options, password), managers, package, closing))
    finally:
        client.close()
    return 0


async def _deploy(host: Host, managers: Managers, package: Package, closing: Event) -> None:
    """Copy, install and start; a thread calls NAOqi while SSH is kept alive.

    Raises:
        RobotError: the robot does not do it.
    """
    from uservlm.pepper_app.deploy_ssh import disk

    try:
        async with disk(host, _say) as robot:
            async with robot.lent(package.name, package.content) as path:
                _say(f"{len(package.content):,} bytes are there; it installs them")
                await asyncio.to_thread(managers.install, path, package)
            _say(f"{package.uuid} {package.version} is installed")
            for service in package.services:
                try:
                    await asyncio.to_thread(managers.start, service)
                except EndedError as error:
                    raise RobotError(f"{error}{await robot.log(service)}") from error
                _say(f"{service} runs")
    finally:
        closing.set()


def _connect(robot: Robot, closing: Event) -> LibqiClient:
    """Connect to NAOqi.

    Raises:
        NoLibraryError: no libqi here.
        RobotError: nobody there, or it takes no packages.
    """
    facing(robot)
    try:
        return open_client(robot, closing)
    except NoLibraryError:
        raise
    except RobotError as error:
        if takes_logins_only(robot):
            raise RobotError(INSTEAD.format(host=robot.host)) from error
        raise RobotError(
            f"no NAOqi there: {error}; is the robot on, and on this network?"
        ) from error


def _host(options: argparse.Namespace, password: str | None) -> Host:
    """Say where to log in.

    Raises:
        NoLibraryError: asyncssh is not here.
    """
    try:
        from uservlm.pepper_app.ssh_login import Host
    except ImportError as error:
        raise NoLibraryError(f"{error}: pip install 'uservlm[pepper]' brings it") from error
    known = options.known_hosts.expanduser()
    return Host(options.host, options.user, password, known, options.port_ssh)


def _by_hand(options: argparse.Namespace) -> str:
    """Say how to do without libraries."""
    package = pack({})
    name, where = package.name, f"{options.user}@{options.host}"
    if options.remove:
        calls = f"{QICLI} {PACKAGES}.removePkg {package.uuid}"
        return f". By hand:\n  ssh {where} '{calls}'"
    given = [("--brain", options.brain), ("--token-file", options.token_file)]
    given += [("--language", options.language), ("--listen", options.listen)]
    words = [word for name, value in given if value is not None for word in (name, value)]
    make = shlex.join(["python", "-m", "uservlm.pepper_app.package", "--out", name, *words])
    calls = f"{QICLI} {PACKAGES}.install /home/{options.user}/{name}; rm {name}" + "".join(
        f"; {QICLI} {SERVICES}.startService {service}" for service in package.services
    )
    return f". By hand, after {make}:\n  scp {name} {where}:\n  ssh {where} '{calls}'"


def _say(line: str) -> None:
    print(line, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m uservlm.pepper_app.deploy",
        description="Install the app on a Pepper with NAOqi 2.5, and start it.",
    )
    parser.add_argument("host", help="the robot's name or address")
    add_settings(parser)
    parser.add_argument("--remove", action="store_true", help="stop it and take it away instead")
    parser.add_argument("--user", default="nao", help="who logs in (nao)")
    parser.add_argument(
        "--password-file", metavar="FILE", help=f"with their password; else ${PASSWORD_VARIABLE}"
    )
    parser.add_argument(
        "--known-hosts",
        type=Path,
        metavar="FILE",
        default=Path("~/.ssh/known_hosts"),
        help="the robots' keys; one that is met for the first time is added (~/.ssh/known_hosts)",
    )
    parser.add_argument(
        "--port-ssh", type=int, metavar="PORT", help="(as ~/.ssh/config says, else 22)"
    )
    parser.add_argument("--robot", metavar="URL", help="NAOqi's address, if not tcp://HOST:9559")
    parser.add_argument(
        "--patience", type=float, default=INSTALL_S, metavar="S", help="to install (%(default)g)"
    )
    options = parser.parse_args(arguments)
    if options.port_ssh is not None and not 0 < options.port_ssh < 65536:
        parser.error("--port-ssh is 1 to 65535")
    return options


if __name__ == "__main__":
    sys.exit(main())
