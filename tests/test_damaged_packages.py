"""A damaged llama.cpp or onnxruntime: one line with the way out, whatever the damage, and exit 2.

The packages are copies of the real ones, of links but for the file that is spoilt, and stand before
them on the path of a process of their own.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from uservlm.runtime.native import is_cut_short


def _halve(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _empty(file: Path) -> None:
    os.truncate(file, 0)


def _spoilt(place: Path, package: str, pattern: str, spoil: Callable[[Path], None]) -> Path:
    """Copy a package and spoil the files of a pattern in it; gives what goes before the path."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).parent
    files = list(source.glob(pattern))
    assert files, pattern
    bytecode = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, place / package, copy_function=os.symlink, ignore=bytecode)
    for file in files:
        copy = place / package / file.relative_to(source)
        copy.unlink()
        shutil.copy(file, copy)
        spoil(copy)
    return place


def _uservlm(before: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "uservlm.runtime", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(before), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("package", "pattern", "spoil"),
    [
        ("llama_cpp", "lib/libllama.*", _halve),  # SIGBUS, where nobody looks
        ("llama_cpp", "lib/libggml-cpu.*", _halve),
        ("llama_cpp", "lib/libllama.*", _empty),
        ("llama_cpp", "llama_cpp.py", _halve),
        ("llama_cpp", "__init__.py", _empty),
        ("onnxruntime", "capi/onnxruntime_pybind11_state*", _halve),
        ("onnxruntime", "__init__.py", _halve),
    ],
)  # fmt: skip
def test_damage_is_one_line_with_the_way_out(
    package: str,
    pattern: str,
    spoil: Callable[[Path], None],
    pocket_bundle: Path,
    tmp_path: Path,
) -> None:
    from uservlm.models.demo import save_pictures

    (picture, *_) = save_pictures(tmp_path)
    before = _spoilt(tmp_path / "before", package, pattern, spoil)
    done = _uservlm(before, "ask", pocket_bundle, "--image", picture, "How do I feel?")
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    project = package.replace("llama_cpp", "llama-cpp-python")
    assert line.startswith(f"uservlm: {project} cannot be loaded (")
    assert f"pip install --force-reinstall {project}" in line
    assert not done.stdout


def test_the_server_does_not_begin_and_inspect_needs_no_library(
    pocket_bundle: Path, tmp_path: Path
) -> None:
    before = _spoilt(tmp_path, "llama_cpp", "lib/libllama.*", _halve)
    done = _uservlm(before, "serve", pocket_bundle, "--port", "0")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "is cut short" in done.stderr
    assert _uservlm(before, "inspect", pocket_bundle).returncode == 0


@pytest.mark.parametrize(("wide", "order"), [(True, "<"), (False, "<"), (False, ">")])
def test_a_library_is_cut_short_where_a_segment_lies_behind_its_end(
    wide: bool, order: str, tmp_path: Path
) -> None:
    """Of either width and order: one segment of 100 bytes from 200 on, as `man 5 elf` has it."""
    kind = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    if wide:
        head = struct.pack(order + "HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        table = struct.pack(order + "IIQQQQQQ", 1, 5, 200, 0, 0, 100, 100, 4096)
    else:
        head = struct.pack(order + "HHIIIIIHHHHHH", 3, 3, 1, 0, 52, 0, 0, 52, 32, 1, 0, 0, 0)
        table = struct.pack(order + "IIIIIIII", 1, 200, 0, 0, 100, 100, 5, 4096)
    library = tmp_path / "lib.so"
    library.write_bytes((kind + head + table).ljust(300, b"\0"))
    assert not is_cut_short(library)
    for size, short in ((299, True), (70, False), (3, False)):  # then it is no library at all
        os.truncate(library, size)
        assert is_cut_short(library) is short
