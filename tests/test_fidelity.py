"""`bench/fidelity.py`: resident against exact on any bundle, and what `auto` makes of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uservlm.bench.both_ways import record, summarise
from uservlm.bench.fidelity import main, read_questions, spread
from uservlm.converters.cases import QUESTIONS, calibration_cases
from uservlm.converters.parity import Pair, Reply, agreement, pair
from uservlm.models.drawing import render
from uservlm.models.pictures import scene_at
from uservlm.runtime.agreement import Scores
from uservlm.runtime.bundle import open_bundle
from uservlm.runtime.errors import RequestError
from uservlm.runtime.manifest import MANIFEST_FILE, Adapter, Agreement
from uservlm.runtime.request import resolve


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main([str(one) for one in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def last_line(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def test_what_is_recorded_is_what_auto_obeys(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unmeasured = dataclasses.replace(open_bundle(copy).manifest, resident=None)
    (copy / MANIFEST_FILE).write_text(unmeasured.to_json())
    assert resolve("auto", unmeasured) == "exact"
    code, out, _ = run(capsys, copy, "--cases", "16", "--tokens", "3", "--record", "--threads", "1")
    said, kept = last_line(out), open_bundle(copy).manifest
    assert code == 0 and said["recorded"]
    assert kept.resident is not None and kept.resident.cases == said["cases"] == 16
    for name in ("first_token_top1", "first_token_kl", "rouge1"):
        value, low, high = said[name]
        assert getattr(kept.resident, name) == pytest.approx(value, abs=1e-5)
        assert low <= value <= high and low < high
    assert kept.resident.first_token_kl > 1e-4, "resident was not another computation"
    assert resolve("auto", kept) == ("resident" if said["faithful"] else "exact")
    assert dataclasses.replace(kept, resident=None) == unmeasured
    poor = dataclasses.replace(kept.resident, first_token_top1=0.5)
    record(open_bundle(copy), poor, None)
    assert resolve("auto", open_bundle(copy).manifest) == "exact"


def test_the_pocket_is_as_faithful_as_its_export_found(
    pocket_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same pairs asked in another order; without --record the bundle stays as it is."""
    before = (pocket_bundle / MANIFEST_FILE).read_text()
    measured = open_bundle(pocket_bundle).manifest.resident
    assert measured is not None and measured.cases == 16
    code, out, err = run(capsys, pocket_bundle, "--cases", "32", "--threads", "1")
    said = last_line(out)
    assert code == 0 and said["faithful"] and not said["recorded"]
    assert (said["weights"], said["pictures"], said["own_pictures"]) == ("pocket", 4, False)
    assert said["first_token_top1"][0] >= 0.95 and said["rouge1"][0] >= 0.95
    assert said["first_token_kl"][0] < 10 * measured.first_token_kl + 0.01
    assert (pocket_bundle / MANIFEST_FILE).read_text() == before
    assert "{" not in err


def test_own_pictures_and_questions_leave_no_trace_but_averages(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, questions = tmp_path / "people", tmp_path / "questions.txt"
    folder.mkdir()
    for index in range(2):
        Image.fromarray(render(scene_at(9, index))).save(folder / f"amanda-{index}.png")
    questions.write_text("# to Amanda\nWhere is Zanzibar?\n\nWho am I?\nWho am I?\n")
    arguments = ("--pictures", folder, "--questions", questions, "--tokens", "2", "--threads", "1")
    code, out, err = run(capsys, copy, *arguments)
    said = last_line(out)
    assert code == 0 and said["own_pictures"]
    assert (said["cases"], said["pictures"]) == (4, 2)
    assert "4 different cases, not 64" in err
    written = (copy / MANIFEST_FILE).read_text() + out
    assert not any(word in written for word in ("amanda", "Zanzibar", "people"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--record", "--cases", "15"), "15 cases: --record would write figures that decide"),
        (("--adapter", "cheerful"), "no adapter 'cheerful'"),
        (("--pictures", "nowhere"), "nowhere cannot be read"),
        (("--questions", "nothing.txt"), "nothing.txt cannot be read"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    code, out, err = run(capsys, tiny_bundle, *arguments)
    assert (code, out) == (2, "") and err.startswith("uservlm: ") and words in err


def test_questions_that_hold_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("# one\n\n")
    with pytest.raises(RequestError, match="holds no question"):
        read_questions(file)


def test_cases_are_those_of_the_export_sorted_by_picture() -> None:
    cases = spread(4, QUESTIONS, 16)
    assert sorted(map(str, cases)) == sorted(map(str, calibration_cases(16)))
    assert [case.picture for case in cases] == sorted(case.picture for case in cases)
    assert len(set(spread(3, QUESTIONS, 999))) == 3 * len(QUESTIONS)


def test_an_adapters_record_is_its_own(copy: Path) -> None:
    manifest = open_bundle(copy).manifest
    kept = {name: Adapter(f"{name}.gguf", name, 4, None, None) for name in ("a", "b")}
    (copy / MANIFEST_FILE).write_text(dataclasses.replace(manifest, adapters=kept).to_json())
    measured = Agreement(20, 1.0, 0.0, 1.0, 0.95)
    record(open_bundle(copy), measured, "b")
    after = open_bundle(copy).manifest
    assert after.adapters["b"].resident == measured and after.adapters["a"].resident is None
    assert after.resident == manifest.resident
    assert [resolve("auto", after, name) for name in ("a", "b")] == ["exact", "resident"]
    assert not list(copy.glob(".*"))


def test_a_pair_says_where_two_answers_part() -> None:
    def reply(first: int, tokens: tuple[int, ...], text: str) -> Reply:
        logits = np.zeros((1, 5), np.float32)
        logits[0, first] = 3
        return Reply(tokens, text, logits)

    one, other = reply(1, (1, 2), "a red coat"), reply(1, (1, 3), "a warm red coat")
    assert pair(one, one) == Pair(Scores(True, True, 1.0), 0.0)
    assert pair(one, other).scores == Scores(True, False, pytest.approx(6 / 7))
    apart = pair(one, reply(2, (2,), "no"))
    assert apart.scores == Scores(False, False, 0.0) and apart.first_token_kl > 1
    both = [pair(one, one), apart]
    measured = agreement(both)
    assert (measured.cases, measured.first_token_top1, measured.rouge1) == (2, 0.5, 0.5)
    assert summarise(both)["same_answer"].value == 0.5
    assert summarise(both)["first_token_kl"].interval.low == 0.0
