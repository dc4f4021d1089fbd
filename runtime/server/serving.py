"""Listening, and stopping as a service should: the process around the HTTP door.

Owns: the socket, uvicorn, and what a signal does: no new turns, the running ones get a while, every
stream ends, and the process is gone within ten seconds. Knows nothing of routes.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from threading import Thread
from types import FrameType
from typing import Final

import uvicorn

from uservlm.runtime.errors import RequestError
from uservlm.runtime.server.brain import Brain
from uservlm.runtime.server.http_door import HttpDoor

GRACE_S: Final = 5.0
"""For turns under way to end by themselves."""
CLOSE_S: Final = 8
"""For connections, from the signal; behind it uvicorn cuts them."""
_HEADER_BYTES: Final = 32_768
_CONNECTIONS: Final = 512
_IDLE_S: Final = 15


class _Server(uvicorn.Server):
    """Uvicorn, that tells the brain before it waits for connections."""

    def __init__(self, config: uvicorn.Config, brain: Brain, door: HttpDoor) -> None:
        super().__init__(config)
        self._brain, self._door = brain, door

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop: turns end or are ended, and so do the streams of pages."""
        if not self.should_exit:
            Thread(target=self._brain.drain, args=(GRACE_S,), name="drain").start()
            self._door.pages.stop()
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """Take an address.

    Args:
        host: an IP address or a name.
        port: 0 takes a free one.

    Raises:
        RequestError: it cannot be had.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise RequestError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; give --host or --port"
        ) from error


def address_of(listening: socket.socket) -> str:
    """Give HOST:PORT as a browser wants it."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(listening: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    return ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


def serve(brain: Brain, door: HttpDoor, listening: socket.socket) -> None:
    """Serve until a signal says otherwise.

    Raises:
        KeyboardInterrupt: it was Ctrl-C.
    """
    config = uvicorn.Config(
        door.app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        http="h11",
        h11_max_incomplete_event_size=_HEADER_BYTES,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=CLOSE_S,
    )
    with _terminated_quietly():
        _Server(config, brain, door).run([listening])


@contextmanager
def _terminated_quietly() -> Iterator[None]:
    """Let SIGTERM end `serve` only: uvicorn raises it once more when it has stopped."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
