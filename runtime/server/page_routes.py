"""The routes of the page and of whoever watches over the server.

Owns: the page's files, read once, and the forms of what `pages.py` gives. Knows nothing of how the
page looks: `page/` does.
"""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from uservlm.runtime.errors import ImageError
from uservlm.runtime.server.brain import Brain
from uservlm.runtime.server.metrics import CONTENT_TYPE, Metrics
from uservlm.runtime.server.our_forms import Health
from uservlm.runtime.server.pages import Pages
from uservlm.runtime.server.pictures import shown
from uservlm.runtime.server.responses import EVENT_STREAM

FOLDER: Final = Path(__file__).parent / "page"
TEXT: Final[dict[int | str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}}
}
EVENTS: Final[dict[int | str, Any]] = {
    200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}}
}
JPEG: Final[dict[int | str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}
}


def routes(brain: Brain, pages: Pages, metrics: Metrics) -> APIRouter:
    """Make them; the page's files are read once, now."""
    router = APIRouter(tags=["the page"])
    _add_files(router)

    @router.head("/healthz", include_in_schema=False)
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
        stream = pages.events()
        first = await anext(stream)  # now, so that a refusal has its status
        return StreamingResponse(_all(first, stream), media_type=EVENT_STREAM)

    one = asyncio.Semaphore(1)  # pages fetch it all at once, and decoding may take much memory

    @router.get("/v1/view/picture", response_class=Response, responses=JPEG)
    async def picture() -> Response:
        """Give the picture in view, at most 640 pixels wide or high."""
        view = brain.scene.view
        if view is None:
            raise HTTPException(404)
        async with one:
            try:
                small = await run_in_threadpool(shown, view.picture)
            except ImageError:  # damaged; whoever gave it was told
                raise HTTPException(404) from None
        return Response(small, media_type="image/jpeg")

    return router


def _add_files(router: APIRouter) -> None:
    files = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir())}

    @router.head("/", include_in_schema=False)
    @router.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(files["index.html"], media_type="text/html")

    @router.get("/page/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        return Response(files[name], media_type=mimetypes.guess_type(name)[0])


async def _all(first: str, rest: AsyncGenerator[str, None]) -> AsyncIterator[str]:
    async with aclosing(rest):
        yield first
        async for event in rest:
            yield event
