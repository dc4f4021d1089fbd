"""Which KV sequence holds which user: bookkeeping only.

Owns: the numbers of the sequences, how many cells each holds, and who goes first. Knows nothing of
llama.cpp; whoever takes a number out of here must empty the sequence. One thread changes it; `all`
may be asked from any.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock


@dataclass(frozen=True)
class Owner:
    """Whose block it is; one made with an adapter says nothing of any other."""

    digest: str
    """Of the user's embedding."""
    adapter: str | None


@dataclass(frozen=True)
class Resident:
    """A user whose block is in the KV cache."""

    sequence: int
    cells: int


class Residents:
    """Blocks by their owner, the longest unused first."""

    def __init__(self, sequences: range) -> None:
        """Start with every sequence free."""
        self._free = list(sequences)
        self._held: OrderedDict[Owner, Resident] = OrderedDict()
        self._lock = Lock()

    @property
    def owners(self) -> tuple[Owner, ...]:
        """Who is resident, the longest unused first."""
        return tuple(self._held)

    @property
    def all(self) -> Mapping[Owner, Resident]:
        """Who is resident at this moment, and where."""
        with self._lock:
            return dict(self._held)

    @property
    def full(self) -> bool:
        """Whether every sequence is taken."""
        return not self._free

    def find(self, owner: Owner) -> Resident | None:
        """Give a resident and make them the last to go."""
        with self._lock:
            if owner in self._held:
                self._held.move_to_end(owner)
            return self._held.get(owner)

    def peek(self, owner: Owner) -> Resident:
        """Give a resident; who goes first stays as it is."""
        return self._held[owner]

    def next_sequence(self) -> int:
        """Give the sequence that the next `admit` will take; call it only while not `full`."""
        return self._free[0]

    def admit(self, owner: Owner, cells: int) -> Resident:
        """Note that the next sequence now holds this block."""
        resident = Resident(self._free.pop(0), cells)
        with self._lock:
            self._held[owner] = resident
        return resident

    def leave(self, owner: Owner) -> Resident | None:
        """Free a block's sequence; None when it was not resident."""
        with self._lock:
            resident = self._held.pop(owner, None)
        if resident is not None:
            self._free.append(resident.sequence)
        return resident
