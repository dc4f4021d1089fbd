"""`python converters/export.py` as people run it: what it refuses, and how it is stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, str(ROOT / "converters" / "export.py")]


def export(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    done = export("--model", tmp_path / "nope", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "no folder" in done.stderr and "hub" in done.stderr


def test_nobodys_folder_is_overwritten(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for out in (tmp_path, tmp_path / "thesis.tex"):
        done = export("--model", tiny_checkpoint, "--out", out)
        assert done.returncode == 2 and "choose" in done.stderr
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_stopped_export_says_where_its_finished_steps_are(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    command = [*COMMAND, "--model", str(tiny_checkpoint), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    work = tmp_path / ".out.partial"
    deadline = time.monotonic() + 90
    while not (work / "steps" / "features.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    last = errors.decode().splitlines()[-1]
    assert last.startswith("export interrupted") and f"rm -r {work}" in last
    assert [path.name for path in tmp_path.iterdir()] == [work.name]
    again = export("--model", tiny_checkpoint, "--out", tmp_path / "out")
    assert again.returncode == 0 and "kept from an earlier run" in again.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_kill_9_left_is_removed_by_an_export_to_anywhere_beside_it(tmp_path: Path) -> None:
    from uservlm.converters.output import tidy

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / f".other.partial-{dead.pid}"
    left.mkdir()
    tidy(tmp_path / "out")
    assert not left.exists()
