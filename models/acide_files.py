"""Which files of a folder hold the records of a set, and of which split.

Owns: finding them, the rule that tells a split from a path, shards that are missing, files that are
not what their name says. Knows nothing of what stands in a record.

Three forms are known. As on the hub: `data/train-00000-of-00002.parquet`, and what the hub converts
by itself, `default/train/0000.parquet`. As `datasets.save_to_disk` leaves it, which is how ACIDE
published user-vlm-lazy-dpo: `data-00000-of-00002.arrow`. And loose pictures beside a
`metadata.jsonl` or `metadata.csv` that names them (`datasets`' "imagefolder").
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uservlm.converters.files import POINTER
from uservlm.models.errors import LayoutError

TABLES: Final = ("*.parquet", "data-*.arrow")
METADATA: Final = ("metadata.jsonl", "metadata.csv")

SPLITS: Final = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
"""A whole word in a path, and the split it means: the names that `datasets` takes
(huggingface.co/docs/hub/datasets-file-names-and-splits)."""

_SHARD: Final = re.compile(r"(?P<stem>.*)-(?P<index>\d+)-of-(?P<count>\d+)(?:-[0-9a-f]+)?")


@dataclass(frozen=True)
class DataFile:
    """One file with records."""

    path: Path
    split: str
    """"train", "validation" or "test"."""

    @property
    def is_table(self) -> bool:
        """Whether pictures lie in it (Parquet, Arrow) and not beside it."""
        return self.path.suffix in (".parquet", ".arrow")

    @property
    def picture_column(self) -> str:
        """The column that holds a picture or its name."""
        return "image" if self.is_table else "file_name"


def data_files(folder: Path, split: str | None = None) -> tuple[DataFile, ...]:
    """Give the files of one split, or of all, in order of their names.

    A file belongs to the split that the last word of SPLITS in its path below `folder` means, and
    to "train" where there is none.

    Raises:
        LayoutError: no folder, no data in it, two forms at once, no such split, a shard missing.
    """
    with reading(folder):
        if not folder.is_dir():
            raise LayoutError(f"{folder} is not a folder: give the one that holds the set")
        tables, metadata = _find(folder, TABLES), _find(folder, METADATA)
    _check_one_form(folder, tables, metadata)
    found = [DataFile(path, _split_of(path.relative_to(folder))) for path in tables or metadata]
    chosen = tuple(file for file in found if split in (None, file.split))
    if not chosen:
        there = ", ".join(sorted({file.split for file in found}))
        raise LayoutError(f"{folder} has no split {split!r}: it has {there}")
    _check_shards([file.path for file in chosen])
    return chosen


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the operating system says while `path` is read into one sentence (LayoutError)."""
    try:
        yield
    except OSError as error:
        raise LayoutError(
            f"{path} cannot be read: {error.strerror or error}; check its place and permissions"
        ) from error


def check_content(path: Path) -> None:
    """Refuse a data file that is empty or stands in for another.

    Raises:
        LayoutError: no plain file, empty, or a Git LFS pointer.
    """
    with reading(path):
        if not path.is_file():
            raise LayoutError(f"{path} is no plain file: fetch the set again")
        with path.open("rb") as file:
            start = file.read(len(POINTER))
    if not start:
        raise LayoutError(f"{path} is empty: fetch it again")
    if start == POINTER:
        raise LayoutError(
            f"{path} is a Git LFS pointer, not the file itself: run `git lfs pull` in its folder"
        )


def _find(folder: Path, patterns: Sequence[str]) -> list[Path]:
    found = (path for pattern in patterns for path in folder.rglob(pattern))
    return sorted(path for path in found if not _hidden(path.relative_to(folder)))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _split_of(path: Path) -> str:
    words = re.split(r"[^a-z]+", path.with_suffix("").as_posix().lower())
    return next((SPLITS[word] for word in reversed(words) if word in SPLITS), "train")


def _check_one_form(folder: Path, tables: list[Path], metadata: list[Path]) -> None:
    if not tables and not metadata:
        raise LayoutError(
            f"{folder} holds no *.parquet, data-*.arrow, metadata.jsonl or metadata.csv: fetch "
            "a set (hf download ACIDE/NAME --repo-type dataset --local-dir FOLDER) or write one "
            "(python -m uservlm.models.dataset FOLDER --form instruct)"
        )
    if tables and metadata:
        raise LayoutError(f"{tables[0]} and {metadata[0]} are two forms of a set: keep one")
    beside = [path.parent for path in metadata]
    twice = next((place for place in beside if beside.count(place) > 1), None)
    if twice:
        raise LayoutError(f"{twice} holds both {' and '.join(METADATA)}: keep one")
    kinds = sorted({path.suffix for path in tables})
    if len(kinds) > 1:
        raise LayoutError(f"{folder} holds both {' and '.join(kinds)}: keep one form of the set")


def _check_shards(paths: Sequence[Path]) -> None:
    """A name that says "3 of 4" promises the other three."""
    there: dict[tuple[Path, str, str], dict[int, int]] = defaultdict(dict)
    for path in paths:
        match = _SHARD.fullmatch(path.stem)
        if match:
            group = there[path.parent, match["stem"], match["count"]]
            group[int(match["index"])] = len(match["index"])
    for (parent, stem, count), shards in there.items():
        missing = next(i for i in range(len(shards) + 1) if i not in shards)
        if missing < int(count):
            width = next(iter(shards.values()))
            raise LayoutError(
                f"{parent / f'{stem}-{missing:0{width}d}-of-{count}'}* is missing: fetch it too"
            )
