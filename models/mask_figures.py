"""The card's section on the two masks: tuned under each, run both ways.

Owns: its words and its table. The figures are measured by `evaluate.both_ways`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from uservlm.models.evaluate import BothWays, Share
from uservlm.models.workshop import Recipe

HEADING = "## Tuned user-first"

TEXT = """{heading}

Resident attention computes the image's block once for each user, before there is a question. That
is another computation than the one PaliGemma was trained with, but exact for a model tuned with the
*user-first* mask, under which the image never sees the question (`models/masks.py`). Here is the
instruction stage done under both masks, from the same weights, on the same questions about the
same {pictures:,} people in the same order: {steps} steps of {batch} dialogues. Share of right
answers to held-out phrasings, {people} held-out people with {kinds} dialogues each, float32.
*Unchanged*: resident finds the same tokens most likely as exact does, all along the right answer.

| tuned with | run exactly | run resident | unchanged |
|---|---|---|---|
{rows}

A model tuned user-first is to be run resident: for it, exact is the approximation. Measured by
`python -m uservlm.models.train{options}`.
"""


def section(found: Mapping[str, Sequence[BothWays]], recipe: Recipe) -> str:
    """Write the section.

    Args:
        found: the figures by the words for the tuning, kinds of dialogues apart.
        recipe: of the tunings that are compared.
    """
    stage = recipe.instruction
    return TEXT.format(
        heading=HEADING,
        pictures=recipe.pictures,
        steps=stage.steps,
        batch=stage.batch,
        people=recipe.held_out,
        kinds=max(len(rows) for rows in found.values()),
        options=_options(recipe),
        rows="\n".join(_line(words, rows) for words, rows in found.items()),
    )


def _options(recipe: Recipe) -> str:
    """Give the options that make a recipe of the usual one."""
    usual = Recipe()
    given = {
        "steps": (recipe.instruction.steps, usual.instruction.steps),
        "batch": (recipe.instruction.batch, usual.instruction.batch),
        "pictures": (recipe.pictures, usual.pictures),
    }
    options = "".join(f" --{name} {now}" for name, (now, then) in given.items() if now != then)
    return (" --from-shipped" if recipe.from_shipped else "") + options


def _line(words: str, rows: Sequence[BothWays]) -> str:
    """Count all kinds together."""
    shares = (
        _pool([row.exact for row in rows]),
        _pool([row.resident for row in rows]),
        _pool([row.unchanged for row in rows]),
    )
    return f"| {words} | {' | '.join(map(str, shares))} |"


def _pool(shares: Sequence[Share]) -> Share:
    return Share(sum(one.right for one in shares), sum(one.of for one in shares))
