"""The app is for the robot's Python 2.7 and for Python 3: what can be told without running it.

Owns: the check itself. vermin sees each file twice, as either Python does: without what is for type
checkers, and with that side only of `try: import ... except ImportError` and of `if hasattr(...)`
which is its own.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "pepper_app" / "project" / "onboard"
TARGETS = {2: "2.7-", 3: "3.10-"}
LIMIT_S = 60
COMPILES = """
import json, sys
failed = []
for path in json.loads(sys.argv[1]):
    try:
        compile(open(path, "rb").read(), path, "exec")
    except SyntaxError as error:
        failed.append(str(error))
print(json.dumps(failed))
"""
IMPORTS = """
import importlib, json, sys, threading
sys.path.insert(0, sys.argv[1])
for name in json.loads(sys.argv[2]):
    importlib.import_module(str("onboard." + name))
print(json.dumps([sys.version_info[0], threading.active_count(), "qi" in sys.modules]))
"""


class _View(ast.NodeTransformer):
    """A file as one Python sees it."""

    def __init__(self, major: int) -> None:
        self.major = major

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        asked = ast.unparse(node.test)
        if asked == "TYPE_CHECKING":
            return node.orelse or ast.Pass()
        if asked.startswith("hasattr(") and node.orelse:
            return node.body if self.major == 3 else node.orelse
        return node

    def visit_Try(self, node: ast.Try) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        caught = [ast.unparse(handler.type) for handler in node.handlers if handler.type]
        if caught == ["ImportError"]:
            return node.body if self.major == 3 else node.handlers[0].body
        return node


def complaints(major: int, folder: Path, place: Path) -> str:
    """What vermin says against a folder in one Python; empty when nothing."""
    place.mkdir()
    for file in folder.glob("*.py"):
        seen = _View(major).visit(ast.parse(file.read_text("utf-8")))
        (place / file.name).write_text(ast.unparse(ast.fix_missing_locations(seen)), "utf-8")
    vermin = Path(sys.executable).with_name("vermin")
    options = ("--no-config-file", "--pessimistic", "--processes=1", f"--target={TARGETS[major]}")
    done = subprocess.run(
        [vermin, *options, "--violations", "--quiet", place],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("major", TARGETS)
def test_nothing_in_it_is_too_new_or_too_old(major: int, tmp_path: Path) -> None:
    assert complaints(major, FOLDER, tmp_path / "seen") == ""


@pytest.mark.parametrize(
    ("major", "line"),
    [
        (2, "from typing import Any"),
        (2, "f'{__name__}'"),
        (2, "import queue"),
        (2, "def act(*, fast): pass"),
        (2, "def act(fast: bool): pass"),
        (2, "raise ValueError from None"),
        (2, "import time; time.monotonic()"),
        (2, "try:\n    import Queue\nexcept ImportError:\n    import queue"),
        (3, "import urlparse"),
        (3, "try:\n    import Queue\nexcept ImportError:\n    import queue"),
        (3, "import asyncio; asyncio.TaskGroup()"),
    ],
)
def test_what_one_of_them_lacks_is_found(major: int, line: str, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "bad.py").write_text(line)
    assert "bad.py" in complaints(major, tmp_path / "code", tmp_path / "seen")


def test_python_27_compiles_every_file(python27: list[str]) -> None:
    files = [str(file) for file in FOLDER.glob("*.py")]
    assert files and _run([*python27, "-c", COMPILES, json.dumps(files)]) == []


def test_python_27_refuses_what_is_python_3_only(python27: list[str], tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def act(*, fast): pass")
    [error] = _run([*python27, "-c", COMPILES, json.dumps([str(tmp_path / "bad.py")])])
    assert "invalid syntax" in error


def test_python_27_imports_every_file_and_nothing_begins(python27: list[str]) -> None:
    assert _imported(python27) == [2, 1, False]


def test_python_3_imports_every_file_and_nothing_begins() -> None:
    assert _imported([sys.executable]) == [3, 1, False]


def _imported(python: list[str]) -> object:
    names = sorted(file.stem for file in FOLDER.glob("*.py"))
    return _run([*python, "-B", "-c", IMPORTS, str(FOLDER.parent), json.dumps(names)])


def _run(command: list[str]) -> list[object]:
    answer = subprocess.check_output(command, text=True, timeout=LIMIT_S)
    found: list[object] = json.loads(answer)
    return found
