"""Write the drawn world out as a dataset: `python -m uservlm.models.dataset FOLDER`.

Owns: the command and the files of our own form. `images/` holds PNG photographs, `dialogues.jsonl`
one dialogue a line with the fields of User-VLM's own instruction set (`image`, `question`,
`answer`) and beside them what the answer depends on and the annotation of the picture. The
annotation names apparent age group, expression and relation to others in view, never skin tone.
`--form` writes the same people as ACIDE's sets are (`acide_write.py`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from uservlm.models.acide_write import FORMS, Drawn, write_form
from uservlm.models.dialogues import describe, sample_dialogue
from uservlm.models.errors import DataError, FormError
from uservlm.models.knowledge import Split
from uservlm.models.people import Scene
from uservlm.models.pictures import picture_at, scene_at


def annotation(scene: Scene) -> dict[str, Any]:
    """What is true of a picture, in words."""
    user = {k: v for k, v in asdict(scene.user).items() if k not in ("skin_tone", "seed")}
    others = [{"age_group": other.age, "expression": other.expression} for other in scene.others]
    age_group = user.pop("age")
    return {
        "age_group": age_group,
        **user,
        "relation": scene.company,
        "others": others,
        "description": describe(scene),
    }


def records(seed: int, people: int, questions: int, split: Split) -> Iterator[dict[str, Any]]:
    """Give the lines of `dialogues.jsonl`; equal arguments give equal lines."""
    for index in range(people):
        scene, rng = scene_at(seed, index), np.random.default_rng([seed, index, 1])
        for _ in range(questions):
            dialogue = asdict(sample_dialogue(scene, rng, split))
            yield {
                "image": f"images/{index:06d}.png",
                **dialogue,
                "annotation": annotation(scene),
            }


def write_dataset(folder: Path, seed: int, people: int, questions: int, split: Split) -> None:
    """Draw the people and write their dialogues.

    Raises:
        FileExistsError: the folder is there already; an old set is never mixed with a new one.
    """
    (folder / "images").mkdir(parents=True)
    for index in range(people):
        Image.fromarray(picture_at(seed, index)).save(folder / "images" / f"{index:06d}.png")
    with (folder / "dialogues.jsonl").open("w", encoding="utf-8") as stream:
        for record in records(seed, people, questions, split):
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a set as the arguments say."""
    given = _parser().parse_args(arguments)
    try:
        records = _write(given)
    except FileExistsError:
        print(f"{given.folder} holds a dataset already: name another folder", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{given.folder} cannot be written: {error.strerror or error}", file=sys.stderr)
        return 2
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    what = "dialogues" if given.form == "ours" else f"{given.form} records"
    print(f"{given.people} pictures, {records} {what} in {given.folder}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="uservlm.models.dataset", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--form",
        choices=("ours", *FORMS),
        default="ours",
        help="ours: images/ and dialogues.jsonl; the others: as ACIDE's user-vlm-FORM",
    )
    parser.add_argument(
        "--loose", action="store_true", help="PNGs and metadata.jsonl in place of Parquet"
    )
    parser.add_argument("--seed", type=int, default=2, help="1 is the training set, 2 the held-out")
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--questions", type=int, default=5, help="records for each picture")
    parser.add_argument("--split", choices=("train", "held_out"), default="held_out")
    return parser


def _write(given: argparse.Namespace) -> int:
    """Write either form; give the number of records."""
    if given.form != "ours":
        drawn = Drawn(given.form, given.seed, given.people, given.questions, given.split)
        return write_form(given.folder, drawn, given.loose)
    if given.loose:
        raise FormError("--loose is a way to write ACIDE's forms: add --form, or leave it out")
    write_dataset(given.folder, given.seed, given.people, given.questions, given.split)
    return int(given.people * given.questions)


if __name__ == "__main__":
    sys.exit(main())
