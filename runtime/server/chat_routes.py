"""The routes of OpenAI's API: chat completions and the list of models.

Owns: when a response begins (with the first word, so that a refusal still has its status) and how
a stream ends. Knows nothing of how messages become a question (`chat.py`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from uservlm.runtime.server import chat
from uservlm.runtime.server.access import error_body
from uservlm.runtime.server.brain import Brain
from uservlm.runtime.server.faults import UnknownModelError
from uservlm.runtime.server.feed import Event, Feed, heard_by
from uservlm.runtime.server.forms import ChatRequest, Completion, ModelCard, Models
from uservlm.runtime.server.responses import EVENT_STREAM, fault_response, server_sent
from uservlm.runtime.server.sentences import Sentences
from uservlm.runtime.server.turn import Turn


@dataclass(frozen=True)
class _Answer:
    """A turn whose response is being made."""

    request: Request
    form: ChatRequest
    turn: Turn
    feed: Feed
    model: str
    created: int


def routes(brain: Brain, served: chat.Served) -> APIRouter:
    """Make them."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"])

    @router.get("/models")
    def models() -> Models:
        """List the model, and each of its adapters as one."""
        return Models(data=[ModelCard(id=one, created=served.created) for one in served.models])

    @router.get("/models/{model}")
    def model(model: str) -> ModelCard:
        """Say that a model is served."""
        _check_model(model, served)
        return ModelCard(id=model, created=served.created)

    @router.post(
        "/chat/completions",
        response_model=Completion,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    )
    async def complete(form: ChatRequest, request: Request) -> Response:
        """Answer a question about whom a picture shows, or about somebody who is kept."""
        if form.model is not None:
            _check_model(form.model, served)
        feed = Feed()
        turn = await run_in_threadpool(lambda: brain.ask(chat.question_of(form, served), feed))
        model, created = form.model or served.unnamed, int(time.time())
        answer = _Answer(request, form, turn, feed, model, created)
        return await (_stream(answer) if form.stream else _whole(answer))

    return router


def _check_model(model: str, served: chat.Served) -> None:
    if model not in served.models:
        raise UnknownModelError(f"no model {model!r} is served")


async def _whole(answer: _Answer) -> Response:
    async with heard_by(answer.request, answer.turn):
        while not (event := await answer.feed.next()).ended:
            pass
    if event.fault is not None:
        return fault_response(event.fault)
    skipped = chat.unread(answer.form)
    whole = chat.completion(answer.turn, answer.model, answer.created, skipped)
    return JSONResponse(whole.model_dump())


async def _stream(answer: _Answer) -> Response:
    events = _events(answer)
    first = await anext(events)
    if first.fault is not None:
        await events.aclose()
        return fault_response(first.fault)
    return StreamingResponse(_server_sent(answer, first, events), media_type=EVENT_STREAM)


async def _events(answer: _Answer) -> AsyncGenerator[Event, None]:
    """Give a turn's events to its end; the turn ends when its client goes."""
    async with heard_by(answer.request, answer.turn):
        ended = False
        while not ended:
            event = await answer.feed.next()
            ended = event.ended
            yield event


def _pieces(event: Event, sentences: Sentences | None) -> list[str]:
    """Give what a client is sent of an event: the text as it came, or the sentences it ended."""
    if sentences is None:
        return [event.text] if event.text else []
    whole = sentences.add(event.text)
    return whole + sentences.finish() if event.ended and event.fault is None else whole


async def _server_sent(
    answer: _Answer, first: Event, rest: AsyncGenerator[Event, None]
) -> AsyncIterator[str]:
    """Write the events as OpenAI does; `[DONE]` only behind a whole answer."""

    def piece(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        return chat.chunk(answer.turn, answer.model, answer.created, delta, finish)

    sentences = Sentences() if chat.by_sentence(answer.form) else None
    async with aclosing(rest):
        if sentences is None:
            yield server_sent(piece({"role": "assistant", "content": first.text}))
        else:
            yield server_sent(piece({"role": "assistant"}))
            for text in _pieces(first, sentences):
                yield server_sent(piece({"content": text}))
        last = first
        async for last in rest:
            for text in _pieces(last, sentences):
                yield server_sent(piece({"content": text}))
    if last.fault is not None:
        yield server_sent(error_body(last.fault))
        return
    usage = answer.turn.usage
    assert usage is not None  # it was answered
    end = piece({}, usage.finish)
    yield server_sent({**end, "uservlm": chat.extras(answer.turn, chat.unread(answer.form))})
    if answer.form.stream_options is not None and answer.form.stream_options.include_usage:
        tokens = chat.token_usage(usage).model_dump()
        yield server_sent({**piece({}), "choices": [], "usage": tokens})
    yield "data: [DONE]\n\n"
