"""Killed at any moment, with a full disk, beside another process: everybody else is intact."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import vault_people
from vault_people import ADA, FIT, GRACE, KEPT, KEY, NEW, OLD, begin, child, profile, store

from uservlm.runtime.durable import is_partial, locked
from uservlm.runtime.errors import ConsentError, StoreError
from uservlm.runtime.vault import Vault


def intact(folder: Path) -> Vault:
    """Open a store after an accident: Grace is as she was, and nothing half is left."""
    vault = Vault.open(folder, KEY)
    for kind in ("embedding", "state"):
        assert vault.read(GRACE, kind, FIT) == KEPT
    assert GRACE in [one.name for one in vault.profiles()]
    assert vault.refused == (), "an accident leaves nothing damaged"
    assert not [file for file in os.listdir(folder) if is_partial(file)]
    return vault


def _either(vault: Vault) -> None:
    assert bytes(vault.read(ADA, "state", FIT) or b"") in (OLD, NEW)


def _less(vault: Vault) -> None:
    found = vault.profile(ADA)
    assert found is not None
    if found.consent.keeps == "profile":
        assert set(vault.sizes(ADA)) == {"profile"}
    else:
        assert vault.read(ADA, "state", FIT) == OLD


def _gone_or_whole(vault: Vault) -> None:
    if vault.profile(ADA) is None:
        assert vault.sizes(ADA) == {}
    else:
        assert vault.read(ADA, "state", FIT) == OLD


@pytest.mark.parametrize(
    ("action", "holds"), [("write_new", _either), ("keep_less", _less), ("forget", _gone_or_whole)]
)
def test_killed_before_any_step(
    tmp_path: Path, action: str, holds: Callable[[Vault], None]
) -> None:
    store(tmp_path / "whole")
    moments = 0
    while True:
        moments += 1
        folder = Path(shutil.copytree(tmp_path / "whole", tmp_path / str(moments)))
        end = child(vault_people.dies_at, moments, action, folder)
        holds(intact(folder))
        if end == 0:
            break
        assert end == -signal.SIGKILL
        if moments % 4 == 0:  # and it can be done again
            vault_people.ACTIONS[action](folder)
            holds(intact(folder))
    assert moments > 12


def test_killed_while_purging(tmp_path: Path) -> None:
    store(tmp_path / "whole")
    for moment in range(1, 100):
        folder = Path(shutil.copytree(tmp_path / "whole", tmp_path / str(moment)))
        end = child(vault_people.dies_at, moment, "purge", folder)
        vault = Vault.open(folder, KEY)
        for name, payload in ((ADA, OLD), (GRACE, KEPT)):
            if vault.profile(name) is None:
                assert vault.sizes(name) == {}
            else:
                assert vault.read(name, "state", FIT) == payload
        if end == 0:
            assert vault.profiles() == ()
            return
    pytest.fail("it never came to an end")


def test_killed_while_a_store_is_made(tmp_path: Path) -> None:
    for moment in range(1, 100):
        folder = tmp_path / str(moment) / "users"
        end = child(vault_people.dies_at, moment, "make", folder)
        vault = Vault.open(folder)
        vault.keep(profile())
        assert Vault.open(folder).profile(ADA) == profile()
        assert len(os.listdir(folder)) == 3, "a key, a check and a profile"
        if end == 0:
            return
    pytest.fail("it never came to an end")


def test_cut_at_any_byte(tmp_path: Path) -> None:
    """What a power cut may leave of a temporary file, whatever was written of it."""
    folder = tmp_path / "users"
    vault = store(folder)
    owner = vault._shelf.keys.owner(ADA)
    whole = (folder / f"{owner}.state").read_bytes()
    for length in range(0, len(whole), 31):
        (folder / f".{owner}.{length:016x}.partial").write_bytes(whole[:length])
        assert intact(folder).read(ADA, "state", FIT) == OLD


def test_killed_at_random(tmp_path: Path) -> None:
    folder = tmp_path / "users"
    store(folder).write(ADA, "state", FIT, NEW * 2000)
    draw = random.Random(4)
    for _ in range(12):
        ready = multiprocessing.get_context("forkserver").Event()
        process = begin(vault_people.writes_for_ever, folder, ready)
        assert ready.wait(60)
        time.sleep(draw.random() * 0.04)
        process.kill()
        process.join()
        assert intact(folder).read(ADA, "state", FIT) == NEW * 2000


def test_the_living_are_not_swept(tmp_path: Path) -> None:
    folder = tmp_path / "users"
    store(folder)
    ready = multiprocessing.get_context("forkserver").Event()
    process = begin(vault_people.writes_for_ever, folder, ready)
    try:
        assert ready.wait(60)
        for _ in range(60):
            Vault.open(folder, KEY).purge()
            assert process.is_alive(), "its file was taken away from it"
    finally:
        process.kill()
        process.join()


def test_processes_share_a_store(tmp_path: Path) -> None:
    folder = tmp_path / "users"
    store(folder)
    processes = [begin(vault_people.hammers, folder, seed) for seed in range(3)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    intact(folder)


def test_what_one_forgets_another_does_not_find(tmp_path: Path) -> None:
    vault = store(tmp_path / "users")
    assert vault.read(ADA, "state", FIT) == OLD
    assert child(vault_people.forget, tmp_path / "users") == 0
    assert vault.read(ADA, "state", FIT) is None and vault.profile(ADA) is None
    assert [one.name for one in vault.profiles()] == [GRACE]
    with pytest.raises(ConsentError):
        vault.write(ADA, "state", FIT, NEW)


def test_agreed_to_less_while_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, other = store(tmp_path / "users"), Vault.open(tmp_path / "users", KEY)
    sync = os.fsync

    def agrees_to_less(handle: int) -> None:
        monkeypatch.setattr(os, "fsync", sync)
        other.keep(profile(keeps="embedding"))

    monkeypatch.setattr(os, "fsync", agrees_to_less)
    with pytest.raises(ConsentError, match="they agreed to 'embedding'"):
        vault.write(ADA, "state", FIT, NEW)
    assert set(vault.sizes(ADA)) == {"profile", "embedding"}


@pytest.mark.parametrize("returns", [False, True])
def test_forgotten_while_being_written(
    tmp_path: Path, returns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, other = store(tmp_path / "users"), Vault.open(tmp_path / "users", KEY)
    sync = os.fsync

    def forgets(handle: int) -> None:
        monkeypatch.setattr(os, "fsync", sync)
        other.forget(ADA)
        if returns:
            other.keep(profile())
        sync(handle)

    monkeypatch.setattr(os, "fsync", forgets)
    with pytest.raises(ConsentError):
        vault.write(ADA, "state", FIT, NEW)
    assert set(vault.sizes(ADA)) == ({"profile"} if returns else set())
    owner = vault._shelf.keys.owner(ADA)
    left = [file for file in os.listdir(vault.folder) if owner in file]
    assert len(left) == returns


def test_the_disk_has_it_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, steps = store(tmp_path / "users"), []
    sync, rename = os.fsync, os.replace

    def synced(handle: int) -> None:
        steps.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        sync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", lambda old, new: (steps.append("name"), rename(old, new)))
    vault.write(ADA, "state", FIT, NEW)
    assert steps == ["file", "name", "folder"]
    steps.clear()
    vault.forget(ADA)
    assert steps == ["folder", "folder"], "the profile for certain, then the rest"


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    store(tmp_path / "users")
    assert child(vault_people.has_no_space, tmp_path / "users") == 0
    assert intact(tmp_path / "users").read(ADA, "state", FIT) == OLD


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A place that an ordinary user reaches; pytest's own is closed to them."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place) / "users"


def test_a_folder_turned_read_only_leaves_what_was_there(open_to_all: Path) -> None:
    store(open_to_all)
    assert child(vault_people.may_not_write, open_to_all) == 0


def test_a_stopped_process_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    vault = store(tmp_path / "users")
    ready = multiprocessing.get_context("forkserver").Event()
    process = begin(vault_people.holds_the_folder, vault.folder, ready)
    try:
        assert ready.wait(60)
        with pytest.raises(StoreError, match="held by another process for 0.1 s"):
            with locked(vault.folder, patience=0.1):
                pass
        assert vault.read(ADA, "state", FIT) == OLD, "reading waits for nobody"
    finally:
        process.kill()
        process.join()
