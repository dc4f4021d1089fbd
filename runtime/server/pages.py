"""Those who watch one brain: what they get to see, and how many may.

Owns: the state that a page begins with, the stream of what happens after it, and the pulse of the
server, which also lets go of who should not be kept. Knows nothing of routes, nor of how it looks.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any, Final

import psutil
from starlette.concurrency import run_in_threadpool

from uservlm.runtime.errors import BusyError, UserVLMError
from uservlm.runtime.server.brain import Brain
from uservlm.runtime.server.chat import Served
from uservlm.runtime.server.hub import EventName
from uservlm.runtime.server.metrics import resident_bytes
from uservlm.runtime.server.responses import server_sent

BEAT_S: Final = 15.0
"""Between signs of life where nothing happens, so that proxies keep a stream open."""
LATEST: Final = 2_000
"""Events that may wait for one page; a slower one is let go, and comes back for the whole state."""


class Pages:
    """Those who watch one brain; belongs to one event loop."""

    def __init__(self, brain: Brain, served: Served) -> None:
        """Nobody watches yet."""
        self._brain, self._served = brain, served
        self._started = now()
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call has nothing to compare with
        self._open: set[asyncio.Queue[str | None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def state(self) -> dict[str, Any]:
        """Give everything a page shows; reads the users' folder."""
        about = {
            "model": self._served.name,
            "version": version("uservlm"),
            "started": self._started,
            "now": now(),
            "load": self._load(),
        }
        return {**self._brain.record(), **about}

    def stop(self) -> None:
        """End every stream, from any thread: the server is going."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end)

    async def tick(self, seconds: float = 1.0) -> None:
        """Tell how the machine fares, until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._brain.hub.tell("load", self._fare)
            _ = self._brain.scene.view  # a picture that was in view too long goes, and pages hear
            with suppress(UserVLMError):  # whoever asks for the users is told
                await run_in_threadpool(self._brain.tell_users)  # turns move people in and out
            await asyncio.sleep(seconds)

    async def sweep(self, seconds: float = 30.0) -> None:
        """Let go of who should not be kept any longer, until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            with suppress(UserVLMError):  # whoever asks for the users is told
                await run_in_threadpool(self._brain.sweep)

    async def events(self) -> AsyncGenerator[str, None]:
        """Give the state, and then whatever happens.

        What happens while the state is drawn up is told behind it, though it may be in it: pieces
        of text say where they belong. Who does not read is let go of.

        Raises:
            BusyError: with the first event, when too many watch.
        """
        if len(self._open) >= self._brain.limits.watchers:
            raise BusyError(f"{len(self._open)} pages are open")
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[str | None]()

        def put(text: str) -> None:
            if queue.qsize() < LATEST:
                queue.put_nowait(text)
            else:
                leave()
                self._open.discard(queue)  # its reader may be stuck for long
                _end(queue)

        def hear(name: EventName, event: Any) -> None:
            loop.call_soon_threadsafe(put, server_sent(event, name))

        leave = self._brain.hub.watch(hear)
        self._open.add(queue)
        try:
            yield server_sent(await run_in_threadpool(self.state), "state")
            while True:
                try:
                    event = await asyncio.wait_for(queue.get(), BEAT_S)
                except asyncio.TimeoutError:
                    event = ": beat\n\n"
                if event is None:
                    return
                yield event
        finally:
            self._open.discard(queue)
            leave()

    def _end(self) -> None:
        for queue in self._open:
            _end(queue)

    def _fare(self) -> dict[str, Any]:
        brain = self._brain
        return {
            "state": brain.state,
            "doors": brain.doors,
            "queue": brain.queue(),
            "load": self._load(),
            "now": now(),
        }

    def _load(self) -> dict[str, float]:
        return {
            "cpu_percent": self._process.cpu_percent(),
            "cores": os.cpu_count() or 1,
            "memory_bytes": resident_bytes(),
            "memory_total_bytes": psutil.virtual_memory().total,
        }


def _end(queue: asyncio.Queue[str | None]) -> None:
    """End a stream, whatever else was to come."""
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)


def now() -> str:
    """Give the time as JSON has it."""
    return datetime.now(timezone.utc).isoformat()
