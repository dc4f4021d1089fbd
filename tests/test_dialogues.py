"""Dialogues: the data keeps its promises, and answers follow exactly the attributes they name."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from uservlm.models.dialogues import (
    WRAPPERS,
    all_dialogues,
    captions_in_words,
    corpus,
    describe,
    sample_dialogue,
    text_only,
)
from uservlm.models.knowledge import DECIDED_BY, KINDS, Topic, parse_topic, topics
from uservlm.models.people import ATTRIBUTES, Person, Scene, random_person, random_scene

USER = Person("adult", "neutral", "short", "black", False, "none", "red", 0, 1)
SCENE = Scene(USER, (), 1)
BANNED = set(
    """he she him his her hers himself herself man men woman women boy boys girl girls male female
    gentleman lady sir madam mum mother dad father grandma grandpa son daughter brother sister
    husband wife asian african european american white-skinned dark-skinned skin race ethnic
    christian muslim jewish hindu buddhist church disabled blind deaf elderly dementia""".split()
)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9'-]+", text.lower())


def has(text: str, key: str) -> bool:
    return f" {key} " in f" {' '.join(words(text))} "


def by_attribute(scene: Scene) -> dict[str, list[Scene]]:
    """Every scene that differs from `scene` in one named attribute."""
    changed = {
        name: [replace(scene, user=_with(scene.user, name, value)) for value in values]
        for name, values in ATTRIBUTES.items()
    }
    others = tuple(random_person(np.random.default_rng(i)) for i in range(2))
    changed["company"] = [replace(scene, others=others[:count]) for count in range(3)]
    return changed


def _with(person: Person, name: str, value: Any) -> Person:
    return replace(person, **{name: value})


def test_enough_topics() -> None:
    count = {kind: sum(t.kind == kind for t in topics()) for kind in KINDS}
    by_age = sum(t.kind == "user_aware" and t.depends_on == ("age",) for t in topics())
    assert by_age >= 32 and count["user_aware"] >= by_age + 10
    assert count["general"] >= 40 and count["about_user"] >= 7 and count["description"] == 1


@pytest.mark.parametrize("topic", topics(), ids=lambda t: t.id)
def test_a_topic_answers_every_group_differently(topic: Topic) -> None:
    if topic.kind != "user_aware":
        assert set(topic.answers) == {""}
        return
    assert set(topic.answers) == set(DECIDED_BY[topic.depends_on[0]])
    said = [set(words(answer)) for answer in topic.answers.values()]
    for first, second in combinations(said, 2):
        assert len(first & second) / len(first | second) < 0.5, (first, second)


@pytest.mark.parametrize("topic", topics(), ids=lambda t: t.id)
def test_answers_can_be_spoken(topic: Topic) -> None:
    shortest, longest = {"user_aware": (9, 20), "general": (4, 14)}.get(topic.kind, (1, 40))
    for answer in topic.answers.values():
        assert shortest <= len(answer.split()) <= longest, answer


def test_held_out_phrasings_are_not_in_training() -> None:
    train = {" ".join(words(q)) for topic in topics() for q in topic.train}
    for topic in topics():
        assert not train & {" ".join(words(q)) for q in topic.held_out}


def test_no_phrasing_belongs_to_two_topics() -> None:
    questions = [" ".join(words(q)) for topic in topics() for q in topic.train + topic.held_out]
    assert len(set(questions)) == len(questions)


def test_key_words_are_in_held_out_and_in_several_train_phrasings() -> None:
    for topic in topics():
        usual = [key for key in topic.keys if sum(has(q, key) for q in topic.train) >= 2]
        for question in topic.held_out:
            assert any(has(question, key) for key in usual), (topic.id, question)


def test_key_words_belong_to_one_topic() -> None:
    for topic in topics():
        for other in topics():
            if other is not topic:
                asked = other.train + other.held_out + WRAPPERS
                assert not [(k, q) for k in topic.keys for q in asked if has(q, k)]


def test_held_out_words_are_known_from_training() -> None:
    known = {word for topic in topics() for q in topic.train for word in words(q)}
    for topic in topics():
        for question in topic.held_out:
            assert set(words(question)) <= known, (topic.id, question)


def test_no_answer_tells_gender_or_ethnicity() -> None:
    rng = np.random.default_rng(3)
    said = [answer for topic in topics() for answer in topic.answers.values()]
    said += [describe(random_scene(rng)) for _ in range(200)]
    for text in said:
        assert not BANNED & set(words(text)), text


def test_description_tells_every_attribute_and_stays_short() -> None:
    for name, scenes in by_attribute(SCENE).items():
        assert len({describe(scene) for scene in scenes}) == len(scenes), name
    rng = np.random.default_rng(4)
    assert max(len(describe(random_scene(rng)).split()) for _ in range(500)) <= 40


def test_description_of_the_paper() -> None:
    user = replace(
        USER,
        age="older adult",
        expression="happy",
        hair_colour="grey",
        glasses=True,
        hat="cap",
        clothing="blue",
    )
    assert describe(Scene(user, (USER,), 5)) == (
        "The person appears to be an older adult with short grey hair and glasses, wearing a blue "
        "top and a cap. They look happy. One other person is in view."
    )


def test_unnamed_attributes_are_never_told() -> None:
    other = replace(SCENE, seed=9, user=replace(USER, skin_tone=7, seed=8))
    assert all_dialogues(other) == all_dialogues(SCENE)
    bald = replace(SCENE, user=replace(USER, hair_style="bald", hair_colour="grey"))
    assert "grey" not in describe(bald)


def test_answers_change_with_what_they_depend_on_and_with_nothing_else() -> None:
    base = all_dialogues(SCENE, "held_out")
    for name, scenes in by_attribute(SCENE).items():
        answers = [[d.answer for d in all_dialogues(scene, "held_out")] for scene in scenes]
        for dialogue, *variants in zip(base, *answers, strict=True):
            expected = len(scenes) if name in dialogue.depends_on else 1
            assert len(set(variants)) == expected, (name, dialogue)


def test_sampling_is_deterministic_and_keeps_the_splits_apart() -> None:
    first, again = (sample_dialogue(SCENE, np.random.default_rng(7)) for _ in range(2))
    assert first == again
    rng = np.random.default_rng(8)
    held_out = {q for topic in topics() for q in topic.held_out}
    assert all(sample_dialogue(SCENE, rng, "held_out").question in held_out for _ in range(100))
    train = {" ".join(words(sample_dialogue(SCENE, rng).question)) for _ in range(3000)}
    assert not train & {" ".join(words(q)) for q in held_out}


def test_weights_choose_the_kind() -> None:
    rng = np.random.default_rng(9)
    for kind in KINDS:
        drawn = [sample_dialogue(SCENE, rng, weights={kind: 1.0}) for _ in range(20)]
        assert {d.kind for d in drawn} == {kind}
    for wrong in ({"gossip": 1.0}, {"general": 0.0}):
        with pytest.raises(ValueError, match="weights"):
            sample_dialogue(SCENE, rng, weights=wrong)


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="split"):
        all_dialogues(SCENE, "test")  # type: ignore[arg-type]


def test_text_pairs_cover_all_topics_and_tell_what_decides() -> None:
    rng = np.random.default_rng(10)
    pairs = [text_only(rng) for _ in range(4000)]
    answers = {answer for _, answer in pairs}
    for topic in topics():
        if topic.kind in ("user_aware", "general"):
            assert answers & set(topic.answers.values()), topic.id
    short = {captions_in_words(SCENE, rng, ("age",)) for _ in range(50)}
    assert short == {"The person appears to be an adult.", describe(SCENE)}


def test_corpus_holds_every_answer_and_no_held_out_question() -> None:
    rng = np.random.default_rng(11)
    prompt = "<{question}>\n"
    lines = list(corpus(0, [random_scene(rng) for _ in range(50)], prompt))
    for topic in topics():
        assert set(topic.train) <= set(lines) and not set(topic.held_out) & set(lines)
        assert {a for a in topic.answers.values() if "{" not in a} <= set(lines)
    assert sum(line.startswith("<") and line.endswith(">\n") for line in lines) == 50


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"train": []}, "train"),
        ({"held_out": ["One?", "One?"]}, "held_out"),
        ({"keys": "x"}, "keys"),
        ({"id": ""}, "no id"),
    ],
)
def test_a_malformed_topic_is_named(change: dict[str, object], says: str) -> None:
    entry = {
        "id": "tides",
        "keys": ["tide"],
        "train": ["a", "b", "c", "d"],
        "held_out": ["e", "f"],
    }
    assert parse_topic(entry, "general", (), {"": "Fine."}).id == "tides"
    with pytest.raises(ValueError, match=says):
        parse_topic(entry | change, "general", (), {"": "Fine."})
    with pytest.raises(ValueError, match="tides.*braces"):
        parse_topic(entry, "general", (), {"": "You are {skin}."})
    with pytest.raises(ValueError, match="tides.*share"):
        parse_topic(entry, "user_aware", ("age",), {"child": "Fine.", "adult": "Fine."})
