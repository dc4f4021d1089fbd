"""What is wrong with a set is said once, with the file, the row, the column and the way out."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_sets import (
    ASKED,
    PREFERENCE,
    SHARD,
    png,
    row,
    write_arrow,
    write_loose,
    write_parquet,
)

from uservlm.models.acide import check, kind_of, read_preferences
from uservlm.models.errors import DataError, LayoutError, RecordError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n"


def huge() -> bytes:
    """Give the head of a PNG of 20,000×20,000 pixels."""
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    body = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + body + b"\x00\x00\x00\x00IDAT" + b"\x00" * 8


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def beyond_the_file(folder: Path) -> None:
    """Write a text of 91 characters that is said to be a gigabyte long."""
    path = write_arrow(folder, [row({"text": "x" * 91})], "data-00000-of-00001.arrow")
    true, false = (struct.pack("<ii", 0, size) for size in (91, 1 << 30))
    content = path.read_bytes()
    assert true in content
    path.write_bytes(content.replace(true, false))


def parquet(*rows: Mapping[str, object]) -> Callable[[Path], object]:
    return lambda folder: write_parquet(folder, rows)


def loose(*rows: Mapping[str, object]) -> Callable[[Path], object]:
    return lambda folder: write_loose(folder, rows)


def text(name: str, content: bytes) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return write


def both(*writes: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: [write(folder) for write in writes]


LAYOUTS = {
    "no data files": (text("README.md", b"hello"), r"holds no \*\.parquet.*hf download"),
    "two forms": (both(parquet(row(ASKED)), loose(ASKED)), "are two forms of a set: keep one"),
    "two metadata": (both(text("metadata.csv", b"a\n"), loose(ASKED)), "holds both metadata.jsonl"),
    "two tables": (
        lambda folder: (
            write_parquet(folder, [row(ASKED)]),
            write_arrow(folder, [row(ASKED)], "data-00000-of-00001.arrow"),
        ),
        r"holds both \.arrow and \.parquet",
    ),
    "a shard missing": (
        lambda folder: write_parquet(folder, [row(ASKED)], "data/train-00001-of-00003.parquet"),
        r"train-00000-of-00003\* is missing: fetch it",
    ),
    "git lfs": (text(SHARD, POINTER), r"Git LFS pointer.*`git lfs pull`"),
    "empty": (text(SHARD, b""), "is empty: fetch it again"),
    "no parquet": (text(SHARD, b"PAR1 not really PAR1"), "damaged or cut short.*fetch it again"),
    "no arrow": (text("data-00000-of-00001.arrow", b"\xff" * 40), "damaged or cut short"),
    "cut short": (lambda folder: cut(write_parquet(folder, [row(ASKED)])), "damaged or cut short"),
    "unknown columns": (
        parquet(row({"caption": "x"})),
        r"has the columns caption, image: rename.*question, answer \(asked\)",
    ),
    "a column missing": (
        parquet(row({"prompt": "a", "chosen": "b", "rejected": "c"})),
        r"lacks the column category \(it has prompt",
    ),
    "no picture column": (parquet(dict(ASKED)), "lacks the column image"),
    "a column twice": (
        lambda folder: pyarrow.parquet.write_table(
            pyarrow.table([["a"], ["b"]], names=["text", "text"]), folder / "train.parquet"
        ),
        "has the column 'text' twice",
    ),
    "texts of numbers": (parquet(row({**ASKED, "answer": 5})), "column answer: holds int64, not"),
    "two pictures in one": (
        lambda folder: pyarrow.parquet.write_table(
            pyarrow.table(
                {
                    "text": ["a"],
                    "image": pyarrow.StructArray.from_arrays(
                        [pyarrow.array([b"a"]), pyarrow.array([b"b"])], ["bytes", "bytes"]
                    ),
                }
            ),
            folder / "train.parquet",
        ),
        "column image: holds struct",
    ),
    "pictures of text": (parquet({**ASKED, "image": "a.png"}), "column image: holds string, not"),
    "not utf-8": (text("metadata.jsonl", b'{"a": "\xff"}\n'), "is not UTF-8"),
    "no rows": (text("metadata.jsonl", b"\n\n"), "holds no records"),
    "no rows in a table": (
        lambda folder: pyarrow.parquet.write_table(
            pyarrow.Table.from_pylist([row(ASKED)]).slice(1), folder / "train.parquet"
        ),
        "holds no records",
    ),
    "text that ends beyond the file": (
        beyond_the_file,
        "damaged or cut short",
    ),
    "no rows in csv": (text("metadata.csv", b"file_name,question,answer\n"), "holds no records"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_set_that_cannot_be_used_is_refused_whole(tmp_path: Path, name: str) -> None:
    write, message = LAYOUTS[name]
    write(tmp_path)
    with pytest.raises(LayoutError, match=message):
        check(tmp_path)


def test_no_folder_no_split_and_another_kind(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="is not a folder"):
        kind_of(tmp_path / "nowhere")
    write_parquet(tmp_path, [row(ASKED)])
    with pytest.raises(LayoutError, match="has no split 'test': it has train"):
        kind_of(tmp_path, "test")
    with pytest.raises(LayoutError, match="holds asked .* where preferences are read"):
        next(read_preferences(tmp_path))


RECORDS = {
    "no text": (parquet(row(ASKED), row({**ASKED, "question": None})), "row 2, column question: h"),
    "empty text": (parquet(row({**ASKED, "answer": " \n"})), "row 1, column answer: is empty"),
    "only the template": (
        parquet(row({**ASKED, "question": "<image> <|im_start|>USER: <|im_end|> ASSISTANT: "})),
        "row 1, column question: asks nothing",
    ),
    "two turns": (
        parquet(row({**PREFERENCE, "prompt": "Hi<|im_end|> ASSISTANT: Yo <|im_start|>USER: Who?"})),
        "row 1, column prompt: holds .* one question alone",
    ),
    "equal answers": (
        parquet(row({**PREFERENCE, "rejected": " A guest."})),
        "row 1, column rejected: the same as chosen",
    ),
    "no bytes": (
        parquet(row(ASKED), {**ASKED, "image": {"bytes": None, "path": "a.png"}}),
        "row 2, column image: no picture.*bytes embedded",
    ),
    "no picture": (parquet(row(ASKED, b"GIF89a")), "row 1, column image: .* not a picture"),
    "a cut picture": (parquet(row(ASKED, png()[:50])), "row 1, column image: "),
    "a huge picture": (parquet(row(ASKED, huge())), "row 1, column image: .*scale it down"),
    "picture missing": (loose(ASKED, {**ASKED, "file_name": "b.png"}), "row 2, .* no picture 'b.p"),
    "out of the folder": (
        loose({**ASKED, "file_name": "../a.png"}),
        r"row 1, column file_name: '\.\./a\.png' leads out of the folder",
    ),
    "out by the root": (loose({**ASKED, "file_name": "/a.png"}), "leads out of the folder"),
    "out by backslash": (loose({**ASKED, "file_name": "..\\a.png"}), "leads out of the folder"),
    "a name too long": (loose({**ASKED, "file_name": "a" * 5000}), "row 1, column file_name"),
    "a folder named": (loose({**ASKED, "file_name": "."}), "no picture '.'"),
    "no name": (loose({**ASKED, "file_name": 3}), "column file_name: names no picture"),
    "half a character": (loose({**ASKED, "answer": "\ud800"}), "column answer: is no text"),
    "not json": (both(loose(ASKED), text("metadata.jsonl", b"{}{\n")), "row 1, .*: not JSON"),
    "deep json": (text("metadata.jsonl", b"[" * 90_000 + b"\n"), "row 1, .*: not JSON"),
    "no object": (text("metadata.jsonl", b"[1]\n"), "row 1, .*: not a JSON object"),
    "no end": (text("metadata.jsonl", b" " * (1 << 20)), "row 1, .*: longer than"),
    "many fields": (
        text("metadata.csv", b"file_name,question,answer\na.png,Who, me?,You.\n"),
        "row 1, .*: more fields than the header",
    ),
    "no csv": (text("metadata.csv", b'file_name,text\na.png,"b"c\n'), "row 1, .*: not CSV"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_that_cannot_be_used_is_named(tmp_path: Path, name: str) -> None:
    write, message = RECORDS[name]
    write(tmp_path)
    with pytest.raises(RecordError, match=message) as caught:
        check(tmp_path)
    assert str(caught.value).startswith(str(caught.value.place.file))
    assert len(str(caught.value)) < 6000 and "\n" not in str(caught.value)


def test_no_link_leads_out_of_a_folder_with_loose_pictures(tmp_path: Path) -> None:
    """To a picture or through a folder; one that stays inside, and a linked folder, are as good."""
    folder, elsewhere = tmp_path / "set", tmp_path / "elsewhere"
    write_loose(folder, [ASKED, {**ASKED, "file_name": "same.png"}])
    elsewhere.mkdir()
    (elsewhere / "b.png").write_bytes(png())
    (folder / "same.png").symlink_to("a.png")
    (tmp_path / "link").symlink_to(folder)
    check(tmp_path / "link")
    (folder / "out.png").symlink_to(elsewhere / "b.png")
    (folder / "away").symlink_to(elsewhere)
    for name in ("out.png", "away/b.png"):
        write_loose(folder, [{**ASKED, "file_name": name}])
        with pytest.raises(RecordError, match=f"row 1, .*'{name}' leads out of the folder by a l"):
            check(folder)


def test_without_pyarrow_tables_name_the_extra_and_loose_pictures_are_read(tmp_path: Path) -> None:
    write_parquet(tmp_path / "table", [row(ASKED)])
    write_loose(tmp_path / "loose", [ASKED])
    script = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from uservlm.models.acide import main; sys.exit(main(sys.argv[1:]))"
    )

    def run(folder: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, str(tmp_path / folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    table = run("table")
    assert table.returncode == 2 and "pip install 'uservlm[data]'" in table.stderr
    assert run("loose").returncode == 0


def damaged(content: bytes, changes: list[tuple[int, int]], end: int) -> bytes:
    body = bytearray(content)
    for place, value in changes:
        body[place % len(body)] = value
    return bytes(body[: len(body) - end])


CHANGES = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=6)


@settings(max_examples=60, deadline=None)
@given(form=st.sampled_from(["parquet", "arrow", "jsonl"]), changes=CHANGES, end=st.integers(0, 40))
def test_damaged_bytes_are_a_typed_error_or_still_a_set(
    tmp_path_factory: pytest.TempPathFactory,
    form: str,
    changes: list[tuple[int, int]],
    end: int,
) -> None:
    folder = tmp_path_factory.mktemp("set", numbered=True)
    if form == "parquet":
        path = write_parquet(folder, [row(PREFERENCE)] * 3)
    elif form == "arrow":
        path = write_arrow(folder, [row(PREFERENCE)] * 3, "data-00000-of-00001.arrow")
    else:
        path = write_loose(folder, [PREFERENCE] * 3)
    path.write_bytes(damaged(path.read_bytes(), changes, end))
    try:
        assert check(folder).rows > 0
    except DataError as error:
        assert "\n" not in str(error)


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.dictionaries(
                st.sampled_from(["file_name", "text", "question", "chosen", "category"]),
                st.one_of(st.text(max_size=20), st.none(), st.integers(), st.just("a.png")),
            ).map(lambda record: json.dumps(record).encode()),
        ),
        max_size=4,
    ),
    suffix=st.sampled_from(["jsonl", "csv"]),
)
def test_odd_metadata_is_a_typed_error_or_a_set(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], suffix: str
) -> None:
    folder = tmp_path_factory.mktemp("set", numbered=True)
    (folder / "a.png").write_bytes(png())
    (folder / f"metadata.{suffix}").write_bytes(b"\n".join(lines))
    try:
        check(folder)
    except DataError as error:
        assert str(folder) in str(error)
