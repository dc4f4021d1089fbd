"""A question, checked: its tokens, how it will be attended to, how long its answer may be.

Owns: what may be asked of one bundle. Knows nothing of the KV cache, of vision or of time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from uservlm.runtime.adapters import choose
from uservlm.runtime.agreement import LiveAgreement
from uservlm.runtime.answers import Attention, GenerationOptions
from uservlm.runtime.errors import AttentionError, QuestionError
from uservlm.runtime.manifest import Manifest
from uservlm.runtime.prefix import Tokens, check_length, head_text, join_tokens

Mode: TypeAlias = Literal["exact", "resident"]


class Tokenizer(Protocol):
    """What is needed of a language model; `language.LanguageModel` is one."""

    bos: int
    cells: int
    """KV cells."""
    block: int
    """Longest prefix."""

    def tokenize(self, text: str) -> list[int]:
        """Split text into tokens, without `<bos>`."""


@dataclass(frozen=True)
class Request:
    """A question that can be prefilled."""

    tokens: Tokens
    attention: Mode
    longest: int
    """Answer tokens at most; 1 or more."""
    adapter: str | None = None
    """The one to compute with."""
    auto: bool = False
    """Whether the measurements chose the attention, and not the caller."""


class Requests:
    """Checks the questions that are put to one bundle."""

    def __init__(
        self,
        manifest: Manifest,
        tokenizer: Tokenizer,
        attention: Attention,
        adapter: str | None = None,
        live: LiveAgreement | None = None,
    ) -> None:
        """Tokenise what is the same for every question.

        Args:
            manifest: of the bundle.
            tokenizer: of the language model.
            attention: for questions that ask for none of their own.
            adapter: likewise; "none" and None are none.
            live: what was measured since; "auto" leaves resident when it is not faithful here.

        Raises:
            AttentionError: no such attention.
            AdapterError: no such adapter.
        """
        self._live = live
        self._manifest, self._tokenizer, self._attention = manifest, tokenizer, attention
        self.adapter = choose(adapter, None, manifest)
        resolve(attention, manifest, self.adapter)  # a wrong one shows now
        self._head = tokenizer.tokenize(head_text(manifest.prompt.template))
        self._positions = min(tokenizer.cells, manifest.architecture.context)

    @property
    def attention(self) -> Mode:
        """What a question gets that asks for no attention and no adapter of its own."""
        return self.mode(None, None)[0]

    @property
    def head(self) -> tuple[int, ...]:
        """The tokens that stand in every user's block, `<bos>` first."""
        return (self._tokenizer.bos, *self._head)

    def mode(self, attention: Attention | None, adapter: str | None) -> tuple[Mode, str | None]:
        """Decide attention and adapter of a question that asks for these, or for none of its own.

        Raises:
            AttentionError: no such attention.
            AdapterError: no such adapter.
        """
        chosen = choose(adapter, self.adapter, self._manifest)
        wanted = self._attention if attention is None else attention
        mode = resolve(wanted, self._manifest, chosen)
        doubted = self._live is not None and self._live.faithful(chosen) is False
        if wanted == "auto" and doubted:
            mode = "exact"
        return mode, chosen

    def tokens(self, question: str) -> Tokens:
        """Tokenise a question in its prompt.

        Raises:
            QuestionError: blank, or too long for the context.
        """
        if not question.strip():
            raise QuestionError("the question is blank: ask something")
        try:
            prompt = self._tokenizer.tokenize(self._manifest.prompt.fill(question))
        except UnicodeEncodeError as error:  # half a surrogate pair, as undecodable input leaves it
            raise QuestionError(f"the question is not Unicode text: {error.reason}") from error
        tokens = join_tokens(self._tokenizer.bos, self._head, prompt)
        room = min(self._tokenizer.block, self._positions - 1)
        check_length(self._manifest.architecture.image_tokens, tokens, room)
        return tokens

    def check(
        self,
        question: str,
        attention: Attention | None,
        options: GenerationOptions,
        adapter: str | None = None,
    ) -> Request:
        """Check a question.

        A question whose words join with the prompt in front of it has no head; unless resident was
        asked for by name it is attended to exactly, and its usage says so.

        Raises:
            QuestionError: see `tokens`.
            AttentionError: no such attention.
            AdapterError: no such adapter.
        """
        tokens = self.tokens(question)
        mode, chosen = self.mode(attention, adapter)
        if tokens.head == 0 and attention != "resident":
            mode = "exact"
        asked = attention or self._attention
        auto = asked == "auto" and self._manifest.mask == "paligemma"  # else there is no question
        wanted = options.max_new_tokens or self._manifest.prompt.max_new_tokens
        prefix = self._manifest.architecture.image_tokens + len(tokens.all)
        return Request(tokens, mode, min(wanted, self._positions - prefix), chosen, auto)


def resolve(attention: str, manifest: Manifest, adapter: str | None = None) -> Mode:
    """Turn what was asked for into what is done: auto follows the manifest's measurement.

    A checkpoint that was tuned user-first is computed as it was tuned: resident.

    Args:
        attention: auto, exact or resident.
        manifest: of the bundle.
        adapter: the one that is on, which has a measurement of its own.

    Raises:
        AttentionError: no such attention.
    """
    if attention == "exact":
        return "exact"
    if attention == "resident":
        return "resident"
    if attention != "auto":
        raise AttentionError(f"attention={attention!r}: give auto, exact or resident")
    if manifest.mask == "user-first":
        return "resident"
    measured = manifest.resident if adapter is None else manifest.adapters[adapter].resident
    return "resident" if measured is not None and measured.faithful else "exact"


def roomiest(attention: str, manifest: Manifest) -> Mode:
    """Give resident if some adapter, or none, gets it: the room for it is made once, at the start.

    Raises:
        AttentionError: no such attention.
    """
    modes = {resolve(attention, manifest, adapter) for adapter in (None, *manifest.adapters)}
    return "resident" if "resident" in modes else "exact"
