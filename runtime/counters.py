"""What an engine has done, in numbers.

Owns: the counts and their lock. Knows nothing of what is counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from threading import Lock


@dataclass(frozen=True)
class Counters:
    """What an engine has done since it was loaded."""

    questions: int = 0
    """Prefixes that were prefilled: answers begun and logits asked for."""
    vision_runs: int = 0
    prefix_computed: int = 0
    """Prefix positions that went through the language model."""
    prefix_reused: int = 0
    """Prefix positions that were found in the KV cache."""
    answer_tokens: int = 0
    """Of answers that were read to their end."""
    resident_builds: int = 0
    """User blocks prefilled for resident attention."""
    resident_restores: int = 0
    """User blocks read from disk instead."""


class Tally:
    """Adds up; safe to use from several threads."""

    def __init__(self) -> None:
        self._sums, self._lock = Counters(), Lock()

    def add(self, **more: int) -> None:
        """Add to the named counts."""
        with self._lock:
            sums = {name: getattr(self._sums, name) + value for name, value in more.items()}
            self._sums = replace(self._sums, **sums)

    def snapshot(self) -> Counters:
        """Give the counts as they are now."""
        return self._sums
