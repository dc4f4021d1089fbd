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

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGES = ("runtime", "converters", "models", "toolchain", "bench", "pepper_app")


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


@pytest.mark.parametrize(
    ("page", "section"), [("README.md", "## The tree"), ("docs/DESIGN.md", "## 3. The house")]
)
def test_every_file_a_tree_names_is_there(page: str, section: str) -> None:
    """Links are tests/test_links.py's."""
    tree = (ROOT / page).read_text(encoding="utf-8").split(section)[1].split("```")[1]
    named = re.findall(r"(?<![\w*/])(\w+\.py)\b", tree)
    assert len(named) > 10
    for name in named:
        assert (ROOT / name).exists() or any([*(ROOT / one).rglob(name)] for one in PACKAGES), name


def test_the_shorter_tree_names_nothing_that_the_whole_one_lacks() -> None:
    whole = (ROOT / "docs" / "DESIGN.md").read_text(encoding="utf-8")
    tree = README.split("## The tree")[1].split("```")[1]
    for name in re.findall(r"\w+(?:\.py|/)", tree):
        assert name in whole, name


def test_it_can_be_read_in_ten_minutes() -> None:
    """What is longer belongs on the page that it links."""
    assert len(README.encode("utf-8")) < 16_000
