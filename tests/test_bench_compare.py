"""What counts as slower between two runs, and what only looks so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from bench_results import results

from uservlm.bench import compare
from uservlm.bench.compare import Change
from uservlm.bench.results import Duel, Measured, Results, Row, save


def only(*rows: Row, duels: tuple[Duel, ...] = (), section: str = "latency") -> Results:
    """A run that measured nothing else."""
    empty = dict.fromkeys(("flops", "limits", "memory", "load", "growth", "fidelity"))
    told = replace(results(), latency=None, **empty)
    return replace(told, **{section: Measured(rows, duels)})


def time(*samples: float) -> Results:
    return only(Row("cold", "ttft", "50 tokens", "s", samples))


def rate(*samples: float) -> Results:
    return only(Row("cold", "decode", "", "tokens/s", samples, "more"))


def the(old: Results, new: Results) -> Change:
    (change,) = compare.compare(old, new)
    return change


@pytest.mark.parametrize(
    ("old", "new", "verdict", "ratio"),
    [
        (time(1.0, 1.1, 1.2), time(1.3, 1.4, 1.5), "slower", 1.4 / 1.1),
        (time(1.0, 1.1, 1.3), time(1.3, 1.4, 1.5), "same", 1.4 / 1.1),  # they touch
        (time(1.0, 1.0, 1.0), time(1.04, 1.04, 1.04), "same", 1.04),  # within the tolerance
        (time(1.0, 1.0, 1.0), time(1.06, 1.06, 1.06), "slower", 1.06),
        (time(1.3, 1.4, 1.5), time(1.0, 1.1, 1.2), "faster", 1.1 / 1.4),
        (rate(10, 11, 12), rate(7, 8, 9), "slower", 11 / 8),
        (rate(7, 8, 9), rate(10, 11, 12), "faster", 8 / 11),
        (rate(7, 8, 10), rate(9, 11, 12), "same", 8 / 11),
    ],
)
def test_slower_is_beyond_the_spread_and_the_tolerance(
    old: Results, new: Results, verdict: str, ratio: float
) -> None:
    found = the(old, new)
    assert (found.verdict, found.ratio) == (verdict, pytest.approx(ratio))


def duel(ours: tuple[float, ...], peer: tuple[float, ...], section: str = "latency") -> Results:
    one = Duel("cold", "transformers-bf16", "ttft", "50 tokens", "s", ours, peer)
    return only(duels=(one,), section=section)


def test_a_duel_is_compared_by_its_ratio() -> None:
    """A machine that is half as fast slows both sides: ours did not become slower."""
    slow = the(duel((1.0, 1.0), (4.0, 4.2)), duel((2.0, 2.0), (8.0, 8.4)))
    assert (slow.verdict, slow.ratio) == ("same", pytest.approx(1.0))
    lost = the(duel((1.0, 1.0), (4.0, 4.2)), duel((2.0, 2.0), (4.0, 4.2)))
    assert (lost.verdict, lost.ratio) == ("slower", pytest.approx(2.0))


def test_suffering_more_from_a_busy_core_is_worse() -> None:
    """There a ratio is how many times slower a side became, not how many times better."""
    found = the(duel((1.0, 1.0), (1.2, 1.2), "load"), duel((1.0, 1.0), (1.8, 1.8), "load"))
    assert (found.verdict, found.ratio) == ("slower", pytest.approx(1.5))


def test_points_of_a_curve_are_compared() -> None:
    old = results()
    assert old.growth is not None
    first = old.growth[0]
    samples = (*first.samples[:-1], tuple(2 * one for one in first.samples[-1]))
    new = replace(old, growth=(replace(first, samples=samples), *old.growth[1:]))
    (found,) = [one for one in compare.compare(old, new) if one.verdict != "same"]
    assert (found.section, found.verdict, found.ratio) == ("growth", "slower", pytest.approx(2))
    assert found.key.endswith("tokens computed/at 260")


def test_a_slower_machine_is_told_and_not_blamed_on_the_code() -> None:
    old = results()
    assert old.limits is not None
    rows = tuple(replace(one, samples=tuple(x / 2 for x in one.samples)) for one in old.limits.rows)
    new = replace(old, limits=Measured(rows))
    assert all(one.verdict == "same" for one in compare.compare(old, new))
    assert any(
        "reading memory" in line and "0.500 times" in line for line in compare.machine(old, new)
    )


def test_nothing_then_and_something_now_has_no_ratio() -> None:
    found = the(time(0.0, 0.0), time(1.0, 1.0))
    assert found.verdict == "slower"
    line = json.dumps(compare.compact([found], time(0.0), time(1.0)), allow_nan=False)
    assert json.loads(line)["slower"] == {"latency/cold/ttft/50 tokens": None}
    assert the(time(0.0), time(0.0)).verdict == "same"


def run(folder: Path, old: Results, new: Results, *more: str) -> int:
    for name, one in (("old", old), ("new", new)):
        (folder / name).mkdir(exist_ok=True)
        save(one, folder / name / "results.json")
    return compare.main([str(folder / "old"), str(folder / "new" / "results.json"), *more])


def slow() -> Results:
    old = results()
    assert old.latency is not None
    rows = tuple(
        replace(one, samples=tuple(1.5 * x for x in one.samples))
        if (one.side, one.what) == ("resident", "answer")
        else one
        for one in old.latency.rows
        if one.what != "vision"
    )
    packages = {**old.machine.packages, "numpy": "2.5.0"}
    return replace(
        old,
        latency=replace(old.latency, rows=rows),
        machine=replace(old.machine, packages=packages),
    )


def test_the_command_says_what_became_slower(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, results(), slow()) == 1
    said = capsys.readouterr().out
    last = json.loads(said.splitlines()[-1])
    assert last["slower"] == {"latency/resident/answer/50 tokens": 1.5}
    assert last["faster"] == {} and last["machine"]["machine/read"] == 1.0
    assert "Ours, face resident, whole answer, 50 tokens" in said
    assert "numpy 2.4.6 → 2.5.0" in said
    assert "measured only then (1): cold/vision" in said


def test_faster_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, slow(), results()) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["faster"]
    assert run(tmp_path, results(), results()) == 0


def test_runs_about_different_things_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = replace(results(), machine=replace(results().machine, threads=16, kernel="Linux 7"))
    assert run(tmp_path, results(), other) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert "threads (2 then, 16 now)" in said.err and "kernel" not in said.err
    assert run(tmp_path, results(), other, "--anyway") == 0
    quantised = replace(results(), subject=replace(results().subject, language="q8_0"))
    assert run(tmp_path, results(), quantised) == 2


def test_runs_with_nothing_in_common_are_refused(tmp_path: Path) -> None:
    assert run(tmp_path, time(1.0), rate(1.0)) == 2


def test_a_file_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([str(tmp_path / "no.json"), str(tmp_path / "no.json")]) == 2
    assert "no.json" in capsys.readouterr().err
