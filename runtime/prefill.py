"""A prefix into the KV cache, in one of two ways: exact or resident (DESIGN section 5).

Owns: what is decoded as one block, which users are resident, and who leaves for another. Knows
nothing of pictures, options, time or disks: who leaves is offered to `SavedStates`, who comes is
asked for there. An exact question lives in the scratch sequence, one to a resident behind their
block in their own; both are dropped after the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from uservlm.runtime.errors import AttentionError
from uservlm.runtime.language import LanguageModel
from uservlm.runtime.prefix import Tokens, join_rows
from uservlm.runtime.residents import Owner, Resident, Residents
from uservlm.runtime.users import UserEmbedding, check_kept
from uservlm.runtime.weights import Weights

SCRATCH = 0
"""The sequence of an exact question; residents have the others, and are asked in their own."""


State = npt.NDArray[np.uint8]
"""What `LanguageModel.save` gave."""


class SavedStates(Protocol):
    """Where the block of a user may be when it is not in the KV cache."""

    def load(self, owner: Owner) -> State | None:
        """Give a block that was saved by this very bundle, build and settings."""

    def wants(self, owner: Owner) -> bool:
        """Whether the block may be saved, and is not."""

    def save(self, owner: Owner, state: State) -> None:
        """Save a block that is wanted."""


Came: TypeAlias = Literal["stayed", "restored", "built"]
"""How a block came to be resident: it was, or it was saved, or it had to be computed."""


@dataclass(frozen=True)
class Prefilled:
    """How a prefix came to be in a sequence, in positions."""

    sequence: int
    """Where the answer goes on; `clear` it afterwards."""

    computed: int
    reused: int
    came: Came | None = None
    """How the user's block came to be resident; None for exact."""


class Prefiller:
    """Puts prefixes into sequences; the last position then has logits."""

    def __init__(
        self, language: LanguageModel, weights: Weights, sequences: int, saved: SavedStates
    ) -> None:
        """Take over the KV cache of `language`; `sequences` counts the scratch sequence too."""
        self._language, self._weights, self._saved = language, weights, saved
        self._residents = Residents(range(SCRATCH + 1, sequences))

    @property
    def residents(self) -> tuple[Owner, ...]:
        """Who is resident, and with which adapter, the longest unused first."""
        return self._residents.owners

    @property
    def cells(self) -> dict[str, int]:
        """KV cells of each resident user, by the digest of their embedding; from any thread."""
        total: dict[str, int] = {}
        for owner, resident in self._residents.all.items():
            total[owner.digest] = total.get(owner.digest, 0) + resident.cells
        return total

    def exact(self, user: UserEmbedding, tokens: Tokens, adapter: str | None = None) -> Prefilled:
        """Decode image and prompt as the one bidirectional block PaliGemma was trained with.

        Args:
            user: H_I.
            tokens: behind the image rows.
            adapter: computes the prefix, and stays on for the answer.

        Raises:
            EmbeddingError: the user was forgotten.
        """
        check_kept(user)
        self._language.use_adapter(adapter)
        rows = join_rows(user.features, self._weights.rows(tokens.all))
        self._decode(rows, SCRATCH)
        return Prefilled(SCRATCH, computed=len(rows), reused=0)

    def resident(
        self, user: UserEmbedding, tokens: Tokens, adapter: str | None = None
    ) -> Prefilled:
        """Decode the question as a second block behind the user's own, which is made once.

        Args:
            user: H_I.
            tokens: behind the image rows; must have a head.
            adapter: computes the question and the user's block, and stays on for the answer.

        Raises:
            AttentionError: the question cannot be cut from the head of the prompt.
            EmbeddingError: the user was forgotten.
        """
        if tokens.head == 0:
            raise AttentionError(
                "this question joins with the prompt in front of it, so it cannot be asked of a "
                "resident user: ask with attention='exact'"
            )
        head, tail = tokens.all[: tokens.head], tokens.tail
        resident, came = self.settle(user, head, adapter)
        self._language.use_adapter(adapter)
        self._language.decode_tokens(tail, resident.sequence, causal=False)
        fresh = resident.cells if came == "built" else 0
        return Prefilled(resident.sequence, fresh + len(tail), resident.cells - fresh, came)

    def settle(
        self, user: UserEmbedding, head: Sequence[int], adapter: str | None = None
    ) -> tuple[Resident, Came]:
        """Make sure that a user is resident.

        Args:
            user: H_I.
            head: the tokens of their block, `<bos>` first.
            adapter: computes the block.

        Raises:
            EmbeddingError: the user was forgotten.
        """
        check_kept(user)
        owner, cells = Owner(user.digest, adapter), len(user.features) + len(head)
        known = self._residents.find(owner)
        if known:
            return known, "stayed"
        while self._residents.full:
            self._leave(self._residents.owners[0])
        state = self._saved.load(owner)
        if state is not None:
            self._language.restore(self._residents.next_sequence(), state)
            state.fill(0)
            return self._residents.admit(owner, cells), "restored"
        self._language.use_adapter(adapter)
        self._decode(
            join_rows(user.features, self._weights.rows(head)), self._residents.next_sequence()
        )
        return self._residents.admit(owner, cells), "built"

    def clear(self) -> None:
        """Drop every question and answer, whatever state they were left in; users' blocks stay."""
        self._language.drop(SCRATCH)
        for owner in self._residents.owners:
            resident = self._residents.peek(owner)
            if self._language.length(resident.sequence) > resident.cells:
                self._language.drop(resident.sequence, behind=resident.cells)

    @property
    def unsaved(self) -> bool:
        """Whether a block may be saved and is not."""
        return any(self._saved.wants(owner) for owner in self._residents.owners)

    def save(self) -> None:
        """Save every block that may be saved and is not."""
        for owner in self._residents.owners:
            self._save(owner)

    def forget(self, *digests: str) -> None:
        """Drop users' blocks, whatever adapter made them, and overwrite what they were made of.

        The cells of a dropped sequence keep their values until others come, and so do the buffers
        of the last computation: the context is made anew, and who stays is carried over.
        """
        for owner in self._residents.owners:
            if owner.digest in digests:
                self._drop(owner)
        with self.aside():
            pass

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Make way: give the memory of the context back for a while; who is resident stays so."""
        stay = [self._residents.peek(owner) for owner in self._residents.owners]
        states = [(one.sequence, self._language.save(one.sequence)) for one in stay]
        try:
            with self._language.aside():
                yield
        finally:
            for sequence, state in states if self._language.open else ():
                self._language.restore(sequence, state)
                state.fill(0)

    def _leave(self, owner: Owner) -> None:
        self._save(owner)
        self._drop(owner)

    def _drop(self, owner: Owner) -> None:
        resident = self._residents.leave(owner)
        if resident is not None:
            self._language.drop(resident.sequence)

    def _save(self, owner: Owner) -> None:
        if self._saved.wants(owner):
            state = self._language.save(self._residents.peek(owner).sequence)
            try:
                self._saved.save(owner, state)
            finally:
                state.fill(0)

    def _decode(self, rows: npt.NDArray[np.float32], sequence: int) -> None:
        """Decode one bidirectional block; failed or interrupted, nothing of it stays."""
        done = False
        try:
            self._language.decode_rows(rows, sequence, causal=False)
            done = True
        finally:
            rows.fill(0)  # image features, divided: no trace of a face is left in freed memory
            if not done:
                self._language.drop(sequence)
