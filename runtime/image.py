"""From any picture a caller may hold to the pixel tensor the vision encoder was trained on.

Owns: decoding, EXIF rotation, colour modes, resizing and normalising. Knows nothing of models: the
numbers come in as a `PixelSpec`. Pillow does the resize because the processor of PaliGemma does;
cv2's bicubic has no antialiasing and gives other pixels (DESIGN section 4, fact 9).
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from uservlm.runtime.errors import ImageError

Picture: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]"
"""A path, encoded bytes (JPEG, PNG, …), a PIL image, or a uint8 array: [H, W] grey, [H, W, 3] RGB,
[H, W, 4] RGBA."""

MAX_PIXELS = 64_000_000
"""Larger pictures are refused before they are decoded: a small PNG can claim gigabytes."""

FORMATS: Final = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded; every further format of Pillow's is one more parser for a stranger's bytes."""

DAMAGE: Final = (OSError, SyntaxError, ValueError, TypeError, struct.error)
"""What Pillow raises for damaged files of these formats; found by flipping bytes."""

_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what sets it right. `ImageOps.exif_transpose` would also write EXIF anew, and
stumble over tags that have nothing to do with it."""


@dataclass(frozen=True)
class PixelSpec:
    """How a checkpoint wants its pixels (`preprocessor_config.json`)."""

    size: int
    """Side of the square in pixels."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Per channel, after division by 255."""
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Per channel, after division by 255."""


def open_picture(picture: Picture) -> Image.Image:
    """Decode `picture` upright and in RGB; transparency is laid on white.

    Raises:
        ImageError: unreadable, empty, above MAX_PIXELS, or an array of another shape or dtype.
    """
    image = _from_array(picture) if isinstance(picture, np.ndarray) else _decode(picture)
    _check_area(image)
    try:
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
        return _on_white(image.transpose(turn) if turn is not None else image)
    except DAMAGE as error:
        raise ImageError(f"the picture is damaged: {error}") from error


def to_pixels(picture: Picture, spec: PixelSpec) -> npt.NDArray[np.float32]:
    """Give float32 [1, 3, size, size], bit for bit as `SiglipImageProcessor` with resample=BICUBIC.

    The processor divides in float64 and normalises in float32 (transformers/image_transforms.py).

    Raises:
        ImageError: see `open_picture`.
    """
    image = open_picture(picture)
    square = image.resize((spec.size, spec.size), Image.Resampling.BICUBIC)
    values = np.array(square, dtype=np.float64)
    values *= 1 / 255
    scaled = values.astype(np.float32)
    scaled -= np.asarray(spec.mean, dtype=np.float32)
    scaled /= np.asarray(spec.std, dtype=np.float32)
    pixels = scaled.transpose(2, 0, 1)[None].copy()
    for trace in (values, scaled):
        trace.fill(0)
    for copy in (square, image):
        if copy is not picture:
            _blacken(copy)
    return pixels


def _blacken(image: Image.Image) -> None:
    """Leave no face in freed memory; Pillow copies pixels that are the caller's own first."""
    image.paste(0, (0, 0, *image.size))


def _decode(picture: str | os.PathLike[str] | bytes | Image.Image) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture
    if not isinstance(picture, (str, os.PathLike, bytes)):
        raise ImageError(
            f"a {type(picture).__name__} is not a picture: give a path, bytes or array"
        )
    what = f"{len(picture)} bytes" if isinstance(picture, bytes) else str(picture)
    try:
        source = io.BytesIO(picture) if isinstance(picture, bytes) else picture
        return Image.open(source, formats=FORMATS)
    except FileNotFoundError as error:
        raise ImageError(f"no picture at {what}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{what}: {error}; scale it down") from error
    except DAMAGE as error:
        raise ImageError(f"{what}: not a picture that Pillow can read ({error})") from error


def _from_array(array: npt.NDArray[np.uint8]) -> Image.Image:
    grey, colour = array.ndim == 2, array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not (grey or colour):
        raise ImageError(
            f"array of {array.dtype} {array.shape}: "
            "give uint8 [H, W], [H, W, 3] RGB or [H, W, 4] RGBA"
        )
    if array.size == 0:
        raise ImageError(f"array of shape {array.shape} has no pixels")
    return Image.fromarray(np.ascontiguousarray(array))


def _check_area(image: Image.Image) -> None:
    if image.width == 0 or image.height == 0:
        raise ImageError(f"the picture is {image.width}×{image.height}: it has no pixels")
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(
            f"the picture is {image.width}×{image.height}: "
            f"more than {MAX_PIXELS:,} pixels; scale it down"
        )


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in ("I;16", "I", "F"):
        raise ImageError(
            f"pictures of mode {image.mode} (16 or 32 bits a channel) are not supported: use 8 bits"
        )
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
