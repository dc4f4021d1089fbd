"""Who lives in the drawn world: the attributes of a person, a scene, and how they are drawn by lot.

Owns: the words for what can be seen (the dialogues say exactly these) and their distribution. Knows
nothing of pixels (`drawing.py`) or sentences (`dialogues.py`). Skin tone is drawn by lot and never
becomes a word: the model learns to see people of every tone and to say nothing about it. There is
no attribute for gender or ethnicity.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

AGES = ("child", "adult", "older adult")
EXPRESSIONS = ("neutral", "happy", "sad", "surprised", "angry")
HAIR_STYLES = ("short", "long", "curly", "bald")
HAIR_COLOURS = ("black", "brown", "blond", "red", "grey")
GLASSES = (False, True)
HATS = ("none", "cap", "woolly hat")
CLOTHING = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
SKIN_TONES = 8
COMPANY = ("alone", "one other", "group")

ATTRIBUTES: dict[str, tuple[object, ...]] = {
    "age": AGES,
    "expression": EXPRESSIONS,
    "hair_style": HAIR_STYLES,
    "hair_colour": HAIR_COLOURS,
    "glasses": GLASSES,
    "hat": HATS,
    "clothing": CLOTHING,
}
"""What is asked and told of a person, with every value it takes."""


@dataclass(frozen=True)
class Person:
    """One drawn person; every value comes from the tuple of the same name above."""

    age: str
    expression: str
    hair_style: str
    hair_colour: str
    glasses: bool
    hat: str
    clothing: str
    skin_tone: int
    """0 (lightest) … SKIN_TONES - 1; drawn, never described."""
    seed: int
    """Fixes everything that has no name: face shape, eye colour, freckles, …: the identity."""


@dataclass(frozen=True)
class Scene:
    """Who is in the picture: the user is the nearest, largest, most central face."""

    user: Person
    others: tuple[Person, ...]
    seed: int
    """Fixes pose, light, background, blur and noise: two seeds are two photographs."""

    @property
    def company(self) -> str:
        """Relation to others in view, from COMPANY."""
        return COMPANY[min(len(self.others), 2)]


def random_person(rng: np.random.Generator) -> Person:
    """Draw every attribute independently, except that grey hair is likelier with age."""
    age = _pick(rng, AGES)
    weights = [0.24, 0.24, 0.24, 0.22, 0.06] if age != "older adult" else [0.1, 0.1, 0.1, 0.1, 0.6]
    return Person(
        age=age,
        expression=_pick(rng, EXPRESSIONS),
        hair_style=HAIR_STYLES[rng.choice(4, p=[0.3, 0.3, 0.25, 0.15])],
        hair_colour=HAIR_COLOURS[rng.choice(5, p=weights)],
        glasses=bool(rng.random() < 0.5),
        hat=HATS[rng.choice(3, p=[0.6, 0.2, 0.2])],
        clothing=_pick(rng, CLOTHING),
        skin_tone=int(rng.integers(SKIN_TONES)),
        seed=int(rng.integers(2**31)),
    )


def random_scene(rng: np.random.Generator, user: Person | None = None) -> Scene:
    """Draw a photograph of `user` (or of a new person), alone in half of the cases."""
    company = int(rng.choice(4, p=[0.5, 0.25, 0.15, 0.1]))
    return Scene(
        user=user or random_person(rng),
        others=tuple(random_person(rng) for _ in range(company)),
        seed=int(rng.integers(2**31)),
    )


def same_identity(person: Person, rng: np.random.Generator) -> Person:
    """The same person on another day: expression and clothing change, the rest stays."""
    return replace(person, expression=_pick(rng, EXPRESSIONS), clothing=_pick(rng, CLOTHING))


def _pick(rng: np.random.Generator, values: tuple[str, ...]) -> str:
    return values[int(rng.integers(len(values)))]
