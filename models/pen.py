"""Shapes in face units on a canvas of pixels.

Owns: the `Pen`, the few shapes everything is drawn with, and arithmetic on colours. A face is drawn
in units of its own half-height, x to the right and y down from its centre; the pen takes those
units to pixels and OpenCV fills the shapes antialiased. Knows nothing of faces.
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

Colour: TypeAlias = tuple[float, float, float]
Points: TypeAlias = npt.NDArray[np.float64]
Canvas: TypeAlias = npt.NDArray[np.uint8]

_SHIFT = 4
"""Fractional bits of a coordinate."""
_CIRCLE = np.linspace(0, 2 * np.pi, 36, endpoint=False)


class Pen:
    """Draws face units onto an RGB canvas, scaled and rolled about a centre."""

    def __init__(self, canvas: Canvas, centre: tuple[float, float], scale: float, roll: float):
        self.canvas, self.scale = canvas, scale
        cos, sin = np.cos(roll) * scale, np.sin(roll) * scale
        self._turn = np.array([[cos, sin], [-sin, cos]])
        self._centre = np.array(centre)

    def fill(self, points: Points, colour: Colour) -> None:
        """Fill a polygon given as [n, 2] face units."""
        cv2.fillPoly(self.canvas, [self._pixels(points)], colour, cv2.LINE_AA, _SHIFT)

    def line(self, points: Points, colour: Colour, width: float, closed: bool = False) -> None:
        """Draw a polyline [n, 2] of the given width in face units."""
        thick = max(1, round(width * self.scale))
        cv2.polylines(
            self.canvas, [self._pixels(points)], closed, colour, thick, cv2.LINE_AA, _SHIFT
        )

    def _pixels(self, points: Points) -> npt.NDArray[np.int32]:
        pixels = points @ self._turn + self._centre
        fixed: npt.NDArray[np.int32] = np.round(pixels * (1 << _SHIFT)).astype(np.int32)
        return fixed


def ellipse(x: float, y: float, rx: float, ry: float) -> Points:
    """Outline of an ellipse, [36, 2]."""
    return np.stack([x + rx * np.cos(_CIRCLE), y + ry * np.sin(_CIRCLE)], axis=1)


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> Points:
    """Part of an ellipse from `start` to `end` in half turns: 0 right, 0.5 down, 1 left, 1.5 up."""
    angle = np.linspace(start, end, 16) * np.pi
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def points(*xy: tuple[float, float]) -> Points:
    """Corners given one by one, [n, 2]."""
    return np.array(xy, dtype=np.float64)


def shade(colour: Colour, factor: float) -> Colour:
    """Darken (factor below 1) or lighten a colour."""
    red, green, blue = (min(255.0, c * factor) for c in colour)
    return red, green, blue


def jitter(colour: Colour, rng: np.random.Generator, spread: float) -> Colour:
    """Vary a colour a little; `spread` is a standard deviation in 0 … 255."""
    red, green, blue = np.clip(np.array(colour) + rng.normal(0, spread, 3), 0, 255)
    return float(red), float(green), float(blue)
