"""What is counted: the peers of the paper's Table 8 as published, and PaliGemma 2 in our sizes.

Owns: configurations (`published/*.json`, with the hub id they are taken from), which picture
everybody is shown and what each model's own image processor makes of it. Knows nothing of FLOPs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from uservlm.models.random_checkpoint import Words, config
from uservlm.models.shapes import Architecture
from uservlm.runtime.errors import UserVLMError

SQUARE: Final = (448, 448)
"""Width and height in pixels: somebody cut out of the camera's picture, as User-VLM 448 gets them.
Of such pictures Pixtral makes few tokens and LLaVA-1.6 the most it can."""
CAMERA: Final = (1280, 960)
"""What Pepper's camera gives, not cut."""
_FOLDER = Path(__file__).parent / "published"


class ShapeError(UserVLMError):
    """A shape that cannot be counted; the message says what it lacks."""


@dataclass(frozen=True)
class Subject:
    """A model that can be counted."""

    name: str
    """As `LLaVA-1.5 7B`."""
    source: str
    """Hub id of the repository whose config.json and preprocessor_config.json these are; empty
    where the configuration follows from a shape."""
    weights: int
    """As published: to the last for LLaVA-1.5 and Llama, to three digits for the other two, and 0
    where nobody published it."""
    config: Mapping[str, Any]
    """What of config.json decides shapes."""
    processor: Mapping[str, Any]
    """The same of preprocessor_config.json; `type` is the class."""


def peers() -> tuple[Subject, ...]:
    """The paper's four, in the order of its columns."""
    order = ("llama-3.2-vision-11b", "pixtral-12b", "llava-1.6-7b", "llava-1.5-7b")
    return tuple(_read(_FOLDER / f"{name}.json") for name in order)


def one_tile(peer: Subject) -> Subject:
    """Llama-3.2-Vision for pictures of one tile; as published its class always computes four."""
    vision = {**peer.config["vision_config"], "max_num_tiles": 1}
    vision["supported_aspect_ratios"] = [[1, 1]]
    return replace(
        peer,
        weights=0,
        config={**peer.config, "vision_config": vision},
        processor={**peer.processor, "max_image_tiles": 1},
    )


def paligemma(shape: Architecture) -> Subject:
    """PaliGemma 2 in any shape, with the config.json that a checkpoint of it has.

    Raises:
        ShapeError: the shape leaves open how many rows the embedding table has.
    """
    if shape.rows is None:
        raise ShapeError(
            f"a shape of width {shape.width} says nothing of its embedding table's rows, by which "
            "the head is counted: give `rows`, as the catalog and `pocket_shape` do"
        )
    words = Words(count=0, image=shape.rows - 1, pad=0, eos=1, bos=2)
    side = {"height": shape.image_size, "width": shape.image_size}
    return Subject(
        "PaliGemma 2",
        "",
        0,
        config(shape, words, "bfloat16", "4.52"),
        {"type": "SiglipImageProcessor", "size": side},
    )


def picture(subject: Subject, size: tuple[int, int]) -> Mapping[str, Any]:
    """What the model's own image processor makes of an empty picture of that width and height."""
    import transformers
    from PIL import Image

    settings = {name: value for name, value in subject.processor.items() if name != "type"}
    process = getattr(transformers, subject.processor["type"])(**settings)
    made: Mapping[str, Any] = process(images=Image.new("RGB", size), return_tensors="pt")
    return dict(made)


def positions(subject: Subject, features: int, picture: Mapping[str, Any]) -> int:
    """How many positions of the language model a picture takes.

    As many as there are features, but: Pixtral puts a break behind each row of patches (the last
    is the end of the image), and Llama-3.2-Vision takes one, for `<|image|>`, and reads the
    features beside them.
    """
    if subject.config["model_type"] == "mllama":
        return 1
    vision: Mapping[str, Any] = subject.config["vision_config"]
    if vision["model_type"] != "pixtral":
        return features
    return features + sum(
        int(height) // int(vision["patch_size"]) for height, _ in picture["image_sizes"]
    )


def _read(path: Path) -> Subject:
    data = json.loads(path.read_text(encoding="utf-8"))
    return Subject(data["model"], data["hub"], data["weights"], data["config"], data["processor"])
