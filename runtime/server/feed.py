"""From a turn's thread to an event loop, and back when the client goes.

Owns: the queue between them, and that a turn ends when nobody is left to hear it. Knows nothing of
HTTP's forms.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request

from uservlm.runtime.server.faults import Fault
from uservlm.runtime.server.turn import Turn


@dataclass(frozen=True)
class Event:
    """A piece of text, or the end: with a fault, or whole."""

    text: str = ""
    ended: bool = False
    fault: Fault | None = None


class Feed:
    """A listener whose events are awaited on the loop that made it."""

    def __init__(self) -> None:
        """Belong to the running loop."""
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def said(self, turn: Turn, text: str) -> None:
        """Hand a piece over."""
        self._put(Event(text))

    def answered(self, turn: Turn) -> None:
        """Hand the end over."""
        self._put(Event(ended=True))

    def failed(self, turn: Turn, fault: Fault) -> None:
        """Hand the end over."""
        self._put(Event(ended=True, fault=fault))

    async def next(self) -> Event:
        """Wait for what comes next."""
        return await self._events.get()

    def _put(self, event: Event) -> None:
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)


@asynccontextmanager
async def heard_by(request: Request, turn: Turn) -> AsyncIterator[None]:
    """End the turn when its client goes, or whoever reads it leaves this block."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        turn.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        turn.cancel()
