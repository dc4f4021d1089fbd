"""The drawn world written out: annotated, repeatable, and silent about skin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from uservlm.models.dataset import write_dataset
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
