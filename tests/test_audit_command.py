"""`uservlm audit` on the pocket, from asking to the page, with few people and fewer questions."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audit_tables import audit, passing, write_short
from PIL import Image
from rich.console import Console
from rich.errors import MarkupError

from uservlm.bench.audit import command, measure, statements, world
from uservlm.bench.audit.command import table
from uservlm.bench.audit.findings import Audit, Figure, Limit, from_json
from uservlm.bench.audit.page import facts
from uservlm.bench.audit.phrases import KEPT, NOT_KEPT, TOO_FEW, standing
from uservlm.bench.audit.probes import SHIPPED, read
from uservlm.models.drawing import render
from uservlm.runtime import UserVLM
from uservlm.runtime.__main__ import main
from uservlm.runtime.agreement import Interval
from uservlm.runtime.bundle import open_bundle
from uservlm.runtime.vision_choice import possible_vision

PEOPLE = 6


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped probes, each person asked one question of each list."""
    file = tmp_path_factory.mktemp("probes") / "few.toml"
    file.write_text(re.sub(r"^each = \d+", "each = 1", SHIPPED.read_text(), flags=re.M))
    return file


@pytest.fixture(scope="module")
def audited(pocket_bundle: Path, few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pocket as it is, audited; gives the folder."""
    out = tmp_path_factory.mktemp("audit") / "new"
    options = ["--no-record", "--threads", "1", "--out", str(out), "--probes", str(few)]
    assert main(["audit", str(pocket_bundle), "--people", str(PEOPLE), *options]) == 1
    return out


@pytest.fixture(scope="module")
def found(audited: Path) -> Audit:
    return from_json((audited / "audit.json").read_text())


def test_the_pocket_presumes_by_age_and_the_page_says_so(found: Audit, audited: Path) -> None:
    results = {one.id: one for one in found.probes}
    age = results["presumption_age"]
    assert not age.passed and age.figures[0].value > 0.5
    assert age.moved[0].note and "older adult" in age.moved[0].changed
    page = (audited / "audit.html").read_text()
    assert age.title in page and age.moved[0].question in page


def test_it_stays_personal_says_nothing_and_repeats_itself(found: Audit) -> None:
    results = {one.id: one for one in found.probes}
    for name in ("child", "mood", "company"):
        assert results[name].figures[0].value > 0.8, name
    assert results["stranger"].figures[0].value == 0
    assert results["repeat"].passed
    assert all(one.people == PEOPLE for one in found.probes)


def test_what_it_was_is_written_down(found: Audit, pocket_bundle: Path, few: Path) -> None:
    assert found.probe_file == read(few).sha256 != read().sha256
    assert (found.seed, found.adapter) == (world.SEED, "none")
    manifest = open_bundle(pocket_bundle).manifest
    assert found.vision == possible_vision(manifest)[0]
    assert manifest.audits == {}  # --no-record
    scene = found.probes[0].moved[0].after.scene
    assert scene is not None and render(scene).shape == (240, 320, 3)


def test_the_terminal_tells_verdicts_as_the_page_does() -> None:
    limit = Limit("at most", 0.05, "")
    figures = tuple(
        Figure(name, "", "share", value, Interval(value - width, value + width), limit)
        for name, value, width in (("a", 0, 0.01), ("b", 0, 0.1), ("c", 0.1, 0.01))
    )
    probe = replace(passing("hair"), figures=figures)
    verdicts = list(table(replace(audit("0" * 64), probes=(probe,))).columns[-1].cells)
    assert verdicts == [KEPT, TOO_FEW, NOT_KEPT] == [standing(one) for one in figures]


def test_answers_are_those_of_ask(pocket_bundle: Path) -> None:
    picture = render(world.person_at(world.SEED, 0))
    question = "How do I start a video call?"
    with UserVLM.load(pocket_bundle, threads=1) as vlm:
        heard = measure.listen(vlm, picture, question, "none")
        assert heard.text == vlm.ask(question, image=picture).text
        logits = vlm.first_logits(question, image=picture)
    assert np.allclose(heard.first, logits, atol=1e-4)


@pytest.fixture(scope="module")
def one(few: Path) -> Path:
    """One question for everything, and one about who asks."""
    return write_short(few.with_name("one.toml"))


def test_a_verdict_is_recorded_and_printed(
    pocket_bundle: Path, one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Few questions to enough people; what is printed is what the manifest keeps."""
    bundle = Path(shutil.copytree(pocket_bundle, tmp_path / "pocket"))
    options = ["--people", "16", "--probes", str(one), "--threads", "1", "--json"]
    assert main(["audit", str(bundle), *options, "--out", str(tmp_path / "out")]) == 1
    line = json.loads(capsys.readouterr().out)
    kept = open_bundle(bundle).manifest.audits["none"]
    assert line["passed"] is kept.passed is False and kept.own_probes and kept.people == 16
    assert kept.attention == line["attention"] in ("exact", "resident")


@pytest.mark.parametrize("wanted", ["onnx", "ggml"])
def test_the_encoder_that_was_asked_for_saw_and_is_named(
    pocket_bundle: Path, one: Path, tmp_path: Path, wanted: str
) -> None:
    out = tmp_path / "out"
    options = ["--people", "1", "--no-record", "--threads", "1", "--probes", str(one)]
    assert main(["audit", str(pocket_bundle), *options, "--vision", wanted, "--out", str(out)]) == 1
    found = from_json((out / "audit.json").read_text())
    assert found.vision == wanted and ("Vision encoder", wanted) in facts(found)


@pytest.mark.parametrize("keep", [False, True])
def test_of_own_pictures_nothing_is_written_without_consent(
    pocket_bundle: Path, one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    """Neither name nor picture, nor what is said of somebody; what was found is told all the same.

    The lexicon is made to find a word that the pocket does say of everybody.
    """
    lexicon = tmp_path / "lexicon.toml"
    text = statements.LEXICON.read_text()
    lexicon.write_text(text.replace('"ill",', '"ill", "person",', 1))
    monkeypatch.setattr(statements, "LEXICON", lexicon)
    statements.shipped.cache_clear()
    lines = ["file,person,skin"]
    for number in range(10):
        scene = world.person_at(5, number)
        tone = 1 if number < 5 else 6
        scene = world.counterfactual(scene, "skin_tone", tone)
        name = f"Marguerite-{number}.png"
        Image.fromarray(render(scene)).save(tmp_path / name)
        lines.append(f"{name},p{number},{'light' if number < 5 else 'dark'}")
    table = tmp_path / "who.csv"
    table.write_text("\n".join(lines))
    options = ["--people", "1", "--no-record", "--threads", "1", "--probes", str(one)]
    options += ["--pictures", str(tmp_path), "--attributes", str(table)]
    options += ["--keep-pictures"] if keep else []
    try:
        assert main(["audit", str(pocket_bundle), *options, "--out", str(tmp_path / "out")]) == 1
    finally:
        statements.shipped.cache_clear()
    text = (tmp_path / "out" / "audit.json").read_text()
    found = {each.id: each for each in from_json(text).probes}
    stranger = found["own.stranger"]
    assert stranger.people == 10 and not stranger.passed
    assert ("Marguerite" in text) is keep
    assert ("health: 'person'" == stranger.moved[0].note) is keep
    assert ("appears to be" in stranger.moved[0].answer_before) is keep
    assert "health" in stranger.moved[0].note
    assert any(one.moved for name, one in found.items() if name.startswith("own.a")) is keep
    assert ("line " in text) is keep  # of the table: which picture it was
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0
    assert any(name.startswith("own.") and "skin" in name for name in found)


def test_what_cannot_be_laid_out_is_not_recorded(
    pocket_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsayable(found: Audit) -> None:
        raise MarkupError("no")

    monkeypatch.setattr(command, "audit", lambda *_: audit("0" * 64))
    monkeypatch.setattr(command, "record", lambda *_: pytest.fail("recorded"))
    monkeypatch.setattr(command, "table", unsayable)
    with pytest.raises(MarkupError):
        main(["audit", str(pocket_bundle), "--people", "16", "--out", str(tmp_path)])


def test_names_that_look_like_markup_are_printed_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A column of somebody's table names a probe, a manifest names the bundle."""
    found = audit("0" * 64, adapter="[link=https://example.org]fair")
    probe = replace(found.probes[0], id="own.attribute.hat [/no] [bold]")
    Console(width=200).print(table(replace(found, bundle="a [red]b", probes=(probe,))))
    told = capsys.readouterr().out
    assert "a [red]b, adapter [link=https://example.org]fair" in told
    assert "own.attribute.hat [/no] [bold]" in told


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--people", "3"], "16 or more"),
        (["--adapter", "fairest"], "fairest"),
        (["--pictures", "here"], "--attributes"),
        (["--keep-pictures"], "--pictures"),
        (["--probes", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_what_cannot_be_audited_is_refused(
    pocket_bundle: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", str(pocket_bundle), *options]) == 2
    told = capsys.readouterr().err.strip()
    assert says in told and "\n" not in told


def test_without_the_bench_it_says_what_to_install(
    pocket_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a robot's runtime, which leaves bench out."""
    import sys

    monkeypatch.setitem(sys.modules, "uservlm.bench.audit.command", None)
    assert main(["audit", str(pocket_bundle)]) == 2
    assert "uservlm[bench]" in capsys.readouterr().err
