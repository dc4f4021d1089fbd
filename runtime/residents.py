"""Which KV sequence holds which user: bookkeeping only.

Owns: the numbers of the sequences, how many cells each holds, and who goes first. Knows nothing of
llama.cpp; whoever takes a number out of here must empty the sequence.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True)
class Resident:
    """A user whose block is in the KV cache."""

    sequence: int
    cells: int


class Residents:
    """Users by the digest of their embedding, the longest unused first."""

    def __init__(self, sequences: range) -> None:
        """Start with every sequence free."""
        self._free = list(sequences)
        self._held: OrderedDict[str, Resident] = OrderedDict()

    @property
    def cells(self) -> int:
        """KV cells held by all residents."""
        return sum(resident.cells for resident in self._held.values())

    @property
    def digests(self) -> tuple[str, ...]:
        """Who is resident, the longest unused first."""
        return tuple(self._held)

    @property
    def full(self) -> bool:
        """Whether every sequence is taken."""
        return not self._free

    def find(self, digest: str) -> Resident | None:
        """Give a resident and make them the last to go."""
        if digest in self._held:
            self._held.move_to_end(digest)
        return self._held.get(digest)

    def next_sequence(self) -> int:
        """Give the sequence that the next `admit` will take; call it only while not `full`."""
        return self._free[0]

    def admit(self, digest: str, cells: int) -> Resident:
        """Note that the next sequence now holds this user."""
        resident = Resident(self._free.pop(0), cells)
        self._held[digest] = resident
        return resident

    def leave(self, digest: str) -> Resident | None:
        """Free a user's sequence; None when they were not resident."""
        resident = self._held.pop(digest, None)
        if resident is not None:
            self._free.append(resident.sequence)
        return resident
