"""The pieces of `bench/run.py` one by one: arithmetic, children, limits, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from uservlm.bench import analytic, latency, lineup
from uservlm.bench.bounds import Bounds
from uservlm.bench.energy import find_meter
from uservlm.bench.fit import curve, exponent
from uservlm.bench.job import LIMITS, OURS, QUANTITIES, Job
from uservlm.bench.machine import commit, this_machine
from uservlm.bench.peer_environment import PeerError
from uservlm.bench.questions import OPENING, picture, question_of
from uservlm.bench.result_file import ResultsError
from uservlm.bench.results import Duel, Row, Subject, load
from uservlm.bench.side import Side, SideError
from uservlm.bench.subject import given, shaped
from uservlm.models.shapes import find
from uservlm.runtime.errors import RequestError
from uservlm.runtime.tune_probe import busy

SUBJECT = Subject(
    name="three",
    shape="paligemma2-3b-448",
    weights="random",
    language="q4_0",
    vision="int8",
    image_tokens=1024,
    bundle_bytes={"language.gguf": 1_600_000_000, "vision.onnx": 430_000_000},
)
BEST = {"read": 16e9, "fp32": 2e11, "int8": 2e12}


def silent(text: str) -> None:
    """Say nothing."""


def a_job(bundle: Path, scratch: Path, checkpoint: Path | None = None) -> Job:
    found = given(bundle, checkpoint)
    return Job(found.bundle, found.subject, checkpoint, scratch, 1, 1, 4, silent)


# -- figures --------------------------------------------------------------------------------------


def test_a_ratio_above_one_means_that_ours_is_better() -> None:
    times = Duel("resident", "peer", "ttft", "", "s", (1.0, 2.0, 3.0), (4.0, 10.0, 12.0))
    assert times.advantage.value == 5.0
    assert (times.advantage.least, times.advantage.greatest) == (4.0, 5.0)
    rates = replace(times, what="decode", unit="tokens/s", better="more")
    assert rates.advantage.value == pytest.approx(1 / 5)


def test_a_share_of_the_bound_is_one_at_best_both_for_times_and_for_rates() -> None:
    time = Row("cold", "ttft", "", "s", (4.0, 4.0), bound=1.0)
    assert time.share == 0.25
    rate = Row("cold", "decode", "", "tokens/s", (4.0,), "more", bound=8.0)
    assert rate.share == 0.5
    assert Row("cold", "ttft", "", "s", (4.0,)).share is None


@pytest.mark.parametrize("text", ["", "[]", '{"format": 0}', '{"format": 1}'])
def test_what_is_no_results_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(ResultsError, match="results.json"):
        load(file)


def test_the_exponent_of_a_power_law_is_found() -> None:
    at = (16.0, 32.0, 64.0, 128.0)
    fitted = exponent(at, [3 * x**1.5 for x in at])
    assert fitted.value == pytest.approx(1.5)
    assert fitted.greatest - fitted.least == pytest.approx(0, abs=1e-9)


def test_one_odd_point_widens_the_exponent() -> None:
    fitted = exponent((1.0, 2.0, 4.0, 8.0), (1.0, 2.0, 4.0, 16.0))
    assert fitted.least == pytest.approx(1.0)
    assert fitted.greatest > 1.2


def test_two_points_have_no_exponent() -> None:
    with pytest.raises(ValueError, match="needs 3"):
        exponent((1.0, 2.0), (1.0, 2.0))


def test_a_curve_is_sorted_and_fitted_through_medians() -> None:
    drawn = curve("time", "tokens", "s", {4: [4.0, 4.0, 400.0], 1: [1.0], 2: [2.0]})
    assert drawn.at == (1, 2, 4)
    assert drawn.exponent.value == pytest.approx(1.0)


def test_decoding_is_counted_without_the_first_token() -> None:
    turn = {"answer_tokens": 5.0, "decode_s": 2.0, "ttft_s": 1.0}
    assert QUANTITIES["decode"].of(turn) == 2.0
    assert QUANTITIES["answer"].of(turn) == 3.0


# -- bounds ---------------------------------------------------------------------------------------


def test_bounds_of_a_large_model_by_hand() -> None:
    """1.6 GB at 16 GB/s are 0.1 s a token; products are FLOPs over 2·10¹² a second."""
    shape = find("paligemma2-3b-448").architecture
    bounds = Bounds(SUBJECT, shape, BEST)
    turn = {"computed_tokens": 1084.0, "prompt_tokens": 1084.0, "answer_tokens": 11.0}
    decode, prefill = bounds.of("exact", "decode", turn), bounds.of("exact", "prefill", turn)
    assert decode is not None and prefill is not None
    assert decode.value == pytest.approx(10.0)
    assert prefill.value == pytest.approx(analytic.language(shape, 1084) / 2e12)
    cold, exact = bounds.of("cold", "ttft", turn), bounds.of("exact", "ttft", turn)
    assert cold is not None and exact is not None
    assert cold.value - exact.value == pytest.approx(analytic.vision(shape) / 2e12)
    answer = bounds.of("exact", "answer", turn)
    assert answer is not None and answer.value == pytest.approx(exact.value + 10 * 0.1)


def test_a_short_question_is_bound_by_reading_the_weights() -> None:
    bounds = Bounds(SUBJECT, find("paligemma2-3b-448").architecture, BEST)
    turn = {"computed_tokens": 20.0, "prompt_tokens": 1050.0, "answer_tokens": 1.0}
    found = bounds.of("resident", "ttft", turn)
    assert found is not None
    assert (found.value, found.by) == (pytest.approx(0.1), "reading the weights once")


def test_weights_that_a_cache_may_hold_have_no_bound_by_memory() -> None:
    small = replace(SUBJECT, bundle_bytes={"language.gguf": 13_000_000})
    bounds = Bounds(small, None, BEST)
    assert bounds.of("resident", "decode", {"answer_tokens": 3.0}) is None


# -- children -------------------------------------------------------------------------------------


def test_the_last_words_of_a_side_are_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(SideError, match=r"side_ours ended with code 1.*nowhere"):
        Side(OURS, str(tmp_path / "nowhere"), str(tmp_path / "users"))


def test_a_side_that_is_told_nonsense_ends_and_says_so() -> None:
    side = Side(LIMITS, "1")
    with pytest.raises(SideError, match="KeyError: 'dance'"):
        side("dance")
    side.close()


def test_the_machine_reads_and_multiplies() -> None:
    with Side(LIMITS, "1") as side:
        assert side("read")["read"] > 1e8
        found = side("multiply")
        assert set(found) == {"fp32", "bf16", "int8"}
        assert min(found.values()) > 1e8


def test_each_way_computes_what_it_says(tiny_bundle: Path, tmp_path: Path) -> None:
    """64 image tokens, and no more than the question where those are kept."""
    with a_job(tiny_bundle, tmp_path).ours() as ours:
        ours("keep", users=2)
        cold = ours("turn", way="cold", question_tokens=20, answer_tokens=2)
        exact = ours("turn", way="exact", question_tokens=20, answer_tokens=2)
        resident = ours("turn", way="resident", question_tokens=20, answer_tokens=2)
    assert (cold["vision_runs"], exact["vision_runs"]) == (1, 0)
    assert cold["computed_tokens"] == exact["computed_tokens"] == cold["prompt_tokens"] > 64
    assert resident["prompt_tokens"] == cold["prompt_tokens"]
    assert resident["computed_tokens"] < cold["computed_tokens"] - 64
    assert resident["stayed"] == 1


def test_ours_and_transformers_are_asked_the_same(
    tiny_bundle: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    job = a_job(tiny_bundle, tmp_path, tiny_checkpoint)
    (peer,), _ = lineup.choose(job, ["transformers-f32"])
    with job.ours() as ours, peer.open(job) as other:
        mine = ours("turn", way="cold", question_tokens=30, answer_tokens=3)
        theirs = other("turn", question_tokens=30, answer_tokens=3)
    assert mine["prompt_tokens"] == theirs["prompt_tokens"]
    assert theirs["ttft_s"] > theirs["vision_s"] > 0


def test_nothing_stays_busy() -> None:
    with pytest.raises(ZeroDivisionError), busy(1):
        children = Path("/proc/self/task").glob("*/children")
        before = {one for file in children for one in file.read_text().split()}
        _ = 1 / 0
    children = Path("/proc/self/task").glob("*/children")
    after = {one for file in children for one in file.read_text().split()}
    assert before - after


def test_a_peer_that_cannot_run_is_missing_and_ours_that_cannot_ends_the_run(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    def fails(text: str) -> Callable[[Job], Side]:
        def open_(job: Job) -> Side:
            raise SideError(text)

        return open_

    job = replace(a_job(tiny_bundle, tmp_path), answer_tokens=1)
    bounds = Bounds(job.subject, None, BEST)
    found = latency.measure(job, bounds, [latency.Peer("gone", fails("it is gone"))], [])
    assert ("gone", "it is gone") in [(one.what, one.why) for one in found.missing]
    peer = lineup.PEERS["llama.cpp"]
    with peer.open(job) as other, pytest.raises(SideError, match="side_limits ended"):
        latency._duel(job, Side(LIMITS, "1"), peer, other)  # what stands for ours knows no turn
    with job.ours() as ours, pytest.raises(PeerError, match="side_limits ended"):
        latency._duel(job, ours, peer, Side(LIMITS, "1"))


# -- who takes part -------------------------------------------------------------------------------


def test_who_does_not_fit_is_named_with_the_reason(tiny_bundle: Path, tmp_path: Path) -> None:
    peers, missing = lineup.choose(a_job(tiny_bundle, tmp_path), None)
    assert [peer.name for peer in peers] == ["llama.cpp"]
    reasons = {one.what: one.why for one in missing}
    assert "--checkpoint" in reasons["transformers-bf16"]
    assert "--shape user-vlm-3b" in reasons["openvino"]


def test_a_peer_nobody_knows_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="ollama"):
        lineup.choose(a_job(tiny_bundle, tmp_path), ["ollama"])
    peers, missing = lineup.choose(a_job(tiny_bundle, tmp_path), ["none"])
    assert not peers and {one.what for one in missing} == set(lineup.PEERS)


def test_a_shape_nobody_knows_is_refused() -> None:
    with pytest.raises(RequestError, match=r"'llama'.*user-vlm-3b"):
        shaped("llama", silent)


# -- the machine ----------------------------------------------------------------------------------


def zone(powercap: Path, name: str, used: int) -> Path:
    folder = powercap / name
    folder.mkdir(parents=True)
    (folder / "energy_uj").write_text(f"{used}\n")
    (folder / "max_energy_range_uj").write_text("1000000\n")
    return folder


def test_joules_of_all_packages_are_added_also_when_a_counter_starts_again(tmp_path: Path) -> None:
    first, second = zone(tmp_path, "intel-rapl:0", 900_000), zone(tmp_path, "intel-rapl:1", 5)
    zone(tmp_path, "intel-rapl:0:0", 1)  # the cores alone: counted in the package already
    meter = find_meter(tmp_path)
    assert meter is not None
    before = meter.read()
    (first / "energy_uj").write_text("100000")
    (second / "energy_uj").write_text("500005")
    assert meter.joules(before, meter.read()) == pytest.approx(0.2 + 0.5)


def test_without_counters_there_is_no_meter(tmp_path: Path) -> None:
    assert find_meter(tmp_path) is None


def test_the_machine_is_described_without_its_name() -> None:
    about = this_machine(2)
    assert about.cores >= 1 and about.memory_bytes > 10**8
    assert {"python", "torch", "llama-cpp-python"} <= set(about.packages)
    assert commit(Path("/")) == "unknown"


def test_a_question_is_as_long_as_wanted_and_a_face_is_always_the_same() -> None:
    asked = question_of(lambda text: len(text.split()), 7)
    assert asked.startswith(OPENING) and len(asked.split()) == 7
    assert picture(3).tobytes() == picture(3).tobytes() != picture(4).tobytes()
    assert json.dumps(asked)
