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
held-out people in held-out wordings, greedy, float32, with 95 % intervals, the adapter as it is in
the folder. Recipes were chosen on other people and other wordings (`models/fairness.py`):

{table}

*Stereotyping* and *fair*: of {unfair:,} questions, one to each older adult, the share that is
answered to the letter by the presumption, or as any adult is; *neither* is the rest. The other rows
are questions where personalising is right, one of each kind to everybody. *Unchanged*: resident
attention finds the same tokens most likely as exact does, all along the fair answer, over all of
these questions.

Export it with `--keep-adapter fair=models/pocket/fair` and ask with `--adapter fair`. Made by
`python -m uservlm.models.prefer`, measured with `--measure`.
"""
LOST = 5
"""Topics that `most_lost` names at most."""

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
    return TEXT.format(
        heading=HEADING,
        topics=len(presumptions()),
        rank=rank,
        steps=steps,
        batch=batch,
        tuned=tuned,
        people=people,
        unfair=before.stereotyping.of,
        table=table(before, after),
    )


def table(before: Fairness, after: Fairness) -> str:
    """Write the table of both in Markdown."""
    rows = (f"| {name} | {off} | {on} |" for name, off, on in _rows(before, after))
    return "\n".join(("| | without `fair` | with `fair` |", "|---|---|---|", *rows))


def most_lost(before: Fairness, after: Fairness) -> str:
    """Name the topics on which most right answers were lost: where a recipe is to be mended."""
    lost = {
        name: share.right - after.by_topic[name].right for name, share in before.by_topic.items()
    }
    worst = sorted((name for name in lost if lost[name] > 0), key=lambda name: -lost[name])
    return "\n".join(
        f"{name}: {before.by_topic[name].right} right, {after.by_topic[name].right} with `fair`, "
        f"of {before.by_topic[name].of}"
        for name in worst[:LOST]
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
