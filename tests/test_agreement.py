"""Live agreement: which turns are drawn, what is kept of them, and when it says no."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from uservlm.runtime.agreement import (
    FAITHFUL,
    ONE_SIDED,
    LiveAgreement,
    ShadowPolicy,
    bootstrap,
    thresholds,
    wilson,
)
from uservlm.runtime.errors import RequestError
from uservlm.runtime.manifest import ENOUGH, Adapter, Manifest

GOOD, BAD = ("a red coat", "a red coat", True), ("no", "a red coat", False)


def filled(good: int, bad: int, policy: ShadowPolicy | None = None) -> LiveAgreement:
    live = LiveAgreement(policy)
    for case in [BAD] * bad + [GOOD] * good:
        live.add(None, *case)
    return live


def test_the_same_seed_draws_the_same_turns_and_about_its_share() -> None:
    first, again, other = (
        [live.draw() for _ in range(2000)]
        for live in (LiveAgreement(ShadowPolicy(seed=seed)) for seed in (1, 1, 2))
    )
    assert first == again != other
    assert 150 < sum(first) < 250


@pytest.mark.parametrize(("share", "drawn"), [(0.0, 0), (1.0, 50)])
def test_a_share_of_nothing_draws_nothing_and_of_all_everything(share: float, drawn: int) -> None:
    live = LiveAgreement(ShadowPolicy(share=share))
    assert sum(live.draw() for _ in range(50)) == drawn


def test_few_cases_say_nothing_unless_they_are_plainly_bad() -> None:
    assert filled(0, 0).faithful() is None
    assert filled(0, ENOUGH - 1).faithful() is None
    assert filled(0, ENOUGH).faithful() is False
    assert filled(ENOUGH, 0).faithful() is None
    assert filled(99, 0).faithful() is None


def test_enough_cases_must_prove_it() -> None:
    assert filled(100, 0).faithful() is True
    assert filled(99, 1).faithful() is True
    assert filled(96, 4).faithful() is False  # 96 %, but it might as well be 92


def test_the_worse_of_both_scores_decides() -> None:
    live = LiveAgreement()
    for _ in range(100):
        live.add(None, "a red coat", "a warm red coat", True)
    figures = live.figures()
    assert (figures.first_token_top1, figures.same_answer) == (1.0, 0.0)
    assert figures.rouge1 == pytest.approx(6 / 7)
    assert figures.faithful is False


def test_old_cases_leave_the_window() -> None:
    live = filled(0, 200)
    assert live.faithful() is False
    for _ in range(200):
        live.add(None, *GOOD)
    assert live.figures().cases == 200 and live.faithful() is True


def test_adapters_are_counted_apart() -> None:
    live = filled(100, 0)
    live.add("cheerful", *BAD)
    assert live.faithful() is True and live.faithful("cheerful") is None
    assert (live.figures().cases, live.figures("cheerful").cases) == (100, 1)
    live.clear()
    assert live.figures().cases == 0


def test_an_adapter_must_reach_its_own_threshold() -> None:
    live = LiveAgreement(thresholds={"cheerful": 0.5})
    for _ in range(100):
        live.add("cheerful", "a red coat", "a warm red coat", True)
        live.add("formal", "a red coat", "a warm red coat", True)
    assert live.faithful("cheerful") is True and live.faithful("formal") is False
    assert live.figures("formal").threshold == FAITHFUL


def test_no_word_of_an_answer_is_kept() -> None:
    live = LiveAgreement()
    live.add(None, "You look unmistakable today", "You look inimitable today", True)
    kept = pickle.dumps({name: value for name, value in vars(live).items() if name != "_lock"})
    assert b"unmistakable" not in kept and b"inimitable" not in kept
    assert live.figures().cases == 1


def test_thresholds_are_the_manifests(pocket_bundle: Path) -> None:
    manifest = Manifest.from_json((pocket_bundle / "manifest.json").read_text())
    assert manifest.resident is not None
    strict = replace(manifest.resident, threshold=0.99)
    kept = {
        "a": Adapter("adapters/a.gguf", "a", 4, None, strict),
        "unmeasured": Adapter("adapters/b.gguf", "b", 4, None, None),
    }
    found = thresholds(replace(manifest, adapters=kept))
    assert found == {None: manifest.resident.threshold, "a": 0.99}


def test_a_policy_out_of_range_is_refused() -> None:
    with pytest.raises(RequestError, match=r"share=1.5: give 0 to 1"):
        ShadowPolicy(share=1.5)
    with pytest.raises(RequestError, match="enough=300, window=200"):
        ShadowPolicy(enough=300)
    with pytest.raises(RequestError, match="enough=4"):
        ShadowPolicy(enough=4)


def test_wilson_is_the_textbooks() -> None:
    """Newcombe (1998): 81 of 263 gives 0.2553 … 0.3662, 0 of 20 gives 0 … 0.1611."""
    some, none = wilson(81 / 263, 263), wilson(0.0, 20)
    assert (some.low, some.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert (none.low, none.high) == pytest.approx((0.0, 0.1611), abs=1e-4)
    more = wilson(0.1, 100)
    assert (more.low, more.high) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    assert wilson(0.5, 10, ONE_SIDED).low > wilson(0.5, 10).low
    assert wilson(float("nan"), 0).high == 1.0


def test_the_bootstrap_covers_a_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    found = [bootstrap(rng.exponential(size=80).tolist(), draws=400) for _ in range(100)]
    assert 88 <= sum(one.low <= 1 <= one.high for one in found) <= 100
    assert bootstrap([0.5] * 9) == bootstrap([0.5] * 3)
