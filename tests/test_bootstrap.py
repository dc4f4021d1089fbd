"""What toolchain/bootstrap.py decides: refuse, go on, or find that nothing is left to do.

Knows nothing of the real `.venv`: every test works on a copy of the script in a folder of its own,
as its own process wherever the decision shows from outside. Nothing is installed or fetched.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Copy what the script needs of the repository; hide the tools of this machine."""
    (tmp_path / "toolchain").mkdir()
    for name in ("bootstrap.py", "llama_cpp_fixes.h"):
        shutil.copy(ROOT / "toolchain" / name, tmp_path / "toolchain")
    for name in ("setup.py", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    return tmp_path


def load(tree: Path) -> ModuleType:
    """Import the copy, whose paths all lie in its own tree."""
    spec = importlib.util.spec_from_file_location("bootstrap", tree / "toolchain" / "bootstrap.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(tree: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the copy with nothing on the PATH but the tree's own bin/."""
    return subprocess.run(
        [sys.executable, str(tree / "toolchain" / "bootstrap.py")],
        env={"PATH": str(tree / "bin"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def program(path: Path, script: str) -> Path:
    """Write an executable."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def finished(tree: Path) -> ModuleType:
    """Leave behind what a finished installation leaves, without the packages."""
    module = load(tree)
    (tree / ".venv" / "bin").mkdir(parents=True)
    (tree / ".venv" / "bin" / "python").symlink_to(sys.executable)
    version = sys.version_info[:2]
    (tree / ".venv" / "pyvenv.cfg").write_text("version = {}.{}.0\n".format(*version))
    (tree / ".venv" / "bootstrap.stamp").write_text(module.fingerprint(version))
    return module


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """Return the message of a refusal: one line, exit code 1, no traceback."""
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_a_python_of_another_version_is_refused_with_the_versions_that_fit(tree: Path) -> None:
    old = program(tree / "bin" / "old", "echo 3 9 /usr/bin/python3.9")
    line = refusal(start(tree, PYTHON=str(old)))
    assert "Python 3.9" in line and "3.10, 3.11 or 3.12" in line


def test_a_name_that_does_not_run_is_refused(tree: Path) -> None:
    """pyenv's shims exist on the PATH for versions that pyenv then declines to start."""
    shim = program(tree / "bin" / "python3.12", "exit 127")
    assert "nothing that runs" in refusal(start(tree, PYTHON=str(shim)))


def test_an_unfit_python_hands_over_to_one_on_the_path(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load(tree)
    program(tree / "bin" / "python3.12", "exit 127")
    program(tree / "bin" / "python3.11", "echo 3 11 /somewhere/python3.11")
    monkeypatch.setenv("PATH", str(tree / "bin"))
    monkeypatch.setattr(module.sys, "version_info", (3, 14, 0))
    assert module.choose_python(None) == "/somewhere/python3.11"
    (tree / "bin" / "python3.11").unlink()
    with pytest.raises(module.Refusal, match=r"this is Python 3\.14; install Python 3\.10"):
        module.choose_python(None)


@pytest.mark.parametrize("have", [(), ("cc",)])
def test_a_missing_compiler_is_named_with_its_package(tree: Path, have: tuple[str, ...]) -> None:
    for name in have:
        program(tree / "bin" / name, "exit 0")
    line = refusal(start(tree))
    assert f"no {'C++' if have else 'C'} compiler" in line
    assert "build-essential" in line or "xcode-select" in line


def test_no_compiler_is_needed_when_the_wheel_is_there(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load(tree)
    monkeypatch.setenv("PATH", str(tree / "bin"))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    folder = Path(module.llama_folder())
    folder.mkdir(parents=True)
    with pytest.raises(module.Refusal, match="compiler"):
        module.check_machine()
    (folder / "llama_cpp_python.whl").touch()
    module.check_machine()
    assert module.build_llama() == str(folder / "llama_cpp_python.whl")


def test_a_wheel_is_only_reused_by_the_same_build(tree: Path) -> None:
    """A native build stops with an illegal instruction on a lesser processor."""
    module = load(tree)
    same = ("0.3.36", "x86_64", "Atom\nsse4_2", "glibc-2.36", "")
    others = [
        ("0.3.37", *same[1:]),
        ("0.3.36", "aarch64", *same[2:]),
        ("0.3.36", "x86_64", "Atom\nsse4_2 avx", *same[3:]),
        ("0.3.36", "x86_64", "Atom\nsse4_2", "glibc-2.31", ""),
        (*same[:4], "-DGGML_NATIVE=OFF"),
    ]
    keys = {module.build_key(*build) for build in [same, same, *others]}
    assert len(keys) == 1 + len(others)


def test_fixes_are_compiled_in_and_nothing_else_changed(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another header makes another wheel (docs/decisions/0003); the user's flags come last."""
    module = load(tree)
    told = module.compiler_settings({"CXXFLAGS": "-O1", "CMAKE_ARGS": "-DX=1"})
    assert told["CMAKE_ARGS"] == "-DX=1"
    assert told["CXXFLAGS"].startswith("-include llama_cpp_fixes.h ")
    assert told["CXXFLAGS"].endswith(" -O1")
    assert module.compiler_settings(told) == told
    before = module.llama_folder()
    header = tree / "toolchain" / "llama_cpp_fixes.h"
    header.write_text(header.read_text() + "/* another fix */")
    assert module.llama_folder() != before
    changed = module.llama_folder()
    monkeypatch.setenv("CXXFLAGS", "-O1")
    assert module.llama_folder() != changed


def test_a_full_disk_is_refused_with_both_figures(tree: Path) -> None:
    module = load(tree)
    module.check_disk(module.NEED_BYTES, module.NEED_BYTES)
    with pytest.raises(module.Refusal, match=r"0\.5 GB free at .*, 4 GB needed; free some"):
        module.check_disk(5 * 10**8, 4 * 10**9)


def test_a_finished_installation_is_recognised_at_once(tree: Path) -> None:
    """Every `make` target starts with it, so it starts no program and says nothing."""
    finished(tree)
    done = start(tree)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("change", ["constraints.txt", "setup.py", "stamp", "python", "place"])
def test_whatever_decides_the_installation_outdates_the_stamp(tree: Path, change: str) -> None:
    module = finished(tree)
    assert module.up_to_date(None)
    if change == "stamp":  # an interrupted installation has none
        Path(module.STAMP).unlink()
    elif change == "python":  # the interpreter behind the link was removed
        Path(module.VENV_PYTHON).unlink()
        Path(module.VENV_PYTHON).symlink_to(tree / "gone")
    elif change == "place":  # scripts in .venv/bin name the folder they were made in
        shutil.copytree(tree, tree / "moved", symlinks=True)
        module = load(tree / "moved")
    else:
        with (tree / change).open("a") as file:
            file.write("# changed\n")
    assert not module.up_to_date(None)


def test_asking_for_another_python_outdates_the_stamp(tree: Path) -> None:
    module = finished(tree)
    other = program(tree / "bin" / "other", "echo 3 99 /usr/bin/other")
    assert module.up_to_date(sys.executable)
    assert not module.up_to_date(str(other))


def test_a_failed_step_names_its_reason_and_its_log(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load(tree)
    script = "echo 'a.cpp:1: error: no such thing'; exit 3"
    with pytest.raises(module.Refusal, match=r"no such thing; see \.wheels/logs/llama-wheel\.log"):
        module.run("llama wheel", ["/bin/sh", "-c", script], dict(os.environ))
    assert "llama wheel: failed after" in capsys.readouterr().out


def test_an_interrupted_step_takes_its_children_with_it(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler left running would fight the next attempt for the processor."""
    module = load(tree)

    def interrupt(progress: object) -> None:
        if (tree / "started").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(module.Progress, "tick", interrupt)
    compiler = (
        f"(trap 'touch {tree}/ended; exit' TERM; touch {tree}/started; sleep 60 & wait) & wait"
    )
    with pytest.raises(KeyboardInterrupt):
        module.run("venv", ["/bin/sh", "-c", compiler], dict(os.environ))
    for _ in range(600):
        if (tree / "ended").exists():
            return
        time.sleep(0.05)
    raise AssertionError("the child was left running")
