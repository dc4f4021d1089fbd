"""Asking a bundle what an audit asks, person by person.

Owns: which questions go to which pictures, the order of asking, and what is kept of an answer: its
text and how far its first token moved. Knows nothing of figures or limits (`verdict.py`).

Answers are greedy and computed as the bundle is served. Each question to a picture is asked once,
whichever probes need it; the logits of one person are let go of with that person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from uservlm.bench.audit import world
from uservlm.bench.audit.findings import PictureRef
from uservlm.bench.audit.probes import DAY, REPEAT, Probe, Probes
from uservlm.models.drawing import render
from uservlm.runtime.agreement import Logits, kl_divergence

if TYPE_CHECKING:
    from uservlm.models.people import Scene
    from uservlm.runtime import UserVLM
    from uservlm.runtime.looking import Seen

Done = Callable[[int], None]


@dataclass(frozen=True)
class Case:
    """One question before two pictures, and before a third that shows what light alone does."""

    probe: str
    person: int
    question: str
    before: Scene
    after: Scene
    light: Scene | None = None
    """Another photograph of `before`; None: nothing to compare with."""
    again: bool = False
    """`after` is the same picture, asked when everything was forgotten."""


@dataclass(frozen=True)
class Heard:
    """What was said to a question."""

    text: str
    first: Logits
    """float32 [rows of the embedding table]: of the first answer token."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    probe: str
    person: int
    question: str
    changed: str
    """What differs between the pictures, in words."""
    before: PictureRef
    after: PictureRef
    answer_before: str
    answer_after: str
    kl: float
    """KL(before ‖ after) of the first answer token, in nats."""
    answer_light: str | None = None
    kl_light: float = 0.0


def plan(probes: Probes, seed: int, person: int) -> tuple[Case, ...]:
    """Give everything that is asked about one person, most of it of several probes at once."""
    own = world.person_at(seed, person)
    return tuple(
        _case(probe, person, question, own)
        for probe in probes.probe
        for question in probes.questions[probe.questions].of(person)
    )


def asked(cases: Sequence[Case]) -> dict[Scene, dict[str, None]]:
    """Give the different questions to each picture, in order."""
    needed: dict[Scene, dict[str, None]] = {}
    for case in cases:
        for scene in (case.before, case.after, case.light):
            if scene is not None:
                needed.setdefault(scene, {})[case.question] = None
    return needed


def effort(probes: Probes, seed: int, people: Iterable[int]) -> int:
    """Count the answers of these people."""
    plans = [plan(probes, seed, person) for person in people]
    return sum(
        sum(map(len, asked(cases).values())) + sum(case.again for case in cases) for cases in plans
    )


def measure(
    vlm: UserVLM, probes: Probes, seed: int, person: int, adapter: str, done: Done
) -> tuple[Outcome, ...]:
    """Ask about one drawn person, and give what became of each case, in the plan's order.

    Args:
        vlm: opened; its own attention is used.
        probes: what is asked.
        seed: of the people.
        person: which of them, from 0.
        adapter: by name, or NO_ADAPTER.
        done: called with 1 after each answer.
    """
    cases = plan(probes, seed, person)
    heard = {
        (scene, question): answer
        for scene, questions in asked(cases).items()
        for question, answer in _hear_all(vlm, scene, tuple(questions), adapter, done)
    }
    vlm.forget_strangers()
    outcomes = []
    for case in cases:
        after = heard[case.after, case.question]
        if case.again:
            after = listen(vlm, render(case.after), case.question, adapter)
            done(1)
        light = None if case.light is None else heard[case.light, case.question]
        outcomes.append(_outcome(case, heard[case.before, case.question], after, light))
    vlm.forget_strangers()
    return tuple(outcomes)


def listen(vlm: UserVLM, seen: Seen, question: str, adapter: str) -> Heard:
    """Ask one question, greedily."""
    limit = vlm.bundle.manifest.prompt.max_new_tokens
    with closing(vlm.trace(question, image=seen, adapter=adapter)) as trace:
        first = next(trace).copy()
        drawn = [int(first.argmax()), *(int(one.argmax()) for one in islice(trace, limit - 1))]
    # Shorter than the limit means that the last token drawn ended the answer.
    return Heard(vlm.spell(drawn if len(drawn) == limit else drawn[:-1]), first)


def _hear_all(
    vlm: UserVLM, scene: Scene, questions: Sequence[str], adapter: str, done: Done
) -> Iterator[tuple[str, Heard]]:
    seen = vlm.encode(render(scene))
    for question in questions:
        yield question, listen(vlm, seen, question, adapter)
        done(1)


def _case(probe: Probe, person: int, question: str, own: Scene) -> Case:
    case = Case(probe.id, person, question, own, own)
    if probe.part == "statement":
        return case
    if probe.trait == REPEAT:
        return replace(case, again=True)
    if probe.trait == DAY:
        return replace(case, after=world.another_day(own))
    before, after = _pair(probe, own)
    return replace(case, before=before, after=after, light=world.relit(before))


def _pair(probe: Probe, own: Scene) -> tuple[Scene, Scene]:
    for trait, value in probe.given.items():
        own = world.counterfactual(own, trait, value)
    if probe.before is not None:
        values = (probe.before, probe.after)
    elif probe.part == "stereotype":
        values = world.ordered(own, probe.trait)
    else:
        values = (world.value_of(own, probe.trait), world.far_from(own, probe.trait))
    before, after = (world.counterfactual(own, probe.trait, value) for value in values)
    for trait in probe.also:
        after = world.counterfactual(after, trait, world.far_from(after, trait))
    return before, after


def _outcome(case: Case, before: Heard, after: Heard, light: Heard | None) -> Outcome:
    return Outcome(
        probe=case.probe,
        person=case.person,
        question=case.question,
        changed=world.difference(case.before, case.after),
        before=_drawn(case.person, case.before),
        after=_drawn(case.person, case.after),
        answer_before=before.text,
        answer_after=after.text,
        kl=kl_divergence(before.first, after.first),
        answer_light=None if light is None else light.text,
        kl_light=0.0 if light is None else kl_divergence(before.first, light.first),
    )


def _drawn(person: int, scene: Scene) -> PictureRef:
    return PictureRef(f"person {person + 1}", scene=scene)
