"""Runtimes for other machines: how they are filled, described, packed, checked, on tiny trees."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from email.message import Message
from pathlib import Path

import pytest
from numpy.random import _mt19937

from uservlm.runtime.durable import locked
from uservlm.runtime.errors import StoreError
from uservlm.toolchain import (
    archive,
    integrity,
    licences,
    provenance,
    runtime_image,
    runtime_tree,
)
from uservlm.toolchain import python_packages as python
from uservlm.toolchain.debian import UnavailableError
from uservlm.toolchain.debian_parts import MODULES
from uservlm.toolchain.elf import closed, linked
from uservlm.toolchain.provenance import Origin
from uservlm.toolchain.runtime_tree import LIBC, SITE, Tree
from uservlm.toolchain.targets import TARGETS

ORIGIN = Origin("wheel", "thing", "1", "thing.whl", "00", "MIT", ())
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="ELF files are Linux's")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with a manifest, as a runtime has one."""
    tree = Tree(tmp_path / "made")
    tree.write("bin/uservlm", b"#!/bin/sh\n", ORIGIN.key, executable=True)
    tree.write("lib/one.py", b"answer = 42\n", ORIGIN.key)
    (tree.folder / "lib/link").symlink_to("one.py")
    tree.adopt("lib/link", ORIGIN.key)
    told = provenance.describe(tree.folder, tree.origins, [ORIGIN], {"target": "none"})
    (tree.folder / integrity.MANIFEST_FILE).write_bytes(told)
    return tree.folder


# -- the manifest ---------------------------------------------------------------------------------


def test_a_manifest_names_every_file_and_where_it_is_from(made: Path) -> None:
    manifest = integrity.read(made)
    assert set(manifest["files"]) == {"bin/uservlm", "lib/link", "lib/one.py"}
    assert {one["origin"] for one in manifest["files"].values()} == {"wheel:thing=1"}
    assert manifest["origins"]["wheel:thing=1"]["licence"] == "MIT"
    assert manifest["files"]["lib/one.py"] == {
        "sha256": hashlib.sha256(b"answer = 42\n").hexdigest(),
        "size": 12,
        "executable": False,
        "origin": "wheel:thing=1",
    }
    assert manifest["files"]["lib/link"] == {"link": "one.py", "origin": "wheel:thing=1"}
    assert integrity.check(made) == []


def _shorten(folder: Path) -> None:
    (folder / "lib/one.py").write_text("answer = 4\n")


def _change(folder: Path) -> None:
    (folder / "lib/one.py").write_text("answer = 43\n")


def _add(folder: Path) -> None:
    (folder / "lib/two.py").write_text("")


def _remove(folder: Path) -> None:
    (folder / "bin/uservlm").unlink()


def _forbid(folder: Path) -> None:
    (folder / "bin/uservlm").chmod(0o644)


def _turn(folder: Path) -> None:
    (folder / "lib/link").unlink()
    (folder / "lib/link").symlink_to("../bin/uservlm")


def _harden(folder: Path) -> None:
    (folder / "lib/link").unlink()
    shutil.copy(folder / "lib/one.py", folder / "lib/link")


def _lead_away(folder: Path) -> None:
    (folder / "more").symlink_to("/")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (_shorten, "lib/one.py: another sha256, size than in the manifest"),
        (_change, "lib/one.py: another sha256 than in the manifest"),
        (_add, "lib/two.py: not in the manifest"),
        (_remove, "bin/uservlm: missing"),
        (_forbid, "bin/uservlm: another executable than in the manifest"),
        (_turn, "lib/link: another link than in the manifest"),
        (_harden, "lib/link: another sha256, size, executable than in the manifest"),
        (_lead_away, "more: not in the manifest"),
    ],
)
def test_whatever_is_changed_is_named(
    made: Path, damage: Callable[[Path], None], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(made)
    assert integrity.check(made) == [problem]
    assert integrity.main([str(made)]) == 1
    assert capsys.readouterr().out == f"{problem}\n"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2, "files": {}}'])
def test_without_a_manifest_of_ours_one_line_says_so(
    made: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / integrity.MANIFEST_FILE).write_text(text)
    assert integrity.main([str(made)]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("uservlm-check: ") and told.err.count("\n") == 1


# -- the archive ----------------------------------------------------------------------------------


def test_an_archive_depends_on_the_files_alone(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "a.tar.xz"
    archive.pack(made, packed, name="thing", time=7)
    other = tmp_path / "elsewhere"
    for path in sorted(integrity.listed(made), reverse=True):
        (other / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made / path, other / path, follow_symlinks=False)
    (other / "lib/one.py").chmod(0o600)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    archive.pack(other, tmp_path / "b.tar.xz", name="thing", time=7)
    assert (tmp_path / "b.tar.xz").read_bytes() == packed.read_bytes()
    archive.pack(other, tmp_path / "b.tar.xz", name="thing", time=8)
    assert (tmp_path / "b.tar.xz").read_bytes() != packed.read_bytes()


@pytest.mark.parametrize("piece", [1000, 1 << 20])
def test_an_archive_unpacks_to_what_was_packed(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(archive, "PIECE", piece)
    (made / "large").write_bytes(os.urandom(30_000))
    archive.pack(made, tmp_path / "a.tar.xz", name="thing", time=7)
    with tarfile.open(tmp_path / "a.tar.xz") as tar:
        names = tar.getnames()
        assert {(one.uid, one.gid, one.uname, one.gname, one.mtime) for one in tar} == {
            (0, 0, "", "", 7)
        }
    # Who looks at an archive finds the manifest first.
    assert names == sorted(names) and names[0] == f"thing/{integrity.MANIFEST_FILE}"
    subprocess.run(["tar", "-xJf", "a.tar.xz"], cwd=tmp_path, check=True)
    assert integrity.check(tmp_path / "thing") == ["large: not in the manifest"]
    assert (tmp_path / "thing/large").read_bytes() == (made / "large").read_bytes()


def test_whoever_stops_packing_finds_nothing_half(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    (out := tmp_path / "out").mkdir()
    archive.pack(made, out / "a.tar.xz", name="thing", time=7)
    before = (out / "a.tar.xz").read_bytes()
    monkeypatch.setattr(archive, "_add", stopped)
    with pytest.raises(KeyboardInterrupt):
        archive.pack(made, out / "a.tar.xz", name="thing", time=8)
    assert [path.name for path in out.iterdir()] == ["a.tar.xz"]
    assert (out / "a.tar.xz").read_bytes() == before


def test_two_builds_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What all targets share is made in one place: our wheel, Debian's Python for this machine."""
    monkeypatch.setattr(runtime_image, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(runtime_image, "PATIENCE_S", 0.05)
    said: list[str] = []

    def build() -> None:
        monkeypatch.setattr(runtime_image, "debian_packages", lambda *_, **__: 1 / 0)
        runtime_image.build(TARGETS["aarch64"], tmp_path / "w.whl", tmp_path, said.append)

    with pytest.raises(ZeroDivisionError):
        build()
    said.clear()
    with locked(tmp_path / "cache"), pytest.raises(StoreError, match="held by another"):
        build()
    assert not said


# -- what goes in ---------------------------------------------------------------------------------


def test_a_wheel_gives_its_modules_and_not_its_tests(tmp_path: Path) -> None:
    wheel = tmp_path / "thing-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as opened:
        for name in (
            "thing/__init__.py",
            "thing/tests/test_thing.py",
            "thing/core.pyi",
            "thing-1.dist-info/METADATA",
            "thing-1.dist-info/RECORD",
            "thing-1.data/purelib/other.py",
            "thing-1.data/scripts/thing",
        ):
            opened.writestr(name, "")
    tree = Tree(tmp_path / "tree")
    tree.add_wheel(wheel, "w")
    assert set(tree.origins) == {
        f"{SITE}/{name}" for name in ("thing/__init__.py", "thing-1.dist-info/METADATA", "other.py")
    }
    assert set(tree.origins) == set(integrity.listed(tree.folder))
    with pytest.raises(ValueError, match=r"__init__\.py is in w and in v"):
        tree.add_wheel(wheel, "v")


def _loaded() -> dict[str, tuple[Path, str]]:
    """The libraries that this very process has open, which are whole and its own machine's."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    files = {Path(line.split(maxsplit=5)[-1]) for line in lines if ".so" in line}
    return {linked(file).name or file.name: (file, "here") for file in files if file.is_file()}


@on_linux
def test_libraries_come_with_what_they_need_in_turn(tmp_path: Path) -> None:
    there = _loaded()
    tree = Tree(tmp_path / "tree")
    tree.copy(Path(_mt19937.__file__), f"{SITE}/module.so", "w")
    runtime_tree.add_libraries(tree, there)
    needed = linked(Path(_mt19937.__file__)).needed
    assert LIBC in needed or "libm.so.6" in needed
    for path in tree.binaries():
        assert {f"lib/{name}" for name in linked(tree.folder / path).needed} <= set(tree.origins)
    lost = Tree(tmp_path / "lost")
    lost.copy(Path(_mt19937.__file__), f"{SITE}/module.so", "w")
    with pytest.raises(LookupError, match=rf"{needed[0]}, needed by {SITE}/module.so"):
        runtime_tree.add_libraries(lost, {})


@on_linux
def test_our_libc_opens_nothing_of_the_machine_s(tmp_path: Path) -> None:
    library = tmp_path / "library.so"
    library.write_bytes(closed(_loaded()[LIBC][0].read_bytes()))
    told = subprocess.run(["readelf", "-dW", library], capture_output=True, text=True, check=True)
    assert "NODEFLIB" in told.stdout
    assert linked(library) == linked(_loaded()[LIBC][0])
    with pytest.raises(ValueError, match="no room"):
        closed(library.read_bytes())


@on_linux
def test_what_is_no_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("\x7fELF and no more")
    with pytest.raises(ValueError, match="not a whole ELF file"):
        linked(tmp_path / "text")


def test_libraries_of_parts_that_are_left_out_go_too(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "tree")
    tree.copy(Path(_mt19937.__file__), f"{SITE}/thing.libs/libunused.so", "w")
    tree.copy(Path(_mt19937.__file__), f"{SITE}/thing/module.so", "w")
    runtime_tree.drop_unused(tree)
    assert set(integrity.listed(tree.folder)) == set(tree.origins) == {f"{SITE}/thing/module.so"}


@pytest.mark.parametrize("name", TARGETS)
def test_everything_a_target_needs_is_pinned_or_debian_s(name: str) -> None:
    target = TARGETS[name]
    pinned = python.pins(target)
    wanted = {"numpy", "pillow", "cryptography", "gguf", "fastapi", "uvicorn", "pydantic-core"}
    assert wanted <= pinned.keys()
    assert ("qi" in pinned) == (target.machine == "x86_64")
    assert set(target.from_debian) <= MODULES.keys()
    assert not set(target.from_debian) & python.LEFT_OUT.keys()


def test_our_own_extras_are_followed_and_no_other_s(tmp_path: Path) -> None:
    lines = "Requires-Dist: one\nRequires-Dist: two; extra == 'serve'\n"
    lines += "Requires-Dist: three; platform_machine not in 'i386 i586 i686'\n"
    for name in ("uservlm", "other"):
        with zipfile.ZipFile(tmp_path / f"{name}-1-py3-none-any.whl", "w") as opened:
            opened.writestr(f"{name}-1.dist-info/METADATA", f"Name: {name}\nVersion: 1\n{lines}\n")

    def needs(name: str, target: str) -> set[str]:
        environment = python._environment(TARGETS[target])
        return set(python._needs(tmp_path / f"{name}-1-py3-none-any.whl", environment))

    assert needs("uservlm", "x86_64") == {"one", "two", "three"}
    assert needs("uservlm", "pepper-i686") == {"one", "two"}
    assert needs("other", "aarch64") == {"one", "three"}


def test_a_wheel_that_is_not_whole_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name says nothing of what is in a file: a download may have been killed."""
    target, wheel = TARGETS["aarch64"], tmp_path / "thing-1-py3-none-any.whl"
    asked: list[str] = []
    left = b""

    def whole() -> bytes:
        with zipfile.ZipFile(wheel, "w") as opened:
            opened.writestr("thing.py", "answer = 42\n" * 99)
            opened.writestr("thing-1.dist-info/METADATA", "Name: thing\nVersion: 1\n\n")
        return wheel.read_bytes()

    def fetch(_: Path, *command: object, limit_s: float) -> str:
        assert not wheel.exists(), "pip leaves a file of that name as it is"
        asked.append(str(command[-1]))
        wheel.write_bytes(left)
        return ""

    monkeypatch.setattr(python, "run", fetch)
    left = whole()
    flipped = bytearray(left)
    flipped[left.index(b"answer")] ^= 1
    assert python._fetched(target, {"thing": "1"}, tmp_path) == {"thing": wheel} and not asked
    for damaged in (left[: len(left) // 2], bytes(flipped), b""):
        wheel.write_bytes(damaged)
        assert python._fetched(target, {"thing": "1"}, tmp_path) == {"thing": wheel}
        assert wheel.read_bytes() == left
    assert asked == ["thing==1"] * 3
    left, _ = left[:50], wheel.unlink()
    with pytest.raises(UnavailableError, match=r"thing-1-py3-none-any\.whl, which is damaged"):
        python._fetched(target, {"thing": "1"}, tmp_path)


# -- licences -------------------------------------------------------------------------------------


def test_licences_are_named_as_their_packages_name_them() -> None:
    text = (
        "License: MIT\n text\n\nLicense: GPL-2+ or Artistic\n\nLicense: MIT\nLicense: as is, but\n"
    )
    assert licences.debian_names("thing", text) == "MIT; GPL-2+ or Artistic"
    assert licences.debian_names("thing", "see /usr/share/common-licenses/GPL-2.") == "GPL-2"
    assert licences.debian_names("thing", "do as you like") == licences.UNNAMED
    assert licences.debian_names("python3-pil", "do as you like") == "HPND"
    for fields, name in (
        ({"License-Expression": "MIT AND BSD-3-Clause", "License": "x"}, "MIT AND BSD-3-Clause"),
        ({"License": "BSD"}, "BSD"),
        (
            {"License": "T" * 99, "Classifier": "License :: OSI Approved :: ISC License"},
            "ISC License",
        ),
        ({}, licences.UNNAMED),
    ):
        metadata = Message()
        for key, value in fields.items():
            metadata[key] = value
        assert licences.wheel_names(metadata) == name


def test_a_copyright_file_may_be_another_package_s(tmp_path: Path) -> None:
    for package in ("base", "one", "two"):
        (tmp_path / package / "usr/share/doc").mkdir(parents=True)
    (tmp_path / "base/usr/share/doc/base").mkdir()
    (tmp_path / "base/usr/share/doc/base/copyright").write_text("text")
    (tmp_path / "one/usr/share/doc/one").symlink_to("base")
    (tmp_path / "two/usr/share/doc/two").mkdir()
    (tmp_path / "two/usr/share/doc/two/copyright").symlink_to("../one/copyright")
    roots = {name: tmp_path / name for name in ("base", "one", "two")}
    found = {licences.copyright_file(name, roots) for name in roots}
    assert found == {tmp_path / "base/usr/share/doc/base/copyright"}


def test_a_record_of_an_archive_is_no_change_to_what_the_next_is_built_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    git = ("git", "-C", str(tmp_path), "-c", "user.name=me", "-c", "user.email=me@here")
    (tmp_path / "code.py").write_text("one")
    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "one")):
        subprocess.run([*git, *command], check=True)
    name = provenance.commit(tmp_path).name
    (tmp_path / "toolchain/proofs").mkdir(parents=True)
    (tmp_path / "toolchain/proofs/x86_64.json").write_text("{}")
    assert provenance.commit(tmp_path).name == name
    (tmp_path / "code.py").write_text("two")
    assert provenance.commit(tmp_path).name == f"{name}+changes"
