"""How a checkpoint wants its pixels: preprocessor_config.json, and what transformers 5 made of it.

Owns: where that is written, and refusing whatever the runtime would prepare in another way. Knows
nothing of pictures; `uservlm.runtime.image` makes the pixels.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from uservlm.converters.checkpoint import Checkpoint
from uservlm.converters.errors import CheckpointError
from uservlm.converters.files import is_there, read_json
from uservlm.runtime.image import PixelSpec

PREPROCESSOR_FILE = "preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"
"""transformers 5 writes the former's settings into this one, as `image_processor`."""
BICUBIC = 3
"""`resample` by Pillow's number."""
HALF = (0.5, 0.5, 0.5)
SCALE, SCALE_ERROR = 1 / 255, 1e-8
"""From 0 … 255 to 0 … 1; what is stored may be rounded."""
SWITCHES: tuple[tuple[str, bool], ...] = (
    ("do_resize", True),
    ("do_rescale", True),
    ("do_normalize", True),
    ("do_center_crop", False),
    ("do_pad", False),
)
"""What SigLIP's processor does and does not; so it is where nothing is said."""


def read_pixels(checkpoint: Checkpoint) -> PixelSpec:
    """Read how a checkpoint wants its pixels; see `pixels_in`."""
    return pixels_in(checkpoint.folder, checkpoint.shape.image_size)


def pixels_in(folder: Path, side: int) -> PixelSpec:
    """Read both files of a folder; PaliGemma's own values where they say nothing.

    Args:
        folder: of the checkpoint.
        side: of the square that the model sees, in pixels.

    Raises:
        CheckpointError: another size than the model's, not bicubic, not scaled by 1/255, cropped,
            mean or deviation that are none, or two files that disagree.
    """
    file, said = _settings(folder)
    size = {"height": side, "width": side}
    for key, wanted in (("size", size), ("resample", BICUBIC)):
        if said.get(key, wanted) != wanted:
            raise _unsupported(file, key, said[key], f"is {wanted!r}")
    for key, on in SWITCHES:
        # An explicit null is off.
        if bool(said.get(key, on)) is not on:
            raise _unsupported(file, key, said[key], f"is {on!r}")
    scale = said.get("rescale_factor", SCALE)
    if not _is_number(scale) or abs(scale - SCALE) > SCALE_ERROR:
        raise _unsupported(file, "rescale_factor", scale, f"is {SCALE!r} (1/255)")
    mean, deviation = (_triple(file, said, key) for key in ("image_mean", "image_std"))
    if min(deviation) <= 0:
        raise _unsupported(file, "image_std", said["image_std"], "are three numbers above 0")
    return PixelSpec(side, mean, deviation)


def _settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Give what is said of pixels, and the file that says it."""
    old, new = folder / PREPROCESSOR_FILE, folder / PROCESSOR_FILE
    before = _read(old)
    inner = _read(new).get("image_processor")
    if inner is None:
        return old, before
    if not isinstance(inner, dict):
        raise CheckpointError(
            f"{new} is damaged: image_processor is {inner!r}, not an object; save it again"
        )
    if not before:
        return new, inner
    keys = ("size", "resample", "rescale_factor", "image_mean", "image_std",
            *(key for key, _ in SWITCHES))  # fmt: skip
    for key in keys:
        if key in before and key in inner and before[key] != inner[key]:
            raise CheckpointError(
                f"{new}: {key} is {inner[key]!r}, and {before[key]!r} in {PREPROCESSOR_FILE}: "
                "remove the file that is not meant"
            )
    return old, {**inner, **before}


def _read(path: Path) -> dict[str, Any]:
    """Read a file that need not be there; a link that leads nowhere is an error."""
    return read_json(path) if is_there(path) else {}


def _triple(file: Path, said: dict[str, Any], key: str) -> tuple[float, float, float]:
    """Read a value for each channel; null means transformers' default, as nothing does."""
    values = said.get(key)
    if values is None:
        return HALF
    if not isinstance(values, list) or len(values) != 3 or not all(map(_is_number, values)):
        raise _unsupported(file, key, values, "are three numbers")
    red, green, blue = map(float, values)
    return red, green, blue


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and (
        abs(value) < 1e30 and not math.isnan(value)
    )  # fmt: skip


def _unsupported(file: Path, what: str, value: object, supported: str) -> CheckpointError:
    return CheckpointError(f"{file}: {what} is {value!r}, supported {supported}")
