"""A run of days: what cannot end well is found before it begins, and a kill costs minutes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from conftest import MakeCheckpoint  # noqa: E402

from uservlm.converters.output import locked, work_folder  # noqa: E402
from uservlm.models import preference_runs  # noqa: E402
from uservlm.models.acide_write import Drawn, write_form  # noqa: E402
from uservlm.models.prefer import main  # noqa: E402
from uservlm.models.preference_keep import FILE  # noqa: E402
from uservlm.models.preference_recipes import LESSONS, PAPER, Recipe  # noqa: E402
from uservlm.models.preference_runs import Task  # noqa: E402

FAST = ("--rate", "3e-3", "--dtype", "float32", "--threads", "1")
"""Faster than the paper's rate, so that every step leaves a trace; bit for bit on one core."""


@pytest.fixture(scope="module")
def checkpoint(make_checkpoint: MakeCheckpoint) -> Path:
    return make_checkpoint("small")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five drawn people with eight pairs each, in the form of user-vlm-dpo: 40 steps."""
    folder = tmp_path_factory.mktemp("dpo") / "pairs"
    write_form(folder, Drawn("dpo", 1, 5, 8, "train"), loose=True)
    return folder


def command(checkpoint: Path, folder: Path, out: Path, *more: str) -> list[str]:
    given = ("--model", checkpoint, "--dataset", folder, "--out", out)
    return [*map(str, given), *FAST, *more]


def kill_in_the_middle(arguments: list[str], told: str) -> None:
    """Run the command as its own process, and kill -9 it when it has told this."""
    words = [sys.executable, "-m", "uservlm.models.prefer", *arguments]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == told:
                process.kill()
                break
    assert process.returncode == -9, "it ended before it was killed"


def test_a_killed_run_goes_on_and_ends_where_it_would_have_ended_bit_for_bit(
    checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same LoRA as without a kill; another run in its place is refused, and nothing is left."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(command(checkpoint, folder, whole)) == 0
    keeping = command(checkpoint, folder, cut, "--keep-every", "0")
    kill_in_the_middle(keeping, "kept after step 12")
    assert not cut.exists()
    assert (work_folder(cut) / FILE).is_file()

    for more, said in ((("--beta", "0.2"), "--beta"), (("--split", "train"), "--split")):
        assert main([*keeping, *more]) == 2
        refusal = capsys.readouterr().err
        assert said in refusal and len(refusal.splitlines()) == 1
    other = write_other(tmp_path)
    assert main(command(checkpoint, other, cut)) == 2
    assert "another dataset" in capsys.readouterr().err

    assert main(keeping) == 0
    steps = [
        int(line.rpartition(" ")[2])
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("kept")
    ]
    assert 12 < steps[0] <= 40 and steps[-1] == 40
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "other", "whole"]


def test_the_random_numbers_to_come_are_kept_as_well(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, which the paper's run has not; Ctrl-C leaves what was kept, as a kill does."""
    recipe = replace(PAPER, dropout=0.2, schedule=replace(PAPER.schedule, rate=3e-3))
    few = write_other(tmp_path)
    whole, cut = (
        Task(checkpoint, few, tmp_path / name, dtype="float32", minutes=0)
        for name in ("whole", "cut")
    )
    preference_runs.tune_checkpoint(whole, recipe)

    def interrupt(told: str) -> None:
        if told == "kept after step 2":
            raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(preference_runs, "say", interrupt)
        with pytest.raises(KeyboardInterrupt):
            preference_runs.tune_checkpoint(cut, recipe)
    assert len(preference_runs.tune_checkpoint(cut, recipe)) == 2
    name = "adapter_model.safetensors"
    assert (cut.out / name).read_bytes() == (whole.out / name).read_bytes()


def write_other(tmp_path: Path) -> Path:
    write_form(tmp_path / "other", Drawn("dpo", 2, 1, 4, "train"), loose=True)
    return tmp_path / "other"


def test_what_is_kept_and_cannot_be_read_is_one_line(
    checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = work_folder(tmp_path / "fair") / FILE
    kept.parent.mkdir()
    kept.write_bytes(b"no archive")
    assert main(command(checkpoint, folder, tmp_path / "fair")) == 2
    shown = capsys.readouterr().err
    assert "cannot be read: remove" in shown and len(shown.splitlines()) == 1
    assert kept.read_bytes() == b"no archive"


def test_a_place_that_cannot_be_written_is_found_before_anything_is_read(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pairs are not there either; whoever looked at them first would say that."""
    (tmp_path / "file").touch()
    nowhere = tmp_path / "no pairs"
    for out in (tmp_path / "file" / "fair", Path("/proc/fair")):
        assert main(command(checkpoint, nowhere, out)) == 2
        shown = capsys.readouterr().err
        assert "cannot write" in shown and len(shown.splitlines()) == 1
    with locked(tmp_path / "fair"):
        assert main(command(checkpoint, nowhere, tmp_path / "fair")) == 2
    assert "another run is writing" in capsys.readouterr().err


def test_the_pocket_s_old_adapter_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uservlm.models.learning import Schedule
    from uservlm.models.preference_tuning import Objective

    out = tmp_path / "fair"
    out.mkdir()
    (out / "old").touch()
    short = Schedule(steps=1, batch=4, rate=1e-3, muon=False)
    recipe = Recipe(short, Objective(), rank=2, alpha=2, targets=r".*\.q_proj", people=8)

    def full(wrapped: Any, place: Path) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr(preference_runs, "save_adapter", full)
        with pytest.raises(OSError, match="no space left"):
            preference_runs.tune_pocket(recipe, LESSONS[None], out)
    assert [path.name for path in out.iterdir()] == ["old"]
    preference_runs.tune_pocket(recipe, LESSONS[None], out)
    found = sorted(path.name for path in out.iterdir())
    assert found == ["adapter_config.json", "adapter_model.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["fair"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--beta", "0.5"), "--beta is for a run with --model"),
        (("--model", "a", "--dataset", "b", "--measure"), "--measure is for a run without --model"),
        (("--keep-every", "nan"), "--keep-every: nan: give 0 or more"),
        (("--batch", "0"), "--batch: 0: give 1 or more"),
        (("--threads", "two"), "--threads: invalid int value: 'two'"),
    ],
)
def test_an_option_that_nobody_would_look_at_or_a_number_that_is_none_is_refused(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
