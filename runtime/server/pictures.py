"""Pictures from strangers: refused by their header, before anything is decoded.

Owns: which formats a door takes, the limits' part in it, and the small JPEG of the page. Knows
nothing of transports: bytes in, bytes out.
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from PIL import Image

from uservlm.runtime.errors import ImageError
from uservlm.runtime.image import DAMAGE, Picture, open_picture
from uservlm.runtime.server.faults import PictureTooLargeError
from uservlm.runtime.server.limits import Limits

FORMATS: Final = ("JPEG", "PNG", "WEBP")
"""What cameras and browsers send; each further format is one more parser for strangers' bytes."""
SHOWN: Final = 640
"""Longest side of what the page shows."""


def check_picture(picture: Picture, limits: Limits) -> None:
    """Refuse what is too large or no picture; only a header is read.

    Args:
        picture: encoded bytes or an array.
        limits: what is too large.

    Raises:
        PictureTooLargeError: in bytes or pixels.
        ImageError: of no format that is taken.
    """
    if isinstance(picture, np.ndarray):
        _check_area(picture.shape[1], picture.shape[0], limits)
        return
    if not isinstance(picture, bytes):
        raise ImageError(f"a {type(picture).__name__} is not bytes")
    if len(picture) > limits.image_bytes:
        raise PictureTooLargeError(
            f"the picture has {len(picture):,} bytes, more than {limits.image_bytes:,}: scale it "
            "down"
        )
    try:
        with Image.open(io.BytesIO(picture), formats=FORMATS) as opened:
            size = opened.size
    except Image.DecompressionBombError as error:
        raise PictureTooLargeError(
            f"the picture has more than {limits.pixels:,} pixels: scale it down"
        ) from error
    except DAMAGE as error:
        raise ImageError(f"not a JPEG, PNG or WebP: {error}") from error
    _check_area(*size, limits)


def shown(picture: Picture) -> bytes:
    """Make the JPEG that the page shows.

    Raises:
        ImageError: see `image.open_picture`.
    """
    image = open_picture(picture)
    image.thumbnail((SHOWN, SHOWN))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()


def _check_area(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.pixels:
        raise PictureTooLargeError(
            f"the picture is {width}×{height}, more than {limits.pixels:,} pixels: scale it down"
        )
