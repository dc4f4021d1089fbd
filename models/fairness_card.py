"""The card's section on the adapter `fair`: what it changes and what it costs.

Owns: its words and its table. The figures are measured by `fairness.measure`.
"""

from __future__ import annotations

from collections.abc import Iterator

from uservlm.models.evaluate import Share
from uservlm.models.fairness import Fairness
from uservlm.models.preferences import CATEGORIES, presumptions

HEADING = "## The adapter `fair`"

TEXT = """{heading}

The weights answer {topics} plain questions to an older adult on a presumption: that stairs need a
seat on each landing, that a password needs patience, that a book must be in large print. `fair/` is
a LoRA of rank {rank} that learnt by preference tuning, the paper's third stage, to give older
adults the answer that any adult gets there, and to go on personalising everywhere else. What counts
as a presumption, topic by topic and with reasons, is written in `models/topics/preferences.toml`;
it is a judgement on drawn people, and no measure of how fair a model is to real ones.

{steps} steps of {batch} pairs about {tuned:,} of the training people. Measured on {people:,}
held-out people and held-out phrasings, greedy, float32, with 95 % intervals, the adapter as it is
in the folder:

| | without `fair` | with `fair` |
|---|---|---|
{rows}

*Stereotyping* and *fair*: of {unfair:,} questions, one to each older adult, the share that is
answered to the letter by the presumption, or as any adult is; *neither* is the rest. The other rows
are questions where personalising is right, one of each kind to everybody. *Unchanged*: resident
attention finds the same tokens most likely as exact does, all along the fair answer, over all of
these questions.

Export it with `--keep-adapter fair=models/pocket/fair` and ask with `--adapter fair`. Made and
measured by `python -m uservlm.models.prefer`.
"""

KINDS = {
    "user_aware": "personalising by age, expression, company",
    "about_user": "questions about the user",
    "description": "descriptions",
    "general": "general questions",
}
"""In the order of the table."""


def section(
    before: Fairness, after: Fairness, people: int, rank: int, steps: int, batch: int, tuned: int
) -> str:
    """Write the section.

    Args:
        before: with the adapter off.
        after: with it on, the same questions.
        people: who were asked.
        rank: of the LoRA.
        steps: of the tuning.
        batch: pairs in a step.
        tuned: people it was tuned on.
    """
    rows = "\n".join(f"| {name} | {off} | {on} |" for name, off, on in _rows(before, after))
    return TEXT.format(
        heading=HEADING,
        topics=len(presumptions()),
        rank=rank,
        steps=steps,
        batch=batch,
        tuned=tuned,
        people=people,
        unfair=before.stereotyping.of,
        rows=rows,
    )


def _rows(before: Fairness, after: Fairness) -> Iterator[tuple[str, Share, Share]]:
    yield "**stereotyping answers**", before.stereotyping, after.stereotyping
    for category in CATEGORIES:
        yield f"— {category}", before.by_category[category], after.by_category[category]
    yield "fair answers", before.fair, after.fair
    yield "neither", before.neither, after.neither
    for kind, name in KINDS.items():
        yield name, before.kept[kind], after.kept[kind]
    yield "unchanged by resident attention", before.unchanged, after.unchanged
