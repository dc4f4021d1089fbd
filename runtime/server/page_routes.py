"""The page and what feeds it: its files, the state, the stream of events, the picture in view.

Owns: what a page gets to see, and how many may watch. Knows nothing of how it looks: `page/` does.
"""

from __future__ import annotations

import asyncio
import mimetypes
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil
from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from uservlm.runtime.errors import BusyError, StoreError
from uservlm.runtime.server.brain import Brain
from uservlm.runtime.server.chat import Served
from uservlm.runtime.server.forms import Health
from uservlm.runtime.server.hub import EventName
from uservlm.runtime.server.metrics import CONTENT_TYPE, Metrics, resident_bytes
from uservlm.runtime.server.pictures import shown
from uservlm.runtime.server.responses import EVENT_STREAM, server_sent

FOLDER: Final = Path(__file__).parent / "page"
BEAT_S: Final = 15.0
"""Between signs of life where nothing happens, so that proxies keep a stream open."""
TEXT: Final[dict[int | str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}}
}
EVENTS: Final[dict[int | str, Any]] = {
    200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}}
}
JPEG: Final[dict[int | str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}
}
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
            with suppress(StoreError):  # whoever asks for the users is told
                await run_in_threadpool(self._brain.tell_users)  # turns move people in and out
            await asyncio.sleep(seconds)

    async def sweep(self, seconds: float = 30.0) -> None:
        """Let go of who should not be kept any longer, until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            with suppress(StoreError):  # whoever asks for the users is told
                await run_in_threadpool(self._brain.forget_unseen)

    def check_room(self) -> None:
        """Make sure that one more may watch.

        Raises:
            BusyError: too many do.
        """
        if len(self._open) >= self._brain.limits.watchers:
            raise BusyError(f"{len(self._open)} pages are open")

    async def events(self) -> AsyncIterator[str]:
        """Give the state, and then whatever happens.

        What happens while the state is drawn up is told behind it, though it may be in it: pieces
        of text say where they belong.
        """
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[str | None]()

        def put(text: str) -> None:
            if queue.qsize() < LATEST:
                queue.put_nowait(text)
            else:
                leave()
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
            self._open.remove(queue)
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


def routes(brain: Brain, pages: Pages, metrics: Metrics) -> APIRouter:
    """Make them; the page's files are read once, now."""
    router = APIRouter(tags=["the page"])
    files = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir())}

    @router.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(files["index.html"], media_type="text/html")

    @router.get("/page/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        return Response(files[name], media_type=mimetypes.guess_type(name)[0])

    @router.get("/healthz")
    async def health(response: Response) -> Health:
        """Say that the server lives; 503 while it is being stopped."""
        stopping = brain.state == "draining"
        response.status_code = 503 if stopping else 200
        return Health(status="draining" if stopping else "ok")

    @router.get("/metrics", response_class=Response, responses=TEXT)
    def scrape() -> Response:
        """Give counts and durations in Prometheus' text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @router.get("/v1/state")
    def state() -> dict[str, Any]:
        """Give everything the page shows."""
        return pages.state()

    @router.get("/v1/events", response_class=StreamingResponse, responses=EVENTS)
    async def events() -> StreamingResponse:
        """Stream the state, and then whatever happens, as server-sent events."""
        pages.check_room()
        return StreamingResponse(pages.events(), media_type=EVENT_STREAM)

    one = asyncio.Semaphore(1)  # pages fetch it all at once, and decoding may take much memory

    @router.get("/v1/view/picture", response_class=Response, responses=JPEG)
    async def picture() -> Response:
        """Give the picture in view, at most 640 pixels wide or high."""
        view = brain.scene.view
        if view is None:
            raise HTTPException(404)
        async with one:
            return Response(await run_in_threadpool(shown, view.picture), media_type="image/jpeg")

    return router


def now() -> str:
    """Give the time as JSON has it."""
    return datetime.now(timezone.utc).isoformat()
