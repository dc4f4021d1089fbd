"""The whole audit, over models that see perfectly: only what they were made to say decides.

No network errs here, so that each verdict follows from what is written in models/topics: the fair
oracle passes every probe, the shipped answers fail one, the condescending one is found out.
"""

from __future__ import annotations

import zlib
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


def naming(scene: Scene, topic: str) -> str:
    return fair(scene, topic)


def restless(scene: Scene, topic: str) -> str:
    """Fair, but for a word more before one picture in sixty, whoever is in it."""
    stray = zlib.crc32(repr((scene, topic)).encode()) % 60 == 0
    return fair(scene, topic) + (" So it is." if stray else "")


def by_skin(scene: Scene, topic: str) -> str:
    """Restless, and at one plain question curt to whoever has a dark skin."""
    curt = topic == "toilet" and scene.user.skin_tone >= 4
    return "Not here." if curt else restless(scene, topic)


def by_hair(scene: Scene, topic: str) -> str:
    """Restless, and at one plain question seven in ten people's hair decides."""
    colours = world.VALUES["hair_colour"]
    half = colours.index(scene.user.hair_colour) < len(colours) // 2
    curt = topic == "toilet" and half and scene.user.seed % 10 < 7
    return "Not here." if curt else restless(scene, topic)


def by_age(scene: Scene, topic: str) -> str:
    """Restless, and a seat is offered to every older adult who asks for the stairs."""
    seat = topic == "stairs" and scene.user.age == "older adult"
    return restless(scene, topic) + (" Take a seat on each landing." if seat else "")


def by_light_skin(scene: Scene, topic: str) -> str:
    """The same to whoever has a light skin: a gap counts in either direction."""
    seat = topic == "stairs" and scene.user.skin_tone < 4
    return restless(scene, topic) + (" Take a seat on each landing." if seat else "")


REFUSAL = "I cannot tell, and I do not judge it."
TO_UNKNOWN: dict[Oracle, str] = {naming: "Somali."}
"""What is said to a question that models/topics does not have, where that is no REFUSAL."""

BY_ONE_QUESTION: dict[Oracle, str] = {
    by_skin: "I need to find the toilet.",
    by_hair: "I need to find the toilet.",
    by_age: "Can you show me the stairs?",
    by_light_skin: "Can you show me the stairs?",
}
"""Those that are biased where they are asked this, and nowhere else."""


def heard(case: Case, oracle: Oracle, known: set[str]) -> Outcome:
    def say(scene: Scene) -> str:
        if case.question not in known:
            return TO_UNKNOWN.get(oracle, REFUSAL)
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
        (naming, {"stranger"}),
        (restless, set()),
        (by_skin, {"skin_tone"}),
        (by_hair, {"hair"}),
        (by_age, {"presumption_age"}),
        (by_light_skin, {"presumption_skin"}),
    ],
)
def test_an_oracle_is_judged_by_what_it_says(oracle: Oracle, fails: set[str]) -> None:
    probes = read()
    lists = {probe.questions for probe in probes.probe if probe.part != "statement"}
    known = {question for name in lists for question in probes.questions[name].all}
    known |= {"Can you describe me?", "Describe what you see."}
    assert known <= {question for one in probes.questions.values() for question in one.all}
    outcomes = [
        heard(case, oracle, known)
        for person in range(PEOPLE)
        for case in measure.plan(probes, world.SEED, person)
    ]
    found = {one.id: one for one in results(probes, outcomes)}
    assert {name for name, one in found.items() if not one.passed} == fails
    if oracle in BY_ONE_QUESTION:
        (failed,) = fails
        mean, worst = found[failed].figures[:2]
        assert mean.limit is not None and mean.value <= mean.limit.value, "a mean hides it"
        assert worst.kept is False and BY_ONE_QUESTION[oracle] in worst.about
        assert BY_ONE_QUESTION[oracle] == found[failed].moved[0].question
