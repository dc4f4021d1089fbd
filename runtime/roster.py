"""Who is known, and in which tiers (DESIGN section 7): what an operator is shown.

Owns: the figures of one person. Knows nothing of how anybody is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from uservlm.runtime.profiles import Profile
from uservlm.runtime.users import UserEmbedding


@dataclass(frozen=True)
class Entry:
    """One person; sizes in bytes."""

    name: str
    digest: str | None
    """Of their embedding in memory; None: it is not there."""
    embedding_bytes: int
    """In memory."""
    disk_bytes: int
    """All sealed files of theirs."""
    profile: Profile | None
    """What is written of them; None without consent."""
    cell_bytes: int = 0
    """Of their blocks in the KV cache; 0: they are not resident."""

    def resident(self, cells: Mapping[str, int], each: int) -> Entry:
        """Add what is resident of them.

        Args:
            cells: KV cells by digest.
            each: bytes of a cell.
        """
        return replace(self, cell_bytes=cells.get(self.digest or "", 0) * each)


def entry_of(
    name: str, embedding: UserEmbedding | None, profile: Profile | None, disk_bytes: int
) -> Entry:
    """Put together what two tiers know."""
    if embedding is None:
        return Entry(name, None, 0, disk_bytes, profile)
    return Entry(name, embedding.digest, embedding.features.nbytes, disk_bytes, profile)
