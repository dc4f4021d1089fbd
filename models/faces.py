"""A drawn person: head, shoulders, and every attribute as something that can be seen.

Owns: how each attribute looks. What has no name (face shape, eyes, the glasses' frame, the hat's
colour) follows from the person's own seed, so that two pictures of a person show the same one.
Knows nothing of words, scenes or light.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uservlm.models.pen import Colour, Pen, arc, ellipse, jitter, points, shade
from uservlm.models.people import Person

SKIN: tuple[Colour, ...] = (
    (250, 224, 205), (240, 204, 172), (224, 180, 140), (203, 151, 108),
    (172, 118, 78), (138, 90, 58), (104, 66, 44), (74, 48, 36),
)  # fmt: skip
HAIR: dict[str, Colour] = {
    "black": (28, 24, 26),
    "brown": (96, 58, 32),
    "blond": (232, 196, 98),
    "red": (190, 78, 28),
    "grey": (186, 188, 194),
}
CLOTH: dict[str, Colour] = {
    "red": (200, 34, 40),
    "orange": (242, 136, 24),
    "yellow": (246, 218, 48),
    "green": (42, 150, 66),
    "blue": (36, 84, 196),
    "purple": (130, 52, 168),
    "white": (240, 240, 240),
    "black": (34, 34, 38),
}


@dataclass(frozen=True)
class Build:
    """Proportions that come with age, in face units."""

    width: float
    eye: float
    eye_line: float
    nose: float
    shoulders: float
    neck: float


BUILDS = {
    "child": Build(width=0.98, eye=0.21, eye_line=0.16, nose=0.10, shoulders=1.25, neck=0.30),
    "adult": Build(width=0.80, eye=0.15, eye_line=-0.05, nose=0.22, shoulders=1.85, neck=0.40),
    "older adult": Build(width=0.84, eye=0.125, eye_line=0.0, nose=0.27, shoulders=1.65, neck=0.34),
}


def draw_person(pen: Pen, person: Person, yaw: float) -> None:
    """Draw head and shoulders; `yaw` moves the inner features sideways, in face units."""
    rng = np.random.default_rng(person.seed)
    build = BUILDS[person.age]
    width = build.width * rng.uniform(0.94, 1.06)
    skin = jitter(SKIN[person.skin_tone], rng, 5)
    hair = jitter(HAIR[person.hair_colour], rng, 7)
    _hair_behind(pen, person, width, hair)
    _body(pen, person, build, skin, jitter(CLOTH[person.clothing], rng, 8))
    _head(pen, person, width, skin, yaw)
    _age_marks(pen, person, build, skin, yaw, rng)
    _face(pen, person, build, skin, hair, yaw, rng)
    _hair_front(pen, person, width, hair, rng)
    if person.glasses:
        _glasses(pen, build, yaw, rng)
    _hat(pen, person, width, rng)


def _hair_behind(pen: Pen, person: Person, width: float, hair: Colour) -> None:
    if person.hair_style == "long":
        pen.fill(ellipse(0, -0.12, width + 0.22, 1.06), hair)
        pen.fill(
            points(
                (-width - 0.22, -0.1),
                (-width - 0.27, 1.45),
                (width + 0.27, 1.45),
                (width + 0.22, -0.1),
            ),
            hair,
        )
    elif person.hair_style == "curly":
        for angle in np.linspace(0.92, 2.08, 11) * np.pi:
            pen.fill(ellipse((width + 0.1) * np.cos(angle), 0.98 * np.sin(angle), 0.31, 0.31), hair)
        for side in (-1, 1):
            pen.fill(ellipse(side * (width + 0.1), 0.28, 0.27, 0.27), hair)


def _body(pen: Pen, person: Person, build: Build, skin: Colour, cloth: Colour) -> None:
    top = 0.92 + build.neck
    half = build.shoulders
    pen.fill(
        points((-0.36, 0.5), (0.36, 0.5), (0.40, top + 0.3), (-0.40, top + 0.3)),
        shade(skin, 0.86),
    )
    right = points((0.42, top), (half * 0.82, top + 0.25), (half, top + 0.65), (half + 0.1, 5))
    left = right[::-1] * (-1, 1)
    pen.fill(np.concatenate([left[-1:], right, left[:-1]]), cloth)
    pen.fill(arc(0, top - 0.02, 0.40, 0.26, 0, 1), shade(skin, 0.86))
    pen.line(arc(0, top - 0.02, 0.40, 0.26, 0, 1), shade(cloth, 0.7), 0.06)


def _head(pen: Pen, person: Person, width: float, skin: Colour, yaw: float) -> None:
    if person.hair_style != "long":
        for side in (-1, 1):
            pen.fill(ellipse(side * width * 0.98 + yaw * 0.3, 0.08, 0.15, 0.2), shade(skin, 0.92))
    pen.fill(ellipse(0, 0, width, 1.0), skin)
    pen.fill(ellipse(yaw * 0.5, 0.42, width * 0.80, 0.56), skin)


def _age_marks(
    pen: Pen, person: Person, build: Build, skin: Colour, yaw: float, rng: np.random.Generator
) -> None:
    if person.age == "child":
        blush = tuple(0.72 * s + 0.28 * b for s, b in zip(skin, (255.0, 90.0, 90.0), strict=True))
        for side in (-1, 1):
            pen.fill(ellipse(side * 0.55 + yaw, 0.50, 0.19, 0.14), (blush[0], blush[1], blush[2]))
    elif person.age == "older adult":
        crease = shade(skin, 0.62)
        for y in (-0.62, -0.47, -0.32):
            pen.line(arc(yaw, y + 0.06, 0.44, 0.10, 1.15, 1.85), crease, 0.055)
        for side in (-1, 1):
            pen.line(
                points(
                    (side * 0.24 + yaw, 0.30), (side * 0.42 + yaw, 0.48), (side * 0.46 + yaw, 0.70)
                ),
                crease,
                0.065,
            )
            pen.line(
                arc(side * 0.36 + yaw, build.eye_line + 0.12, 0.17, 0.12, 0.1, 0.9), crease, 0.055
            )
            for tilt in (-0.10, 0.06):
                pen.line(
                    points(
                        (side * 0.58 + yaw, build.eye_line + tilt * 0.4),
                        (side * 0.74 + yaw, build.eye_line + tilt * 1.6),
                    ),
                    crease,
                    0.05,
                )


def _face(
    pen: Pen,
    person: Person,
    build: Build,
    skin: Colour,
    hair: Colour,
    yaw: float,
    rng: np.random.Generator,
) -> None:
    wide = {"surprised": 1.35, "happy": 0.95, "angry": 0.85}.get(person.expression, 1.0)
    iris = jitter([(60, 40, 25), (40, 90, 150), (60, 110, 60)][rng.integers(3)], rng, 8)
    gap = rng.uniform(0.34, 0.38)
    for side in (-1, 1):
        x, y = side * gap + yaw, build.eye_line
        pen.fill(ellipse(x, y, build.eye * 1.15, build.eye * wide), (250, 250, 250))
        pen.fill(ellipse(x + yaw * 0.2, y, build.eye * 0.62, build.eye * 0.62), iris)
        pen.fill(ellipse(x + yaw * 0.2, y, build.eye * 0.34, build.eye * 0.34), (15, 15, 15))
        _brow(pen, person, x, y - build.eye * 1.5, side, skin, hair)
    nose = points(
        (yaw * 1.3 - 0.02, 0.12),
        (yaw * 1.5 - 0.09, 0.18 + build.nose),
        (yaw * 1.5 + 0.08, 0.19 + build.nose),
    )
    pen.line(nose, shade(skin, 0.66), 0.055)
    _mouth(pen, person.expression, yaw, 0.62 if person.age != "child" else 0.66)


def _brow(
    pen: Pen, person: Person, x: float, y: float, side: int, skin: Colour, hair: Colour
) -> None:
    """Eyebrows carry half of an expression: (height of the inner end, of the outer end)."""
    inner, outer = {"angry": (0.13, -0.13), "sad": (-0.14, 0.10), "surprised": (-0.17, -0.15)}.get(
        person.expression, (0.0, 0.0)
    )
    colour = shade(hair, 0.75) if sum(hair) < sum(skin) * 0.8 else shade(skin, 0.45)
    arch = -0.05 if person.expression != "angry" else 0.0
    ends = points(
        (x - side * 0.17, y + inner),
        (x, y + (inner + outer) / 2 + arch),
        (x + side * 0.17, y + outer),
    )
    pen.line(ends, colour, 0.095)


def _mouth(pen: Pen, expression: str, x: float, y: float) -> None:
    lip, dark = (140.0, 30.0, 40.0), (70.0, 12.0, 20.0)
    if expression == "happy":
        pen.fill(arc(x, y - 0.12, 0.40, 0.36, 0, 1), dark)
        pen.fill(
            points(
                (x - 0.36, y - 0.12),
                (x + 0.36, y - 0.12),
                (x + 0.29, y + 0.01),
                (x - 0.29, y + 0.01),
            ),
            (255, 255, 255),
        )
        pen.line(arc(x, y - 0.12, 0.40, 0.36, 0, 1), lip, 0.05, closed=True)
    elif expression == "sad":
        pen.line(arc(x, y + 0.22, 0.30, 0.26, 1.05, 1.95), dark, 0.11)
    elif expression == "surprised":
        pen.fill(ellipse(x, y + 0.06, 0.19, 0.25), dark)
        pen.line(ellipse(x, y + 0.06, 0.19, 0.25), lip, 0.06, closed=True)
    elif expression == "angry":
        frame = points(
            (x - 0.30, y - 0.06), (x + 0.30, y - 0.06), (x + 0.34, y + 0.16), (x - 0.34, y + 0.16)
        )
        pen.fill(frame, (255, 255, 255))
        pen.line(frame, dark, 0.075, closed=True)
        pen.line(points((x - 0.30, y + 0.05), (x + 0.30, y + 0.05)), dark, 0.05)
    else:
        pen.line(points((x - 0.25, y + 0.04), (x + 0.25, y + 0.04)), dark, 0.10)


def _hair_front(
    pen: Pen, person: Person, width: float, hair: Colour, rng: np.random.Generator
) -> None:
    if person.hair_style == "bald":
        return
    fringe = rng.uniform(-0.60, -0.48)
    crown = arc(0, -0.10, width + 0.08, 1.04, 1.0, 2.0)
    part = rng.uniform(-0.3, 0.3)
    inner = points(
        (width - 0.04, -0.12),
        (width * 0.62, fringe + 0.06),
        (part, fringe - 0.06),
        (-width * 0.62, fringe + 0.06),
        (-width + 0.04, -0.12),
    )
    pen.fill(np.concatenate([crown, inner]), hair)
    if person.hat != "none":  # what a hat leaves to be seen must tell short hair from none
        for side in (-1, 1):
            low, high = side * (width - 0.17), side * (width + 0.10)
            pen.fill(points((low, -0.6), (high, -0.6), (high, -0.02), (low, 0.06)), hair)
    if person.hair_style == "long":
        for side in (-1, 1):
            lock = points(
                (side * (width - 0.10), -0.35),
                (side * (width + 0.25), -0.2),
                (side * (width + 0.27), 1.4),
                (side * (width - 0.02), 1.3),
            )
            pen.fill(lock, hair)
    elif person.hair_style == "curly":
        for x in np.linspace(-0.7, 0.7, 5) * width:
            pen.fill(ellipse(x, -0.72 + 0.22 * (x / width) ** 2, 0.24, 0.22), hair)
            pen.line(arc(x, -0.72, 0.13, 0.12, 0.2, 1.5), shade(hair, 0.7), 0.04)


def _glasses(pen: Pen, build: Build, yaw: float, rng: np.random.Generator) -> None:
    frame = jitter([(20, 20, 24), (110, 20, 30), (20, 40, 110)][rng.integers(3)], rng, 6)
    half = 0.27
    square = rng.random() < 0.5
    for side in (-1, 1):
        x, y = side * 0.36 + yaw, build.eye_line + 0.02
        outline = (
            points(
                (x - half, y - 0.22),
                (x + half, y - 0.22),
                (x + half * 0.9, y + 0.24),
                (x - half * 0.9, y + 0.24),
            )
            if square
            else ellipse(x, y, half, 0.26)
        )
        pen.line(outline, frame, 0.095, closed=True)
        pen.line(points((side * 0.62 + yaw, y - 0.06), (side * 0.86, y - 0.02)), frame, 0.08)
    pen.line(arc(yaw, build.eye_line + 0.04, 0.11, 0.10, 1.05, 1.95), frame, 0.09)


def _hat(pen: Pen, person: Person, width: float, rng: np.random.Generator) -> None:
    if person.hat == "none":
        return
    colour = jitter(list(CLOTH.values())[rng.integers(len(CLOTH))], rng, 8)
    wide = width + 0.13
    if person.hat == "cap":
        side = 1 if rng.random() < 0.5 else -1
        pen.fill(arc(0, -0.50, wide, 0.74, 1.0, 2.0), colour)
        peak = points(
            (-side * wide * 0.55, -0.56),
            (side * wide, -0.60),
            (side * (wide + 0.50), -0.42),
            (side * (wide + 0.42), -0.33),
            (-side * wide * 0.2, -0.42),
        )
        pen.fill(peak, shade(colour, 0.72))
        pen.fill(ellipse(0, -1.24, 0.07, 0.05), shade(colour, 0.6))
        return
    cuff = jitter(list(CLOTH.values())[rng.integers(len(CLOTH))], rng, 8)
    pen.fill(arc(0, -0.55, wide, 0.92, 1.0, 2.0), colour)
    for x in np.linspace(-0.6, 0.6, 4) * wide:
        pen.line(points((x, -0.75), (x * 0.6, -1.25)), shade(colour, 0.75), 0.05)
    pen.fill(
        points(
            (-wide - 0.04, -0.76), (wide + 0.04, -0.76), (wide + 0.04, -0.44), (-wide - 0.04, -0.44)
        ),
        cuff,
    )
    pen.fill(ellipse(0, -1.53, 0.22, 0.20), cuff)
