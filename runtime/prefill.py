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
from uservlm.runtime.residents import Owner, Resident, Residents
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
    def residents(self) -> tuple[Owner, ...]:
        """Who is resident, and with which adapter, the longest unused first."""
        return self._residents.owners

    def exact(
        self, user: UserEmbedding, tokens: Tokens, answer: int, adapter: str | None = None
    ) -> Prefilled:
        """Decode image and prompt as the one bidirectional block PaliGemma was trained with.

        Args:
            user: H_I.
            tokens: behind the image rows.
            answer: positions to keep free for the answer.
            adapter: computes the prefix, and stays on for the answer.
        """
        self._language.use_adapter(adapter)
        rows = join_rows(user.features, self._weights.rows(tokens.all))
        self._make_room(len(rows) + answer, but=None)
        self._language.decode_rows(rows, SCRATCH, causal=False)
        return Prefilled(computed=len(rows), reused=0, built=False)

    def resident(
        self, user: UserEmbedding, tokens: Tokens, answer: int, adapter: str | None = None
    ) -> Prefilled:
        """Decode the question as a second block behind the user's own, which is made once.

        Args:
            user: H_I.
            tokens: behind the image rows; must have a head.
            answer: positions to keep free for the answer.
            adapter: computes the question and the user's block, and stays on for the answer.

        Raises:
            AttentionError: the question cannot be cut from the head of the prompt.
        """
        if tokens.head == 0:
            raise AttentionError(
                "this question joins with the prompt in front of it, so it cannot be asked of a "
                "resident user: ask with attention='exact'"
            )
        owner = Owner(user.digest, adapter)
        known = self._residents.find(owner)
        cells = len(user.features) + tokens.head
        self._make_room((0 if known else cells) + len(tokens.tail) + answer, but=owner)
        self._language.use_adapter(adapter)
        resident = known or self._build(owner, user, tokens.all[: tokens.head])
        self._language.copy(resident.sequence, SCRATCH)
        self._language.decode_tokens(tokens.tail, SCRATCH, causal=False)
        fresh = 0 if known else cells
        return Prefilled(fresh + len(tokens.tail), cells - fresh, built=known is None)

    def clear_scratch(self) -> None:
        """Empty the scratch sequence, whatever state a question left it in."""
        self._language.drop(SCRATCH)

    def forget(self, digest: str) -> None:
        """Drop a user's blocks, whatever adapter made them."""
        for owner in self._residents.owners:
            if owner.digest == digest:
                self._leave(owner)

    def _leave(self, owner: Owner) -> None:
        resident = self._residents.leave(owner)
        if resident is not None:
            self._language.drop(resident.sequence)

    def _build(self, owner: Owner, user: UserEmbedding, head: tuple[int, ...]) -> Resident:
        rows = join_rows(user.features, self._weights.rows(head))
        sequence, done = self._residents.next_sequence(), False
        try:
            self._language.decode_rows(rows, sequence, causal=False)
            done = True
            return self._residents.admit(owner, len(rows))
        finally:
            if not done:  # failed or interrupted: a half-made block must not stay
                self._language.drop(sequence)

    def _make_room(self, cells: int, but: Owner | None) -> None:
        """Let residents go, the longest unused first, until cells and a sequence are free."""
        wanted_sequence = but is not None and but not in self._residents.owners
        for owner in self._residents.owners:
            enough = self._residents.cells + cells <= self._language.cells
            if enough and not (wanted_sequence and self._residents.full):
                return
            if owner != but:
                self._leave(owner)
