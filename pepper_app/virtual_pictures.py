"""What the virtual Pepper's camera sees: drawn people, or pictures from a folder.

Owns: who stands in the picture, and NAOqi's colour spaces made from RGB. Knows nothing of
subscriptions. A frame of the same people is the same every time: nobody moves, no noise changes.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from uservlm.pepper_app.frames import BGR, GREY, RGB, YUV422
from uservlm.pepper_app.service import RobotError

Pixels: TypeAlias = npt.NDArray[np.uint8]
YUV: Final = 10
LAYERS: Final = {GREY: 1, YUV422: 2, YUV: 3, RGB: 3, BGR: 3}
DRAWN: Final = "drawn"
_KEPT: Final = 16


class Pictures:
    """Gives frames in RGB."""

    def __init__(self, source: str = DRAWN) -> None:
        """See by drawing, or with the pictures of a folder.

        Args:
            source: "drawn", or a folder; there NAME.png or .jpg shows the person NAME, and
                nobody.png the empty room, if it is there.

        Raises:
            RobotError: no such folder.
        """
        self._folder = None if source == DRAWN else Path(source)
        if self._folder is not None and not self._folder.is_dir():
            raise RobotError(f"no folder {source} with pictures; or give {DRAWN}")
        self._kept: dict[tuple[tuple[str, ...], int, int], Pixels] = {}

    def see(self, people: tuple[str, ...], width: int, height: int) -> Pixels:
        """Give uint8 [height, width, 3].

        Args:
            people: their names, the nearest first.
            width: in pixels.
            height: in pixels.

        Raises:
            RobotError: there is no picture of the nearest, or it cannot be read.
        """
        key = (people, width, height)
        if key not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            make = _draw if self._folder is None else self._open
            self._kept[key] = make(people, width, height)
        return self._kept[key]

    def _open(self, people: tuple[str, ...], width: int, height: int) -> Pixels:
        assert self._folder is not None
        name = people[0] if people else "nobody"
        for file in sorted(self._folder.iterdir()):
            if file.stem.lower() == name.lower() and file.suffix.lower() in (".png", ".jpg"):
                try:
                    with Image.open(file) as picture:
                        fitted = ImageOps.fit(picture.convert("RGB"), (width, height))
                        return np.asarray(fitted)
                except (OSError, UnidentifiedImageError) as error:
                    raise RobotError(f"{file} shows nothing: {error}") from error
        if not people:
            return np.full((height, width, 3), 128, np.uint8)
        raise RobotError(f"no picture of {name} in {self._folder}")


def _draw(people: tuple[str, ...], width: int, height: int) -> Pixels:
    """Draw whoever is there; Grace and Sam look as in `make demo`, others by their name's lot.

    Raises:
        RobotError: what draws is not installed.
    """
    try:
        from uservlm.models.demo import USERS
        from uservlm.models.drawing import render
        from uservlm.models.people import Person, Scene, random_person
    except ImportError as error:
        raise RobotError(
            f"drawing people takes OpenCV ({error}): pip install opencv-python-headless, or give "
            "a folder of pictures"
        ) from error
    if not people:
        ramp = np.linspace(96, 160, height, dtype=np.uint8)[:, None, None]
        return np.broadcast_to(ramp, (height, width, 3)).copy()

    def person(name: str) -> Person:
        known = USERS.get(name.capitalize())
        lot = zlib.crc32(name.lower().encode())
        return known.user if known else random_person(np.random.default_rng(lot))

    first, *others = people
    known = USERS.get(first.capitalize())
    seed = known.seed if known else zlib.crc32(first.lower().encode()) % 2**31
    scene = Scene(person(first), tuple(person(name) for name in others), seed)
    drawn: Pixels = render(scene, width, height)
    return drawn


def encode(rgb: Pixels, space: int) -> bytes:
    """Give the bytes of a frame in one of the colour spaces of LAYERS."""
    if space == RGB:
        return rgb.tobytes()
    if space == BGR:
        return np.ascontiguousarray(rgb[..., ::-1]).tobytes()
    red, green, blue = np.moveaxis(rgb.astype(np.int32), -1, 0)
    light = (66 * red + 129 * green + 25 * blue + 128 >> 8) + 16  # ITU-R BT.601
    if space == GREY:
        grey: Pixels = light.astype(np.uint8)
        return grey.tobytes()
    u = (-38 * red - 74 * green + 112 * blue + 128 >> 8) + 128
    v = (112 * red - 94 * green - 18 * blue + 128 >> 8) + 128
    if space == YUV:
        planes: Pixels = np.stack((light, u, v), axis=-1).astype(np.uint8)
        return planes.tobytes()
    pairs = np.stack((light[:, ::2], u[:, ::2], light[:, 1::2], v[:, ::2]), axis=-1)
    packed: Pixels = pairs.astype(np.uint8)
    return packed.tobytes()
