"""The drawn world written out: annotated, repeatable, and silent about skin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from uservlm.models.acide import kind_of
from uservlm.models.dataset import main, write_dataset
from uservlm.models.pictures import picture_at, scene_at


def test_every_dialogue_has_its_picture_and_annotation(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", seed=2, people=4, questions=3, split="held_out")
    lines = (tmp_path / "set" / "dialogues.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 12
    for number, line in enumerate(lines):
        record, index = json.loads(line), number // 3
        with Image.open(tmp_path / "set" / record["image"]) as picture:
            assert picture.tobytes() == picture_at(2, index).tobytes()
        scene = scene_at(2, index)
        assert record["question"] and record["answer"] and record["held_out"]
        assert record["annotation"]["age_group"] == scene.user.age
        assert record["annotation"]["expression"] == scene.user.expression
        assert record["annotation"]["relation"] == scene.company
        assert "skin" not in line and "seed" not in record["annotation"]


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_dataset(tmp_path / name, seed=2, people=2, questions=4, split="train")
    one, two = ((tmp_path / name / "dialogues.jsonl").read_bytes() for name in ("one", "two"))
    assert one == two


def test_an_old_set_is_never_mixed_with_a_new_one(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", seed=2, people=1, questions=1, split="train")
    with pytest.raises(FileExistsError):
        write_dataset(tmp_path / "set", seed=3, people=1, questions=1, split="train")


def test_the_command_writes_our_form_unless_told_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--people", "2", "--questions", "1"]
    assert main([str(tmp_path / "ours"), *few]) == 0
    assert (tmp_path / "ours/dialogues.jsonl").read_text().count("\n") == 2
    assert main([str(tmp_path / "pt"), *few, "--form", "pt", "--split", "train"]) == 0
    assert (tmp_path / "pt/data/train-00000-of-00001.parquet").is_file()
    assert "path: data/train-*" in (tmp_path / "pt/README.md").read_text()
    assert main([str(tmp_path / "dpo"), *few, "--form", "dpo", "--loose"]) == 0
    assert (tmp_path / "dpo/test/metadata.jsonl").read_text().count("\n") == 2
    assert kind_of(tmp_path / "dpo", "test") == "preferences"
    assert "2 pictures, 2 dpo records" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--form", "pt"], "holds a dataset already: name another folder"),
        (["--loose"], "--loose is a way to write ACIDE's forms"),
        (["--form", "bias-bench", "--split", "train"], "take the split held_out"),
        (["--form", "pt", "--people", "0"], "at least one person"),
    ],
)
def test_what_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main([str(tmp_path), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_place_that_takes_no_folder_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "file/set"), "--form", "pt", "--people", "1"]) == 2
    assert "cannot be written: Not a directory" in capsys.readouterr().err
