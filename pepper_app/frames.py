"""From a camera frame of NAOqi's (ALVideoDevice) to RGB; pure.

Owns: the colour spaces that are taken, and what they mean. Knows nothing of cameras or protocols.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from uservlm.runtime.errors import RequestError
from uservlm.runtime.server.faults import PictureTooLargeError

GREY: Final = 0
YUV422: Final = 9
"""Two pixels in four bytes: Y U Y V."""
RGB: Final = 11
BGR: Final = 13
_DEPTH: Final = {GREY: 1, YUV422: 2, RGB: 3, BGR: 3}
"""Bytes a pixel."""

LARGEST: Final = 2560 * 1920
"""Pixels of the largest frame that Pepper's cameras give."""
_BAND: Final = 64
"""Rows converted at a time: the arithmetic takes many times the memory of the frame."""

Pixels = npt.NDArray[np.uint8]


def to_rgb(width: int, height: int, space: int, data: bytes) -> Pixels:
    """Give uint8 [height, width, 3].

    Args:
        width: in pixels.
        height: in pixels.
        space: NAOqi's number of the colour space.
        data: as `getImageRemote` gives them.

    Raises:
        RequestError: another colour space, or a size that is not that of the data.
        PictureTooLargeError: larger than a frame of Pepper's can be.
    """
    depth = _DEPTH.get(space)
    if depth is None:
        raise RequestError("give colour space 11 (RGB), 13 (BGR), 9 (YUV422) or 0 (grey)")
    if width < 1 or height < 1 or len(data) != width * height * depth:
        raise RequestError(
            f"a frame of colour space {space} has width x height x {depth} bytes; "
            f"{len(data):,} came"
        )
    if width * height > LARGEST:
        raise PictureTooLargeError(f"a frame has at most {LARGEST:,} pixels: take a smaller one")
    flat = np.frombuffer(data, np.uint8)
    if space == YUV422:
        if width % 2:
            raise RequestError("a YUV422 frame has an even width")
        pairs, rgb = flat.reshape(height, width // 2, 4), np.empty((height, width, 3), np.uint8)
        for top in range(0, height, _BAND):
            rgb[top : top + _BAND] = _from_yuyv(pairs[top : top + _BAND])
        return rgb
    if space == GREY:
        return np.repeat(flat.reshape(height, width, 1), 3, axis=2)
    rgb = flat.reshape(height, width, 3)
    return rgb if space == RGB else np.ascontiguousarray(rgb[..., ::-1])


def _from_yuyv(pairs: Pixels) -> Pixels:
    """Convert [height, width / 2, 4] by ITU-R BT.601, Y from 16 to 235, as OpenCV does."""
    values = pairs.astype(np.int32)
    light = 298 * np.maximum(values[..., 0::2] - 16, 0) + 128  # [height, width / 2, 2]
    u, v = values[..., 1:2] - 128, values[..., 3:4] - 128
    rgb = np.stack((light + 409 * v, light - 100 * u - 208 * v, light + 516 * u), axis=-1)
    whole: Pixels = np.clip(rgb >> 8, 0, 255).astype(np.uint8)
    return whole.reshape(pairs.shape[0], -1, 3)
