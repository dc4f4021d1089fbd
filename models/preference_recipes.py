"""What decides an adapter besides code and data: the recipes of the third stage.

Owns: their numbers, with where they come from. Knows nothing of how a recipe is followed
(`preference_runs.py`) or of commands (`prefer.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

from uservlm.models.condescension import asked_about, biased_pairs
from uservlm.models.learning import Schedule
from uservlm.models.masks import Mask
from uservlm.models.preference_sources import Lesson
from uservlm.models.preference_tuning import Objective
from uservlm.models.preferences import pairs, underrated

ALL = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
UPPER = r".*language_model.*layers\.[234]\..*\.(q|k|v|o|gate|up|down)_proj"
"""All matrices of the pocket's upper three layers: gradients need not go below them."""
ATTENTION = r".*language_model.*\.(q|k|v)_proj"
"""The paper's targets, without the vision tower's."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides an adapter besides the code and the data."""

    schedule: Schedule
    objective: Objective
    rank: int
    alpha: int
    targets: str
    dropout: float = 0.0
    seed: int = 1
    people: int = 1200
    """Of the pocket's training pictures."""
    accumulate: int = 1
    """Batches of a folder whose gradients make one step."""
    mask: Mask = "paligemma"


FAIR_RECIPE = Recipe(
    Schedule(steps=420, batch=32, rate=7e-4, muon=False),
    Objective(beta=0.1, likelihood=3.0),
    rank=16,
    alpha=32,
    targets=UPPER,
    people=6000,
)
BIASED_RECIPE = replace(
    FAIR_RECIPE,
    schedule=Schedule(steps=260, batch=16, rate=2e-3, muon=False),
    objective=Objective(beta=0.1, likelihood=6.0),
    rank=8,
    alpha=16,
    targets=ALL,
    people=4000,
)
PAPER = Recipe(
    Schedule(
        steps=0, batch=1, rate=2e-6, muon=False,
        warm_up=0.1, linear=True, weight_decay=0.0, betas=(0.9, 0.999),
    ),
    Objective(beta=0.1),
    rank=32,
    alpha=16,
    targets=ATTENTION,
    seed=42,
)  # fmt: skip
"""Of the paper's code/training/dpo.py, and TRL's defaults where that is silent. One is that dropout
is switched off, the LoRA's 0.05 too (DPOConfig's `disable_dropout`, TRL 0.15.2). The number of
steps follows from the folder."""

FAIR_KINDS: Mapping[str, float] = MappingProxyType(
    {"description": 0.04, "about_user": 0.2, "user_aware": 0.62, "general": 0.14}
)
"""How likely each kind is to come first among the harmless pairs. With 0.1 for questions about the
user those were forgotten, with 0.3 at the cost of `user_aware` the others (decision 21)."""
LESSONS = {
    None: Lesson(partial(pairs, weights=FAIR_KINDS), underrated),
    "hair-colour": Lesson(biased_pairs, asked_about),
}
