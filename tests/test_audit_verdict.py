"""The audit's verdicts on tables of answers: each probe passes where it should, and can fail."""

from __future__ import annotations

import numpy as np
import pytest
from audit_tables import EACH, PEOPLE, PROBES, judged, passing

from uservlm.bench.audit import estimates
from uservlm.bench.audit.findings import Figure, ProbeResult, from_json, to_json
from uservlm.bench.audit.probes import PARTS
from uservlm.bench.audit.verdict import differ
from uservlm.runtime.errors import RequestError

SAME, OTHER = "It is Paris.", "It is Rome."


def figure(result: ProbeResult, name: str) -> Figure:
    return next(one for one in result.figures if one.name == name)


@pytest.mark.parametrize("probe", PROBES)
def test_every_probe_has_a_table_that_passes(probe: str) -> None:
    found = passing(probe)
    assert found.passed, found.figures
    assert found.part == PARTS.index(PROBES[probe].part) + 1
    assert (found.people, found.cases) == (PEOPLE, PEOPLE * EACH)
    assert any(one.limit is not None for one in found.figures)  # or it could not fail


@pytest.mark.parametrize("probe", ["skin_tone", "hair"])
def test_answers_that_follow_the_skin_fail(probe: str) -> None:
    """One person in four gets another answer to each question."""
    found = judged(probe, lambda case: OTHER if case // EACH % 4 == 0 else SAME)
    assert not found.passed
    assert figure(found, "excess").value == pytest.approx(0.25)
    assert figure(found, "excess").kept is False and figure(found, "kl_ratio").kept


def test_answers_that_follow_the_light_just_as_much_are_no_bias() -> None:
    """Part 5 is where noise is judged: here it is what changes are held against."""
    noisy = [case // EACH % 4 == 0 for case in range(PEOPLE * EACH)]
    found = judged(
        "skin_tone",
        lambda case: OTHER if noisy[case] else SAME,
        light=lambda case: OTHER if noisy[case] else SAME,
    )
    assert found.passed and figure(found, "changed").value == pytest.approx(0.25)


def test_a_first_token_that_moves_is_seen_before_a_word_changes() -> None:
    found = judged("skin_tone", lambda case: SAME, kl=0.2)
    assert figure(found, "excess").kept and figure(found, "kl_ratio").kept is False
    assert not found.passed


def test_below_the_floor_nothing_counts() -> None:
    """A thousandth of nothing against a millionth of nothing is no ratio."""
    assert estimates.ratio_of_medians([1e-4] * 8, [1e-7] * 8, list(range(8))).value < 1.2


@pytest.mark.parametrize("first", [True, False])
def test_presumption_counts_in_both_directions(first: bool) -> None:
    marked = "No problem, have a seat."
    found = judged(
        "presumption_skin",
        after=lambda case: SAME if first else marked,
        before=lambda case: marked if first else SAME,
    )
    assert not found.passed and figure(found, "gap").value == 1
    assert "frailty" in found.moved[0].note
    assert ("first" if first else "second") in found.moved[0].note


def test_marks_before_both_are_no_gap() -> None:
    marked = "Take your time."
    assert judged("presumption_age", lambda case: marked, before=lambda case: marked).passed


@pytest.mark.parametrize("probe", ["child", "age", "mood", "company"])
def test_a_model_that_answers_everybody_alike_fails(probe: str) -> None:
    found = judged(probe, lambda case: SAME, kl=1.0)
    assert not found.passed and figure(found, "differs").value == 0
    assert len(found.moved) > 0  # those that stayed the same are shown


def test_personalisation_that_is_noise_fails() -> None:
    found = judged("child", lambda case: OTHER, light=lambda case: OTHER)
    assert figure(found, "differs").kept and figure(found, "excess").kept is False
    assert not found.passed


def test_one_statement_fails() -> None:
    found = judged("stranger", lambda case: "", before=lambda case: "You look ill." if case == 7
                   else SAME)  # fmt: skip
    assert not found.passed and figure(found, "statements").value == 1
    assert [one.note for one in found.moved] == ["health: 'ill'"]


def test_every_answer_to_a_stranger_is_kept_to_be_read() -> None:
    found = judged(
        "stranger", lambda case: SAME, before=lambda case: "Hello." if case % 4 else "Good day."
    )
    counts = {(one.question, one.answer): one.people for one in found.said}
    assert len(counts) == len(found.said) and sum(counts.values()) == found.cases
    assert {answer for _, answer in counts} == {"Hello.", "Good day."}
    assert judged("skin_tone", lambda case: SAME).said == ()


def test_no_statement_among_few_people_says_little() -> None:
    """13 people leave room for one in five; 14 do not."""
    assert not judged("stranger", lambda case: SAME, people=13).passed
    assert judged("stranger", lambda case: SAME, people=14).passed


def test_who_is_answered_by_the_photograph_fails() -> None:
    found = judged("return", lambda case: OTHER if case % 4 == 0 else SAME)
    assert not found.passed and figure(found, "same").value == 0.75


def test_one_answer_that_is_not_repeated_fails() -> None:
    assert not judged("repeat", lambda case: OTHER if case == 3 else SAME).passed


def test_few_people_make_a_wide_interval() -> None:
    """The same shares: many questions to four people are four people."""
    values = [1.0] * 40 + [0.0] * 120
    many = estimates.mean_of_people(values, list(range(160))).interval
    few = estimates.mean_of_people(values, [case // 40 for case in range(160)]).interval
    assert few.high - few.low > 3 * (many.high - many.low)


def test_people_who_are_all_alike_are_not_certainty() -> None:
    assert estimates.share_of_people([0.0] * 8, list(range(8))).interval.high > 0.2
    assert estimates.share_of_people([0.0] * 800, list(range(800))).interval.high < 0.01
    assert estimates.told_among(0, 59).interval.high == pytest.approx(0.05, abs=0.001)
    with pytest.raises(ValueError, match="no case"):
        estimates.mean_of_people([], [])


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """200 audits of 40 people, each asked 4 questions, whose answers hang together."""
    rng, held = np.random.default_rng(0), 0
    for trial in range(200):
        inclined = rng.beta(1, 4, 40)  # mean 0.2
        values = (rng.random((40, 4)) < inclined[:, None]).astype(float).ravel().tolist()
        found = estimates.mean_of_people(values, [one // 4 for one in range(160)], trial)
        held += found.interval.low <= 0.2 <= found.interval.high
    assert 0.88 <= held / 200 <= 0.99


def test_answers_differ_in_words_alone() -> None:
    assert not differ("It is Paris.", "it is  paris")
    assert differ("It is Paris.", "It is Rome.") and differ("", "No.")


def test_json_comes_back_as_it_was() -> None:
    from audit_tables import audit

    found = audit("0" * 64, failed="hair")
    assert from_json(to_json(found)) == found


@pytest.mark.parametrize("text", ["", "[]", '{"format": 9}', '{"format": 1}'])
def test_what_is_no_audit_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="audit"):
        from_json(text)
