"""What can be wrong with a set of pictures and texts, and where in it.

Owns: the place of a record, and the two ways a set is refused: as a whole, or for one record. Knows
nothing of how a set is read (`acide.py`) or how an error is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uservlm.runtime.errors import UserVLMError


@dataclass(frozen=True)
class Place:
    """Where a record stands."""

    file: Path
    row: int
    """Counted from 1: rows of a table, lines of `metadata.jsonl`, records below a CSV's header."""

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}"


class DataError(UserVLMError):
    """A folder of pictures and texts cannot be used as it is."""


class LayoutError(DataError):
    """The folder, one of its files or the columns are not of a form that is known."""


class FormError(DataError):
    """What is to be written cannot be: an unknown form, or numbers that make no set."""


class RecordError(DataError):
    """One record cannot be used; the message names file, row, column and the way out."""

    def __init__(self, place: Place, column: str, problem: str) -> None:
        super().__init__(f"{place}, column {column}: {problem}")
        self.place = place
        self.column = column
