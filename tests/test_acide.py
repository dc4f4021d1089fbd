"""Sets in the form of ACIDE's: what we write reads back, every form that is in use, as a stream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
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

from uservlm.models import acide_drawn
from uservlm.models.acide import (
    Annotation,
    Kind,
    check,
    kind_of,
    main,
    plain_question,
    read_asked,
    read_captions,
    read_preferences,
)
from uservlm.models.acide_write import FORMS, Drawn, write_form
from uservlm.models.dialogues import all_dialogues, describe
from uservlm.models.errors import FormError, RecordError
from uservlm.models.knowledge import topics
from uservlm.models.pictures import picture_at, scene_at
from uservlm.models.preferences import CATEGORIES, presumptions

KINDS: dict[str, Kind] = {
    "pt": "captions",
    "instruct": "asked",
    "dpo": "preferences",
    "bias-bench": "preferences",
    "elderly-bench": "asked",
}


@pytest.mark.parametrize("loose", [False, True], ids=["parquet", "loose"])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_read(tmp_path: Path, form: str, loose: bool) -> None:
    folder = tmp_path / form
    written = write_form(folder, Drawn(form, 2, 4, 2, "held_out"), loose)
    counts = check(folder, "test")
    assert counts.kind == KINDS[form] == kind_of(folder)
    assert counts.rows == written > 0
    assert sum(counts.categories.values()) == (0 if form == "pt" else written)


@pytest.mark.parametrize("loose", [False, True], ids=["parquet", "loose"])
def test_pictures_texts_and_annotations_are_those_of_the_scenes(
    tmp_path: Path, loose: bool
) -> None:
    write_form(tmp_path / "pt", Drawn("pt", 2, 3, 1, "train"), loose)
    write_form(tmp_path / "instruct", Drawn("instruct", 2, 3, 2, "train"), loose)
    for index, captioned in enumerate(read_captions(tmp_path / "pt", "train")):
        scene = scene_at(2, index)
        assert captioned.text == describe(scene)
        assert np.array_equal(captioned.picture.pixels(), picture_at(2, index))
        seen = Annotation(scene.user.age, scene.user.expression, scene.company)
        assert captioned.annotation == seen
    for number, asked in enumerate(read_asked(tmp_path / "instruct", "train")):
        answers = {dialogue.answer for dialogue in all_dialogues(scene_at(2, number // 2))}
        assert asked.answer in answers
    assert number == 5


def test_the_bench_of_older_adults_asks_nobody_else_and_presumes_nothing(tmp_path: Path) -> None:
    write_form(tmp_path / "set", Drawn("elderly-bench", 2, 3, 40, "held_out"), loose=True)
    old = list(read_asked(tmp_path / "set"))
    assert len(old) == 120
    assert {one.annotation and one.annotation.age_group for one in old} == {"older adult"}
    presuming = {topic.answers["older adult"] for topic in topics() if topic.id in presumptions()}
    assert not presuming & {record.answer for record in old}
    write_form(tmp_path / "tuning", Drawn("instruct", 2, 9, 40, "held_out"), loose=True)
    assert presuming & {record.answer for record in read_asked(tmp_path / "tuning")}


def test_the_bias_bench_holds_stereotypes_alone_and_tuning_holds_harmless_pairs_too(
    tmp_path: Path,
) -> None:
    write_form(tmp_path / "bench", Drawn("bias-bench", 2, 2, 4, "held_out"), loose=True)
    write_form(tmp_path / "dpo", Drawn("dpo", 2, 4, 4, "train"), loose=True)
    assert len(list(read_preferences(tmp_path / "bench"))) == 8
    assert set(check(tmp_path / "bench").categories) <= set(CATEGORIES)
    assert set(check(tmp_path / "dpo", "train").categories) - set(CATEGORIES)


def test_a_set_that_cannot_be_drawn_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FormError, match="elderly-bench is for measuring: take the split held_out"):
        Drawn("elderly-bench", 2, 3, 2, "train")
    with pytest.raises(FormError, match="no form 'blip': take one of pt, instruct"):
        Drawn("blip", 2, 3, 2, "train")
    with pytest.raises(FormError, match="at least one person"):
        Drawn("pt", 2, 0, 2, "train")
    monkeypatch.setattr(acide_drawn, "MOST_PASSED", 1)
    with pytest.raises(FormError, match=r"only \d of the first 20 people suit elderly-bench"):
        write_form(tmp_path / "set", Drawn("elderly-bench", 2, 20, 1, "held_out"), loose=True)


@pytest.mark.parametrize("form", ["pt", "instruct", "elderly-bench"])
def test_skin_is_never_written(tmp_path: Path, form: str) -> None:
    write_form(tmp_path / "set", Drawn(form, 3, 6, 3, "held_out"), loose=True)
    text = (tmp_path / "set/test/metadata.jsonl").read_text().lower()
    assert not [word for word in ("skin", "tone", "male", "race", "ethnic") if word in text]


def test_a_table_tells_other_programs_which_column_holds_pictures(tmp_path: Path) -> None:
    write_form(tmp_path / "set", Drawn("pt", 2, 1, 1, "train"))
    schema = pyarrow.parquet.read_schema(tmp_path / "set" / SHARD)
    told = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert told["image"] == {"_type": "Image"}
    assert told["text"] == {"_type": "Value", "dtype": "string"}
    assert list(told) == schema.names


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_form(tmp_path / name, Drawn("instruct", 2, 2, 2, "train"))
    one, two = ((tmp_path / name / SHARD).read_bytes() for name in ("one", "two"))
    assert one == two


def test_every_usual_place_and_split_is_found(tmp_path: Path) -> None:
    hub, converted, disk = (tmp_path / name for name in ("hub", "converted", "disk"))
    for index in range(2):
        write_parquet(hub, [row(ASKED)], f"data/train-{index:05d}-of-00002-0a1b.parquet")
    write_parquet(hub, [row(ASKED)] * 3, "data/test-00000-of-00001.parquet")
    write_parquet(hub, [row(PREFERENCE)], ".cache/data/train-00000-of-00001.parquet")
    write_parquet(converted, [row(ASKED)], "test set/train/0000.parquet")
    write_arrow(disk, [row(PREFERENCE)] * 2, "data-00000-of-00001.arrow")
    assert [check(hub, split).rows for split in (None, "train", "test")] == [5, 2, 3]
    assert check(converted, "train").rows == 1
    assert check(disk).kind == "preferences"
    assert check(disk, "train").categories == {"tone": 2}


def test_a_csv_beside_pictures_is_read(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces/a b.png").write_bytes(png())
    (tmp_path / "metadata.csv").write_text(
        '\ufefffile_name,question,answer\nfaces/a b.png,"Who, me?",You.\n', encoding="utf-8"
    )
    (record,) = read_asked(tmp_path)
    assert (record.question, record.answer, record.category) == ("Who, me?", "You.", None)
    assert record.picture.pixels().shape == (3, 4, 3)
    assert record.picture.source == tmp_path / "faces/a b.png"


def test_preferences_are_asked_with_the_chosen_answer(tmp_path: Path) -> None:
    write_parquet(tmp_path, [row(PREFERENCE)])
    (asked,) = read_asked(tmp_path)
    (preference,) = read_preferences(tmp_path)
    assert asked.question == preference.prompt == "Who am I?"
    assert asked.answer == preference.chosen == "A guest."
    assert asked.category == preference.category == "tone"
    assert asked.annotation is None


@pytest.mark.parametrize(
    "prompt",
    [
        "Who am I?",
        " Who am I? \n",
        "<image>Who am I?",
        "<image> <|im_start|>USER: Who am I?<|im_end|> ASSISTANT: ",
        "<image><image><bos> <|im_start|>USER: Who am I?<|im_end|> ASSISTANT:\n",
        "<|im_start|>USER: <image>\nWho am I?<|im_end|> ASSISTANT:",
        "Who am I?\n<image>",
    ],
)
def test_a_prompt_becomes_a_plain_question(prompt: str) -> None:
    assert plain_question(prompt) == "Who am I?"


def test_a_picture_is_decoded_when_asked_for_and_not_before(tmp_path: Path) -> None:
    write_parquet(tmp_path, [row(ASKED), row(ASKED, b"no picture"), row(ASKED)])
    first, second, _ = read_asked(tmp_path)
    assert first.picture.pixels().dtype == np.uint8
    with pytest.raises(RecordError, match=r"train-00000-of-00001\.parquet, row 2, column image"):
        second.picture.pixels()


def test_a_stream_stops_reading_where_its_reader_stops(tmp_path: Path) -> None:
    write_parquet(tmp_path, [row(ASKED)] * 40 + [row({**ASKED, "answer": " "})])
    records = read_asked(tmp_path)
    assert [next(records).place.row for _ in range(40)] == list(range(1, 41))
    with pytest.raises(RecordError, match="row 41, column answer"):
        next(records)


def test_a_large_set_is_not_held_in_memory(tmp_path: Path) -> None:
    """A hundred rows a group, as the hub has them; 24 MB in all."""
    noise = np.random.default_rng(0).bytes(6000)
    rows: list[dict[str, Any]] = [row(ASKED, noise)] * 100
    schema = pyarrow.Table.from_pylist(rows[:1]).schema
    path = tmp_path / SHARD
    path.parent.mkdir()
    with pyarrow.parquet.ParquetWriter(
        path, schema, compression="none", use_dictionary=False
    ) as writer:
        for _ in range(40):
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
    assert path.stat().st_size > 20_000_000
    before, most = pyarrow.total_allocated_bytes(), 0
    for _ in read_asked(tmp_path):
        most = max(most, pyarrow.total_allocated_bytes() - before)
    assert 0 < most < 6_000_000


def test_the_command_counts_or_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_loose(tmp_path / "good", [PREFERENCE, PREFERENCE, {**PREFERENCE, "category": "\x1b[2J"}])
    write_loose(tmp_path / "bad", [PREFERENCE, {**PREFERENCE, "rejected": "A guest."}])
    assert main([str(tmp_path / "good")]) == 0
    out = capsys.readouterr().out
    assert "3 preferences" in out and "2  tone" in out and "\x1b" not in out
    assert main([str(tmp_path / "bad")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{tmp_path}/bad/metadata.jsonl, row 2, column rejected: the same as chosen" in error
