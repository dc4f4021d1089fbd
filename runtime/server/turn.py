"""One turn as the brain sees it: a question, how far it has come, and where the time went.

Owns: the question's form, a turn's states, and the stages of its waterfall. Knows nothing of doors,
queues or how an answer is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final, Literal, Protocol, TypeAlias

from uservlm.runtime.answers import GREEDY, Attention, Chunk, GenerationOptions, Usage
from uservlm.runtime.image import Picture
from uservlm.runtime.server.faults import Fault
from uservlm.runtime.stream import Stream

DoorName: TypeAlias = Literal["http", "qi", "page"]
TurnState: TypeAlias = Literal["waiting", "thinking", "speaking", "answered", "failed", "cancelled"]
"""thinking: nothing said yet, and nobody is before it. The last three are ends."""
ENDS: Final = ("answered", "failed", "cancelled")


@dataclass(frozen=True)
class Question:
    """What is asked, about whom, and how the answer is wanted."""

    text: str = field(repr=False)
    image: Picture | None = field(default=None, repr=False)
    """Encoded bytes, or uint8 [H, W, 3] RGB; this or `user`."""
    user: str | None = None
    """The id of one who is kept."""
    options: GenerationOptions = GREEDY
    attention: Attention | None = None
    adapter: str | None = None
    deadline_s: float | None = None
    """To the first word; None takes the server's."""
    heard_s: float = 0.0
    """What hearing the question took its asker, for the waterfall."""
    turn: str | None = None
    """An id of the asker's own; None: one is made."""
    door: DoorName = "http"


@dataclass(frozen=True)
class Stage:
    """One bar of the waterfall."""

    name: str
    start_s: float
    """Since the question began to be heard."""
    seconds: float


class Listener(Protocol):
    """Hears one turn, in order, on a thread of the turn's own; must be quick."""

    def said(self, turn: Turn, text: str) -> None:
        """A piece of the answer."""

    def answered(self, turn: Turn) -> None:
        """The end of a whole answer: `turn.text` and `turn.usage` are there."""

    def failed(self, turn: Turn, fault: Fault) -> None:
        """The end of a turn that has no whole answer."""


class Turn:
    """A question on its way. One thread changes it, any may read it."""

    def __init__(self, name: str, question: Question) -> None:
        """Note the question, but not its picture: only its stream holds that, until the end."""
        self.id, self.door, self.user = name, question.door, question.user
        self.question, self.heard_s = question.text, question.heard_s
        self.begun = datetime.now(timezone.utc)
        self.state: TurnState = "waiting"
        self.text = ""
        self.usage: Usage | None = None
        self.fault: Fault | None = None
        self.remembered = True
        """False once its user was forgotten."""
        self._stream: Stream[Chunk] | None = None
        self._cancelled = False

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDS

    def follow(self, stream: Stream[Chunk]) -> Stream[Chunk]:
        """Be what `cancel` ends."""
        self._stream = stream
        if self._cancelled:
            stream.cancel()
        return stream

    def cancel(self) -> None:
        """End it from any thread; one that has ended stays as it is."""
        self._cancelled, stream = True, self._stream
        if stream is not None:
            stream.cancel()

    def hear(self, chunk: Chunk) -> bool:
        """Take a piece of the answer; gives whether it was the first."""
        first = self.state != "speaking"
        self.state = "speaking"
        self.text += chunk.text
        self.usage = chunk.usage or self.usage
        return first

    def end(self, fault: Fault | None) -> None:
        """Note how it ended; None: with an answer."""
        self._stream = None  # it holds the picture
        self.fault = fault
        if fault is None:
            self.state = "answered"
        else:
            self.state = "cancelled" if fault.code == "cancelled" else "failed"

    def record(self) -> dict[str, Any]:
        """Give it as the page reads it."""
        return {
            "id": self.id,
            "door": self.door,
            "user": self.user,
            "question": self.question,
            "text": self.text,
            "state": self.state,
            "begun": self.begun.isoformat(),
            "stages": [vars(stage) for stage in stages(self.usage, self.heard_s)],
            "usage": usage_record(self.usage),
            "error": self.fault and {"code": self.fault.code, "message": self.fault.message},
        }


def stages(usage: Usage | None, heard_s: float) -> tuple[Stage, ...]:
    """Lay out where the time went, one stage behind the other; nothing before the answer's end.

    `first word` is the draw of the first token, `last word` the decoding of the others. What a slow
    reader took is in neither.
    """
    if usage is None:
        return ()
    before = usage.waited_s + usage.vision_s + usage.prefill_s
    took = {
        "hear": heard_s,
        "wait": usage.waited_s,
        "look": usage.look_s,
        "vision": usage.vision_s - usage.look_s,
        "prefill": usage.prefill_s,
        "first word": usage.ttft_s - before,
        "last word": usage.decode_s,
    }
    laid, start = [], 0.0
    for name, seconds in took.items():
        laid.append(Stage(name, start, max(0.0, seconds)))
        start += laid[-1].seconds
    return tuple(laid)


def usage_record(usage: Usage | None) -> dict[str, Any] | None:
    """Give what an answer took as JSON has it."""
    if usage is None:
        return None
    return {**vars(usage), "tokens_per_s": usage.tokens_per_s}
