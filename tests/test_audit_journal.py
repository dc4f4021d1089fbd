"""A stopped audit goes on behind its last person, and never with the answers of another audit."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from audit_tables import outcomes, write_short
from PIL import Image

from uservlm.bench.audit import deciding as deciding_module
from uservlm.bench.audit import measure, verdict, world
from uservlm.bench.audit.deciding import deciding
from uservlm.bench.audit.findings import PictureRef
from uservlm.bench.audit.journal import JOURNAL_FILE, JournalError, journal_in
from uservlm.bench.audit.measure import Outcome
from uservlm.bench.audit.probes import read
from uservlm.bench.audit.waiting import Waiting, Work, interrupted
from uservlm.models.drawing import render
from uservlm.runtime.__main__ import main
from uservlm.runtime.bundle import Bundle, open_bundle
from uservlm.runtime.manifest import Adapter
from uservlm.runtime.settings import DEFAULTS

PEOPLE = 4
KEY = {"seed": "1", "weights": "a" * 64}

STOPPED = """
import os, sys
from uservlm.bench.audit.journal import Journal
from uservlm.runtime.__main__ import main

keep = Journal.keep

def keep_and_stop(self, person, outcomes):
    keep(self, person, outcomes)
    if person == 1:
        os.kill(os.getpid(), int(sys.argv[1]))

Journal.keep = keep_and_stop
sys.exit(main(sys.argv[2:]))
"""
"""An audit that gets a signal when its second person is written."""


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few questions: one for nearly everything."""
    return write_short(tmp_path_factory.mktemp("probes") / "short.toml")


def command(bundle: Path, probes: Path, out: Path, *more: str) -> list[str]:
    options = ["--people", str(PEOPLE), "--no-record", "--threads", "1", "--probes", str(probes)]
    return ["audit", str(bundle), *options, "--out", str(out), *more]


def stopped(by: int, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", STOPPED, str(by), *arguments],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def found(out: Path) -> dict[str, Any]:
    """Give everything an audit found but when."""
    read: dict[str, Any] = json.loads((out / "audit.json").read_text())
    assert read.pop("when")
    return read


@pytest.fixture(scope="module")
def whole(pocket_bundle: Path, short: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit that nobody stopped; gives its folder."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert main(command(pocket_bundle, short, out)) == 1
    assert sorted(file.name for file in out.iterdir()) == ["audit.html", "audit.json"]
    return out


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions that are asked while the test runs."""
    asked: list[str] = []
    listen = measure.listen

    def counting(vlm: Any, seen: Any, question: str, adapter: str) -> measure.Heard:
        asked.append(question)
        return listen(vlm, seen, question, adapter)

    monkeypatch.setattr(measure, "listen", counting)
    return asked


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_audit_goes_on_behind_its_last_person(
    pocket_bundle: Path,
    short: Path,
    whole: Path,
    counted: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    by: signal.Signals,
) -> None:
    """The verdict, every figure and every answer are those of the one that nobody stopped."""
    out = tmp_path / "out"
    arguments = command(pocket_bundle, short, out)
    ended = stopped(by, arguments)
    journal = out / JOURNAL_FILE
    assert len(journal.read_bytes().splitlines()) == 3
    assert out.stat().st_mode & 0o077 == 0 and journal.stat().st_mode & 0o077 == 0
    said = ended.stderr.strip().splitlines()
    assert said[0].startswith("about ") and f"for {PEOPLE - 1} more people" in said[0], said
    if by == signal.SIGKILL:
        assert (ended.returncode, len(said)) == (-signal.SIGKILL, 1)
    else:
        assert (ended.returncode, len(said)) == (130, 2), said
        assert f"2 of {PEOPLE} people are kept in {journal}" in said[1]
    assert main(arguments) == 1
    assert "2 of 4 people are kept from an earlier run" in capsys.readouterr().err
    assert found(out) == found(whole)
    assert not journal.exists()
    assert len(counted) == measure.effort(read(short), world.SEED, range(2, PEOPLE))


def test_another_audit_is_refused_and_leaves_what_was_heard(
    pocket_bundle: Path, short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with journal_in(out) as journal:
        journal.open(KEY)
        journal.keep(0, outcomes("hair", lambda case: "No.", people=1))
    before = journal.file.read_bytes()
    assert main(command(pocket_bundle, short, out, "--seed", "5")) == 2
    told = capsys.readouterr().err.strip()
    assert "\n" not in told and str(journal.file) in told
    assert "seed was 1 and is 5" in told and "delete it" in told and "--out" in told
    assert journal.file.read_bytes() == before


def test_two_audits_do_not_share_a_folder(
    pocket_bundle: Path, short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with journal_in(out):
        assert main(command(pocket_bundle, short, out)) == 2
    assert "another audit writes into" in capsys.readouterr().err
    assert not out.exists()  # nothing came into it


def test_of_own_pictures_nothing_is_in_the_journal(
    pocket_bundle: Path,
    short: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stopped when everything was asked, own pictures too; even with --keep-pictures."""
    drawn, own = set[str](), set[str]()
    listen = measure.listen

    def overheard(vlm: Any, seen: Any, question: str, adapter: str) -> measure.Heard:
        heard = listen(vlm, seen, question, adapter)
        (own if isinstance(seen, Path) else drawn).add(heard.text)
        return heard

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "listen", overheard)
    monkeypatch.setattr(verdict, "results", stop)
    lines = ["file,person,skin"]
    for number in range(10):
        scene = world.counterfactual(world.person_at(5, number), "skin_tone", number // 5 * 5)
        Image.fromarray(render(scene)).save(tmp_path / f"Marguerite-{number}.png")
        lines.append(f"Marguerite-{number}.png,Duras{number},{number // 5}")
    (tmp_path / "who.csv").write_text("\n".join(lines))
    pictures = ["--pictures", str(tmp_path), "--attributes", str(tmp_path / "who.csv")]
    out = tmp_path / "out"
    arguments = command(pocket_bundle, short, out, *pictures, "--keep-pictures")
    assert main([*arguments, "--people", "1"]) == 130
    assert "own pictures are asked about anew" in capsys.readouterr().err
    assert [file.name for file in out.iterdir()] == [JOURNAL_FILE]
    text = (out / JOURNAL_FILE).read_text()
    assert len(text.splitlines()) == 2 and any(answer in text for answer in drawn)
    assert own - drawn and not [answer for answer in own - drawn if answer in text]
    assert "Marguerite" not in text and "Duras" not in text and "skin_tone" in text


def test_own_pictures_that_cannot_be_compared_are_refused_before_anything_is_asked(
    pocket_bundle: Path, short: Path, tmp_path: Path, counted: list[str]
) -> None:
    Image.fromarray(render(world.person_at(5, 0))).save(tmp_path / "a.png")
    (tmp_path / "who.csv").write_text("file,skin\na.png,1\n")
    pictures = ["--pictures", str(tmp_path), "--attributes", str(tmp_path / "who.csv")]
    assert main(command(pocket_bundle, short, tmp_path / "out", *pictures)) == 2
    assert not counted and not (tmp_path / "out").exists()


def drawn_outcomes(person: int) -> tuple[Outcome, ...]:
    """Cases with scenes, and a text that is no plain one."""
    picture = PictureRef(f"person {person + 1}", scene=world.person_at(1, person))
    table = outcomes("hair", lambda case: "Où ?\n\u2028\ufffd", people=1, kl=0.1 + 0.2)
    return tuple(replace(one, person=person, before=picture, after=picture) for one in table)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Path]:
    """A journal of three people."""
    with journal_in(tmp_path / "out") as journal:
        journal.open(KEY)
        for person in range(3):
            journal.keep(person, drawn_outcomes(person))
    yield journal.file


def people(file: Path, key: dict[str, str] = KEY) -> dict[int, tuple[Outcome, ...]]:
    with journal_in(file.parent) as journal:
        journal.open(key)
        return journal.people


def test_what_was_heard_comes_back_as_it_was(three: Path) -> None:
    assert people(three) == {person: drawn_outcomes(person) for person in range(3)}


@pytest.mark.parametrize("lost", [1, 40, 700])
def test_a_line_that_a_kill_left_unfinished_is_dropped(three: Path, lost: int) -> None:
    """What is kept next stands in its place."""
    data = three.read_bytes()
    assert lost < len(data.splitlines(keepends=True)[-1])
    three.write_bytes(data[:-lost])
    with journal_in(three.parent) as journal:
        journal.open(KEY)
        assert sorted(journal.people) == [0, 1]
        journal.keep(2, drawn_outcomes(2))
    assert three.read_bytes() == data


def test_a_last_line_whose_bytes_never_reached_the_disk_is_dropped(three: Path) -> None:
    *lines, last = three.read_bytes().splitlines(keepends=True)
    three.write_bytes(b"".join(lines) + last[:50] + bytes(len(last) - 51) + b"\n")
    assert sorted(people(three)) == [0, 1]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_damaged_line_before_the_last_is_refused(three: Path, number: int) -> None:
    """Also where it is still JSON: an answer that nobody gave decides nothing."""
    lines = three.read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b"a", b"e")
    three.write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match=rf"{JOURNAL_FILE}, line {number}: .*delete"):
        people(three)
    assert three.exists()


def test_a_journal_without_people_is_nobodys(three: Path) -> None:
    """Left by a kill before the first person was done: nothing is lost, so nothing is refused."""
    head, *_ = three.read_bytes().splitlines(keepends=True)
    for left in (b"", head[:9], head):
        three.write_bytes(left)
        assert people(three, {"seed": "2"}) == {}
        assert not three.exists()


def test_a_journal_of_another_form_or_elsewhere_is_refused(three: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / JOURNAL_FILE).symlink_to(three)
    with pytest.raises(JournalError, match="--out"):
        people(linked / JOURNAL_FILE)
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="cannot be written"), journal_in(tmp_path / "file"):
        pass


def test_a_full_disk_loses_nobody_who_was_done(three: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with journal_in(three.parent) as journal:
        journal.open(KEY)
        size = three.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))
        try:
            with pytest.raises(JournalError, match="3 people are kept"):
                journal.keep(3, drawn_outcomes(3))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert three.stat().st_size == size + 100
    assert sorted(people(three)) == [0, 1, 2] and three.stat().st_size == size


def key_of(bundle: Bundle, **changes: Any) -> dict[str, str]:
    asked: dict[str, Any] = {
        "adapter": "none", "attention": "exact", "vision": "onnx", "asked": read(), "seed": 1,
        "verified": True,
    }  # fmt: skip
    return dict(deciding(bundle, **{**asked, **changes}))


def test_whatever_decides_an_answer_is_in_the_key(
    pocket_bundle: Path, short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change alone changes the key, and unlike the others."""
    copied = Path(shutil.copytree(pocket_bundle, tmp_path / "pocket"))
    bundle = open_bundle(copied)
    manifest = bundle.manifest
    changes: list[dict[str, Any]] = [
        {"attention": "resident"}, {"vision": "ggml"}, {"seed": 2}, {"asked": read(short)},
        {"verified": False},
    ]  # fmt: skip
    keys = [key_of(bundle), *(key_of(bundle, **change) for change in changes)]
    record = replace(manifest.files["language.gguf"], sha256="0" * 64)
    files = {**manifest.files, "language.gguf": record}
    keys.append(key_of(replace(bundle, manifest=replace(manifest, files=files))))
    prompt = replace(manifest.prompt, template="{question}\n")
    keys.append(key_of(replace(bundle, manifest=replace(manifest, prompt=prompt))))
    for name in ("fair", "unfair"):
        adapter = Adapter("vision.onnx", name, 4, None, None)  # any file of the manifest's
        kept = replace(manifest, adapters={name: adapter})
        keys.append(key_of(replace(bundle, manifest=kept), adapter=name))
    tuned = replace(DEFAULTS, repack=False)
    with monkeypatch.context() as patched:
        patched.setattr(deciding_module, "read_settings", lambda _: tuned)
        keys.append(key_of(bundle))
    other = tmp_path / "world.py"
    other.write_text("# another world")
    monkeypatch.setattr(world, "__file__", str(other))
    keys.append(key_of(bundle))
    assert len({json.dumps(key, sort_keys=True) for key in keys}) == len(keys)


def test_files_that_nobody_verified_count_with_their_times(
    pocket_bundle: Path, tmp_path: Path
) -> None:
    copied = Path(shutil.copytree(pocket_bundle, tmp_path / "pocket"))
    bundle = open_bundle(copied)
    before = key_of(bundle, verified=False)
    language = copied / "language.gguf"
    language.write_bytes(language.read_bytes())
    assert key_of(bundle, verified=False) != before


def test_the_key_holds_every_module_that_draws_people() -> None:
    """In a process of its own, since other tests import more."""
    code = (
        "import sys, uservlm.bench.audit.measure; "
        "print(*(name for name in sys.modules if name.startswith('uservlm.models.')))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    used = set(told.stdout.split())
    assert used and used <= {module.__name__ for module in deciding_module.ASKING}


def test_how_long_the_rest_takes_is_said_once_behind_the_first_person() -> None:
    said: list[str] = []
    moved: list[int] = []
    now = [100.0]
    work = Work(people=80, kept=20, answers=4400, kept_answers=1100, own_pictures=7)
    shown = Waiting(work, said.append, moved.append, lambda: now[0])
    for _ in range(55):
        now[0] += 10
        shown.answered(1)
    shown.person_done()
    shown.person_done()
    assert sum(moved) == 55
    assert said == [
        "about 9 h for 59 more people and 7 own pictures; it may be stopped: the same command goes "
        "on behind the last person"
    ]


def test_the_last_person_is_told_of_nobody_else() -> None:
    said: list[str] = []
    shown = Waiting(Work(1, 0, 5, 0, 0), said.append, lambda _: None)
    shown.answered(5)
    shown.person_done()
    assert not said


def test_an_interruption_says_what_is_kept() -> None:
    file = Path("out/heard.journal")
    assert "nothing is kept" in interrupted(80, 0, file, False)
    told = interrupted(80, 12, file, False)
    assert "12 of 80" in told and str(file) in told and "own pictures" not in told


def test_an_outcome_is_made_of_what_a_line_can_hold() -> None:
    """Logits are let go of: a line is some kilobytes, with a real vocabulary too."""
    line = json.dumps(asdict(drawn_outcomes(0)[0]))
    assert len(line) < 3000
