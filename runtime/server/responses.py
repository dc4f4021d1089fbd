"""How faults, and events for whoever watches, are written as HTTP.

Owns: the handlers of every error a route may raise. Knows nothing of what went wrong.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from uservlm.runtime.errors import UserVLMError
from uservlm.runtime.server.access import BODY_FAULTS, error_body, error_headers
from uservlm.runtime.server.brain import Brain
from uservlm.runtime.server.faults import INTERNAL, Fault

EVENT_STREAM: Final = "text/event-stream"
_NO_JSON: Final = "send a JSON object, with Content-Type: application/json"


def fault_response(fault: Fault, param: str | None = None) -> JSONResponse:
    """Write a fault."""
    return JSONResponse(error_body(fault, param), fault.status, error_headers(fault))


def server_sent(data: Any, event: str | None = None) -> str:
    """Write one server-sent event with JSON in it."""
    name = "" if event is None else f"event: {event}\n"
    return f"{name}data: {json.dumps(data, ensure_ascii=False)}\n\n"


def add_handlers(app: FastAPI, brain: Brain) -> None:
    """Answer every error of a route, and what no route foresaw, in one form."""

    @app.exception_handler(UserVLMError)
    async def ours(_: Request, error: UserVLMError) -> JSONResponse:
        return fault_response(brain.fault(error))

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        return fault_response(*_malformed(error))

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        response = fault_response(_refused(error))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def mistake(_: Request, error: Exception) -> JSONResponse:
        return fault_response(INTERNAL)  # Starlette raises it again: the log has it


def _malformed(error: RequestValidationError) -> tuple[Fault, str | None]:
    """Say what is wrong with a request, never what it held."""
    # Of what several forms say, the one that came furthest: the form that was meant.
    first = max(reversed(error.errors()), key=lambda one: len(one["loc"]))
    if first["type"] == "json_invalid":
        return Fault("invalid_request", 400, "not JSON"), None
    what, where = str(first["msg"]), first["loc"][1:]
    if first["type"] == "extra_forbidden":  # its name is the client's
        what, where = "a field here is not known", where[:-1] or ("body",)
    param = ".".join(str(part) for part in where if _is_field(part)) or None
    if param is None:
        return Fault("invalid_request", 400, _NO_JSON), None
    if first["type"] == "union_tag_invalid":  # its own words repeat what was given
        what = f"{first['ctx']['discriminator']} should be one of {first['ctx']['expected_tags']}"
    if first["type"] == "string_pattern_mismatch" and "data:image" in first["ctx"]["pattern"]:
        what = (
            "give a JPEG, PNG or WebP as a data URL, data:image/jpeg;base64,…; nothing is fetched"
        )
    return Fault("invalid_request", 400, f"{param}: {what}"), param


def _is_field(part: str | int) -> bool:
    """Whether it stands in the request too, and is no name of a form's."""
    return isinstance(part, int) or (part not in ("str", "constrained-str") and "[" not in part)


def _refused(error: HTTPException) -> Fault:
    if error.detail in BODY_FAULTS:
        return BODY_FAULTS[error.detail]
    phrase = HTTPStatus(error.status_code).phrase
    return Fault(phrase.lower().replace(" ", "_"), error.status_code, phrase)
