"""What requests and responses look like: the shapes behind the OpenAPI description.

Owns: the fields of the part of OpenAI's chat completions that one picture and one question can
answer, of errors, and what all forms have in common. Knows nothing of routes or engines, nor of our
own API (`our_forms.py`).

Fields that would change an answer and cannot be honoured (tools, several choices, log
probabilities, penalties by count) are refused by name. Others that OpenAI's clients send are let
through.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from uservlm.runtime.server.limits import Limits

LIMITS = Limits()
"""The figures that a description can name; a brain with others refuses by its own."""

TURN_ID = r"^[A-Za-z0-9_-]{1,64}$"
"""An id of a client's own."""
DataUrl = Annotated[
    str,
    StringConstraints(pattern=r"^(?i:data:image/(jpeg|jpg|png|webp)(;[\w=.-]+)*;base64,)"),
    Field(description="A picture as a data URL; nothing is fetched."),
]
UserId = Annotated[
    str, StringConstraints(min_length=1, max_length=LIMITS.name_bytes, pattern=r"\S")
]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Nothing = Annotated[list[Any], Field(max_length=0)]


class Form(BaseModel):
    """Types are as written: no text for a number."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class OurForm(Form):
    """Of our own API: what is not known is not let through."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")


class TextPart(Form):
    """Text of a message."""

    type: Literal["text"]
    text: str


class ImageUrl(Form):
    """Where a picture is."""

    url: DataUrl
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Form):
    """A picture of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Asked(Form):
    """What a person said, perhaps with their picture."""

    role: Literal["user"]
    content: str | Annotated[list[Part], Field(min_length=1, max_length=32)]


class Other(Form):
    """What is not read: the model was tuned to answer one question at a time."""

    role: Literal["system", "developer", "assistant", "tool", "function"]
    content: Any = None


Message = Annotated[Asked | Other, Field(discriminator="role")]


class StreamOptions(Form):
    """How a stream is wanted."""

    include_usage: bool = False


class Plain(Form):
    """The only format there is."""

    type: Literal["text"]


class Ours(OurForm):
    """What OpenAI's fields have no place for."""

    attention: Literal["auto", "exact", "resident"] | None = None
    deadline_s: Annotated[float, Field(gt=0, le=LIMITS.deadline_s)] | None = None
    heard_s: Annotated[float, Field(ge=0, le=3600)] = 0.0
    turn: Annotated[str, StringConstraints(pattern=TURN_ID)] | None = None
    door: Literal["http", "page"] = "http"
    pieces: Literal["tokens", "sentences"] = "tokens"
    """Of a stream: as they are made, or whole sentences without the space around them."""


class ChatRequest(Form):
    """A question, in the form of OpenAI's chat completions.

    The last user message is the question. Its picture, else the latest one before it, shows who
    asks; or `user` names somebody who is kept. Without `temperature` the answer is the likeliest.
    """

    messages: Annotated[list[Message], Field(min_length=1, max_length=512)]
    model: str | None = None
    user: UserId | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1, le=10**6)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=10**6)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=LIMITS.stops)] | None = None
    n: Literal[1] | None = None
    logprobs: Literal[False] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[Any, Any], Field(max_length=0)] | None = None
    tools: Nothing | None = None
    functions: Nothing | None = None
    response_format: Plain | None = None
    uservlm: Ours | None = None


class PromptDetails(BaseModel):
    """Of a prompt's tokens."""

    cached_tokens: int
    """Positions that were in the KV cache: the user's block."""


class TokenUsage(BaseModel):
    """What a question took, in tokens."""

    prompt_tokens: int
    """Image rows among them."""
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class Said(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    """The only one."""

    index: Literal[0] = 0
    message: Said
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class Completion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: TokenUsage
    uservlm: dict[str, Any]
    """Times in seconds, attention, and how many messages were not read."""


class ModelCard(BaseModel):
    """One model, or one of its adapters."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "uservlm"


class Models(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class ErrorDetail(BaseModel):
    """What is wrong, and the way out."""

    message: str
    type: str
    code: str
    param: str | None


class ErrorBody(BaseModel):
    """Every refusal and failure."""

    error: ErrorDetail
