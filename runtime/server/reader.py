"""Reads every turn to its end, each on a thread of its own.

Owns: that a turn ends with exactly one word to its listener, whatever happens, and what is told of
it on the way. Knows nothing of engines: a stream of chunks comes in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any

from uservlm.runtime.answers import Chunk
from uservlm.runtime.errors import DeadlineError, UserVLMError
from uservlm.runtime.server.faults import INTERNAL, Fault
from uservlm.runtime.server.hub import Hub
from uservlm.runtime.server.limits import Limits
from uservlm.runtime.server.register import Register
from uservlm.runtime.server.turn import Listener, Turn
from uservlm.runtime.stream import Stream

_LOG = logging.getLogger("uservlm.server")


class Reader:
    """The threads that read; safe to use from several threads."""

    def __init__(
        self,
        register: Register,
        hub: Hub,
        limits: Limits,
        fault: Callable[[UserVLMError], Fault],
        ended: Callable[[Turn], None],
    ) -> None:
        """Start none yet.

        Args:
            register: which every turn leaves at its end.
            hub: told how turns go.
            limits: how long one may take, and how many there are.
            fault: says an error to a client.
            ended: called with each turn that has ended.
        """
        self._register, self._hub, self._limits = register, hub, limits
        self._fault, self._ended = fault, ended
        self._pool = ThreadPoolExecutor(limits.waiting, thread_name_prefix="turn")

    def read(self, turn: Turn, stream: Stream[Chunk], listener: Listener) -> None:
        """Begin; returns at once."""
        self._tell_turn(turn)
        self._pool.submit(self._run, turn, stream, listener).add_done_callback(_log_mistake)

    def leave(self, turn: Turn, begun: bool = True) -> None:
        """Take a turn out of the register, and tell whose thinking begins."""
        following = self._register.leave(turn, begun)
        if following is not None:
            self._tell_turn(following)

    def close(self) -> None:
        """Wait for the threads; their turns have been ended by then."""
        self._pool.shutdown()

    def _run(self, turn: Turn, stream: Stream[Chunk], listener: Listener) -> None:
        fault: Fault | None = INTERNAL
        try:
            fault = self._follow(turn, stream, listener)
        finally:
            turn.end(fault)
            try:
                self.leave(turn)
                self._ended(turn)
                self._tell_turn(turn)
            finally:
                if fault is None:
                    listener.answered(turn)
                else:
                    listener.failed(turn, fault)

    def _follow(self, turn: Turn, stream: Stream[Chunk], listener: Listener) -> Fault | None:
        last = monotonic() + self._limits.turn_s
        try:
            with stream:
                for chunk in stream:
                    piece = {"turn": turn.id, "at": len(turn.text), "text": chunk.text}
                    if turn.hear(chunk):
                        self._tell_turn(turn)
                    if chunk.text:
                        listener.said(turn, chunk.text)
                        self._tell_piece(piece)
                    if monotonic() > last:
                        raise DeadlineError(f"no end within {self._limits.turn_s} s")
        except UserVLMError as error:
            return self._fault(error)
        return None

    def _tell_piece(self, piece: dict[str, Any]) -> None:
        self._hub.tell("token", lambda: piece)

    def _tell_turn(self, turn: Turn) -> None:
        self._hub.tell("turn", turn.record)


def _log_mistake(done: Future[None]) -> None:
    """Leave a trace of what nobody foresaw; the listener heard `internal`."""
    error = done.exception()
    if error is not None:
        _LOG.error("a turn failed: %s", error, exc_info=error)
