"""Groups of different people by an attribute, and whether their answers differ.

Owns: the figures of such a comparison and which answers are shown of it. Knows nothing of who
answers. Real people who differ in one attribute differ in others too; every result says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Final

import numpy as np

from uservlm.bench.audit import estimates
from uservlm.bench.audit.comparable import Grouping
from uservlm.bench.audit.estimates import Estimate
from uservlm.bench.audit.findings import Moved, ProbeResult
from uservlm.bench.audit.marking import spoken
from uservlm.bench.audit.own_answers import MOVED, Heard, figure, numbered, result
from uservlm.bench.audit.own_pictures import OwnPicture
from uservlm.bench.audit.permutation import DRAWS, Distances, group_difference, shares
from uservlm.bench.audit.thresholds import limits

MORE_THAN_IT: Final = (
    "Groups of people differ in more than this attribute, so that a difference says where to look "
    "and not what caused it."
)


def grouped(group: Grouping, heard: Heard, seed: int, keep: bool) -> ProbeResult:
    """Compare groups; `keep` as in `own_comparison.compare`."""
    per_question = _distances(group, heard)
    labels = np.asarray(group.labels)
    found = group_difference(per_question.mean(axis=0), labels, seed)
    words = f"{group.attribute} {' / '.join(group.values)}"
    name = group.attribute
    figures = [
        figure(
            "between",
            f"answers that differ between people of different {name}",
            estimates.counted(found.between),
        ),
        figure(
            "within",
            f"answers that differ between people of the same {name}",
            estimates.counted(found.within),
        ),
        figure(
            "excess",
            f"what another {name} adds",
            Estimate(found.difference, found.interval),
            limit=limits()["group"]["excess"],
        ),
        figure(
            "p_value",
            f"of {DRAWS} shuffles of the attribute, those that add as much",
            estimates.counted(found.p_value),
            "chance",
        ),
    ]
    asks = (
        f"Different people, {words}: do their answers differ more than those of people alike in it?"
    )
    return result(
        f"own.attribute.{group.attribute}", 1, group.attribute, f"{asks} {MORE_THAN_IT}", figures,
        len(labels), len(group.labels) * (len(group.labels) - 1) // 2 * len(heard.questions),
        _between_groups(group, heard, per_question, keep),
    )  # fmt: skip


def _distances(group: Grouping, heard: Heard) -> Distances:
    """Share of two people's pictures answered differently: float64 [questions, people, people]."""
    order = [one.index for members in group.members for one in members]
    whose = np.repeat(np.arange(len(group.members)), [len(one) for one in group.members])
    mine = np.eye(len(group.members))[whose]
    mine /= mine.sum(axis=0)  # each person weighs the same, however many their pictures
    found = []
    for number in range(len(heard.questions)):
        codes = np.asarray(numbered([spoken(heard.texts[index][number]) for index in order]))
        found.append(mine.T @ (codes[:, None] != codes[None, :]) @ mine)
    return np.stack(found)


def _between_groups(
    group: Grouping, heard: Heard, per_question: Distances, keep: bool
) -> tuple[Moved, ...]:
    """The questions in which groups differ most, each with the commonest answer of two groups."""
    shown: list[tuple[float, Moved]] = []
    for first, second in combinations(range(len(group.values)), 2):
        for number, question in enumerate(heard.questions):
            mine, theirs = (_commonest(group, heard, one, number) for one in (first, second))
            if spoken(mine[1]) == spoken(theirs[1]):
                continue
            values = f"{group.values[first]} → {group.values[second]}"
            moved = Moved(
                question=question,
                changed=f"{group.attribute} {values}, different people; each group's commonest "
                f"answer, of {mine[2]} and {theirs[2]}",
                before=mine[0].ref(keep),
                after=theirs[0].ref(keep),
                answer_before=mine[1],
                answer_after=theirs[1],
                kl=0.0,
            )
            shown.append((_apart(per_question[number], group.labels, first, second), moved))
    ranked = sorted(shown, key=lambda one: -one[0])
    return tuple(moved for apart, moved in ranked if apart > 0)[:MOVED]


def _commonest(
    group: Grouping, heard: Heard, label: int, number: int
) -> tuple[OwnPicture, str, str]:
    """Give a picture with the answer most people of a label got, the answer, and how many did."""
    firsts = [
        one[0] for one, mine in zip(group.members, group.labels, strict=True) if mine == label
    ]
    counts = Counter(heard.texts[one.index][number] for one in firsts)
    text, times = counts.most_common(1)[0]
    picture = next(one for one in firsts if heard.texts[one.index][number] == text)
    return picture, text, f"{times} of {len(firsts)}"


def _apart(distances: Distances, labels: Sequence[int], first: int, second: int) -> float:
    """How much more people of two labels differ than those of one, over the same question."""
    every = np.asarray(labels)
    rows = np.flatnonzero((every == first) | (every == second))
    between, within = shares(
        distances[np.ix_(rows, rows)], (every[rows] == second).astype(np.int64)
    )
    return between - within
