"""Sets of pictures and texts in the form of ACIDE's on Hugging Face, read as streams and checked.

    python -m uservlm.models.acide FOLDER

Owns: turning the rows of such a folder into records that can be relied upon. Where the rows lie is
`acide_files.py`'s matter, how they are read `acide_parquet.py`'s and `acide_loose.py`'s, what a
record is `acide_records.py`'s; a user of sets needs this module alone. Nothing of a set is kept in
memory, and no picture is decoded before somebody asks for its pixels.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import track

from uservlm.models import acide_loose, acide_parquet
from uservlm.models.acide_files import DataFile, data_files
from uservlm.models.acide_records import (
    ANNOTATED,
    COLUMNS,
    OPTIONAL,
    Annotation,
    Asked,
    Captioned,
    Kind,
    Preference,
    Row,
    StoredPicture,
    plain_question,
)
from uservlm.models.errors import DataError, LayoutError, Place, RecordError

__all__ = [
    "Annotation",
    "Asked",
    "Captioned",
    "Counts",
    "Kind",
    "Place",
    "Preference",
    "StoredPicture",
    "check",
    "kind_of",
    "plain_question",
    "read_asked",
    "read_captions",
    "read_preferences",
]

TELLING: Final[Mapping[Kind, tuple[str, ...]]] = {
    "preferences": ("chosen", "rejected"),
    "asked": ("question", "answer"),
    "captions": ("text",),
}
"""Columns that tell a kind, tried in this order."""

TURN: Final = "<|im_start|>"
"""Begins a turn in User-VLM's template; within a question it would be a second one."""


@dataclass(frozen=True)
class Counts:
    """What a whole set holds."""

    kind: Kind
    rows: int
    categories: Mapping[str, int]
    """Records of each category; empty for a set without them."""


def kind_of(folder: Path, split: str | None = None) -> Kind:
    """Tell what a set's records are, from the columns of its first data file.

    Raises:
        LayoutError: no set, or its columns are not those of any kind.
    """
    first = data_files(folder, split)[0]
    return _kind(first, _columns(first))


def read_captions(folder: Path, split: str | None = None) -> Iterator[Captioned]:
    """Read pictures with captions, of one split ("train", "validation", "test") or of all.

    Raises, when the stream gets there:
        LayoutError: no such set, a damaged file, or another kind of set.
        RecordError: a record without text or picture.
    """
    for _, row in _rows(folder, split, ("captions",)):
        yield Captioned(_text(row, "text"), _picture(row), _annotation(row), row.place)


def read_asked(folder: Path, split: str | None = None) -> Iterator[Asked]:
    """Read questions with reference answers; of preferences, the chosen answer is the reference.

    Raises, when the stream gets there:
        LayoutError: no such set, a damaged file, or another kind of set.
        RecordError: a record without question, answer or picture.
    """
    for kind, row in _rows(folder, split, ("asked", "preferences")):
        question, answer = ("question", "answer") if kind == "asked" else ("prompt", "chosen")
        category = _text(row, "category") if "category" in row.values else None
        yield Asked(
            _question(row, question),
            _text(row, answer),
            _picture(row),
            category,
            _annotation(row),
            row.place,
        )


def read_preferences(folder: Path, split: str | None = None) -> Iterator[Preference]:
    """Read questions with a better and a worse answer.

    Raises, when the stream gets there:
        LayoutError: no such set, a damaged file, or another kind of set.
        RecordError: a record without prompt, answers, category or picture, or with equal answers.
    """
    for _, row in _rows(folder, split, ("preferences",)):
        chosen, rejected = _text(row, "chosen"), _text(row, "rejected")
        if chosen == rejected:
            raise RecordError(row.place, "rejected", "the same as chosen: no preference; drop it")
        yield Preference(
            _question(row, "prompt"),
            chosen,
            rejected,
            _picture(row),
            _text(row, "category"),
            _annotation(row),
            row.place,
        )


READERS: Final[Mapping[Kind, Callable[..., Iterator[Captioned | Asked | Preference]]]] = {
    "captions": read_captions,
    "asked": read_asked,
    "preferences": read_preferences,
}


def check(folder: Path, split: str | None = None) -> Counts:
    """Read a whole set and decode every picture of it.

    Raises:
        LayoutError, RecordError: the first thing that is wrong, or a set without records.
    """
    kind, rows, categories = kind_of(folder, split), 0, Counter[str]()
    console = Console(stderr=True)
    records = track(
        READERS[kind](folder, split),
        "checking",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    for record in records:
        record.picture.pixels()
        rows += 1
        if not isinstance(record, Captioned) and record.category is not None:
            categories[record.category] += 1
    if not rows:
        raise LayoutError(f"{folder} holds no records: fetch or write the set again")
    return Counts(kind, rows, dict(sorted(categories.items())))


def _rows(folder: Path, split: str | None, kinds: Sequence[Kind]) -> Iterator[tuple[Kind, Row]]:
    """Give every row of the set; each file must be of one of `kinds`."""
    for file in data_files(folder, split):
        there, rows = _columns(file), acide_parquet.rows if file.is_table else acide_loose.rows
        kind = _kind(file, there)
        if kind not in kinds:
            raise LayoutError(
                f"{file.path} holds {kind} (columns {', '.join(there)}) where {' or '.join(kinds)} "
                f"are read: give another folder, or read it with read_{kind}"
            )
        wanted = (*COLUMNS[kind], *(name for name in OPTIONAL if name in there))
        for row in rows(file.path, tuple(dict.fromkeys(wanted))):
            yield kind, row


def _kind(file: DataFile, there: Sequence[str]) -> Kind:
    """Tell a file's kind by its columns; all that this kind needs must be there, once."""
    twice = next((name for name in there if there.count(name) > 1), None)
    if twice is not None:
        raise LayoutError(f"{file.path} has the column {twice!r} twice: drop or rename one")
    kind = next((kind for kind, names in TELLING.items() if set(names) & set(there)), None)
    if kind is None:
        forms = "; ".join(f"{', '.join(names)} ({kind})" for kind, names in COLUMNS.items())
        raise LayoutError(
            f"{file.path} has the columns {', '.join(there)}: rename them to those of a known kind "
            f"of record, beside {file.picture_column}: {forms}"
        )
    missing = [name for name in (*COLUMNS[kind], file.picture_column) if name not in there]
    if missing:
        raise LayoutError(
            f"{file.path} holds {kind} but lacks the column {', '.join(missing)} "
            f"(it has {', '.join(there)}): rename or add it"
        )
    return kind


def _columns(file: DataFile) -> tuple[str, ...]:
    return acide_parquet.columns(file.path) if file.is_table else acide_loose.columns(file.path)


def _text(row: Row, column: str) -> str:
    """Give a text without white space at its ends; it must say something."""
    value = row.values.get(column)
    if not isinstance(value, str):
        kind = "nothing" if value is None else f"{type(value).__name__}"
        raise RecordError(row.place, column, f"holds {kind}, not text: write one or drop the row")
    text = value.strip()
    if not text:
        raise RecordError(row.place, column, "is empty: write a text or drop the row")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RecordError(row.place, column, f"is no text ({error.reason}): mend it") from error
    return text


def _question(row: Row, column: str) -> str:
    question = plain_question(_text(row, column))
    if not question:
        raise RecordError(row.place, column, "asks nothing: write a question or drop the row")
    if TURN in question:
        raise RecordError(row.place, column, f"holds {TURN} within: give one question alone")
    return question


def _picture(row: Row) -> StoredPicture:
    return StoredPicture(row.picture, row.place)


def _annotation(row: Row) -> Annotation | None:
    if any(name not in row.values for name in ANNOTATED):
        return None
    return Annotation(*(_text(row, name) for name in ANNOTATED))


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a set and count its records; 2 and one line where something is wrong."""
    parser = argparse.ArgumentParser(prog="uservlm.models.acide", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", help='"train", "validation" or "test"; all without it')
    given = parser.parse_args(arguments)
    try:
        counts = check(given.folder, given.split)
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{given.folder}: {counts.rows:,} {counts.kind}, every picture decodes")
    for category, rows in counts.categories.items():
        print(f"{rows:>10,}  {category if category.isprintable() else repr(category)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
