"""The one thread that reads, accepts and closes for all connections of a session.

Owns: the thread, which connections there are, and which of them has to go when there are too many.
Knows nothing of what is sent. Whatever it calls returns at once.
"""

from __future__ import annotations

import logging
import selectors
import socket
from collections.abc import Callable
from threading import Lock, Thread, current_thread
from time import monotonic
from typing import Final

from uservlm.pepper_app.qi_wire_socket import Connection

_LOG = logging.getLogger("uservlm.qi")

MOST_CONNECTIONS: Final = 128
CLOSE_S: Final = 0.5
_TICK_S: Final = 0.5
_BACKLOG: Final = 256

Accepted = Callable[[socket.socket], Connection]
"""Makes a connection of a socket."""


class Loop:
    """Runs from `start` to `close`."""

    def __init__(self, ended: Callable[[], None]) -> None:
        """Be ready to start.

        Args:
            ended: called when the thread ends, for whatever reason.
        """
        self._ended = ended
        self._selector = selectors.DefaultSelector()
        self._ear, self._mouth = socket.socketpair()
        for side in (self._ear, self._mouth):
            side.setblocking(False)
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._listening: tuple[socket.socket, Accepted] | None = None
        self._accepting = False
        self._connections: dict[Connection, int] = {}
        """And the events that the selector waits for."""
        self._changed: list[Connection] = []
        self._lock, self._closing, self._over = Lock(), False, False
        self._thread = Thread(target=self._run, name="qi-wire", daemon=True)

    def start(self, listening: socket.socket | None, accepted: Accepted) -> None:
        """Begin.

        Args:
            listening: where others connect, if anywhere.
            accepted: told who did.
        """
        if listening is not None:
            listening.setblocking(False)
            listening.listen(_BACKLOG)
            self._listening = listening, accepted
            self._open()
        self._thread.start()

    def add(self, connection: Connection) -> None:
        """Look after a connection that was made elsewhere; from any thread."""
        connection.changed = self.look
        self.look(connection)

    def look(self, connection: Connection) -> None:
        """Note that a connection has changed; from any thread."""
        with self._lock:
            over = self._over
            if not over:
                self._changed.append(connection)
        if over:
            connection.shut()
        else:
            self._wake()

    def close(self) -> None:
        """Close all connections, and end."""
        self._closing = True
        self._wake()
        if self._thread.ident is None:
            self._end()
        elif self._thread is not current_thread():
            self._thread.join(CLOSE_S)

    def _wake(self) -> None:
        try:
            self._mouth.send(b"\0")
        except OSError:  # it is full, so the thread wakes anyway; or the thread has ended
            return

    def _run(self) -> None:
        looked = monotonic()
        try:
            while not self._closing:
                for key, events in self._selector.select(_TICK_S):
                    self._serve(key, events)
                self._take_changes()
                now = monotonic()
                if now - looked > _TICK_S:
                    looked = now
                    self._look_after(now)
        finally:
            self._end()

    def _end(self) -> None:
        self._closing = True
        with self._lock:
            self._over = True
        self._take_changes()
        for connection in list(self._connections):
            self._close(connection)
        if self._listening is not None:
            self._listening[0].close()
        self._selector.close()
        self._ear.close()
        self._mouth.close()
        self._ended()

    def _serve(self, key: selectors.SelectorKey, events: int) -> None:
        connection = key.data
        if isinstance(connection, Connection):
            if events & selectors.EVENT_READ:
                connection.read()
            if events & selectors.EVENT_WRITE:
                connection.write()
            self._settle(connection)
        elif key.fileobj is self._ear:
            self._ear.recv(4096)
        elif self._listening is not None:
            self._accept(*self._listening)

    def _accept(self, listening: socket.socket, accepted: Accepted) -> None:
        for _ in range(_BACKLOG):
            if not self._accept_one(listening, accepted):
                return

    def _accept_one(self, listening: socket.socket, accepted: Accepted) -> bool:
        """Let somebody in; False when nobody else waits."""
        try:
            plain, _ = listening.accept()
        except BlockingIOError:
            return False
        except OSError as error:  # out of file descriptors: until the next look, nobody comes in
            _LOG.warning("nobody can connect for a moment: %s", error)
            self._selector.unregister(listening)
            self._accepting = False
            return False
        if len(self._connections) >= MOST_CONNECTIONS:
            self._make_room()
        connection = accepted(plain)
        connection.changed = self.look
        self._settle(connection)
        return True

    def _open(self) -> None:
        if self._listening is not None:
            self._selector.register(self._listening[0], selectors.EVENT_READ)
            self._accepting = True

    def _make_room(self) -> None:
        """Close who has been silent longest, first of all of those who never said anything."""
        others = [one for one in self._connections if not one.ours]
        strangers = [one for one in others if not one.greeted]
        silent = min(strangers or others, key=lambda one: one.heard_at)
        silent.end("others wait, and nothing came for long")
        self._settle(silent)

    def _take_changes(self) -> None:
        with self._lock:
            changed, self._changed = self._changed, []
        for connection in changed:
            self._settle(connection)

    def _settle(self, connection: Connection) -> None:
        """Wait for what a connection waits for, or close it."""
        if connection.ended or self._closing:
            return self._close(connection)
        events = selectors.EVENT_READ
        if connection.wants_write:
            events |= selectors.EVENT_WRITE
        known = self._connections.get(connection)
        if known is None and connection.socket.fileno() >= 0:
            self._selector.register(connection.socket, events, connection)
            self._connections[connection] = events
        elif known is not None and known != events:
            self._selector.modify(connection.socket, events, connection)
            self._connections[connection] = events

    def _close(self, connection: Connection) -> None:
        if self._connections.pop(connection, None) is not None:
            self._selector.unregister(connection.socket)
        if connection.socket.fileno() >= 0:
            _LOG.debug("a qi connection ends: %s", connection.ended)
            connection.close()

    def _look_after(self, now: float) -> None:
        for connection in list(self._connections):
            connection.look_after(now)
            if connection.ended:
                self._close(connection)
        if not self._accepting:
            self._open()
