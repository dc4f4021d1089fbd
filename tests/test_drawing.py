"""Drawn people: the same every time, and every attribute can be seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from uservlm.models.drawing import render
from uservlm.models.people import (
    ATTRIBUTES,
    COMPANY,
    SKIN_TONES,
    Person,
    Scene,
    random_person,
    random_scene,
    same_identity,
)
from uservlm.models.pictures import picture_at, scene_at

PLAIN = Person("adult", "neutral", "short", "brown", False, "none", "blue", 3, seed=5)


def changed(one: Scene, other: Scene) -> float:
    """Share of pixels that differ visibly."""
    difference = np.abs(render(one).astype(int) - render(other).astype(int)).max(axis=2)
    return float((difference > 25).mean())


def test_equal_scenes_give_equal_pixels() -> None:
    assert np.array_equal(picture_at(3, 1), picture_at(3, 1))


@pytest.mark.parametrize(
    ("attribute", "value"),
    [(name, value) for name, values in ATTRIBUTES.items() for value in values]
    + [("skin_tone", tone) for tone in range(SKIN_TONES)],
)
def test_every_value_of_an_attribute_shows(attribute: str, value: object) -> None:
    person = replace(PLAIN, **{attribute: value})
    if person == PLAIN:
        return
    assert changed(Scene(PLAIN, (), seed=9), Scene(person, (), seed=9)) > 0.001


def test_company_shows() -> None:
    others = [random_person(np.random.default_rng(i)) for i in range(3)]
    pictures = [Scene(PLAIN, tuple(others[:count]), seed=4) for count in range(4)]
    for fewer, more in zip(pictures, pictures[1:], strict=False):
        assert changed(fewer, more) > 0.01
    assert [scene.company for scene in pictures] == [*COMPANY, "group"]


def test_another_photograph_of_the_same_person_differs() -> None:
    assert changed(Scene(PLAIN, (), seed=1), Scene(PLAIN, (), seed=2)) > 0.2


def test_identity_survives_another_day() -> None:
    tomorrow = same_identity(PLAIN, np.random.default_rng(0))
    assert replace(tomorrow, expression=PLAIN.expression, clothing=PLAIN.clothing) == PLAIN


def test_sets_of_different_seeds_share_no_scene() -> None:
    assert not {scene_at(1, i) for i in range(300)} & {scene_at(2, i) for i in range(300)}


def test_every_attribute_value_is_drawn_by_lot() -> None:
    rng = np.random.default_rng(0)
    people = [random_scene(rng).user for _ in range(500)]
    for name, values in ATTRIBUTES.items():
        assert {getattr(person, name) for person in people} == set(values)
    assert {person.skin_tone for person in people} == set(range(SKIN_TONES))
