"""Many photographs at once: the training and test pictures of the drawn world.

Owns: which scene stands at which index of which set, and rendering a set with several processes.
A set is named by its seed; scene and size of picture i follow from (seed, i) alone, so a set can be
made again in part or in whole and annotations never need to be stored beside the pixels.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.progress import track

from uservlm.models.drawing import render
from uservlm.models.people import Scene, random_scene

HEIGHT = 240
WIDTHS = (240, 320)
"""Square pictures, and 4:3 as Pepper's camera gives them (squeezed to a square like any)."""


def scene_at(seed: int, index: int) -> Scene:
    """Scene `index` of the set `seed`."""
    return random_scene(np.random.default_rng([seed, index]))


def picture_at(seed: int, index: int) -> npt.NDArray[np.uint8]:
    """Its photograph: uint8 [HEIGHT, width, 3] RGB, every other one 4:3."""
    return render(scene_at(seed, index), WIDTHS[index % 2], HEIGHT)


def square_at(seed: int, size: int, index: int) -> npt.NDArray[np.uint8]:
    """The photograph resized as the image processor does: uint8 [size, size, 3]."""
    picture = Image.fromarray(picture_at(seed, index))
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))


def write_squares(
    path: Path, seed: int, count: int, size: int, workers: int
) -> npt.NDArray[np.uint8]:
    """Render a set into `path` (.npy, uint8 [count, size, size, 3]) and return it memory-mapped.

    An existing file of the right shape is taken as it is; a partial one is never left behind.
    """
    if path.exists():
        ready: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r")
        if ready.shape == (count, size, size, 3):
            return ready
    part = path.with_suffix(".part")
    out = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=(count, size, size, 3))
    with ProcessPoolExecutor(workers) as pool:
        squares = pool.map(partial(square_at, seed, size), range(count), chunksize=256)
        for index, square in enumerate(track(squares, "drawing people", total=count)):
            out[index] = square
    out.flush()
    part.rename(path)
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]
