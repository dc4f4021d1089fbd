"""Real pictures, damaged, and files that are made to burst."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any, Final

import numpy as np
from fuzzing_json import odd_text
from hypothesis import strategies as st
from PIL import Image

_SHAPES: Final[tuple[tuple[str, str, dict[str, Any]], ...]] = (
    ("RGB", "PNG", {}), ("RGBA", "PNG", {}), ("P", "PNG", {}), ("L", "PNG", {}), ("1", "PNG", {}),
    ("RGB", "JPEG", {}), ("L", "JPEG", {}), ("CMYK", "JPEG", {}),
    ("RGB", "JPEG", {"progressive": True}),
    ("RGB", "WEBP", {}), ("RGBA", "WEBP", {"lossless": True}),
)  # fmt: skip


def real_pictures() -> list[bytes]:
    """One of each kind of file that cameras and browsers send, with EXIF in the JPEGs."""
    grey = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a picture"
    found = []
    for mode, form, options in _SHAPES:
        file = io.BytesIO()
        more = {"exif": exif.tobytes()} if form != "PNG" else {}
        Image.fromarray(grey).convert(mode).save(file, form, **options, **more)
        found.append(file.getvalue())
    return found


PICTURES: Final = real_pictures()


@st.composite
def pictures(draw: st.DrawFn) -> bytes:
    """A real picture, damaged."""
    data = bytearray(draw(st.sampled_from(PICTURES)))
    for _ in range(draw(st.integers(0, 6))):
        at = (
            draw(st.integers(0, max(0, min(len(data) - 1, 400))))
            if draw(st.booleans())
            else draw(st.integers(0, max(0, len(data) - 1)))
        )
        how = draw(st.sampled_from(["flip", "cut", "insert", "repeat", "large"]))
        if how == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "cut":
            del data[at:]
        elif how == "insert":
            data[at:at] = draw(st.binary(max_size=12))
        elif how == "repeat":
            data[at:at] = data[at : at + 64]
        elif how == "large":
            data[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"]))
    return bytes(data)


@st.composite
def data_urls(draw: st.DrawFn) -> str:
    """A picture as the API takes it, or nearly."""
    written = base64.b64encode(draw(pictures())).decode()
    kind = draw(st.sampled_from(["image/png", "image/jpeg", "image/webp"]))
    how = draw(
        st.sampled_from(["right"] * 12 + ["mime", "no base64", "cut", "odd", "none", "huge"])
    )
    if how == "mime":
        kind = draw(
            st.sampled_from(["image/gif", "image/svg+xml", "text/html", "", "image/png;a=b"])
        )
    elif how == "no base64":
        at = draw(st.integers(0, len(written)))
        written = written[:at] + draw(odd_text) + written[at:]
    elif how == "cut":
        written = written[: draw(st.integers(0, len(written)))]
    elif how == "huge":
        side = draw(st.sampled_from([4000, 10_000, 2**31 - 1]))
        written = base64.b64encode(png_of(side, side, b"")).decode()
    elif how == "odd":
        return draw(odd_text)
    elif how == "none":
        written = ""
    return f"data:{kind};base64,{written}"


def png_of(width: int, height: int, rows: bytes, kind: bytes = b"", more: bytes = b"") -> bytes:
    """Write a PNG that says so many pixels of RGB; `rows` are compressed, `more` a chunk."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    between = chunk(kind, more) if kind else b""
    return b"\x89PNG\r\n\x1a\n" + head + between + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
