"""docs/virtual-pepper.md, followed on the pocket bundle over real libqi."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from serving import serving

pytest.importorskip("qi")

from qi_bus import Client, wait_for

from uservlm.pepper_app.virtual_scenario import read

PAGE = (Path(__file__).parent.parent / "docs" / "virtual-pepper.md").read_text(encoding="utf-8")
PROGRAM, SCENARIO = (
    re.findall(f"```{kind}\n({first}.*?)```", PAGE, re.DOTALL)[0]
    for kind, first in (("", "people = "), ("toml", ""))
)


def test_its_program_sees_grace_and_is_answered(
    pocket_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "uservlm.pepper_app.virtual", "--listen", "tcp://127.0.0.1:0"]
    robot = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert robot.stdout is not None
        url = next(
            line.split()[-1] for line in robot.stdout if line.startswith("virtual Pepper at")
        )
        with serving(pocket_bundle, tmp_path, "--robot", url) as brain:
            state = brain.client.get
            wait_for(lambda: state("/v1/state").json()["doors"]["qi"]["state"] == "open")
            client = Client(url)
            exec(compile(PROGRAM, "docs/virtual-pepper.md", "exec"), {"session": client.session})
            client.close()
            (turn,) = state("/v1/state").json()["turns"]
        assert capsys.readouterr().out.strip() == turn["text"] != ""
    finally:
        robot.terminate()
        robot.wait(10)


def test_its_scenario_is_understood(tmp_path: Path) -> None:
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    steps = read(tmp_path / "scenario.toml")
    assert [step.do for step in steps] == ["arrive", "ask", "touch", "leave", "end"]
