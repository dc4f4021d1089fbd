"""OpenAI's chat completions, for one question about one person.

Owns: how a list of messages becomes a question, and an answer a completion or its chunks. Knows
nothing of routes or queues.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from uservlm.runtime.answers import GenerationOptions, Usage
from uservlm.runtime.errors import AttentionError, ImageError, QuestionError, RequestError
from uservlm.runtime.server.faults import SamplingError
from uservlm.runtime.server.forms import (
    LIMITS,
    Asked,
    ChatRequest,
    Choice,
    Completion,
    ImagePart,
    Ours,
    PromptDetails,
    Said,
    TextPart,
    TokenUsage,
)
from uservlm.runtime.server.turn import Question, Turn, usage_record

SEPARATOR = ":"
"""Between a model's name and an adapter's."""


@dataclass(frozen=True)
class Served:
    """What this server answers with."""

    name: str
    adapters: tuple[str, ...]
    created: int
    """Seconds since 1970; when the server started."""
    plain: bool = True
    """Whether the name alone may be asked for; without it, every model is an adapter."""
    usual: str | None = None
    """The adapter that answers who asks for no model; None: the name alone says it."""
    attends_freely: bool = True
    """Whether a client may choose the attention and the temperature; not where an audit was of one
    attention and of the likeliest answers."""

    @property
    def models(self) -> tuple[str, ...]:
        """The ids that a client may ask for."""
        alone = (self.name,) if self.plain else ()
        return (*alone, *(f"{self.name}{SEPARATOR}{one}" for one in self.adapters))

    @property
    def unnamed(self) -> str:
        """The id that answers whoever names none."""
        return f"{self.name}{SEPARATOR}{self.usual}" if self.usual and not self.plain else self.name


def question_of(form: ChatRequest, served: Served) -> Question:
    """Read a request; its model was checked.

    Raises:
        QuestionError: no user message holds text.
        RequestError: several pictures of who asks, or two limits that disagree.
        ImageError: a picture is no base64.
        AttentionError: one is asked for, and may not be chosen here.
        SamplingError: the answer is to be drawn by chance, and only the likeliest was audited.
    """
    ours = form.uservlm or Ours()
    if ours.attention is not None and not served.attends_freely:
        raise AttentionError(
            f"attention={ours.attention!r}: this server attends as it was audited; leave it out"
        )
    options = _options(form)
    if not served.attends_freely and not options.greedy:
        raise SamplingError(
            f"temperature={options.temperature:g}: this server gives the likeliest answer, as it "
            "was audited; leave it out"
        )
    asked = _last_asked(form)
    text, pictures = _parts(asked)
    if len(pictures) > 1:
        raise RequestError("one picture shows who asks: give one, not several")
    if form.user is None and not pictures:
        pictures = _earlier_pictures(form, asked)[-1:]
    image = picture_of(pictures[0]) if pictures else None
    return Question(
        text=text,
        image=image,
        user=form.user,
        options=options,
        attention=ours.attention,
        adapter=_adapter(form.model, served),
        deadline_s=ours.deadline_s,
        heard_s=ours.heard_s,
        turn=ours.turn,
        door=ours.door,
    )


def picture_of(url: str) -> bytes:
    """Decode a data URL.

    Raises:
        ImageError: not base64.
    """
    try:
        return base64.b64decode("".join(url.partition(",")[2].split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"the picture is no base64: {error}") from error


def unread(form: ChatRequest) -> int:
    """Count the messages the model is not told: each question is answered for itself."""
    return len(form.messages) - 1


def by_sentence(form: ChatRequest) -> bool:
    """Whether a stream is wanted in whole sentences."""
    return form.uservlm is not None and form.uservlm.pieces == "sentences"


def completion(turn: Turn, model: str, created: int, skipped: int) -> Completion:
    """Give a whole answer."""
    assert turn.usage is not None  # it was answered
    choice = Choice(message=Said(content=turn.text), finish_reason=turn.usage.finish)
    return Completion(
        id=turn.id,
        created=created,
        model=model,
        choices=[choice],
        usage=token_usage(turn.usage),
        uservlm=extras(turn, skipped),
    )


def chunk(
    turn: Turn, model: str, created: int, delta: dict[str, str], finish: str | None = None
) -> dict[str, Any]:
    """Give a piece of an answer."""
    return {
        "id": turn.id,
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}],
    }


def token_usage(usage: Usage) -> TokenUsage:
    """Give what an answer took, in tokens."""
    return TokenUsage(
        prompt_tokens=usage.prefix_tokens,
        completion_tokens=usage.answer_tokens,
        total_tokens=usage.prefix_tokens + usage.answer_tokens,
        prompt_tokens_details=PromptDetails(cached_tokens=usage.prefix_reused),
    )


def extras(turn: Turn, skipped: int) -> dict[str, Any]:
    """Give what OpenAI's form has no place for."""
    return {**(usage_record(turn.usage) or {}), "unread_messages": skipped}


def _last_asked(form: ChatRequest) -> Asked:
    asked = [message for message in form.messages if isinstance(message, Asked)]
    if not asked:
        raise QuestionError("no message is a user's: ask something")
    return asked[-1]


def _parts(message: Asked) -> tuple[str, list[str]]:
    if isinstance(message.content, str):
        return message.content, []
    texts = [part.text for part in message.content if isinstance(part, TextPart)]
    pictures = [part.image_url.url for part in message.content if isinstance(part, ImagePart)]
    return "\n".join(texts), pictures


def _earlier_pictures(form: ChatRequest, last: Asked) -> list[str]:
    """Clients repeat the conversation: the picture may be in an earlier message."""
    earlier = [one for one in form.messages if isinstance(one, Asked) and one is not last]
    return [picture for message in earlier for picture in _parts(message)[1]]


def _adapter(model: str | None, served: Served) -> str | None:
    if model is None or model == served.name:
        return None
    return model[len(served.name + SEPARATOR) :]


def _options(form: ChatRequest) -> GenerationOptions:
    limits = {form.max_tokens, form.max_completion_tokens} - {None}
    if len(limits) > 1:
        raise RequestError("max_tokens and max_completion_tokens disagree: give one")
    longest = next(iter(limits), None)
    stop = (form.stop,) if isinstance(form.stop, str) else tuple(form.stop or ())
    return GenerationOptions(
        max_new_tokens=None if longest is None else min(longest, LIMITS.answer_tokens),
        temperature=form.temperature or 0.0,
        top_p=1.0 if form.top_p is None else form.top_p,
        seed=form.seed,
        stop=stop,
    )
