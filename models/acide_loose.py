"""Records beside loose pictures: `metadata.jsonl` or `metadata.csv`, each naming a `file_name`.

Owns: reading those files line by line and finding the named picture below their folder. Knows
nothing of what the other columns mean. The form is the "imagefolder" of `datasets`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, TextIO

from uservlm.models.acide_files import check_content, reading
from uservlm.models.acide_records import Row
from uservlm.models.errors import LayoutError, Place, RecordError

PICTURE: Final = "file_name"
LONGEST: Final = 1 << 20
"""Characters of a line; a longer one is no record but a file of another kind."""


def columns(path: Path) -> tuple[str, ...]:
    """Name the columns: a CSV's header, the fields of the first JSON object.

    Raises:
        LayoutError: not readable, not UTF-8, or without records.
    """
    first = next(_records(path), None)
    if first is None:
        raise LayoutError(f"{path} holds no records: fetch or write the set again")
    return tuple(first[1])


def rows(path: Path, wanted: Sequence[str]) -> Iterator[Row]:
    """Read the texts `wanted` of each record and find its picture, which is not opened.

    Raises:
        LayoutError: not readable, or not UTF-8.
        RecordError: not a record, or its picture is missing or outside the folder.
    """
    for place, record in _records(path):
        picture = _beside(place, record.get(PICTURE))
        yield Row(place, {name: record.get(name) for name in wanted}, picture)


def _records(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    check_content(path)
    parse = _json_lines if path.suffix == ".jsonl" else _csv_records
    try:
        with reading(path), path.open(encoding="utf-8-sig", newline="") as file:
            yield from parse(path, file)
    except UnicodeDecodeError as error:
        raise LayoutError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from error


def _json_lines(path: Path, file: TextIO) -> Iterator[tuple[Place, dict[str, Any]]]:
    number = 0
    while line := file.readline(LONGEST):
        number += 1
        place = Place(path, number)
        if len(line) == LONGEST:
            raise RecordError(place, "(all)", f"longer than {LONGEST:,} characters: no record")
        if line.isspace():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RecordError(place, "(all)", f"not JSON ({error}): mend this line") from error
        if not isinstance(record, dict):
            raise RecordError(place, "(all)", "not a JSON object: write {…} on this line")
        yield place, record


def _csv_records(path: Path, file: TextIO) -> Iterator[tuple[Place, dict[str, Any]]]:
    number = 0
    try:
        for number, record in enumerate(csv.DictReader(file, strict=True), 1):
            if None in record:
                raise RecordError(
                    Place(path, number), "(all)", "more fields than the header: quote the commas"
                )
            yield Place(path, number), record
    except csv.Error as error:
        raise RecordError(
            Place(path, number + 1), "(all)", f"not CSV ({error}): mend this record"
        ) from error


def _beside(place: Place, name: object) -> Path:
    """Find a picture below the folder of its metadata; neither a name nor a link may lead out."""
    if not isinstance(name, str) or not name:
        raise RecordError(place, PICTURE, "names no picture: write its path below this folder")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise RecordError(
            place, PICTURE, f"{name!r} leads out of the folder: name a file below it, with /"
        )
    folder = place.file.parent
    picture = folder / path
    try:
        there = picture.is_file()
        below = there and picture.resolve().is_relative_to(folder.resolve())
    except OSError as error:
        raise RecordError(place, PICTURE, f"{name!r}: {error.strerror or error}") from error
    if not there:
        raise RecordError(place, PICTURE, f"no picture {name!r}: put it there or drop the row")
    if not below:
        raise RecordError(
            place, PICTURE, f"{name!r} leads out of the folder by a link: put the picture itself "
            "there (cp -rL; a set from the hub: hf download with --local-dir)",
        )  # fmt: skip
    return picture
