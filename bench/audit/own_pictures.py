"""Own pictures for an audit: a folder, and a CSV that says who and what is in each picture.

Owns: the CSV's form and its checks. Knows nothing of answers, nor of what can be compared with what
(`comparable.py`). The CSV is UTF-8, with commas or semicolons, its first line names the columns:

    file     required: a picture inside the folder
    person   optional: the same text for every picture of the same person
    pair     optional: the same text for two pictures that differ in one attribute only
    …        every other column is an attribute, under a name of your own

An empty cell means: not known. What an audit may write of a picture is `OwnPicture.ref`: a file's
name can be a person's.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uservlm.bench.audit.findings import PictureRef
from uservlm.runtime.errors import ImageError, UserVLMError
from uservlm.runtime.image import open_picture

FILE, PERSON, PAIR = "file", "person", "pair"


class PicturesError(UserVLMError):
    """The folder or its CSV is not what an audit can use: names file, line, column, the way out."""


@dataclass(frozen=True)
class OwnPicture:
    """One line of the CSV."""

    index: int
    """From 0, in the order of the CSV."""
    line: int
    """In the CSV, from 1, its header being 1."""
    path: Path
    """Of the picture, links followed."""
    file: str
    """Its name in the folder, as the CSV has it."""
    person: str
    """Blank: not known."""
    pair: str
    """Blank: none."""
    attributes: Mapping[str, str]
    """By column; blank: not known."""

    @property
    def title(self) -> str:
        """What a reader of the page may know of it."""
        return f"line {self.line} of the table"

    @property
    def unit(self) -> Hashable:
        """Who is in it, as far as is known: pictures of one unit are never independent."""
        if self.person:
            return PERSON, self.person
        return (PAIR, self.pair) if self.pair else (FILE, self.index)

    def ref(self, keep: bool) -> PictureRef:
        """Give what an audit writes of it: its file's name with --keep-pictures alone."""
        return PictureRef(self.title, index=self.index, file=self.file if keep else None)


@dataclass(frozen=True)
class OwnPictures:
    """A folder's pictures, as its CSV has them."""

    table: Path
    """The CSV, for messages."""
    pictures: tuple[OwnPicture, ...]
    """One or more; all have the same attributes, in the order of the columns."""


def read(folder: Path, table: Path) -> OwnPictures:
    """Read the CSV and look at every picture, so that nothing fails in the middle of an audit.

    Args:
        folder: of the pictures.
        table: the CSV, anywhere.

    Raises:
        PicturesError: names the file, the line, the column and the way out.
    """
    if not folder.is_dir():
        raise PicturesError(f"{folder} is no folder: give the one with the pictures")
    header, lines = _cells(table)
    columns = _columns(table, header)
    if not lines:
        raise PicturesError(f"{table} has no line below its header: one picture a line")
    pictures = tuple(
        _picture(folder, table, columns, index, line, cells)
        for index, (line, cells) in enumerate(lines)
    )
    seen: dict[Path, int] = {}
    for picture in pictures:
        if picture.path in seen:
            raise PicturesError(
                f"{table}, line {picture.line}, column {FILE}: the picture of line "
                f"{seen[picture.path]} again; leave one of the lines out"
            )
        seen[picture.path] = picture.line
    return OwnPictures(table, pictures)


def inside(folder: Path, name: str) -> Path:
    """Give the real path of a file in `folder`, links followed.

    Raises:
        PicturesError: it leads out of the folder.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise PicturesError(
            f"{name!r} leads out of {folder}: give names inside the folder, and no links out of it"
        )
    return path


def _cells(table: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Give the header and every line that is not blank, with its number."""
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise PicturesError(f"{table} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise PicturesError(
            f"{table}, line {line}: not UTF-8; save the table as CSV in UTF-8"
        ) from error
    first = text.partition("\n")[0]
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=";" if first.count(";") > first.count(",") else ",",
        strict=True,
    )
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise PicturesError(
            f"{table}, line {reader.line_num}: {error}; put a cell with quotes, commas or "
            'line breaks between quotes, and double the quotes in it: "so ""to"" say"'
        ) from error
    kept = [(line, cells) for line, cells in lines if any(cells)]
    if not kept:
        raise PicturesError(f"{table} is empty: its first line names the columns, {FILE} first")
    return kept[0][1], kept[1:]


def _columns(table: Path, header: Sequence[str]) -> tuple[str, ...]:
    """Names of the columns; ours in small letters however they are written."""
    own = {FILE, PERSON, PAIR}
    names = tuple(name.lower() if name.lower() in own else name for name in header)
    for name, times in Counter(names).items():
        if not name:
            raise PicturesError(f"{table}, line 1: a column without a name; name or remove it")
        if times > 1:
            raise PicturesError(f"{table}, line 1: {times} columns are called {name!r}; "
                                "rename or remove one")  # fmt: skip
    if FILE not in names:
        raise PicturesError(
            f"{table}, line 1: no column {FILE!r} among {', '.join(map(repr, names))}; "
            f"name the column with the pictures' files {FILE!r}"
        )
    return names


def _picture(
    folder: Path,
    table: Path,
    columns: Sequence[str],
    index: int,
    line: int,
    cells: Sequence[str],
) -> OwnPicture:
    if len(cells) != len(columns):
        raise PicturesError(
            f"{table}, line {line}: {len(cells)} cells below {len(columns)} columns; "
            "a cell that holds the separator stands between quotes"
        )
    row = dict(zip(columns, cells, strict=True))
    where = f"{table}, line {line}, column {FILE}"
    if not row[FILE]:
        raise PicturesError(f"{where}: blank; name a picture in {folder}, or remove the line")
    try:
        file = row.pop(FILE)
        path = inside(folder, file)
        open_picture(path)
    except (PicturesError, ImageError) as error:
        raise PicturesError(f"{where}: {error}") from error
    return OwnPicture(index, line, path, file, row.pop(PERSON, ""), row.pop(PAIR, ""), row)
