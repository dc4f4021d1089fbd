"""The HTTP door: every route behind one gate, as an ASGI application.

Owns: what the application is made of, its description, and what a request leaves in the log: its
method, its route's template, its status and time, and nothing of what it held.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Scope

from uservlm.runtime.server import chat_routes, hearing_routes, page_routes, users_routes
from uservlm.runtime.server.access import Door, Gate
from uservlm.runtime.server.brain import Brain
from uservlm.runtime.server.chat import Served
from uservlm.runtime.server.ears import Ears
from uservlm.runtime.server.forms import ErrorBody
from uservlm.runtime.server.hearing import Hearing
from uservlm.runtime.server.metrics import Metrics
from uservlm.runtime.server.pages import Pages
from uservlm.runtime.server.responses import add_handlers

_LOG = logging.getLogger("uservlm.http")
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""A client may write anything for one: each would be a metric, and a text in the log."""
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": ErrorBody, "description": "What is wrong, and the way out"},
    "5XX": {"model": ErrorBody, "description": "The server failed, or is being stopped"},
}


@dataclass(frozen=True)
class HttpDoor:
    """An application, and how its streams are ended."""

    app: ASGIApp
    pages: Pages


def open_http_door(
    brain: Brain, served: Served, door: Door, metrics: Metrics, ears: Ears | None = None
) -> HttpDoor:
    """Make the application; call it on the thread of its event loop."""
    pages = Pages(brain, served)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(pages.tick()), asyncio.create_task(pages.sweep())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    app = FastAPI(
        title="User-VLM on the edge",
        version=version("uservlm"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # /v1/cancel/ is no turn, but not all of them either
        responses=_ERRORS,
    )
    add_handlers(app, brain)
    app.include_router(chat_routes.routes(brain, served))
    app.include_router(users_routes.routes(brain))
    app.include_router(hearing_routes.routes(Hearing(ears, brain.limits)))
    app.include_router(page_routes.routes(brain, pages, metrics))

    def done(scope: Scope, status: int, seconds: float) -> None:
        template = route_of(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        metrics.request(method, template, status, seconds)
        _LOG.info("%s %s %s %.0f ms", method, template, status, 1000 * seconds)

    return HttpDoor(Gate(app, door, done), pages)


def route_of(scope: Scope) -> str:
    """Give the template of the route a request took; a path itself may hold a name."""
    route: BaseRoute | None = scope.get("route")
    return getattr(route, "path", "no route")
