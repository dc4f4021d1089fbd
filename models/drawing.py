"""Photographs of drawn people: a `Scene` becomes an RGB picture, the same one every time.

Owns: who stands where, background, light, lens and sensor. Knows nothing of how a face is drawn
(`faces.py`), of words, or of how scenes are chosen (`people.py`).
"""

from __future__ import annotations

import cv2
import numpy as np

from uservlm.models.faces import draw_person
from uservlm.models.pen import Canvas, Pen
from uservlm.models.people import Person, Scene


def render(scene: Scene, width: int = 320, height: int = 240) -> Canvas:
    """Draw uint8 [height, width, 3] RGB; equal scenes and sizes give equal pixels."""
    rng = np.random.default_rng(scene.seed)
    canvas = _background(rng, width, height)
    first = float(rng.permutation([-1.0, 1.0, -1.0, 1.0])[0])
    for index, other in enumerate(scene.others):
        _place_other(canvas, other, first if index % 2 == 0 else -first, index, rng)
    scale = height * rng.uniform(0.235, 0.30) * (0.92 if scene.user.age == "child" else 1.0)
    centre = (width * rng.uniform(0.44, 0.56), height * rng.uniform(0.44, 0.56))
    draw_person(
        Pen(canvas, centre, scale, rng.normal(0, 0.07)), scene.user, rng.uniform(-0.13, 0.13)
    )
    return _photograph(canvas, rng)


def _place_other(
    canvas: Canvas, other: Person, side: float, index: int, rng: np.random.Generator
) -> None:
    height, width = canvas.shape[:2]
    scale = height * rng.uniform(0.10, 0.14)
    x = width * (0.5 + side * rng.uniform(0.33, 0.43))
    y = height * (rng.uniform(0.20, 0.34) if index < 2 else rng.uniform(0.52, 0.62))
    draw_person(Pen(canvas, (x, y), scale, rng.normal(0, 0.08)), other, rng.uniform(-0.1, 0.1))


def _background(rng: np.random.Generator, width: int, height: int) -> Canvas:
    top, bottom = rng.uniform(60, 235, 3), rng.uniform(60, 235, 3)
    ramp = np.linspace(0, 1, height)[:, None, None]
    canvas = np.broadcast_to(top + (bottom - top) * ramp, (height, width, 3)).astype(
        np.uint8, order="C"
    )
    for _ in range(rng.integers(0, 5)):
        x, y = rng.uniform(-0.1, 0.9) * width, rng.uniform(-0.1, 0.8) * height
        w, h = rng.uniform(0.08, 0.4) * width, rng.uniform(0.1, 0.6) * height
        cv2.rectangle(
            canvas, (int(x), int(y)), (int(x + w), int(y + h)), rng.uniform(40, 245, 3).tolist(), -1
        )
    return canvas


def _photograph(canvas: Canvas, rng: np.random.Generator) -> Canvas:
    """Light from one side, a colour cast, a soft lens and a noisy sensor."""
    height, width = canvas.shape[:2]
    side = np.linspace(-1, 1, width, dtype=np.float32) * rng.uniform(-0.14, 0.14)
    gain = (rng.uniform(0.78, 1.12) * rng.normal(1, 0.025, 3)).astype(np.float32)
    picture = canvas.astype(np.float32) * (1 + side)[None, :, None] * gain
    blur = rng.uniform(0, 0.0035) * height
    if blur > 0.3:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), blur), dtype=np.float32)
    noise = rng.standard_normal((height // 2, width // 2, 3), dtype=np.float32)
    picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR) * rng.uniform(
        0, 9
    )
    return np.clip(picture, 0, 255).astype(np.uint8)
