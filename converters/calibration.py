"""The user's own pictures, on which the int8 vision encoder is measured (`--calibration DIR`).

Owns: which files of the folder are taken, and how they are told from other pictures without saying
anything about them. They are read into memory; no pixel, name, embedding or sum of them is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from uservlm.runtime.errors import ImageError
from uservlm.runtime.image import PixelSpec, to_pixels

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Files with another one are passed over."""
MOST = 32
"""Pictures taken, the first by name: each costs seconds at full size."""


@dataclass(frozen=True)
class CalibrationFolder:
    """The pictures of a folder, or none: then drawn people stand in."""

    folder: Path | None
    files: tuple[Path, ...] = ()

    @property
    def key(self) -> str:
        """Number, bytes and age, to notice that they changed; nothing that tells a picture."""
        stats = [file.stat() for file in self.files]
        newest = max((stat.st_mtime_ns for stat in stats), default=0)
        return f"{len(stats)} pictures, {sum(stat.st_size for stat in stats)} bytes, {newest} ns"

    def pixels(self, spec: PixelSpec) -> list[npt.NDArray[np.float32]]:
        """Read every picture as the checkpoint wants it: float32 [1, 3, S, S] each.

        Raises:
            ImageError: one cannot be read; the message names it.
        """
        return list(self._read(spec))

    def _read(self, spec: PixelSpec) -> Iterator[npt.NDArray[np.float32]]:
        for file in self.files:
            try:
                yield to_pixels(file, spec)
            except ImageError as error:
                raise ImageError(
                    f"calibration picture {file.name} cannot be used: {error}; mend or remove it"
                ) from error


def calibration_folder(folder: Path | None) -> CalibrationFolder:
    """Find the pictures of `folder` by their endings, sorted by name, at most MOST.

    Raises:
        ImageError: no such folder, not readable, or no picture in it.
    """
    if folder is None:
        return CalibrationFolder(None)
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise ImageError(
            f"calibration folder {folder} cannot be read ({error.strerror}): "
            "give a folder of pictures"
        ) from error
    files = [file for file in entries if file.suffix.lower() in ENDINGS and file.is_file()]
    if not files:
        raise ImageError(
            f"calibration folder {folder} holds no picture: "
            f"give one with files ending in {', '.join(ENDINGS)}"
        )
    return CalibrationFolder(folder, tuple(files[:MOST]))
