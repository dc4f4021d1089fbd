"""What an audit asks: the shipped probes, files of one's own, and pairs of drawn people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from uservlm.bench.audit import measure, thresholds, world
from uservlm.bench.audit.probes import PARTS, SHIPPED, Questions, read
from uservlm.models.drawing import render
from uservlm.models.knowledge import topics
from uservlm.models.preferences import presumptions
from uservlm.runtime.errors import RequestError

PEOPLE = 12


def test_every_part_is_probed_and_limited() -> None:
    shipped = read()
    assert {probe.part for probe in shipped.probe} == set(PARTS)
    assert set(thresholds.limits()) == {*PARTS, "group"}
    assert all(one.reason for part in thresholds.limits().values() for one in part.values())


def test_presumptions_are_asked_of_the_topics_they_were_judged_in() -> None:
    """And personalisation that should stay is asked of none of them before older adults."""
    asked = {name: set(map(topic_of, read().questions[name].all)) for name in
             ("presumed", "suits_age", "mood", "company", "grown_up")}  # fmt: skip
    assert asked["presumed"] == set(presumptions())
    assert not asked["suits_age"] & set(presumptions())


@pytest.mark.parametrize("name", sorted(read().questions))
def test_no_question_is_worded_as_in_training(name: str) -> None:
    """Or an audit of the pocket would measure how well it remembers."""
    trained = {spoken(one): topic.id for topic in topics() for one in topic.train}
    asked = {question: trained.get(spoken(question)) for question in read().questions[name].all}
    assert {question for question, topic in asked.items() if topic is not None} == set()


def spoken(question: str) -> str:
    """Without case and what ends it."""
    return question.lower().rstrip(".!?")


def topic_of(question: str) -> str:
    """The one whose key word the question holds."""
    words = question.lower()
    found = [topic for topic in topics() if any(f" {key}" in f" {words}" for key in topic.keys)]
    assert found, question
    return max(found, key=lambda topic: max(len(key) for key in topic.keys if key in words)).id


def test_people_take_turns_with_the_questions() -> None:
    questions = Questions(("a", "b", "c"), 2)
    assert [questions.of(person) for person in range(3)] == [("a", "b"), ("c", "a"), ("b", "c")]


def test_a_counterfactual_changes_what_it_says_and_nothing_else() -> None:
    probes = read()
    for person in range(PEOPLE):
        own = world.person_at(world.SEED, person)
        cases = {case.probe: case for case in measure.plan(probes, world.SEED, person)}
        skin = cases["skin_tone"]
        assert skin.before == own and skin.after.seed == own.seed
        assert replace(skin.after.user, skin_tone=own.user.skin_tone) == own.user
        tones = sorted((own.user.skin_tone, skin.after.user.skin_tone))
        assert tones[0] < 4 <= tones[1]  # each pair crosses the middle
        assert skin.light is not None and skin.light.user == own.user
        assert skin.light.others == own.others and skin.light.seed != own.seed
        assert (render(skin.before) != render(skin.after)).any()
        assert cases["presumption_skin"].before.user.skin_tone < 4
        older = cases["presumption_age"]
        assert (older.before.user.age, older.after.user.age) == ("adult", "older adult")
        assert replace(older.after.user, age="adult") == older.before.user
        back = cases["return"].after
        assert replace(back.user, clothing=own.user.clothing) == own.user != back.user
        group = cases["company"]
        assert (group.before.company, group.after.company) == ("alone", "group")
        assert group.after.others[: len(own.others)] == own.others[:2]


def test_the_same_seed_asks_the_same() -> None:
    probes = read()
    assert measure.plan(probes, 7, 3) == measure.plan(probes, 7, 3) != measure.plan(probes, 8, 3)
    several = measure.plan(probes, 7, 3)
    asked = measure.asked(several)
    assert sum(map(len, asked.values())) < 3 * len(several)  # shared between the probes


def test_what_differs_is_said() -> None:
    own = world.person_at(3, 0)
    assert world.difference(own, own) == "nothing"
    assert world.difference(own, world.relit(own)) == "another photograph"
    tone = own.user.skin_tone
    far = world.counterfactual(own, "skin_tone", world.far_from(own, "skin_tone"))
    assert world.difference(own, far) == f"skin tone {tone} → {(tone + 4) % 8}"
    assert np.array_equal(render(world.relit(own)), render(world.relit(own)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("[[probe]]\nid = \"skin_tone\"", "[[probe]]\nid = \"hair\""), "twice"),
        (('trait = "skin_tone"', 'trait = "gender"'), "gender"),
        (('part = "statement"', 'part = "saying"'), "part"),
        (('questions = "plain"', 'questions = "pain"'), "pain"),
        (('after = "sad"', 'after = "sat"'), "sat"),
        (('before = "happy"\n', ""), "before and after"),
        (("each = 4", "each = 400"), "each"),
        (('trait = "repeat"', 'trait = "yesterday"'), "repeat"),
        (("[[marks]]", "[[marx]]"), "marx"),
        (("'\\bstep by step\\b'", "'('"), "unterminated"),
        (('"Who am I?" = "identity"', '"Who was I?" = "identity"'), "Who was I"),
        (('"Who am I?" = "identity"', '"Who am I?" = "gender"'), "gender"),
        (('id = "return"\npart = "consistency"', 'id = "return"\npart = "personal"'), "day"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    text = SHIPPED.read_text()
    assert change[0] in text
    file = tmp_path / "mine.toml"
    file.write_text(text.replace(*change))
    with pytest.raises(RequestError, match=says) as told:
        read(file)
    assert str(file) in str(told.value)


def test_a_part_cannot_be_left_out(tmp_path: Path) -> None:
    text = SHIPPED.read_text()
    start = text.index('[[probe]]\nid = "stranger"')
    end = text.index('[[probe]]\nid = "return"')
    file = tmp_path / "mine.toml"
    file.write_text(text[:start] + text[end:])
    with pytest.raises(RequestError, match="statement"):
        read(file)
    with pytest.raises(RequestError, match="cannot be read"):
        read(tmp_path / "nowhere.toml")
