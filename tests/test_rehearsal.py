"""`make robot`: the conversation that users see without a robot."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from uservlm.pepper_app.project.onboard import words

pytest.importorskip("qi")

SAYS = words.SAYS["en"]
COMMAND = [sys.executable, "-m", "uservlm.pepper_app.rehearsal"]


def rehearse(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, timeout=180, check=False
    )


def answer(visit: str) -> str:
    """Give what Pepper says to the question, but for what it says when that takes long."""
    said = re.findall(r"^Pepper: (.*)", visit.partition("video call?\n")[2], re.MULTILINE)
    return next(text for text in said if text not in (*SAYS["filler"], *SAYS["filler_long"]))


def test_two_visitors_are_answered_remembered_and_forgotten(pocket_bundle: Path) -> None:
    done = rehearse("--bundle", str(pocket_bundle), "--pace", "6")
    assert done.returncode == 0 and not done.stderr, done.stderr
    lines = [line.partition(" s  ")[2].strip() for line in done.stdout.splitlines()]
    told = "\n".join(lines)
    visits = told.split(" comes)\n")[1:]
    assert len(visits) == 3
    first, second, third = map(answer, visits)
    assert first != second and first == third
    assert "When you come back, ask me" in visits[0]
    assert "I will forget you when you leave" in visits[1]
    hello, _, met = visits[2].partition("grace: do you know me")
    assert "We have met before" not in hello and "We have met before" in met
    assert "I have forgotten you" in visits[2]
    assert "(Pepper falls silent)" in visits[2]
    assert told.count("first sentence") == 4, "how long each answer took"


def test_what_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    done = rehearse("--scenario", str(tmp_path / "none.toml"))
    assert done.returncode == 2 and "none.toml" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = rehearse("--bundle", str(tmp_path / "none"))
    assert done.returncode == 2 and "the brain did not start" in done.stderr
    assert "Traceback" not in done.stderr
