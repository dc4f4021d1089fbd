"""Records of a table: Parquet as the hub has it, Arrow as `datasets.save_to_disk` leaves it.

Owns: reading rows of those files little by little, and what pyarrow says of damaged ones. Knows
nothing of what the columns mean, except that `image` is Hugging Face's: a struct of `bytes` (the
encoded picture) and `path`.

pyarrow reads both forms by itself. `datasets` would bring twelve packages more (pandas and aiohttp
among them), and beside what constraints.txt pins pip finds only its 2.14.4 of 2023, which cannot be
imported with pyarrow 26.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from uservlm.models.acide_files import check_content
from uservlm.models.acide_records import Row
from uservlm.models.errors import LayoutError, Place, RecordError

if TYPE_CHECKING:
    import pyarrow

PICTURE: Final = "image"
ROWS: Final = 16
"""Taken out of a table at once: with faces of 40 kB under a megabyte."""
BUFFER: Final = 1 << 20
"""Bytes of a column read ahead; without it pyarrow holds a row group's whole column."""


def columns(path: Path) -> tuple[str, ...]:
    """Name the columns of a table.

    Raises:
        LayoutError: not the file it should be, damaged, or pyarrow is not installed.
    """
    with _Table(path) as table:
        return table.columns


def rows(path: Path, wanted: Sequence[str]) -> Iterator[Row]:
    """Read the texts `wanted` and the picture of each row; nothing else is read from the disk.

    Raises:
        LayoutError: as `columns`, or a column holds something else than text or pictures.
        RecordError: a row without a picture.
    """
    with _Table(path) as table:
        with table.damage():
            _check_types(path, table.schema, wanted)
        for number, values in enumerate(table.values([*wanted, PICTURE]), 1):
            place = Place(path, number)
            yield Row(place, values, _picture(place, values.pop(PICTURE)))


class _Table:
    """An open file; what goes wrong in it is a LayoutError."""

    def __init__(self, path: Path) -> None:
        check_content(path)
        self._path = path
        self._pyarrow = import_pyarrow()
        self._is_parquet = path.suffix == ".parquet"

    def __enter__(self) -> _Table:
        with self.damage():
            if self._is_parquet:
                from pyarrow.parquet import ParquetFile

                self._file = ParquetFile(
                    self._path,
                    buffer_size=BUFFER,
                    pre_buffer=False,
                    page_checksum_verification=True,
                )
                self.schema = self._file.schema_arrow
            else:
                self._source = self._pyarrow.OSFile(str(self._path))
                self._file = self._pyarrow.ipc.open_stream(self._source)
                self.schema = self._file.schema
            self.columns = tuple(self.schema.names)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if not self._is_parquet:
            self._source.close()

    def values(self, wanted: list[str]) -> Iterator[dict[str, Any]]:
        """Give each row as Python's own objects."""
        with self.damage():
            for batch in self._batches(wanted):
                for start in range(0, batch.num_rows, ROWS):
                    yield from batch.slice(start, ROWS).to_pylist()

    def _batches(self, wanted: list[str]) -> Iterator[pyarrow.RecordBatch]:
        if self._is_parquet:
            yield from self._file.iter_batches(ROWS, columns=wanted)
            return
        for batch in self._file:
            batch.validate(full=True)
            yield batch.select(wanted)

    @contextmanager
    def damage(self) -> Iterator[None]:
        """Turn what pyarrow says of damaged bytes into one sentence (LayoutError)."""
        try:
            yield
        except (self._pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            what = str(error).strip().partition("\n")[0]
            raise LayoutError(
                f"{self._path} is damaged or cut short ({what}): fetch it again"
            ) from error


def import_pyarrow() -> Any:
    """Give pyarrow, which only the extras `data`, `bench` and `dev` install (LayoutError)."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise LayoutError(
            "sets in Parquet need pyarrow: pip install 'uservlm[data]'; loose pictures with a "
            "metadata.jsonl are read without it"
        ) from error
    return pyarrow


def _check_types(path: Path, schema: pyarrow.Schema, wanted: Sequence[str]) -> None:
    """Every column that is used must hold what it should."""
    types = import_pyarrow().types
    for name in wanted:
        found = schema.field(name).type
        if not (types.is_string(found) or types.is_large_string(found)):
            raise LayoutError(f"{path}, column {name}: holds {found}, not text (string)")
    found = schema.field(PICTURE).type
    fields = {field.name: field.type for field in found} if types.is_struct(found) else {}
    encoded = fields.get("bytes")
    is_image = encoded and (types.is_binary(encoded) or types.is_large_binary(encoded))
    if not is_image or len(fields) != found.num_fields:
        raise LayoutError(
            f"{path}, column {PICTURE}: holds {found}, not Hugging Face's image (struct of bytes "
            "and path): cast it with datasets.Image() before saving"
        )


def _picture(place: Place, image: object) -> bytes:
    encoded = image.get("bytes") if isinstance(image, dict) else None
    if isinstance(encoded, bytes) and encoded:
        return encoded
    raise RecordError(
        place, PICTURE, "no picture in this row: save the set with the pictures' bytes embedded"
    )
