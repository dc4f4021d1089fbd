"""One turn: look, prefill, draw. Everything here runs on the worker's thread.

Owns: what happens in which order, what is counted and timed, and that a turn leaves the KV cache as
it found it however it ends. Knows nothing of threads, queues or names.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from uservlm.runtime.answers import GREEDY, Chunk, GenerationOptions, Usage
from uservlm.runtime.counters import Tally
from uservlm.runtime.errors import EngineError
from uservlm.runtime.language import LanguageModel
from uservlm.runtime.looking import Looker, Seen
from uservlm.runtime.prefill import SCRATCH, Prefilled, Prefiller
from uservlm.runtime.request import Request
from uservlm.runtime.shadow import Shadow
from uservlm.runtime.spelling import spell, until
from uservlm.runtime.timing import timed
from uservlm.runtime.users import UserEmbedding
from uservlm.runtime.worker import Work

Logits: TypeAlias = npt.NDArray[np.float32]
"""float32 [vocabulary], before the softmax."""


class Turns:
    """What can be computed about a user, each as a generator that may be closed at any time."""

    def __init__(
        self,
        language: LanguageModel,
        prefiller: Prefiller,
        looker: Looker,
        tally: Tally,
        shadow: Shadow,
        later: Callable[[Work[None]], object],
    ) -> None:
        """Work with opened parts; `later` hands in what nobody waits for."""
        self._language, self._prefiller = language, prefiller
        self._looker, self._tally = looker, tally
        self._shadow, self._later = shadow, later

    def answer(
        self, source: Seen, request: Request, options: GenerationOptions, asked: float
    ) -> Generator[Chunk, None, None]:
        """Answer a question.

        Args:
            source: the user.
            request: the question.
            options: how the answer is drawn.
            asked: `perf_counter()` when it was asked; until now it waited.
        """
        with self._turn():
            begun = perf_counter()
            look = self._looker.look(source)
            seen = perf_counter()
            prefilled, logits = self._prefill(request, look.embedding)
            usage = Usage(
                attention=request.attention,
                vision_runs=int(look.fresh),
                look_s=look.pixels_s,
                waited_s=begun - asked,
                vision_s=seen - begun,
                prefill_s=perf_counter() - seen,
                prefix_computed=prefilled.computed,
                prefix_reused=prefilled.reused,
                resident=prefilled.came,
            )
            text = ""
            with self._language.sampler(options, prefilled.sequence) as sampler:
                pieces = until(spell(self._language, sampler, request.longest), options.stop)
                for chunk in timed(pieces, asked, usage):
                    text += chunk.text
                    if chunk.usage is not None:
                        self._tally.add(answer_tokens=chunk.usage.answer_tokens)
                    yield chunk
            if prefilled.came in ("stayed", "restored"):
                said = (int(logits.argmax()), text)
                self._shadow.watch(look.embedding, request, options, said, self._again)

    def trace(
        self, source: Seen, request: Request, answer: Sequence[int] | None, positions: int
    ) -> Generator[Logits, None, None]:
        """Give the logits of each answer position.

        Args:
            source: the user.
            request: the question.
            answer: the tokens to follow; None follows the likeliest until the answer ends.
            positions: at most.
        """
        with self._turn():
            prefilled, logits = self._prefill(request, self._looker.look(source).embedding)
            yield logits
            given = None if answer is None else iter(answer)
            for _ in range(min(request.longest, positions) - 1):
                token = int(logits.argmax()) if given is None else next(given, None)
                if token is None or (given is None and self._language.ends(token)):
                    return
                self._language.decode_tokens((token,), prefilled.sequence, causal=True)
                yield (logits := self._language.logits())

    def prepare(
        self, source: Seen, head: Sequence[int], adapter: str | None, resident: bool
    ) -> Generator[UserEmbedding, None, None]:
        """Do ahead of a question what does not depend on it.

        Args:
            source: the user.
            head: the tokens of a user's block.
            adapter: computes the block.
            resident: whether to make the user resident, or only look.
        """
        with self._turn():
            embedding = self._looker.look(source).embedding
            if resident:
                came = self._prefiller.settle(embedding, head, adapter)[1]
                self._count_came(came)
            yield embedding

    def save(self) -> Generator[None, None, None]:
        """Save the blocks of those who agreed to it."""
        with self._clean():
            self._prefiller.save()
        yield

    def _tidy_later(self) -> None:
        """Hand in, again after each turn, what idle time is for."""
        if self._prefiller.unsaved:
            self._later(self.save)
        if self._looker.open:
            self._later(self._looker.release)

    def _again(self, embedding: UserEmbedding, request: Request) -> tuple[int, str]:
        """Answer greedily, uncounted; gives the likeliest first token and the text."""
        with self._clean(), self._language.sampler(GREEDY, SCRATCH) as sampler:
            self._prefiller.exact(embedding, request.tokens, request.adapter)
            first = int(self._language.logits().argmax())
            pieces = spell(self._language, sampler, request.longest)
            return first, "".join(piece.text for piece in pieces)

    def _prefill(self, request: Request, embedding: UserEmbedding) -> tuple[Prefilled, Logits]:
        """Prefill; gives the first answer token's logits too."""
        fill = self._prefiller.exact if request.attention == "exact" else self._prefiller.resident
        prefilled = fill(embedding, request.tokens, request.adapter)
        logits = self._language.logits()  # raises when not finite, before a sampler sees them
        self._tally.add(
            questions=1,
            prefix_computed=prefilled.computed,
            prefix_reused=prefilled.reused,
        )
        self._count_came(prefilled.came)
        return prefilled, logits

    def _count_came(self, came: str | None) -> None:
        self._tally.add(
            resident_builds=int(came == "built"), resident_restores=int(came == "restored")
        )

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Leave nothing behind but what idle time will see to, however the turn ends."""
        try:
            with self._clean():
                yield
        finally:
            self._tidy_later()

    @contextmanager
    def _clean(self) -> Iterator[None]:
        """Leave nothing of a question in the KV cache, however the turn ends.

        Raises:
            EngineError: the context could not be made again, see `LanguageModel.aside`.
        """
        if not self._language.open:
            raise EngineError("llama.cpp ran out of memory: load the bundle again")
        try:
            yield
        finally:
            if self._language.open:
                self._prefiller.clear()
