"""Listening, and stopping as a service should: the process around the HTTP door.

Owns: the socket, uvicorn, and what a signal does: no new turns, the running ones get a while, every
stream ends, and the process is gone within ten seconds. Knows nothing of routes.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from threading import Thread
from types import FrameType
from typing import Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from uservlm.runtime.errors import RequestError
from uservlm.runtime.server.access import HEADERS, error_body
from uservlm.runtime.server.brain import Brain
from uservlm.runtime.server.faults import Fault
from uservlm.runtime.server.http_door import HttpDoor

GRACE_S: Final = 5.0
"""For turns under way to end by themselves."""
CLOSE_S: Final = 8
"""For connections, from the signal; behind it uvicorn cuts them."""
_NOT_HTTP: Final = Fault("not_http", 400, "the request is not HTTP/1.1, or its head is too long")
_HEADER_BYTES: Final = 32_768
_HEAD_S: Final = 5.0
"""For a request's head to arrive, from the connection or from its first byte."""
_CONNECTIONS: Final = 512
_IDLE_S: Final = 15


class _Protocol(H11Protocol):
    """HTTP/1.1, whose own refusals have the form of ours, and that waits for no head for ever."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Take what comes; uvicorn alone would give half a head all the time in the world."""
        super().data_received(data)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing more."""
        super().connection_lost(exc)
        self._stop_waiting()

    def _expect_head(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._late is None:
            self._late = self.loop.call_later(_HEAD_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, before or in the middle of a request."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(error_body(_NOT_HTTP)).encode()
            headers = {**HEADERS, "Cache-Control": "no-store", "Content-Type": "application/json"}
            headers |= {"Content-Length": str(len(body)), "Connection": "close"}
            pairs = list(headers.items())
            for event in (
                h11.Response(status_code=400, headers=pairs, reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()  # one that has been answered is just left


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
    if not 0 <= port <= 65_535:
        raise RequestError(f"port {port}: give 0 to 65535; 0 takes a free one")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family)
    except OSError as error:
        raise RequestError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; give --host or --port"
        ) from error
    # Connections inherit it. asyncio leaves it out for sockets made without a protocol's number,
    # and each small write would wait up to 40 ms for the client's delayed ACK.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


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
        http=_Protocol,
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
