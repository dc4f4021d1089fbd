"""docs/export.md, followed word for word."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("peft")

from lora import write_lora  # noqa: E402

from uservlm.converters.export import POCKET, ROOT  # noqa: E402
from uservlm.models.demo import save_pictures  # noqa: E402

PAGE = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which somebody has put a fine-tune, an adapter and pictures."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "converters").symlink_to(ROOT / "converters")
    shutil.copytree(POCKET, folder / "my-model", ignore=shutil.ignore_patterns("adapter"))
    write_lora(POCKET, folder / "my-adapter", r=2, lora_alpha=1)
    (folder / "pictures").mkdir()
    save_pictures(folder / "pictures")
    shutil.copy(next((folder / "pictures").glob("*.png")), folder / "me.png")
    return folder


def test_every_command_works_in_its_order(folder: Path) -> None:
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1"}
    environment["PATH"] = f"{scripts}{os.pathsep}{environment['PATH']}"
    said = {}
    for line in "".join(COMMANDS).strip().splitlines():
        done = subprocess.run(
            ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        said[line] = done.stdout + done.stderr
    answers = [text for line, text in said.items() if line.startswith("uservlm ask")]
    assert len(answers) == 3 and all(answers)
    left = {path.name for path in (folder / "bundles").iterdir()}
    assert left == {"mine", "merged", "both", "fine", "head", "measured"}
    assert any("fair" in text for line, text in said.items() if "keep-adapter" in line)


def test_every_option_it_names_is_one(folder: Path) -> None:
    helped = [
        subprocess.run([sys.executable, *command, "--help"], capture_output=True, text=True).stdout
        for command in (
            [str(ROOT / "converters" / "export.py")],
            ["-m", "uservlm.runtime", "verify"],
            ["-m", "uservlm.runtime", "ask"],
            ["-m", "uservlm.models.generate"],
        )
    ]
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)):
        assert any(option in text for text in helped), option
