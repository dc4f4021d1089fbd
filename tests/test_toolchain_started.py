"""Runtimes for other machines: how they are started, and what they take from the machine.

The launcher before a loader that only tells what it was given; then the runtimes as they were left
in build/runtime by `python toolchain/build.py`, where this machine can run them. Proofs of what
they answer are another file's.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from uservlm.toolchain import integrity, launcher, licences
from uservlm.toolchain.runtime_image import TREES
from uservlm.toolchain.targets import TARGETS

LIMIT_S = 60
HOSTILE = {
    **{
        "LD_PRELOAD": "/nowhere/evil.so",
        "LD_LIBRARY_PATH": "/nowhere",
        "LD_AUDIT": "/nowhere/a.so",
    },
    **{"PYTHONHOME": "/nowhere", "PYTHONPATH": "/nowhere", "PYTHONSTARTUP": "/nowhere/x.py"},
    **{"OPENBLAS_CORETYPE": "Haswell", "OPENSSL_CONF": "/nowhere/openssl.cnf", "LANG": "xx_YY"},
    "GGML_BACKEND_PATH": "/nowhere/ggml.so",
}
RUNS_HERE = {"x86_64": ("x86_64", "pepper-i686"), "aarch64": ("aarch64",)}


# -- the launcher ---------------------------------------------------------------------------------


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A runtime in a folder with a space, whose loader tells what it was given."""
    root = tmp_path / "a place of its own"
    for folder in ("bin", "lib"):
        (root / folder).mkdir(parents=True)
    for name in launcher.PROGRAMS:
        (root / "bin" / name).write_text(launcher.script(name, "loader"))
        (root / "bin" / name).chmod(0o755)
    (root / "lib/loader").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nenv | sort >&2\nexit 7\n')
    (root / "lib/loader").chmod(0o755)
    return root


def _started(*command: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", **variables}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=LIMIT_S
    )


@pytest.mark.parametrize("name", launcher.PROGRAMS)
def test_a_launcher_runs_the_loader_beside_it(fake: Path, name: str) -> None:
    words = ["serve", "two words", "", "*", "--x=$HOME"]
    done = _started(fake / "bin" / name, *words, cwd=Path("/"))
    assert done.stdout.splitlines() == [*launcher.command(fake, "loader", name)[1:], *words]
    assert done.returncode == 7


def test_a_launcher_is_found_through_links_and_by_any_path(fake: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "first").symlink_to("second")
    (elsewhere / "second").symlink_to(fake / "bin/uservlm")
    (tmp_path / "folder").symlink_to(fake / "bin")
    wanted = launcher.command(fake, "loader", "uservlm")[1:]
    for command, cwd, path in (
        (["../else where/first"], elsewhere, ""),
        ([str(tmp_path / "folder/uservlm")], elsewhere, ""),
        (["first"], tmp_path, str(elsewhere)),
        (["sh", "uservlm"], fake / "bin", ""),
        (["./uservlm"], fake / "bin", ""),
    ):
        variables = {"CDPATH": str(tmp_path)}
        if path:  # as a shell finds it
            command, variables["PATH"] = ["sh", "-c", *command], f"{path}:/usr/bin:/bin"
        done = _started(*command, cwd=cwd, **variables)
        assert done.stdout.splitlines() == wanted, (command, done.stderr)


def test_a_launcher_leaves_the_loader_no_foreign_library(fake: Path) -> None:
    # In the shell itself, as if the machine's own login had set them.
    lines = "; ".join(f"export {name}={value}" for name, value in HOSTILE.items())
    script = f"{lines}; exec '{fake}/bin/uservlm'"
    done = _started("sh", "-c", script, cwd=fake)
    told = dict(line.partition("=")[::2] for line in done.stderr.splitlines() if "=" in line)
    foreign = {"LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "GGML_BACKEND_PATH"}
    assert not foreign & told.keys()
    assert told["LC_ALL"] == "C"


@pytest.mark.parametrize("letter", [":", ";"])
def test_a_launcher_refuses_a_path_that_is_two(fake: Path, letter: str) -> None:
    moved = fake.rename(fake.with_name(f"a{letter}b"))
    done = _started(moved / "bin/uservlm", cwd=moved)
    assert (done.returncode, done.stdout) == (2, "")
    assert "colon or semicolon" in done.stderr and done.stderr.count("\n") == 1


# -- runtimes as they were built ------------------------------------------------------------------


@pytest.fixture(scope="module", params=TARGETS)
def runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built runtime that runs here, in a folder with a space, which nobody may write to."""
    name = str(request.param)
    if name not in RUNS_HERE.get(platform.machine(), ()):
        pytest.skip(f"{platform.machine()} runs no {name}; `make proofs` emulates it")
    if not (TREES / name / integrity.MANIFEST_FILE).is_file():
        pytest.skip(f"no build/runtime/{name}: `python toolchain/build.py {name}` makes it")
    place = tmp_path_factory.mktemp("built") / "a place"
    try:
        shutil.copytree(TREES / name, place, symlinks=True, copy_function=os.link)
    except shutil.Error as error:
        pytest.skip(f"build/ is on another disk than the tests: {error.args[0][0][2]}")
    return place


def test_a_built_runtime_is_what_its_manifest_says(runtime: Path) -> None:
    done = _started(runtime / "bin/uservlm-check", cwd=Path("/"), **HOSTILE)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    manifest = json.loads((runtime / integrity.MANIFEST_FILE).read_text())
    for origin in manifest["origins"].values():
        assert origin["version"] and origin["licence"], origin
        assert all((runtime / text).is_file() for text in origin["texts"])
        assert origin["texts"] or origin["licence"] != licences.UNNAMED, origin


def test_a_built_runtime_takes_nothing_from_the_machine(runtime: Path) -> None:
    script = """if True:
        import json, os, pwd, socket, sqlite3, ssl, subprocess, sys
        import numpy, PIL.Image, llama_cpp.llama_cpp
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from uservlm.runtime.server import serving
        for ask in (lambda: pwd.getpwuid(54321), lambda: socket.getaddrinfo("x.invalid", 1)):
            try:
                ask()
            except (KeyError, OSError):
                pass
        lines = [line.split(maxsplit=5)[5:] for line in open("/proc/self/maps")]
        mapped = {line[0].strip() for line in lines if line and line[0].startswith("/")}
        child = subprocess.check_output([sys.executable, "-c", "import sys; print(sys.prefix)"])
        print(json.dumps([sys.prefix, child.decode().strip(), sys.path, sorted(mapped)]))
    """
    done = _started(runtime / "bin/python", "-c", script, cwd=Path("/"), **HOSTILE)
    assert done.returncode == 0, done.stderr
    prefix, child, path, mapped = json.loads(done.stdout)
    assert prefix == child == str(runtime)
    outside = [name for name in (*path, *mapped) if not name.startswith(f"{runtime}/")]
    assert outside == []


def test_a_built_runtime_starts_without_a_home(runtime: Path) -> None:
    before = set(integrity.listed(runtime))
    done = _started(runtime / "bin/uservlm", "--version", cwd=Path("/"), HOME="/nowhere")
    assert (done.returncode, done.stdout[:8]) == (0, "uservlm "), done.stderr
    assert set(integrity.listed(runtime)) == before
