"""Damaged, foreign, moved and hostile files: refused, counted, removed, and nobody else harmed."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from vault_people import ADA, FIT, GRACE, KEPT, KEY, NEW, OLD, profile, store

from uservlm.runtime.sealing import OVERHEAD
from uservlm.runtime.vault import Vault

KINDS = ("profile", "embedding", "state")


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return store(tmp_path / "users")


def file_of(vault: Vault, name: str, kind: str) -> Path:
    return vault.folder / f"{vault._shelf.keys.owner(name)}.{kind}"


def look(vault: Vault, kind: str) -> object:
    return vault.profile(ADA) if kind == "profile" else vault.read(ADA, kind, FIT)  # type: ignore[arg-type]


def damaged(whole: bytes) -> list[bytes]:
    """Every bit of the head, some of the body, all lengths of some files."""
    flipped = []
    bits = [*range(88 * 8), *range(88 * 8, len(whole) * 8, 37), len(whole) * 8 - 1]
    for bit in bits:
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        flipped.append(bytes(changed))
    cut = [whole[:length] for length in [*range(0, len(whole), 13), len(whole) - 1]]
    return flipped + cut + [whole + b"\0", whole * 2, bytes(len(whole)), b"\xff" * len(whole)]


@pytest.mark.parametrize("kind", KINDS)
def test_any_changed_bit_or_length_is_refused(
    vault: Vault, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a thousand times, and not what is tested
    target = file_of(vault, ADA, kind)
    whole = {file: file.read_bytes() for file in vault.folder.iterdir()}
    assert look(vault, kind) is not None
    for wrong in damaged(whole[target]):
        target.unlink()  # a new file: some file systems write one that is cut short at once
        target.write_bytes(wrong)
        vault._shelf.refused.clear()
        assert look(vault, kind) is None
        assert [one.file for one in vault.refused] == [target.name]
        assert not target.exists(), "what is damaged does not pile up"
        assert vault.read(GRACE, "state", FIT) == KEPT
        for file, content in whole.items():
            if not file.exists():
                file.write_bytes(content)
    assert look(vault, kind) is not None and (kind == "profile" or look(vault, kind) == OLD)


def test_without_a_believable_profile_the_user_is_new(vault: Vault) -> None:
    target = file_of(vault, ADA, "profile")
    target.write_bytes(target.read_bytes()[:-1])
    again = Vault.open(vault.folder, KEY)
    assert len(again.refused) == 1 and again.refused[0].file == target.name
    assert [one.name for one in again.profiles()] == [GRACE]
    assert again.sizes(ADA) == {}, "their face without their consent"
    again.keep(profile())
    again.write(ADA, "state", FIT, NEW)
    assert again.read(ADA, "state", FIT) == NEW


def test_a_running_vault_lets_go_of_who_has_no_profile_too(vault: Vault) -> None:
    file_of(vault, ADA, "profile").write_bytes(b"")
    assert vault.profile(ADA) is None
    assert vault.sizes(ADA) == {} and vault.read(GRACE, "state", FIT) == KEPT


def test_files_that_were_moved_or_swapped_are_refused(vault: Vault, tmp_path: Path) -> None:
    def moved(source: Path, target: Path) -> None:
        content = source.read_bytes()
        before = target.read_bytes() if target.exists() else None
        vault._shelf.refused.clear()
        target.write_bytes(content)
        kind, _, slot = target.name.partition(".")[2].partition(".")
        name = "dogs" if slot else ""
        assert vault.read(ADA, kind, FIT, slot=name) is None  # type: ignore[arg-type]
        assert [one.file for one in vault.refused] == [target.name]
        if before is not None:
            target.write_bytes(before)

    vault.write(ADA, "state", FIT, NEW, slot="dogs")
    state, embedding = file_of(vault, ADA, "state"), file_of(vault, ADA, "embedding")
    slot = vault.folder / f"{state.name}.{vault._shelf.keys.slot('dogs')}"
    moved(file_of(vault, GRACE, "state"), state)
    moved(state, embedding)
    moved(state, slot)
    vault.write(ADA, "state", FIT, NEW, slot="dogs")
    moved(slot, state)
    foreign = Vault.open(tmp_path / "foreign", bytes(32))
    foreign.keep(profile())
    foreign.write(ADA, "state", FIT, OLD)
    moved(file_of(foreign, ADA, "state"), state)
    vault.write(ADA, "state", "another bundle", OLD)
    body = state.read_bytes()[76:]
    vault.write(ADA, "state", FIT, OLD)
    state.write_bytes(state.read_bytes()[:76] + body)
    assert vault.read(ADA, "state", FIT) is None, "a head with another body of its length"
    shutil.copy(file_of(vault, GRACE, "profile"), file_of(vault, ADA, "profile"))
    assert vault.profile(ADA) is None
    assert vault.profile(GRACE) is not None


def _folder(path: Path) -> None:
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "file").write_text("x")


def _huge(path: Path) -> None:
    with path.open("r+b" if path.exists() else "wb") as stream:
        stream.truncate(1 << 40)


def _socket(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as end:  # by way of a name that is short enough
            end.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


HOSTILE: dict[str, Callable[[Path], object]] = {
    "folder": _folder,
    "pipe": os.mkfifo,
    "link to the whole file": lambda path: path.symlink_to(path.with_suffix(".away")),
    "link to nowhere": lambda path: path.symlink_to("/nowhere/at/all"),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "socket": _socket,
    "empty": lambda path: path.touch(),
    "a terabyte": _huge,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_refused(vault: Vault, what: str, kind: str) -> None:
    target = file_of(vault, ADA, kind)
    target.rename(target.with_suffix(".away"))
    HOSTILE[what](target)
    assert look(vault, kind) is None
    assert len(vault.refused) == 1 and not os.path.lexists(target)
    HOSTILE[what](target)
    assert vault.sizes(ADA).keys() >= {kind}
    if kind != "profile":
        vault.write(ADA, kind, FIT, NEW)  # type: ignore[arg-type]
        assert look(vault, kind) == NEW, "it does not stand in the way of a good one"
        HOSTILE[what](target) if not target.exists() else None
    assert vault.forget(ADA)
    assert not os.path.lexists(target)
    assert vault.read(GRACE, "state", FIT) == KEPT


def test_a_true_file_made_longer_costs_no_memory(vault: Vault) -> None:
    target = file_of(vault, ADA, "state")
    _huge(target)
    assert vault.read(ADA, "state", FIT) is None
    assert f"instead of {len(OLD) + OVERHEAD}" in vault.refused[0].reason


def test_a_damaged_check_is_mended_when_somebody_opens(vault: Vault) -> None:
    check = vault.folder / "check"
    for wrong in (b"", b"uservlm2" + check.read_bytes()[8:], os.urandom(104)):
        check.write_bytes(wrong)
        again = Vault.open(vault.folder, KEY)
        assert [one.file for one in again.refused] == ["check"]
        assert again.read(ADA, "state", FIT) == OLD
        assert Vault.open(vault.folder, KEY).refused == ()


def test_other_peoples_files_in_the_folder_stay(vault: Vault) -> None:
    for name in ("README", "0" * 31 + ".state", ".hidden.partial", "0" * 32 + ".photo"):
        (vault.folder / name).write_text("mine")
    Vault.open(vault.folder, KEY).purge()
    assert (vault.folder / "README").exists() and (vault.folder / ".hidden.partial").exists()
    assert len(os.listdir(vault.folder)) == 1 + 6 + 4
