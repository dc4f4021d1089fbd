"""Who may come in: hosts, origins, tokens and sizes, before any route sees a request.

Owns: the refusals at the door and the headers of every response. Knows nothing of routes but which
ones are public, and nothing of bundles.

A server on loopback is reached by every web page its user opens: a page may post to it across
origins, or point its own name at 127.0.0.1 (DNS rebinding). So a request must name a host that is
ours, and one that comes from a page must come from our own. `Sec-Fetch-Site` and `Origin` are set
by browsers and cannot be set by pages.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hmac import compare_digest
from time import perf_counter
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from uservlm.runtime.server.faults import Fault
from uservlm.runtime.server.limits import Limits

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
PUBLIC: Final = ("/", "/healthz", "/page/")
"""What needs no token: a page without anybody in it, and that the server lives."""

CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Of every response."""
_DISCARDED: Final = 4
"""Times the limit of a body: so much of a refused one is read, and no more."""
_DISCARD_S: Final = 2.0
"""Seconds at most for that: whoever may not come in holds no connection."""
_NO_HOST: Final = Fault(
    "host_refused", 421, "the Host header does not name this server: use the address it printed"
)
_NO_ORIGIN: Final = Fault("origin_refused", 403, "requests of other sites' pages are refused")
_NO_TOKEN: Final = Fault(
    "token_needed", 401, "give the server's token: Authorization: Bearer TOKEN"
)
_NO_BODY: Final = Fault("body_refused", 400, "this request takes no body: leave it out")
_TOO_LARGE: Final = Fault("request_too_large", 413, "the request's body is too large")
_TOO_SLOW: Final = Fault("request_too_slow", 408, "the request's body did not arrive in time")

Done: TypeAlias = Callable[[Scope, int, float], None]
"""Told of each request that is over: its scope, status and seconds."""


@dataclass(frozen=True)
class Door:
    """Who may come in."""

    token: str | None
    """None: everybody who reaches the address, which must be loopback then."""
    hosts: tuple[str, ...] | None
    """Names by which the server may be called, without port; None: any, since a token is asked."""
    limits: Limits


class Gate:
    """ASGI middleware, outermost: refuses, bounds bodies, and sets headers."""

    def __init__(self, app: ASGIApp, door: Door, done: Done) -> None:
        """Stand before `app`."""
        self._app, self._door, self._done = app, door, done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = perf_counter(), 499  # who goes before the response begins
        refused = refusal(scope, self._door)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            body = _Body(receive, self._door.limits)
            if refused is None:
                await self._app(scope, body.receive, answer)
            else:
                await body.discard()
                await _refuse(refused, answer)
        finally:
            self._done(scope, status, perf_counter() - begun)


def refusal(scope: Scope, door: Door) -> Fault | None:
    """Say why a request may not come in; None: it may."""
    headers = Headers(scope=scope)
    if door.hosts is not None and host_of(headers.get("host", "")) not in door.hosts:
        return _NO_HOST
    if _foreign(headers):
        return _NO_ORIGIN
    path = scope["path"]
    public = path in PUBLIC or path.startswith("/page/")
    if door.token is not None and not public and not _holds(headers, door.token):
        return _NO_TOKEN
    if scope["method"] not in ("POST", "PUT", "PATCH") and _has_body(headers):
        return _NO_BODY
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > door.limits.body_bytes:
        return _TOO_LARGE
    return None


def host_of(header: str) -> str:
    """Take the port and brackets off a Host header, in lower case."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def error_body(fault: Fault, param: str | None = None) -> dict[str, dict[str, str | None]]:
    """Give a fault in the form that OpenAI's clients read."""
    kind = "server_error" if fault.status >= 500 else "invalid_request_error"
    return {"error": {"message": fault.message, "type": kind, "code": fault.code, "param": param}}


def error_headers(fault: Fault) -> dict[str, str]:
    """Give what a fault adds to the headers."""
    headers = {}
    if fault.retry_after_s is not None:
        headers["Retry-After"] = str(fault.retry_after_s)
    if fault.status in (408, 409):
        headers["X-Should-Retry"] = "false"  # OpenAI's client would ask a cancelled turn again
    if fault.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def _foreign(headers: Headers) -> bool:
    """Whether another site's page sends this."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    if origin is None:
        return False
    try:
        from_where = urlsplit(origin).netloc.lower()
    except ValueError:  # no address at all
        return True
    return not from_where or from_where != headers.get("host", "").lower()


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _holds(headers: Headers, token: str) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    same = compare_digest(given.strip().encode(), token.encode())
    return same and scheme.lower() == "bearer"


async def _refuse(fault: Fault, send: Send) -> None:
    body = json.dumps(error_body(fault)).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    headers |= {name.lower(): value for name, value in error_headers(fault).items()}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": fault.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


class _Body:
    """A request's body, counted and timed as it comes.

    One that is refused is read on for a while: who closes a connection on a client that is still
    sending takes the answer away from it.
    """

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive, self._limits = receive, limits
        self._count, self._whole = 0, False
        self._until = asyncio.get_running_loop().time() + limits.body_s

    async def receive(self) -> Message:
        """Give the next message.

        Raises:
            HTTPException: 413 or 408; whoever reads the body lets it through.
        """
        if self._whole:
            return await self._receive()
        try:
            message = await self._next()
        except asyncio.TimeoutError:
            raise HTTPException(_TOO_SLOW.status, _TOO_SLOW.code) from None
        if self._count > self._limits.body_bytes:
            await self.discard()
            raise HTTPException(_TOO_LARGE.status, _TOO_LARGE.code)
        return message

    async def discard(self) -> None:
        """Read the rest and keep nothing of it, unless it is too much or comes too slowly."""
        soon = asyncio.get_running_loop().time() + _DISCARD_S
        self._until = min(self._until, soon)
        with suppress(asyncio.TimeoutError):
            while not self._whole and self._count < _DISCARDED * self._limits.body_bytes:
                await self._next()

    async def _next(self) -> Message:
        left = self._until - asyncio.get_running_loop().time()
        message = await asyncio.wait_for(self._receive(), left)
        self._count += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        return message


BODY_FAULTS: Final = {_TOO_LARGE.code: _TOO_LARGE, _TOO_SLOW.code: _TOO_SLOW}
"""What a bounded body raises, by the exception's detail."""
