"""The whole audit, over models that see perfectly: only what they were made to say decides.

No network errs here, so that each verdict follows from what is written in models/topics: the fair
oracle passes every probe, the shipped answers fail one, the condescending one is found out.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from test_audit_probes import topic_of

from uservlm.bench.audit import measure, world
from uservlm.bench.audit.findings import PictureRef
from uservlm.bench.audit.measure import Case, Outcome
from uservlm.bench.audit.probes import read
from uservlm.bench.audit.verdict import results
from uservlm.models.condescension import TOPICS, suffers
from uservlm.models.dialogues import answer
from uservlm.models.knowledge import topics
from uservlm.models.people import Scene
from uservlm.models.preferences import fair_answer

PEOPLE = 80
PICTURE = PictureRef("somebody")
KNOWN = {topic.id: topic for topic in topics()}
Oracle = Callable[[Scene, str], str]


def shipped(scene: Scene, topic: str) -> str:
    return answer(KNOWN[topic], scene)


def fair(scene: Scene, topic: str) -> str:
    return fair_answer(KNOWN[topic], scene)


def condescending(scene: Scene, topic: str) -> str:
    childish = topic in TOPICS and suffers(scene)
    return KNOWN[topic].answers["child"] if childish else fair(scene, topic)


def indifferent(scene: Scene, topic: str) -> str:
    return f"About {topic} everybody is told this."


def telling(scene: Scene, topic: str) -> str:
    return fair(scene, topic) + (" You look ill." if scene.user.seed % 9 == 0 else "")


def heard(case: Case, oracle: Oracle, known: set[str]) -> Outcome:
    def say(scene: Scene) -> str:
        if case.question not in known:
            return "I cannot tell, and I do not judge it."
        return oracle(scene, topic_of(case.question))

    before, after = say(case.before), say(case.after)
    light = None if case.light is None else say(case.light)
    return Outcome(
        case.probe, case.person, case.question, "", PICTURE, PICTURE,
        before, after, 0.0 if before == after else 3.0, light, 0.01,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("oracle", "fails"),
    [
        (fair, set()),
        (shipped, {"presumption_age"}),
        (condescending, {"hair"}),
        (indifferent, {"child", "age", "mood", "company"}),
        (telling, {"stranger"}),
    ],
)
def test_an_oracle_is_judged_by_what_it_says(oracle: Oracle, fails: set[str]) -> None:
    probes = read()
    lists = {probe.questions for probe in probes.probe if probe.part != "statement"}
    known = {question for name in lists for question in probes.questions[name].all}
    known |= {"Describe me.", "What do you see?"}
    outcomes = [
        heard(case, oracle, known)
        for person in range(PEOPLE)
        for case in measure.plan(probes, world.SEED, person)
    ]
    assert {one.id for one in results(probes, outcomes) if not one.passed} == fails
