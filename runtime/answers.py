"""What a caller wants from an answer, and what comes back.

Owns: the values that cross the border of the runtime, and their ranges. Knows nothing of how an
answer is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from uservlm.runtime.errors import RequestError

Attention: TypeAlias = Literal["auto", "exact", "resident"]
"""How the prefix is attended to (DESIGN section 5); auto follows the manifest's measurement."""

Finish: TypeAlias = Literal["stop", "length"]
"""stop: the model ended its answer. length: max_new_tokens or the end of the context came first."""


@dataclass(frozen=True)
class GenerationOptions:
    """How the answer is drawn; the defaults are User-VLM's own: greedy."""

    max_new_tokens: int | None = None
    """Longest answer in tokens; None takes the manifest's."""
    temperature: float = 0.0
    """0 is greedy: the options below but `repeat_penalty` then have no effect."""
    top_k: int = 0
    """Keep the k most likely tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the most likely tokens that together reach this probability."""
    min_p: float = 0.0
    """Keep tokens at least this likely, relative to the most likely."""
    repeat_penalty: float = 1.0
    """Divides the logit of tokens already in the answer; 1 does nothing."""
    seed: int | None = None
    """Same seed, same answer; None draws one."""
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these that appears in it; none of it is given out."""

    @property
    def greedy(self) -> bool:
        """Whether the same question gets the same answer, the likeliest, without any penalty."""
        return self.temperature == 0 and self.repeat_penalty == 1

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            RequestError: names the option, its value and its range.
        """
        longest = 1 if self.max_new_tokens is None else self.max_new_tokens
        _check("max_new_tokens", longest, longest >= 1, "1 or more")
        _check("temperature", self.temperature, 0 <= self.temperature < float("inf"), "0 or more")
        _check("top_k", self.top_k, self.top_k >= 0, "0 or more")
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "above 0, up to 1")
        _check("min_p", self.min_p, 0 <= self.min_p < 1, "0 or more, below 1")
        _check(
            "repeat_penalty", self.repeat_penalty, 0 < self.repeat_penalty < 10, "above 0, below 10"
        )
        seed = 0 if self.seed is None else self.seed
        _check("seed", seed, 0 <= seed < 2**32 - 1, "0 or more, below 2³² - 1")
        _check("stop", self.stop, all(self.stop), "texts that are not empty")


@dataclass(frozen=True)
class Usage:
    """What one answer took; times in seconds."""

    attention: Literal["exact", "resident"]
    vision_runs: int
    """1 when the picture was new, 0 when its embedding was at hand."""
    vision_s: float
    """From the picture to its embedding, decoding and resizing included."""
    prefill_s: float
    """For the prefix, whatever had to be computed of it."""
    prefix_computed: int
    """Positions of the prefix (image rows, `<bos>`, prompt) that were computed."""
    prefix_reused: int
    """Positions of the prefix that were in the KV cache."""
    look_s: float = 0.0
    """Of `vision_s`, for decoding and resizing."""
    waited_s: float = 0.0
    """In the queue, behind other questions."""
    resident: Literal["stayed", "restored", "built"] | None = None
    """How the user's block came to be in the KV cache; None for exact."""
    ttft_s: float = 0.0
    """From the question to the first token."""
    decode_s: float = 0.0
    """From the first token to the last; a reader that takes its time does not count."""
    answer_tokens: int = 0
    """Without the token that ends the answer."""
    finish: Finish = "length"

    @property
    def prefix_tokens(self) -> int:
        """Length of the prefix."""
        return self.prefix_computed + self.prefix_reused

    @property
    def tokens_per_s(self) -> float:
        """Decoding speed without the first token, which prefill paid for; 0 with no other."""
        return (self.answer_tokens - 1) / self.decode_s if self.answer_tokens > 1 else 0.0


@dataclass(frozen=True)
class Chunk:
    """A piece of an answer."""

    text: str
    """What is new; whole characters only. Empty at most in the last chunk."""
    elapsed_s: float
    """Seconds since the question."""
    usage: Usage | None = None
    """Only in the last chunk."""


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    text: str
    usage: Usage


def join(chunks: Iterable[Chunk]) -> Answer:
    """Read a stream to its end."""
    parts = list(chunks)
    usage = parts[-1].usage
    assert usage is not None  # the last chunk has it
    return Answer("".join(part.text for part in parts), usage)


def _check(name: str, value: object, good: bool, wanted: str) -> None:
    if not good:
        raise RequestError(f"{name}={value}: give {wanted}")


GREEDY: Final = GenerationOptions()
