"""What the README shows works as written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from serving import serving

from uservlm.models.demo import save_pictures

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, pocket_bundle: Path) -> Path:
    """A folder in which `make demo` seems to have run."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "bundles").mkdir()
    (folder / "bundles" / "pocket").symlink_to(pocket_bundle)
    save_pictures(folder / "bundles")
    return folder


def run(arguments: list[str], folder: Path) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        arguments, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_example_answers(checkout: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.strip().splitlines()) <= 6
    answer = run([sys.executable, "-c", code], checkout)
    assert len(answer.split()) > 5


LINES = re.findall(r"^uservlm .*$", README, re.MULTILINE)


# An audit writes its verdict into the bundle that other tests share, and the pocket does not pass:
# tests/test_audit_command.py runs it.
NOT_RUN = ("uservlm serve", "uservlm audit")


@pytest.mark.parametrize("line", [line for line in LINES if not line.startswith(NOT_RUN)])
def test_every_command_works(line: str, checkout: Path) -> None:
    program, *arguments = shlex.split(line)
    assert program == "uservlm"
    output = run([sys.executable, "-m", "uservlm.runtime", *arguments], checkout)
    assert output or "chat" in arguments


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("uservlm serve")])
def test_every_server_answers(line: str, checkout: Path, tmp_path: Path) -> None:
    program, command, bundle, *options = shlex.split(line)
    with serving(checkout / bundle, tmp_path, *options) as brain:
        assert "<title>" in brain.client.get("/").text
        assert brain.client.get("/v1/models").json()["data"][0]["id"] == "pocket"


def test_every_file_it_names_is_there() -> None:
    root = Path(__file__).parent.parent
    for name in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (root / name).exists(), name
    tree = README.split("## The tree")[1].split("```")[1]
    for name in re.findall(r"(?<=  )(\w+\.py)\b", tree):
        assert [*root.glob(f"*/{name}"), *root.glob(f"*/*/{name}")], name
