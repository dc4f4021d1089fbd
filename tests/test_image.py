"""Pictures of every kind become the pixels the Hugging Face processor makes, or an ImageError."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uservlm.runtime.errors import ImageError
from uservlm.runtime.image import PixelSpec, open_picture, to_pixels

SPEC = PixelSpec(56)


def photo(width: int = 90, height: int = 60) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("size", [(90, 60), (56, 56), (2, 2), (5, 500), (640, 480)])
def test_pixels_equal_the_processors(size: tuple[int, int]) -> None:
    transformers = pytest.importorskip("transformers")
    processor = transformers.SiglipImageProcessor(
        size={"height": 56, "width": 56}, resample=3, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    image = photo(*size)
    wanted = processor(images=image, return_tensors="np").pixel_values
    found = to_pixels(image, SPEC)
    assert found.dtype == np.float32 and found.shape == (1, 3, 56, 56)
    assert np.array_equal(found, wanted)


def test_mean_and_deviation_are_per_channel() -> None:
    spec = PixelSpec(8, mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    red = to_pixels(Image.new("RGB", (8, 8), (255, 255, 255)), spec)
    assert [red[0, channel, 0, 0] for channel in range(3)] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "LA", "RGBA", "HSV"])
def test_every_colour_mode_becomes_rgb(mode: str) -> None:
    image = photo().convert("L").convert(mode) if mode in ("LA", "1") else photo().convert(mode)
    assert open_picture(image).mode == "RGB"
    assert np.isfinite(to_pixels(image, SPEC)).all()


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert open_picture(clear).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 0)
    palette.info["transparency"] = 0
    assert open_picture(palette).getpixel((0, 0)) == (255, 255, 255)


def test_a_rotated_photograph_stands_upright() -> None:
    """Phones and robots store the sensor's rows and say in EXIF which way is up."""
    sideways = Image.new("RGB", (20, 10), "red")
    sideways.paste("blue", (0, 0, 20, 5))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90° clockwise to see it
    picture = open_picture(encoded(sideways, "PNG", exif=exif))
    assert picture.size == (10, 20)
    assert picture.getpixel((9, 0)) == (0, 0, 255)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_paths_bytes_images_and_arrays_agree(tmp_path: Path, kind: str) -> None:
    data = encoded(photo(), kind)
    file = tmp_path / "picture"
    file.write_bytes(data)
    wanted = to_pixels(data, SPEC)
    for picture in (file, str(file), Image.open(file), np.asarray(Image.open(file).convert("RGB"))):
        assert np.array_equal(to_pixels(picture, SPEC), wanted)


def test_arrays_may_be_grey_or_strided() -> None:
    frame = np.asarray(photo())
    assert np.array_equal(to_pixels(frame[::2, ::2], SPEC), to_pixels(frame[::2, ::2].copy(), SPEC))
    assert to_pixels(frame[:, :, 0], SPEC).shape == (1, 3, 56, 56)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 0), np.uint8),
        np.zeros((5, 5, 2), np.uint8),
        np.zeros((5, 5, 3), np.float32),
        np.zeros((1, 3, 5, 5), np.uint8),
        np.zeros(5, np.uint8),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageError):
        to_pixels(array, SPEC)


def test_deep_pictures_are_refused() -> None:
    """Pillow would clip 16 bits to 8: a white picture, and an answer about it."""
    deep = Image.fromarray(np.full((4, 4), 40_000, np.uint16))
    with pytest.raises(ImageError, match="8 bits"):
        to_pixels(deep, SPEC)


@pytest.mark.parametrize("data", [b"", b"hello, I am no picture", b"\xff\xd8\xff", b"GIF89a"])
def test_what_is_no_picture_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        to_pixels(data, SPEC)
    file = tmp_path / "me.jpg"
    file.write_bytes(data)
    with pytest.raises(ImageError, match=r"me\.jpg"):
        to_pixels(file, SPEC)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no picture at .*gone"):
        to_pixels(tmp_path / "gone.png", SPEC)
    with pytest.raises(ImageError):
        to_pixels(tmp_path, SPEC)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_cut_off_files_are_refused(kind: str) -> None:
    """Every length: a broken connection may end anywhere."""
    data = encoded(photo(), kind)
    for end in range(0, len(data) - len(data) // 8, max(1, len(data) // 60)):
        try:
            to_pixels(data[:end], SPEC)
        except ImageError:
            continue
        assert kind in ("GIF", "TIFF"), f"{kind} cut at {end} of {len(data)} was taken"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_damaged_files_raise_nothing_else(kind: str) -> None:
    """A flipped byte may still be a picture; it is never another kind of exception."""
    data, rng = encoded(photo(), kind), np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(data)
        for position in rng.integers(0, min(len(data), 400), 4):
            broken[position] = rng.integers(0, 256)
        try:
            to_pixels(bytes(broken), SPEC)
        except ImageError:
            continue


def test_a_small_file_cannot_claim_gigabytes() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    data += struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(ImageError):
        to_pixels(data, SPEC)
    with pytest.raises(ImageError, match="scale it down"):
        to_pixels(Image.new("1", (9000, 9000)), SPEC)
