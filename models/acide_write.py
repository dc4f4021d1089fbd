"""The drawn world written in the form of ACIDE's sets: what `acide.py` and `datasets` read alike.

Owns: the files, Parquet with a card or loose pictures, and how pictures lie in them. Which people
and texts a form takes is `acide_drawn.py`'s matter.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from PIL import Image

from uservlm.models.acide_drawn import FORMS, Drawn, records
from uservlm.models.acide_parquet import import_pyarrow
from uservlm.models.knowledge import Split
from uservlm.models.pictures import picture_at

__all__ = ["FORMS", "Drawn", "write_form"]

ROW_GROUP: Final = 100
"""Rows written at once, as `datasets` does with pictures."""

_SPLIT_NAMES: Final[Mapping[Split, str]] = {"train": "train", "held_out": "test"}


def write_form(folder: Path, drawn: Drawn, loose: bool = False) -> int:
    """Draw the people and write them: Parquet with a card, or loose PNGs with `metadata.jsonl`.

    Returns the number of records; equal arguments give equal bytes.

    Raises:
        FileExistsError: the folder is there already; an old set is never mixed with a new one.
        LayoutError: pyarrow is not installed (Parquet only).
        FormError: too few of the people suit the form.
    """
    if not loose:
        import_pyarrow()
    folder.mkdir(parents=True)
    if loose:
        return _write_loose(folder / _SPLIT_NAMES[drawn.split], drawn)
    return _write_parquet(folder, drawn)


def _write_loose(folder: Path, drawn: Drawn) -> int:
    """Write `metadata.jsonl` and beside it a picture for every person in it."""
    (folder / "images").mkdir(parents=True)
    rows = 0
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as stream:
        for index, texts in records(drawn):
            name = f"images/{index:06d}.png"
            if not (folder / name).exists():
                (folder / name).write_bytes(_png(drawn.seed, index))
            stream.write(json.dumps({"file_name": name, **texts}, ensure_ascii=False) + "\n")
            rows += 1
    return rows


def _write_parquet(folder: Path, drawn: Drawn) -> int:
    """Write the one Parquet file, as the hub names it, and the card."""
    from pyarrow.parquet import ParquetWriter

    name = _SPLIT_NAMES[drawn.split]
    path, rows, size = folder / "data" / f"{name}-00000-of-00001.parquet", 0, 0
    texts = [column for column in drawn.columns if column != "image"]
    schema = _schema(drawn.columns)
    path.parent.mkdir()
    with ParquetWriter(path, schema, use_dictionary=texts, write_page_checksum=True) as writer:
        for group in _groups(_with_pictures(drawn)):
            columns = {column: [row[column] for row in group] for column in drawn.columns}
            writer.write_table(import_pyarrow().table(columns, schema=schema))
            rows += len(group)
            size += sum(_size(value) for row in group for value in row.values())
    (folder / "README.md").write_text(
        _card(drawn, rows, size, path.stat().st_size), encoding="utf-8"
    )
    return rows


def _with_pictures(drawn: Drawn) -> Iterator[dict[str, Any]]:
    last, image = -1, dict[str, object]()
    for index, texts in records(drawn):
        if index != last:
            last = index
            image = {"bytes": _png(drawn.seed, index), "path": f"{index:06d}.png"}
        yield {"image": image, **texts}


def _groups(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while group := list(islice(rows, ROW_GROUP)):
        yield group


def _size(value: str | Mapping[str, Any]) -> int:
    """Bytes of a value as `datasets` counts them, near enough for a card."""
    return len(value.encode()) if isinstance(value, str) else len(value["bytes"])


def _png(seed: int, index: int) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(picture_at(seed, index)).save(encoded, "PNG")
    return encoded.getvalue()


def _schema(columns: Sequence[str]) -> Any:
    """Columns, and the note by which `datasets` knows that `image` is one."""
    pyarrow = import_pyarrow()
    text = pyarrow.string()
    image = pyarrow.struct({"bytes": pyarrow.binary(), "path": text})
    features = {
        name: {"_type": "Image"} if name == "image" else {"dtype": "string", "_type": "Value"}
        for name in columns
    }
    return pyarrow.schema(
        [(name, image if name == "image" else text) for name in columns],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )


def _card(drawn: Drawn, rows: int, size: int, file_size: int) -> str:
    """Write the card: the YAML that `datasets` reads, and what this set is."""
    name = _SPLIT_NAMES[drawn.split]
    features = "".join(
        f"  - name: {column}\n    dtype: {'image' if column == 'image' else 'string'}\n"
        for column in drawn.columns
    )
    return f"""---
dataset_info:
  features:
{features}  splits:
  - name: {name}
    num_bytes: {size}
    num_examples: {rows}
  download_size: {file_size}
  dataset_size: {size}
configs:
- config_name: default
  data_files:
  - split: {name}
    path: data/{name}-*
license: mit
task_categories:
- visual-question-answering
language:
- en
---
# Drawn people in the form of user-vlm-{drawn.form}

{drawn.people} drawn people, {rows} records. No photograph and nobody who exists: the pictures and
the texts follow from a seed, and the same command makes them again:

    python -m uservlm.models.dataset FOLDER --form {drawn.form} --seed {drawn.seed} \\
        --people {drawn.people} --questions {drawn.questions} --split {drawn.split}

The annotations are apparent age group, expression and relation to others in view. Skin tone is
drawn by lot and never written down; gender and ethnicity do not exist in this world.
"""
