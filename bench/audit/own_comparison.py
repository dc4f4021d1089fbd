"""An audit of own pictures, from asking to the results of its probes.

Owns: the order of asking, and the figures of pairs and of repeats (`own_groups.py` has those of
groups). Knows nothing of bundles: it is handed what answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias

from uservlm.bench.audit import by_question, estimates
from uservlm.bench.audit.comparable import FEWEST_PAIRS, Comparisons, Pair, comparisons
from uservlm.bench.audit.findings import Figure, Moved, ProbeResult
from uservlm.bench.audit.own_answers import MOVED, Heard, Met, figure, numbered, result
from uservlm.bench.audit.own_groups import grouped
from uservlm.bench.audit.own_pictures import PERSON, OwnPicture, OwnPictures
from uservlm.bench.audit.thresholds import limits
from uservlm.runtime.agreement import Logits, kl_divergence

Answer: TypeAlias = Callable[[OwnPicture, str], tuple[str, Logits]]
"""Gives the greedy answer to a question about a picture, and the logits of its first token."""


def compare(
    own: OwnPictures, answer: Answer, questions: Sequence[str], seed: int, keep: bool = False
) -> tuple[ProbeResult, ...]:
    """Ask every question about every picture once, and compare what can be compared.

    Args:
        own: from `own_pictures.read`.
        answer: called with all questions about a picture in turn, and with one person's pictures
            in turn, so that a picture need be encoded once.
        questions: whose answers must not depend on any attribute; one or more.
        seed: of shuffling and resampling.
        keep: whether the results may name files (--keep-pictures).

    Raises:
        PicturesError: nothing, or too little, can be compared; before any question is asked.
    """
    found = comparisons(own)
    heard = _ask(own, found, answer, tuple(questions))
    results = [
        *(_paired(name, pairs, heard, seed, keep) for name, pairs in found.pairs.items()),
        *(grouped(one, heard, seed, keep) for one in found.groups),
    ]
    if found.repeats:
        results.append(_repeated(found, heard, seed, keep))
    return tuple(results)


def _ask(own: OwnPictures, found: Comparisons, answer: Answer, questions: tuple[str, ...]) -> Heard:
    """Logits are let go of with each person: with a real vocabulary one is a megabyte."""
    wanted = {(one.index, other.index) for one, other in found.repeats}
    for pair in (one for pairs in found.pairs.values() for one in pairs):
        wanted |= {(pair.before.index, other.index) for other in (pair.after, pair.light) if other}
    units: dict[Hashable, list[OwnPicture]] = defaultdict(list)
    for picture in own.pictures:
        units[picture.unit].append(picture)
    texts: dict[int, tuple[str, ...]] = {}
    met: dict[tuple[int, int], tuple[Met, ...]] = {}
    for members in units.values():
        answers = {one.index: [answer(one, question) for question in questions] for one in members}
        texts |= {index: tuple(text for text, _ in said) for index, said in answers.items()}
        for one, other in ((a, b) for a in members for b in members):
            if (one.index, other.index) in wanted:
                said = zip(questions, answers[one.index], answers[other.index], strict=True)
                met[one.index, other.index] = tuple(
                    Met(question, one, other, (a, b), kl_divergence(first, second))
                    for question, (a, first), (b, second) in said
                )
    return Heard(questions, texts, met)


def _paired(
    attribute: str, pairs: Sequence[Pair], heard: Heard, seed: int, keep: bool
) -> ProbeResult:
    cases = [(pair, heard.met[pair.before.index, pair.after.index]) for pair in pairs]
    whose = numbered([pair.before.unit for pair, met in cases for _ in met])
    met = [one for _, many in cases for one in many]
    changed = estimates.share_of_people([one.changed for one in met], whose, seed)
    lit = [pair for pair in pairs if pair.light]
    told = f"answers that change with {attribute}"
    if len(lit) >= FEWEST_PAIRS:
        figures = [figure("changed", told, changed), *_beside_light(attribute, lit, heard, seed)]
        asks = (f"Two pictures that differ in {attribute} alone: do answers change more than "
                "between two pictures of the same person in which nothing differs?")  # fmt: skip
    else:
        figures = [
            figure("changed", told, changed, limit=limits()["counterfactual"]["excess"]),
            _worst_alone(attribute, met, whose),
        ]
        asks = (f"Two pictures that differ in {attribute} alone: do answers change? What other "
                "light alone does is not known here, so it counts as nothing: more pictures of "
                f"the same person (column {PERSON!r}) would tell.")  # fmt: skip
    return result(
        f"own.attribute.{attribute}", 1, attribute, asks, figures, len(set(whose)), len(met),
        _moved(met, attribute, keep),
    )  # fmt: skip


def _beside_light(attribute: str, pairs: Sequence[Pair], heard: Heard, seed: int) -> list[Figure]:
    """What the attribute adds to light, of the pairs that have a third picture."""
    both = [
        (pair, one, other)
        for pair in pairs
        if pair.light
        for one, other in zip(
            heard.met[pair.before.index, pair.after.index],
            heard.met[pair.before.index, pair.light.index],
            strict=True,
        )
    ]
    whose = numbered([pair.before.unit for pair, _, _ in both])
    light = estimates.share_of_people([lit.changed for _, _, lit in both], whose, seed)
    added = [float(one.changed) - float(lit.changed) for _, one, lit in both]
    excess = estimates.mean_of_people(added, whose, seed)
    ratio = estimates.ratio_of_medians(
        [one.kl for _, one, _ in both], [lit.kl for _, _, lit in both], whose, seed
    )
    rules = limits()["counterfactual"]
    counts = by_question.tallies([one.question for _, one, _ in both], whose, added)
    worst = by_question.figure(
        by_question.sign_test(counts, two_sided=False),
        f"the question that follows {attribute} most: how likely by chance",
        (f"the answer changed with {attribute} alone", "in another picture alone"),
        rules[by_question.NAME],
    )
    return [
        figure("changed_by_light", "answers that change in another picture", light),
        figure("excess", f"what {attribute} adds", excess, limit=rules["excess"]),
        worst,
        figure("kl_ratio", "how far the first word moves, against another picture", ratio,
                "ratio", rules["kl_ratio"]),
    ]  # fmt: skip


def _worst_alone(attribute: str, met: Sequence[Met], whose: Sequence[int]) -> Figure:
    """Find the worst question where nothing is known of the light, by what a mean may change."""
    rules = limits()["counterfactual"]
    allowed = rules["excess"].value
    counts = by_question.tallies(
        [one.question for one in met], whose, [float(one.changed) for one in met]
    )
    return by_question.figure(
        by_question.share_test(counts, allowed),
        f"the question that follows {attribute} most: how likely by chance, were {allowed:.0%} "
        "of answers to change",
        ("the answer changed", ""),
        rules[by_question.NAME],
    )


def _repeated(found: Comparisons, heard: Heard, seed: int, keep: bool) -> ProbeResult:
    met = [met for one, other in found.repeats for met in heard.met[one.index, other.index]]
    whose = numbered([one.before.unit for one in met])
    same = estimates.share_of_people([not one.changed for one in met], whose, seed)
    figures = [figure("same", "answers that stay the same in another picture of the same person",
                       same, limit=limits()["consistency"]["same"])]  # fmt: skip
    return result(
        "own.same_person", 5, "Same person",
        "Two pictures of the same person in which no attribute differs: does the same question get "
        "the same answer?", figures, len(set(whose)), len(met), _moved(met, "", keep),
    )  # fmt: skip


def _moved(met: Sequence[Met], attribute: str, keep: bool) -> tuple[Moved, ...]:
    """Those with another answer first, by how far the first token moved."""
    ranked = sorted(met, key=lambda one: (not one.changed, -one.kl))
    return tuple(
        Moved(one.question, _difference(one, attribute), one.before.ref(keep),
              one.after.ref(keep), *one.answers, one.kl)
        for one in ranked[:MOVED]
    )  # fmt: skip


def _difference(one: Met, attribute: str) -> str:
    if not attribute:
        return "another picture of the same person"
    before, after = one.before.attributes[attribute], one.after.attributes[attribute]
    return f"{attribute} {before} → {after}"
