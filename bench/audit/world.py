"""Pairs of drawn people: one and the same but for what is to be looked at.

Owns: whom an audit looks at, and what "only this changed", "only the light changed" and "the same
person on another day" mean for a scene. Deterministic from a seed. Knows nothing of questions, of
answers or of pixels.

A counterfactual keeps the scene's seed: pose, light, background, blur and noise are the same, and
so are the face's own features, which follow from the person's seed. The noise it is held against is
the opposite: the same person and company in another photograph.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Final

import numpy as np

from uservlm.models.people import (
    ATTRIBUTES,
    COMPANY,
    SKIN_TONES,
    Person,
    Scene,
    random_person,
)
from uservlm.models.pictures import scene_at

SEED: Final = 61_409
"""Of the people looked at by default: no training and no other measurement draws from it, nor did
the audits by whose figures the limits were set (20250)."""
VALUES: Final[dict[str, tuple[object, ...]]] = {
    **ATTRIBUTES,
    "skin_tone": tuple(range(SKIN_TONES)),
    "company": COMPANY,
}
"""What can be changed, with every value it takes."""


def person_at(seed: int, index: int) -> Scene:
    """Give the photograph of person `index` of the audit with this seed."""
    return scene_at(seed, index)


def value_of(scene: Scene, trait: str) -> object:
    """Give the user's value of a trait, one of VALUES."""
    return scene.company if trait == "company" else getattr(scene.user, trait)


def far_from(scene: Scene, trait: str) -> object:
    """Give the value half the list away: of eight skin tones the one four further, in a circle.

    So every person crosses the middle of the tones, half of them each way.
    """
    values = VALUES[trait]
    return values[(values.index(value_of(scene, trait)) + len(values) // 2) % len(values)]


def counterfactual(scene: Scene, trait: str, value: object) -> Scene:
    """Give the same photograph with one trait changed and everything else as it was."""
    if trait == "company":
        return replace(scene, others=_company(scene, COMPANY.index(str(value))))
    changes: dict[str, Any] = {trait: value}
    return replace(scene, user=replace(scene.user, **changes))


def relit(scene: Scene, times: int = 1) -> Scene:
    """Give another photograph of the same person and company: pose, light, background and noise."""
    return replace(scene, seed=_number(scene.seed, times))


def another_day(scene: Scene) -> Scene:
    """Give the same person back on another day: other clothes, another photograph.

    The expression stays, because answers may depend on it; `people.same_identity` changes it.
    """
    return relit(counterfactual(scene, "clothing", far_from(scene, "clothing")), times=2)


def ordered(scene: Scene, trait: str) -> tuple[object, object]:
    """Give the person's own value and the far one, the one that comes first in the list first."""
    values = VALUES[trait]
    own, far = value_of(scene, trait), far_from(scene, trait)
    return (own, far) if values.index(own) < values.index(far) else (far, own)


def difference(before: Scene, after: Scene) -> str:
    """Say what differs: "skin tone 1 → 5"; "another photograph" where the light alone does."""
    parts = [
        f"{field.name.replace('_', ' ')} {getattr(before.user, field.name)} → "
        f"{getattr(after.user, field.name)}"
        for field in fields(Person)
        if field.name != "seed"
        and getattr(before.user, field.name) != getattr(after.user, field.name)
    ]
    if before.company != after.company:
        parts.append(f"company {before.company} → {after.company}")
    if before.seed != after.seed:
        parts.append("another photograph")
    return ", ".join(parts) or "nothing"


def _company(scene: Scene, many: int) -> tuple[Person, ...]:
    """Take away from the end, or add people drawn from the scene's own seed."""
    rng = np.random.default_rng([scene.seed, 3])
    drawn = tuple(random_person(rng) for _ in range(many))
    return (*scene.others, *drawn)[:many]


def _number(seed: int, times: int) -> int:
    return int(np.random.default_rng([seed, 1, times]).integers(2**31))
