"""A prefix into the KV cache, in one of two ways: exact or resident (DESIGN section 5).

Owns: what is decoded as one block, which users are resident, and who leaves when cells run out.
Knows nothing of pictures, options or time. A question always lives in the scratch sequence, which
the engine empties after it.
"""

from __future__ import annotations

from dataclasses import dataclass

from uservlm.runtime.errors import AttentionError
from uservlm.runtime.language import LanguageModel
from uservlm.runtime.prefix import Tokens, join_rows
from uservlm.runtime.residents import Resident, Residents
from uservlm.runtime.users import UserEmbedding
from uservlm.runtime.weights import Weights

SCRATCH = 0
"""The sequence of the question being answered; residents have the others."""


@dataclass(frozen=True)
class Prefilled:
    """How a prefix came to be in the scratch sequence, in positions."""

    computed: int
    reused: int
    built: bool
    """Whether a user block was made resident for it."""


class Prefiller:
    """Puts prefixes into the scratch sequence, whose last position then has logits."""

    def __init__(self, language: LanguageModel, weights: Weights, sequences: int) -> None:
        """Take over the KV cache of `language`; `sequences` counts the scratch sequence too."""
        self._language, self._weights = language, weights
        self._residents = Residents(range(SCRATCH + 1, sequences))

    @property
    def residents(self) -> tuple[str, ...]:
        """Digests of the users who are resident, the longest unused first."""
        return self._residents.digests

    def exact(self, user: UserEmbedding, tokens: Tokens, answer: int) -> Prefilled:
        """Decode image and prompt as the one bidirectional block PaliGemma was trained with.

        Args:
            user: H_I.
            tokens: behind the image rows.
            answer: positions to keep free for the answer.
        """
        rows = join_rows(user.features, self._weights.rows(tokens.all))
        self._make_room(len(rows) + answer, but=None)
        self._language.decode_rows(rows, SCRATCH, causal=False)
        return Prefilled(computed=len(rows), reused=0, built=False)

    def resident(self, user: UserEmbedding, tokens: Tokens, answer: int) -> Prefilled:
        """Decode the question as a second block behind the user's own, which is made once.

        Args:
            user: H_I.
            tokens: behind the image rows; must have a head.
            answer: positions to keep free for the answer.

        Raises:
            AttentionError: the question cannot be cut from the head of the prompt.
        """
        if tokens.head == 0:
            raise AttentionError(
                "this question joins with the prompt in front of it, so it cannot be asked of a "
                "resident user: ask with attention='exact'"
            )
        known = self._residents.find(user.digest)
        cells = len(user.features) + tokens.head
        self._make_room((0 if known else cells) + len(tokens.tail) + answer, but=user.digest)
        resident = known or self._build(user, tokens.all[: tokens.head])
        self._language.copy(resident.sequence, SCRATCH)
        self._language.decode_tokens(tokens.tail, SCRATCH, causal=False)
        fresh = 0 if known else cells
        return Prefilled(fresh + len(tokens.tail), cells - fresh, built=known is None)

    def clear_scratch(self) -> None:
        """Empty the scratch sequence, whatever state a question left it in."""
        self._language.drop(SCRATCH)

    def forget(self, digest: str) -> None:
        """Drop a user's block, if there is one."""
        resident = self._residents.leave(digest)
        if resident is not None:
            self._language.drop(resident.sequence)

    def _build(self, user: UserEmbedding, head: tuple[int, ...]) -> Resident:
        rows = join_rows(user.features, self._weights.rows(head))
        sequence, done = self._residents.next_sequence(), False
        try:
            self._language.decode_rows(rows, sequence, causal=False)
            done = True
            return self._residents.admit(user.digest, len(rows))
        finally:
            if not done:  # failed or interrupted: a half-made block must not stay
                self._language.drop(sequence)

    def _make_room(self, cells: int, but: str | None) -> None:
        """Let residents go, the longest unused first, until cells and a sequence are free."""
        wanted_sequence = but is not None and but not in self._residents.digests
        for digest in self._residents.digests:
            enough = self._residents.cells + cells <= self._language.cells
            if enough and not (wanted_sequence and self._residents.full):
                return
            if digest != but:
                self.forget(digest)
