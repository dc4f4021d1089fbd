"""Wheels of llama-cpp-python for other machines: what is decided and laid out, on tiny trees.

Nothing of llama.cpp is compiled here: the library in these wheels is one of numpy's.
"""

from __future__ import annotations

import base64
import hashlib
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from numpy.random import _mt19937

from uservlm.toolchain import bootstrap, compile, llama_source, zig
from uservlm.toolchain.compile import plan_for
from uservlm.toolchain.targets import TARGETS
from uservlm.toolchain.wheels import write_wheel

INFORMATION = (
    "Metadata-Version: 2.1\nName: llama_cpp_python\nVersion: 9.9.9\nLicense: MIT\n\nText.\n"
)
MACHINE = platform.machine()
needs_linux = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc",
    reason="manylinux tags are about Linux with glibc",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What `compiled` leaves, tiny: one module, one real library, one licence."""
    folder = tmp_path / "tree"
    (folder / "llama_cpp/lib").mkdir(parents=True)
    (folder / "licenses").mkdir()
    (folder / "llama_cpp/__init__.py").write_text("answer = 42\n")
    shutil.copy(_mt19937.__file__, folder / "llama_cpp/lib/libllama.so")
    (folder / "licenses/LICENSE.md").write_text("MIT\n")
    (folder / "PKG-INFO").write_text(INFORMATION)
    return folder


@needs_linux
def test_the_same_tree_gives_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    """Whatever the clock, the place and the permissions of the files say."""
    other = tmp_path / "elsewhere" / "tree"
    shutil.copytree(tree, other)
    for file in other.rglob("*.py"):
        file.chmod(0o600)
    made = []
    for number, folder in enumerate((tree, other)):
        into = tmp_path / str(number)
        into.mkdir()
        made.append(write_wheel(folder, MACHINE, into))
    assert made[0].name == made[1].name
    assert made[0].read_bytes() == made[1].read_bytes()
    (tree / "llama_cpp/__init__.py").write_text("answer = 43\n")
    assert write_wheel(tree, MACHINE, tmp_path / "0").read_bytes() != made[1].read_bytes()


@needs_linux
def test_pip_installs_it_by_its_tag_and_by_no_older_one(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    wheel = write_wheel(tree, MACHINE, tmp_path / "wheels")
    _, python, abi, tag = wheel.stem.rsplit("-", 3)
    assert (python, abi) == ("py3", "none") and tag.startswith("manylinux_2_")

    def install(name: str) -> subprocess.CompletedProcess[str]:
        where = ["--no-index", "--find-links", str(tmp_path / "wheels")]
        kind = ["--platform", name, "--only-binary=:all:", "--no-deps", "--target"]
        command = [sys.executable, "-m", "pip", "--isolated", "install", "--no-compile", *where]
        arguments = [*command, *kind, str(tmp_path / name), "llama-cpp-python==9.9.9"]
        return subprocess.run(arguments, capture_output=True, text=True, check=False)

    done = install(tag)
    assert done.returncode == 0, done.stderr
    site = tmp_path / tag
    assert (site / "llama_cpp/__init__.py").read_text() == "answer = 42\n"
    assert (site / "llama_cpp_python-9.9.9.dist-info/licenses/LICENSE.md").is_file()
    refused = install(f"manylinux_2_5_{MACHINE}")
    assert refused.returncode != 0 and "No matching distribution" in refused.stderr


@needs_linux
def test_the_record_names_every_file_with_its_digest(tree: Path, tmp_path: Path) -> None:
    wheel = write_wheel(tree, MACHINE, tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        (record,) = [name for name in archive.namelist() if name.endswith("/RECORD")]
        lines = archive.read(record).decode().splitlines()
        found = {line.split(",")[0]: line.split(",")[1] for line in lines}
        assert set(found) == set(archive.namelist())
        for name, digest in found.items():
            if name != record:
                wanted = hashlib.sha256(archive.read(name)).digest()
                assert base64.urlsafe_b64decode(digest.partition("=")[2] + "=") == wanted


@needs_linux
@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here")
def test_a_library_of_this_system_alone_is_refused(tree: Path, tmp_path: Path) -> None:
    """Such as OpenMP, which not every machine has: the tag may not promise it."""
    program = tmp_path / "needs.c"
    program.write_text("int answer(void) { return 42; }\n")
    library = tree / "llama_cpp/lib/libggml.so"
    odd = tmp_path / "libuservlm-odd.so"
    build = ["gcc", "-shared", "-fPIC"]
    subprocess.run([*build, str(program), "-o", str(odd), f"-Wl,-soname,{odd.name}"], check=True)
    subprocess.run([*build, "-Wl,--no-as-needed", str(odd), "-o", str(library)], check=True)
    with pytest.raises(bootstrap.Refusal, match=odd.name):
        write_wheel(tree, MACHINE, tmp_path)


def test_arm_s_instruction_sets_are_said_in_zig_s_words() -> None:
    said = {
        "-march=armv8-a": "-mcpu=generic+v8a",
        "-march=armv8.2-a+dotprod": "-mcpu=generic+v8_2a+dotprod",
        "-march=armv8.2-a+dotprod+fp16+sve": "-mcpu=generic+v8_2a+dotprod+fullfp16+sve",
        "-march=armv8.6-a+dotprod+fp16+sve+i8mm+sve2": (
            "-mcpu=generic+v8_6a+dotprod+fullfp16+sve+i8mm+sve2"
        ),
        "-march=armv9.2-a+sme": "-mcpu=generic+v9_2a+sme",
    }
    assert zig.translated(list(said)) == list(said.values())
    others = ["-O3", "-msse4.2", "-DX=-march=armv8-a", "a file.c", "-mcpu=silvermont"]
    assert zig.translated(others) == others


def test_the_compiler_hands_every_argument_on(tmp_path: Path) -> None:
    """Through the script that CMake is given, spaces and all."""
    program = tmp_path / "zig it"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    zig.write_compilers(program, tmp_path / "bin")
    command = [str(tmp_path / "bin/zig-c++"), "-march=armv8-a", "-DNAME=two words", "x.cpp"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["c++", "-mcpu=generic+v8a", "-DNAME=two words", "x.cpp"]


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Copies of the files that a build is keyed by, to be changed."""
    shutil.copytree(compile.FILES, tmp_path / "cmake")
    shutil.copytree(bootstrap.PATCHES, tmp_path / "patches")
    shutil.copy(bootstrap.FIXES, tmp_path)
    monkeypatch.setattr(compile, "FILES", tmp_path / "cmake")
    monkeypatch.setattr(llama_source, "DISPATCHED", tmp_path / "patches/targets")
    monkeypatch.setattr(bootstrap, "FIXES", str(tmp_path / Path(bootstrap.FIXES).name))
    yield tmp_path


def test_whatever_goes_into_a_build_changes_its_key(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(TARGETS["pepper-i686"])
    keys = [plan.key()]
    assert plan.key() == keys[0]
    for name in ("cmake/zig-i686.cmake", "cmake/common.cmake", "llama_cpp_fixes.h"):
        with (inputs / name).open("a") as file:
            file.write("\n")
        keys.append(plan.key())
    (inputs / "patches/targets/9999-one-more.patch").write_text("a change\n")
    keys.append(plan.key())
    monkeypatch.setattr(zig, "VERSION", "0.0.0")
    keys.append(plan.key())
    monkeypatch.setattr(llama_source, "SHA256", "0" * 64)
    keys.append(plan.key())
    keys.append(replace(plan, target=TARGETS["aarch64"]).key())
    assert len(set(keys)) == len(keys)


def test_another_compiler_is_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = TARGETS["pepper-i686"]
    keys = {plan_for(target).key()}
    compiler = tmp_path / "i686-linux-gnu-gcc"
    for version in ("12.2.0", "12.3.0"):
        compiler.write_text(f"#!/bin/sh\necho gcc {version}\n")
        compiler.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        keys.add(plan_for(target, "gcc").key())
    assert len(keys) == 3
    with pytest.raises(bootstrap.Refusal, match="nothing here compiles for x86_64 with zig"):
        plan_for(TARGETS["x86_64"], "zig")


def test_fewer_variants_are_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CI compiles those that it can run; what is shipped has all of them."""
    monkeypatch.setenv("PATH", str(tmp_path))
    compiler = tmp_path / "x86_64-linux-gnu-gcc"
    compiler.write_text("#!/bin/sh\necho gcc 12.2.0\n")
    compiler.chmod(0o755)
    whole = plan_for(TARGETS["x86_64"])
    few = plan_for(TARGETS["x86_64"], only=("sse42", "haswell"))
    assert few.key() != whole.key()
    assert "GGML_CPU_VARIANTS=sse42;haswell" in few.options
    assert not any(option.startswith("GGML_CPU_VARIANTS") for option in whole.options)
    with pytest.raises(bootstrap.Refusal, match="leave out --variants sse42"):
        plan_for(TARGETS["pepper-i686"], only=("sse42",))


def test_a_missing_compiler_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(bootstrap.Refusal, match="sudo apt install g\\+\\+-aarch64-linux-gnu"):
        plan_for(TARGETS["aarch64"], "gcc").key()
    with pytest.raises(bootstrap.Refusal, match="sudo apt install g\\+\\+-x86-64-linux-gnu"):
        plan_for(TARGETS["x86_64"]).key()


def test_another_source_than_the_known_one_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "llama_cpp_python-0.3.36.tar.gz"
    archive.write_bytes(b"not it")
    with pytest.raises(bootstrap.Refusal, match="delete it and try again"):
        llama_source.unpacked(archive, tmp_path / "source")
    assert not (tmp_path / "source").exists()
