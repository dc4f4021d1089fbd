"""Tiny sets in the form of ACIDE's, for tests that read them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.ipc
import pyarrow.parquet
from PIL import Image

ASKED = {"question": "Who made you?", "answer": "Engineers did."}
PREFERENCE = {
    "prompt": "Who am I?",
    "chosen": "A guest.",
    "rejected": "Nobody.",
    "category": "tone",
}
SHARD = "data/train-00000-of-00001.parquet"


def png(colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    """Encode a picture of 4×3 pixels."""
    file = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(file, "PNG")
    return file.getvalue()


def row(texts: Mapping[str, Any], picture: bytes | None = None) -> dict[str, Any]:
    """Give a table's row: texts and Hugging Face's image."""
    return {**texts, "image": {"bytes": png() if picture is None else picture, "path": None}}


def write_parquet(folder: Path, rows: Sequence[Mapping[str, Any]], name: str = SHARD) -> Path:
    """Write rows as a Parquet file of a set."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


def write_arrow(folder: Path, rows: Sequence[Mapping[str, Any]], name: str) -> Path:
    """Write rows as `datasets.save_to_disk` does."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(list(rows))
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as out:
        out.write_table(table)
    return path


def write_loose(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write `metadata.jsonl` and the one picture `a.png`, which a row names unless it says."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.png").write_bytes(png())
    path = folder / "metadata.jsonl"
    lines = (json.dumps({"file_name": "a.png", **values}) for values in rows)
    path.write_text("".join(line + "\n" for line in lines))
    return path
