"""Our end of a robot's bus in plain Python: how one connects, and to whom what comes is handed.

Owns: TCP and TLS connections that we make, the greeting on them, and the parts that a session and a
client both need. Knows nothing of the directory but its number.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from errno import EINPROGRESS
from select import POLLIN, POLLOUT, poll
from threading import Event
from time import monotonic
from typing import Final

from uservlm.pepper_app.qi_session import ANSWER_S, CONNECT_S
from uservlm.pepper_app.qi_wire_host import WireHost
from uservlm.pepper_app.qi_wire_loop import Loop
from uservlm.pepper_app.qi_wire_peer import Peer, RefusedError
from uservlm.pepper_app.robot import Robot
from uservlm.pepper_app.service import RobotError

DIRECTORY: Final = "ServiceDirectory"
DIRECTORY_NUMBER: Final = 1
_STEP_MS: Final = 50


class Bus:
    """Our end: what we offer, and all connections."""

    def __init__(self, lost: Callable[[], None], closing: Event) -> None:
        self.host = WireHost()
        self._loop, self._closing = Loop(lost), closing

    def start(self, listening: socket.socket | None) -> None:
        """Begin; others connect to `listening`, if there is one."""
        allowance = self.host.allowance
        self._loop.start(listening, lambda plain: Peer(plain, allowance, self.host).connection)

    def connect(self, robot: Robot) -> Peer:
        """Connect, and log in where there is a login.

        Raises:
            RobotError: nobody there, refused, or given up.
        """
        plain = _connected(robot, self._closing)
        peer = Peer(plain, self.host.allowance, self.host, ours=True)
        self._loop.add(peer.connection)
        try:
            peer.greet(robot.login, ANSWER_S, self._closing)
        except RefusedError as error:
            peer.connection.end("refused")
            if robot.login is None:
                raise
            raise RobotError(
                f"{robot.url} refuses the password of {robot.login.user}, or is no robot"
            ) from error
        except RobotError:
            peer.connection.end("nobody answers")
            raise
        return peer

    def close(self) -> None:
        """Hang up on everybody."""
        self.host.close()
        self._loop.close()


def _connected(robot: Robot, closing: Event) -> socket.socket:
    """Connect, but not while we are being closed.

    Raises:
        RobotError: nobody there, or given up.
    """
    plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    connected = False
    try:
        plain.setblocking(False)
        last = monotonic() + CONNECT_S
        error = plain.connect_ex((robot.host, robot.port))
        while error == EINPROGRESS and not _ready(plain, POLLOUT):
            if closing.is_set() or monotonic() > last:
                raise RobotError(f"{robot.url}: no answer within {CONNECT_S:g} s")
        error = plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or (
            error if error != EINPROGRESS else 0
        )
        if error:
            raise RobotError(f"{robot.url}: {os.strerror(error)}")
        made = plain if robot.scheme == "tcp" else _encrypted(plain, robot, last, closing)
        connected = True
        return made
    except OSError as error:
        raise RobotError(f"{robot.url}: {error.strerror or error}") from error
    finally:
        if not connected:
            plain.close()


def _encrypted(plain: socket.socket, robot: Robot, last: float, closing: Event) -> socket.socket:
    """Speak TLS. A robot's certificate is signed by nobody, so that it is not checked; no more does
    libqi.

    Raises:
        RobotError: the other side does not, or given up.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    made = context.wrap_socket(plain, do_handshake_on_connect=False)
    while True:
        try:
            made.do_handshake()
            return made
        except ssl.SSLWantReadError:
            _ready(made, POLLIN)
        except ssl.SSLWantWriteError:
            _ready(made, POLLOUT)
        if closing.is_set() or monotonic() > last:
            raise RobotError(f"{robot.url}: no answer within {CONNECT_S:g} s")


def _ready(plain: socket.socket, event: int) -> bool:
    """Wait a moment; unlike `select`, also where many files are open."""
    waiting = poll()
    waiting.register(plain, event)
    return bool(waiting.poll(_STEP_MS))
