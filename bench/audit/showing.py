"""Pictures for a page: small JPEGs as data URIs, or nothing where a picture must not be shown.

Owns: which picture may stand in a page, and how it gets there. A drawn person is drawn again from
their seed. A picture of somebody real is biometric data: it is embedded only where the audit names
its file, which it does with --keep-pictures alone, and where the caller gives the folder.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from uservlm.bench.audit.findings import PictureRef
from uservlm.models.people import Person, Scene
from uservlm.runtime.image import open_picture

SIDE: Final = 320
"""Pixels: no side of an embedded picture is longer."""
QUALITY: Final = 82
"""Of a JPEG: about 10 kB for a drawn person."""


@dataclass(frozen=True)
class Shown:
    """A picture as it stands in the page."""

    title: str
    says: str
    """For whoever does not see it."""
    address: str | None
    """data: URI; None: a placeholder takes its place."""


def show(picture: PictureRef, folder: Path | None) -> Shown:
    """Prepare one picture.

    Args:
        picture: drawn, or own.
        folder: of own pictures; None shows none of them.

    Raises:
        ImageError: an own picture can no longer be read.
        PicturesError: an own picture's name leads out of the folder.
    """
    if picture.scene is not None:
        from uservlm.models.drawing import render

        drawn = Image.fromarray(render(picture.scene))
        return Shown(picture.title, f"{picture.title}: {described(picture.scene)}", _address(drawn))
    if picture.file is None or folder is None:
        return Shown(picture.title, f"{picture.title}, not kept", None)
    from uservlm.bench.audit.own_pictures import inside

    return Shown(picture.title, picture.title, _address(open_picture(inside(folder, picture.file))))


def described(scene: Scene) -> str:
    """Say what is drawn, skin tone by its number: for this page alone, never for a model."""
    user = scene.user
    hair = "bald" if user.hair_style == "bald" else f"{user.hair_style} {user.hair_colour} hair"
    return (
        f"a drawn {user.age}, {user.expression}, {hair}, skin tone {user.skin_tone}, "
        f"{user.clothing} clothing{_worn(user)}, {scene.company}"
    )


def _worn(user: Person) -> str:
    return "".join((", glasses" if user.glasses else "",
                    f", a {user.hat}" if user.hat != "none" else ""))  # fmt: skip


def _address(image: Image.Image) -> str:
    """Encode anew, so that nothing but pixels is kept: no EXIF, no place, no name."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    bare = Image.new("RGB", small.size)
    bare.paste(small)
    file = io.BytesIO()
    bare.save(file, format="JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
