#!/usr/bin/env python3
"""The brain on another machine: `python toolchain/deploy.py user@board`; see docs/boards.md.

Owns: the command's options, and what a person is told before and afterwards. Knows nothing of the
scripts (`deploy_steps.py`), their order (`deploy_run.py`), SSH (`deploy_far.py`) or boards
(`board.py`). Whatever fails, and wherever it is stopped, what was in use there is in use after it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from uservlm.pepper_app.ssh_login import Host
    from uservlm.toolchain.board import Board
    from uservlm.toolchain.deploy_plan import Order
    from uservlm.toolchain.deploy_steps import Step

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = "uservlm"
PASSWORD_VARIABLE: Final = "USERVLM_BOARD_PASSWORD"


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy, remove, or show how; gives the exit status."""
    options = _options(arguments)
    try:
        from uservlm.runtime.errors import UserVLMError
        from uservlm.runtime.telemetry import silence_telemetry
        from uservlm.toolchain import deploy_far as _needed  # noqa: F401
    except ModuleNotFoundError as error:
        print(f"{error}: run `make bootstrap` and use .venv/bin/python", file=sys.stderr)
        return 2
    silence_telemetry()
    try:
        asyncio.run(_run(options))
    except UserVLMError as error:
        print(f"deploy: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Python flushes stdout once more at its end; there is nobody left to read it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("deploy: stopped; the same command goes on, --remove clears away", file=sys.stderr)
        return 130
    return 0


async def _run(options: argparse.Namespace) -> None:
    """Do what the options say.

    Raises:
        UserVLMError: it cannot be done.
    """
    from uservlm.pepper_app.ssh_login import login
    from uservlm.toolchain import board
    from uservlm.toolchain.deploy_far import Far
    from uservlm.toolchain.deploy_plan import check_folder, check_service
    from uservlm.toolchain.deploy_remove import remove
    from uservlm.toolchain.deploy_run import bring, take_away

    order, host = _order(options), _host(options)
    if options.dry_run and options.target != "auto":
        seen = _unseen(host)
        folder = _folder(order, seen)
        _say(f"nobody is asked; the home folder there is taken to be {seen.home}")
        _show(host, remove(folder) if options.remove else _steps(order, seen, folder))
        return
    async with login(host, _say) as connection:
        far = Far(host, connection, order.folder, _say)
        seen = board.read_board(await far.look(board.look(order.folder)))
        folder = _folder(order, seen)
        # Refused before anything is made there.
        check_folder(folder, seen)
        board.form_for(seen)
        if not options.remove:
            check_service(order, seen, folder)
        _say(f"{host.name} is {seen.about}")
        far = Far(host, connection, folder, _say)
        if options.dry_run:
            _show(host, remove(folder) if options.remove else _steps(order, seen, folder))
        elif options.remove:
            await take_away(far, folder, _say)
        else:
            await bring(far, order, folder, _say)
            _tell(host, order, seen, folder)


def _steps(order: Order, seen: Board, folder: str) -> Sequence[Step]:
    from uservlm.toolchain.deploy_plan import make_plan

    with TemporaryDirectory() as scratch:
        return make_plan(order, seen, folder, Path(scratch)).steps


def _show(host: Host, steps: Sequence[Step]) -> None:
    """Print every step as somebody would do it by hand."""
    for number, step in enumerate(steps, 1):
        sends = step.sends
        source = f" < {sends.by_hand or shlex.quote(str(sends.path))}" if sends else ""
        _say(f"\n# {number}. {step.about}")
        _say(f"{_ssh(host)} {shlex.quote(step.script)}{source}")


def _ssh(host: Host) -> str:
    """Give the start of a command line by which a person gets there."""
    port = "" if host.port is None else f"-p {host.port} "
    return f"ssh {port}{host.user}@{host.name}"


def _tell(host: Host, order: Order, seen: Board, folder: str) -> None:
    """Say where it is and how it is started."""
    program = shlex.quote(f"{folder}/current/uservlm")
    bundle = shlex.quote(f"{folder}/current/bundles/{order.bundles[0].resolve().name}")
    _say(f"\nit is in {folder}/current on {host.name}:")
    _say(f'  {program} ask {bundle} --image FACE.png "How do I feel?"')
    _say(f"  {program} serve {bundle}")
    _say(f"  {program} tune {bundle}      once: what is fastest on that machine")
    if order.serve is None:
        return
    _say(f"it serves there ({shlex.join(order.serve) or '127.0.0.1 only'}):")
    _say(f"  {_ssh(host)} systemctl --user status uservlm")
    _say(f"  a token, where it asks for one, is in {folder}/config/uservlm/token on the board")
    if not seen.linger:
        _say(
            f"  it ends when {host.user} logs out there, and does not start with the board, until "
            f"somebody with the rights says: sudo loginctl enable-linger {host.user}"
        )


def _order(options: argparse.Namespace) -> Order:
    """Read what is to be there.

    Raises:
        RequestError: no such bundle or target.
    """
    from uservlm.runtime.errors import RequestError
    from uservlm.toolchain.board import named
    from uservlm.toolchain.deploy_plan import Order, address_of

    if options.target != "auto":
        named(options.target)
    if options.folder.startswith("~") and not options.folder.startswith("~/"):
        raise RequestError(f"--to {options.folder}: give ~/FOLDER, or all of the path")
    folder = options.folder.removeprefix("~/") or "."
    bundles = tuple(options.bundles or [ROOT / "bundles" / "pocket"])
    serve = tuple(options.serve) if options.service else None
    archive: Path | None = options.archive
    address = None if serve is None else address_of(serve)
    return Order(folder, options.target, archive, bundles, serve, address)


def _host(options: argparse.Namespace) -> Host:
    """Say where to log in.

    Raises:
        RequestError: no USER@HOST.
        StoreError: the password cannot be read.
    """
    from uservlm.pepper_app.robot import read_password
    from uservlm.pepper_app.ssh_login import Host
    from uservlm.runtime.errors import RequestError

    user, at, name = options.board.rpartition("@")
    if not (user and at and name):
        raise RequestError(f"{options.board}: give USER@HOST, as pi@raspberrypi.local")
    known = options.known_hosts.expanduser()
    # The robot's own password is no business of another machine.
    password = read_password(options.password_file, PASSWORD_VARIABLE)
    return Host(name, user, password, known, options.port, PASSWORD_VARIABLE)


def _folder(order: Order, seen: Board) -> str:
    return str(PurePosixPath(seen.home, order.folder))


def _unseen(host: Host) -> Board:
    """Assume a board that has everything, to show what would be done."""
    from uservlm.toolchain.board import NEEDED, OPENERS, Board

    home = "/root" if host.user == "root" else f"/home/{host.user}"
    programs = frozenset((*NEEDED, *OPENERS, "systemctl"))
    return Board("", 0, 0, "", home, 0, programs=programs, systemd="running")


def _say(line: str) -> None:
    print(line, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    given = list(sys.argv[1:] if arguments is None else arguments)
    serve: list[str] = []
    if "--" in given:
        cut = given.index("--")
        given, serve = given[:cut], given[cut + 1 :]
    parser = argparse.ArgumentParser(
        prog="python toolchain/deploy.py",
        usage="%(prog)s USER@BOARD [options] [--service -- options of `uservlm serve`]",
        description="Put the runtime and bundles on another machine by SSH, and try them there.",
        allow_abbrev=False,
    )
    _add_options(parser)
    options = parser.parse_args(given)
    if (serve or options.robot) and not options.service:
        parser.error("--robot and options behind -- are the service's: add --service")
    if options.port is not None and not 0 < options.port < 65536:
        parser.error("--port is 1 to 65535")
    options.serve = [*(["--robot", options.robot] if options.robot else []), *serve]
    return options


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("board", metavar="USER@BOARD", help="who logs in where")
    add("--port", type=int, help="of SSH (as ~/.ssh/config says, else 22)")
    add("--password-file", metavar="FILE", help=f"else {PASSWORD_VARIABLE}, or a key of yours")
    add(
        "--known-hosts", type=Path, metavar="FILE", default=Path("~/.ssh/known_hosts"),
        help="a machine that is met for the first time is added (~/.ssh/known_hosts)",
    )  # fmt: skip
    add(
        "--bundle", type=Path, action="append", dest="bundles", metavar="DIR",
        help="repeat for several; the first is served (bundles/pocket)",
    )  # fmt: skip
    add("--target", default="auto", help="x86_64, aarch64 or pepper-i686 (what is found there)")
    add("--archive", type=Path, metavar="FILE", help="(dist/uservlm-runtime-TARGET.tar.xz)")
    add("--to", dest="folder", default=f"~/{FOLDER}", metavar="FOLDER", help="there (~/uservlm)")
    add("--service", action="store_true", help="serve the first bundle by a systemd user service")
    add("--robot", metavar="URL", help="of the service, as tcp://127.0.0.1:9559")
    add("--dry-run", action="store_true", help="show each step; with --target nobody is asked")
    add("--remove", action="store_true", help="take all of it away, people who are kept included")


if __name__ == "__main__":
    sys.exit(main())
