"""`uservlm serve`: one brain behind HTTP and, where there is a robot, behind qi.

Owns: the command's options, and the order in which things open and close. Knows nothing of what a
door does. What it needs beyond the runtime (`pip install 'uservlm[serve]'`) is imported when it
runs.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from uservlm.runtime.adapters import NO_ADAPTER
from uservlm.runtime.audited import require_audits
from uservlm.runtime.bundle import open_bundle
from uservlm.runtime.engine_options import add_engine_options, load
from uservlm.runtime.errors import RequestError
from uservlm.runtime.extras import way_to
from uservlm.runtime.offer import Offer, offer
from uservlm.runtime.vault import users_folder

if TYPE_CHECKING:
    import socket

    from uservlm.runtime.manifest import Manifest
    from uservlm.runtime.server.access import Door
    from uservlm.runtime.server.brain import Brain
    from uservlm.runtime.server.ears import Ears
    from uservlm.runtime.server.turn import Turn

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_LOG = logging.getLogger("uservlm.server")

HOST, PORT = "127.0.0.1", 8642


def add_parser(commands: Commands) -> None:
    """Add `serve` to a command line; it sets `run`."""
    parser = commands.add_parser(
        "serve", help="answer over HTTP and qi, with a page", description=serve.__doc__
    )
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="folder made by converters/export.py")
    add("--host", default=HOST, help="default: %(default)s; another one asks for a token")
    add("--port", type=int, default=PORT, help="default: %(default)s; 0 takes a free one")
    add("--token-file", metavar="FILE", help="asks for its token; made if it is not there")
    add("--robot", metavar="URL", help="tcp://pepper.local:9559, or tcps://…:9503 for NAOqi 2.9")
    add("--robot-user", metavar="NAME", default="nao", help="for tcps; default: %(default)s")
    add("--robot-password-file", metavar="FILE", help="default: USERVLM_ROBOT_PASSWORD")
    add("--hear", metavar="FOLDER", help="streaming speech model; asks for uservlm[speech]")
    add_engine_options(parser)
    add("--only", metavar="NAME[,NAME]", help="adapters that may answer; none: the bare weights")
    add("--require-audit", action="store_true", help="serve nothing that did not pass `audit`")
    add("--no-identify", action="store_true", help="compare nobody with the people who are kept")
    add("--log-questions", action="store_true", help="write questions and answers to the log")
    add("--no-verify", dest="verify", action="store_false", help="skip the SHA-256 of the files")
    parser.set_defaults(run=serve)


def serve(options: argparse.Namespace) -> None:
    """Serve a bundle: OpenAI's API, our own, a page at /, and the qi service UserVLM."""
    try:
        from uservlm.runtime.server import serving
        from uservlm.runtime.server.brain import Brain
        from uservlm.runtime.server.chat import Served
        from uservlm.runtime.server.http_door import open_http_door
        from uservlm.runtime.server.metrics import Metrics
    except ModuleNotFoundError as error:
        raise RequestError(f"{error}: {way_to('serve')}") from error
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    with ExitStack() as opened:
        listening = opened.enter_context(serving.listen(options.host, options.port))
        door = _door(options, listening)
        offered = _offer(options)
        ears = _ears(options, door, opened)
        vlm = opened.enter_context(load(options, users_folder(options.users)))
        metrics = Metrics()
        ended = partial(_note, metrics.turn) if options.log_questions else metrics.turn
        brain = Brain(vlm, door.limits, ended)
        opened.callback(brain.close)
        metrics.follow(lambda: vlm.counters, lambda: len(brain.register.under_way))
        manifest = vlm.bundle.manifest
        _judge(manifest, offered, options)  # it may be another than the one that was read before
        served = Served(
            manifest.source.model.rpartition("/")[2],
            offered.adapters,
            int(time.time()),
            plain=offered.plain,
            usual=None if offered.usual == NO_ADAPTER else offered.usual,
            attends_freely=not options.require_audit,
        )
        http = open_http_door(brain, served, door, metrics, ears)
        address = serving.address_of(listening)
        brain.door("http", "open", address)
        if options.robot is not None:
            _open_robot(options, brain, ears, opened)
        print(
            f"uservlm: serving {served.name} on http://{address} (open it for the page)",
            file=sys.stderr,
            flush=True,
        )
        serving.serve(brain, http, listening)


def _offer(options: argparse.Namespace) -> Offer:
    """Decide what is offered, before anything is loaded; refuse what the audits do not cover."""
    manifest = open_bundle(options.bundle, verify=False).manifest
    offered = offer(options.adapter, options.only, manifest)
    if options.require_audit and not options.verify:
        raise RequestError("--require-audit goes by the files' SHA-256: leave out --no-verify")
    _judge(manifest, offered, options)
    options.adapter = offered.usual
    return offered


def _judge(manifest: Manifest, offered: Offer, options: argparse.Namespace) -> None:
    if options.require_audit:
        require_audits(manifest, offered.all, options.attention)


def _note(then: Callable[[Turn], None], turn: Turn) -> None:
    """Write what was said to the log, for who asked for it."""
    _LOG.info("%s asked %r and was told %r", turn.user or "somebody", turn.question, turn.text)
    then(turn)


def _door(options: argparse.Namespace, listening: socket.socket) -> Door:
    """Decide who may come in: on loopback everybody of this machine, else who has the token."""
    from uservlm.runtime.server import access, serving, tokenfile
    from uservlm.runtime.server.limits import Limits

    loopback = serving.is_loopback(listening)
    limits = Limits(compares=not options.no_identify)
    if loopback and options.token_file is None:
        return access.Door(None, (*access.LOOPBACK, listening.getsockname()[0]), limits)
    path = tokenfile.token_path(options.token_file)
    token = tokenfile.read_or_make(path)
    print(f"uservlm: who asks needs the token in {path}", file=sys.stderr)
    return access.Door(token, None, limits)


def _ears(options: argparse.Namespace, door: Door, opened: ExitStack) -> Ears | None:
    """Open ears, before anything that takes longer."""
    if options.hear is None:
        return None
    from uservlm.runtime.server.ears import Ears

    ears = Ears.open(Path(options.hear), door.limits)
    opened.callback(ears.close)
    print(f"uservlm: hearing with the {ears.kind} in {options.hear}", file=sys.stderr)
    return ears


def _open_robot(
    options: argparse.Namespace, brain: Brain, ears: Ears | None, opened: ExitStack
) -> None:
    from uservlm.pepper_app.qi_door import Login, open_qi_door, read_password

    login = Login(options.robot_user, read_password(options.robot_password_file))
    opened.callback(open_qi_door(brain, options.robot, login, ears).close)
