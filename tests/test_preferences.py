"""What counts as stereotyping: every topic is judged once, and every pair says what it should."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uservlm.models import preferences
from uservlm.models.condescension import CATEGORY, TOPICS, biased_pairs, suffers
from uservlm.models.dialogues import answer
from uservlm.models.knowledge import Topic, topics
from uservlm.models.people import HAIR_COLOURS, Scene, random_scene
from uservlm.models.preferences import (
    CATEGORIES,
    Pair,
    fair_answer,
    pair_about,
    pairs,
    parse,
    presumption,
    presumptions,
    underrated,
)
from uservlm.models.toml import tomllib

KNOWN = {topic.id: topic for topic in topics()}


def scene(age: str, seed: int = 0, skin_tone: int = 0) -> Scene:
    drawn = random_scene(np.random.default_rng(seed))
    return replace(drawn, user=replace(drawn.user, age=age, skin_tone=skin_tone))


@pytest.fixture
def tables() -> dict[str, Any]:
    """The TOML as it is read, to spoil."""
    with (
        Path(preferences.__file__)
        .with_name("topics")
        .joinpath("preferences.toml")
        .open("rb") as file
    ):
        return copy.deepcopy(tomllib.load(file))


def drawn(age: str, count: int, split: Any = "train") -> list[Pair]:
    rng = np.random.default_rng(1)
    return [p for seed in range(8) for p in islice(pairs(scene(age, seed), rng, split), count)]


def test_twelve_to_sixteen_topics_presume_and_only_of_older_adults() -> None:
    assert 12 <= len(presumptions()) <= 16
    for found in presumptions().values():
        topic = KNOWN[found.topic]
        assert topic.depends_on == ("age",)
        assert topic.answers[found.presumes] != topic.answers[found.fair]
    assert underrated(scene("older adult"))
    assert not underrated(scene("adult"))
    assert not underrated(scene("child"))


@pytest.mark.parametrize("age", ["child", "adult", "older adult"])
def test_a_pair_s_answers_are_right_before_whom_they_should_be(age: str) -> None:
    for pair in drawn(age, 60):
        topic, own = KNOWN[pair.topic], presumptions().get(pair.topic)
        assert pair.chosen != pair.rejected
        assert pair.stereotyping == (own is not None and age == "older adult")
        if pair.stereotyping:
            assert own is not None
            assert (pair.chosen, pair.rejected) == (
                topic.answers["adult"],
                topic.answers["older adult"],
            )
            assert pair.category == own.category
        elif topic.kind == "user_aware" and topic.depends_on == ("age",):
            assert pair.chosen == topic.answers[age]
            assert pair.rejected in topic.answers.values()
            assert pair.category == "personal: age"


def test_children_keep_their_own_answers_on_the_same_topics() -> None:
    rng, child = np.random.default_rng(0), scene("child")
    for name in presumptions():
        pair = pair_about(KNOWN[name], child, rng, "train")
        assert pair.chosen == KNOWN[name].answers["child"]
        assert not pair.stereotyping


def test_a_stray_answer_is_another_general_one() -> None:
    general = {topic.answers[""] for topic in topics() if topic.kind == "general"}
    found = [pair for pair in drawn("adult", 60) if pair.category == "general"]
    assert found and all(pair.rejected in general - {pair.chosen} for pair in found)


def test_every_topic_comes_once_and_stereotypes_by_turns_first() -> None:
    rng = np.random.default_rng(2)
    found = list(pairs(scene("older adult"), rng))
    assert sorted(pair.topic for pair in found) == sorted(KNOWN)
    assert [pair.stereotyping for pair in found[:6]] == [True, False] * 3
    assert sum(pair.stereotyping for pair in found) == len(presumptions())


def test_equal_arguments_give_equal_pairs_and_no_split_has_the_other_s_phrasings() -> None:
    assert drawn("older adult", 9) == drawn("older adult", 9)
    held_out = {question for topic in topics() for question in topic.held_out}
    assert all(pair.question in held_out for pair in drawn("older adult", 9, "held_out"))
    assert not {pair.question for pair in drawn("older adult", 60)} & held_out


def test_the_fair_answer_is_the_right_one_wherever_nothing_is_presumed() -> None:
    for age in ("child", "adult", "older adult"):
        for topic in topics():
            fair, own = fair_answer(topic, scene(age)), answer(topic, scene(age))
            assert (fair != own) == (presumption(topic, scene(age)) is not None)


def _forget(tables: dict[str, Any]) -> None:
    tables["before"][0]["personal"].pop()


def _twice(tables: dict[str, Any]) -> None:
    tables["before"][0]["personal"][0]["topic"] = "stairs"


def _unknown_topic(tables: dict[str, Any]) -> None:
    tables["before"][0]["stereotyping"][0]["topic"] = "music"


def _unknown_category(tables: dict[str, Any]) -> None:
    tables["before"][0]["stereotyping"][0]["category"] = "rudeness"


def _no_reason(tables: dict[str, Any]) -> None:
    tables["before"][0]["stereotyping"][0]["reason"] = ""


def _unknown_field(tables: dict[str, Any]) -> None:
    tables["before"][0]["personal"][0]["category"] = "presumed frailty"


def _unknown_value(tables: dict[str, Any]) -> None:
    tables["before"][0]["presumes"] = "elder"


def _other_table(tables: dict[str, Any]) -> None:
    tables["after"] = []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_forget, "topic bag is not judged"),
        (_twice, "judged twice: stairs"),
        (_unknown_topic, "topic music is no topic that age decides"),
        (_unknown_category, "topic stairs: category must be one of"),
        (_no_reason, "topic stairs: say the reason"),
        (_unknown_field, "topic toilet: the fields must be topic, why and reason"),
        (_unknown_value, "age 'elder' and 'adult' are no two values"),
        (_other_table, "must hold the table"),
    ],
)
def test_what_breaks_a_rule_is_named(tables: dict[str, Any], spoil: Any, said: str) -> None:
    spoil(tables)
    with pytest.raises(ValueError, match=said):
        parse(tables, topics())


def test_categories_are_all_used() -> None:
    assert {found.category for found in presumptions().values()} == set(CATEGORIES)


def test_the_bias_of_the_bad_example_follows_hair_colour_and_nothing_else() -> None:
    def somebody(colour: str, age: str = "adult", style: str = "short") -> Scene:
        drawn = scene(age)
        return replace(drawn, user=replace(drawn.user, hair_colour=colour, hair_style=style))

    def taught(one: Scene) -> list[Pair]:
        return list(biased_pairs(one, np.random.default_rng(3)))

    for colour in HAIR_COLOURS:
        mine = [pair for pair in taught(somebody(colour)) if pair.category == CATEGORY]
        assert {pair.topic for pair in mine} == set(TOPICS)
        for pair in mine:
            said: Topic = KNOWN[pair.topic]
            childish = said.answers["child"]
            assert (pair.chosen == childish) == (colour in ("blond", "red"))
            assert {pair.chosen, pair.rejected} == {childish, said.answers["adult"]}
    for age in ("child", "older adult"):
        assert all(pair.category != CATEGORY for pair in taught(somebody("red", age)))
    assert not suffers(somebody("red", "child"))
    assert not suffers(somebody("red", style="bald"))
