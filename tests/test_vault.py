"""What the vault keeps, for whom, until when; and that nobody else can read it."""

from __future__ import annotations

import base64
import os
import stat
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from vault_people import ADA, FIT, GRACE, HOW, KEPT, KEY, NEW, NOW, OLD, profile, store

from uservlm.runtime.errors import ConsentError, RequestError, StoreError
from uservlm.runtime.profiles import Consent, Keeps, Profile
from uservlm.runtime.vault import Vault, users_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("USERVLM_KEY", "USERVLM_USERS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "users"


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_written_is_read_by_the_next_process(folder: Path) -> None:
    store(folder)
    again = Vault.open(folder, KEY)
    assert [one.name for one in again.profiles()] == [ADA, GRACE]
    assert again.profile(ADA) == profile()
    assert again.read(ADA, "state", FIT) == OLD
    assert again.read(GRACE, "embedding", FIT) == KEPT
    assert again.read("Alan", "state", FIT) is None and again.profile("Alan") is None
    assert again.sizes(GRACE)["state"] > len(KEPT) and again.sizes("Alan") == {}
    assert again.refused == ()


def test_any_buffer_is_kept_and_none_is_copied(folder: Path) -> None:
    import numpy as np

    vault = store(folder)
    rows = np.arange(12, dtype=np.float16).reshape(3, 4)
    vault.write(ADA, "embedding", FIT, rows.data)
    assert vault.read(ADA, "embedding", FIT) == rows.tobytes()
    vault.write(ADA, "embedding", FIT, b"")
    assert vault.read(ADA, "embedding", FIT) == b""
    large = os.urandom(1 << 20) * 32 + b"odd"
    tracemalloc.start()
    vault.write(ADA, "state", FIT, large)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.reset_peak()
    found = vault.read(ADA, "state", FIT)
    assert tracemalloc.get_traced_memory()[1] < len(large) + (4 << 20)
    tracemalloc.stop()
    assert found == large and isinstance(found, bytearray)


def test_a_state_fits_one_bundle_and_one_slot(folder: Path) -> None:
    vault = store(folder)
    vault.write(ADA, "state", FIT, NEW, slot="dog owners")
    assert vault.read(ADA, "state", FIT) == OLD
    assert vault.read(ADA, "state", FIT, slot="dog owners") == NEW
    assert vault.read(ADA, "state", FIT, slot="cats") is None
    assert vault.read(ADA, "state", "another bundle") is None
    vault.write(ADA, "state", "another bundle", NEW)
    assert vault.read(ADA, "state", FIT) is None, "the newer fit replaces the older"
    assert vault.read(ADA, "state", "another bundle") == NEW
    assert vault.drop(ADA, "state", slot="dog owners")
    assert not vault.drop(ADA, "state", slot="dog owners")
    assert vault.read(ADA, "state", FIT, slot="dog owners") is None
    assert vault.refused == ()


def test_nothing_is_written_without_consent_to_it(folder: Path) -> None:
    vault = Vault.open(folder, KEY)
    before = sorted(os.listdir(folder))
    with pytest.raises(ConsentError, match="there is none"):
        vault.write(ADA, "embedding", FIT, OLD)
    assert sorted(os.listdir(folder)) == before
    levels: tuple[Keeps, ...] = ("profile", "embedding", "state")
    for count, keeps in enumerate(levels):
        vault.keep(profile(keeps=keeps))
        for kind in ("embedding", "state"):
            if levels.index(kind) <= count:
                vault.write(ADA, kind, FIT, OLD)
            else:
                with pytest.raises(ConsentError, match=f"they agreed to '{keeps}'"):
                    vault.write(ADA, kind, FIT, OLD)
    assert set(vault.sizes(ADA)) == set(levels)


def test_without_consent_no_byte_leaves_the_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = Vault.open(folder, KEY)
    vault.keep(profile(keeps="profile"))
    monkeypatch.setattr(os, "write", lambda *_: pytest.fail("written before it was asked"))
    for name in (ADA, GRACE):
        with pytest.raises(ConsentError):
            vault.write(name, "embedding", FIT, OLD)


def test_consent_to_less_removes_what_is_more(folder: Path) -> None:
    vault = store(folder)
    vault.write(ADA, "state", FIT, NEW, slot="dogs")
    state = folder / f"{vault._shelf.keys.owner(ADA)}.state"
    content = state.read_bytes()
    vault.keep(profile(keeps="embedding"))
    assert set(vault.sizes(ADA)) == {"profile", "embedding"}
    state.write_bytes(content)
    assert vault.read(ADA, "state", FIT) is None, "put back from a copy"
    vault.keep(profile(keeps="profile"))
    assert set(vault.sizes(ADA)) == {"profile"}
    assert vault.read(GRACE, "state", FIT) == KEPT


def test_who_has_expired_is_purged_on_sight(folder: Path) -> None:
    vault = store(folder)
    files = len(os.listdir(folder))
    vault.purge(NOW + timedelta(days=364))
    assert len(os.listdir(folder)) == files
    assert vault.purge(NOW + timedelta(days=365)) == (ADA, GRACE)
    assert os.listdir(folder) == ["check"]
    with pytest.raises(ConsentError, match="ran out"):
        vault.keep(profile(days=2, ago=2))
    vault.keep(profile(days=None, ago=9999))
    assert vault.purge(NOW + timedelta(days=9999)) == ()
    with pytest.raises(RequestError, match="zone"):
        vault.purge(datetime.now())


@pytest.mark.parametrize("look", ["profiles", "profile", "read", "open", "write", "touch"])
def test_every_way_of_looking_sees_the_expiry(
    folder: Path, look: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = store(folder)
    vault.keep(profile(days=30))
    later = NOW + timedelta(days=31)
    monkeypatch.setattr("uservlm.runtime.vault._now", lambda: later)
    if look == "profiles":
        assert [one.name for one in vault.profiles()] == [GRACE]
    elif look == "profile":
        assert vault.profile(ADA) is None
    elif look == "read":
        assert vault.read(ADA, "state", FIT) is None
    elif look == "open":
        Vault.open(folder, KEY)
    elif look == "write":
        with pytest.raises(ConsentError):
            vault.write(ADA, "state", FIT, NEW)
    else:
        assert vault.touch(ADA) is None
    left = 0 if look in ("profiles", "profile", "read", "open") else 3
    assert len(vault.sizes(ADA)) == left
    assert vault.read(GRACE, "state", FIT) == KEPT


def test_forgetting_leaves_nothing(folder: Path) -> None:
    vault = store(folder)
    vault.write(ADA, "state", FIT, NEW, slot="dogs")
    owner = vault._shelf.keys.owner(ADA)
    (folder / f"{owner}.state.bak").write_bytes(b"a copy somebody made")
    (folder / f".{owner}.0123456789abcdef.partial").write_bytes(b"a file on its way")
    assert vault.forget(ADA)
    assert not [file for file in os.listdir(folder) if owner in file]
    assert not vault.forget(ADA)
    assert vault.profile(ADA) is None and vault.read(ADA, "state", FIT) is None
    with pytest.raises(ConsentError):
        vault.write(ADA, "state", FIT, NEW)
    assert vault.touch(ADA) is None, "touching brings nobody back"
    assert vault.read(GRACE, "state", FIT) == KEPT


def test_a_name_used_again_finds_nothing_of_before(folder: Path) -> None:
    vault = store(folder)
    (folder / f"{vault._shelf.keys.owner(ADA)}.profile").unlink()
    vault.keep(profile())
    assert vault.read(ADA, "state", FIT) is None and set(vault.sizes(ADA)) == {"profile"}


def test_files_without_a_profile_go_when_the_store_is_opened(folder: Path) -> None:
    vault = store(folder)
    (folder / f"{vault._shelf.keys.owner(ADA)}.profile").unlink()
    again = Vault.open(folder, KEY)
    assert again.sizes(ADA) == {} and again.read(GRACE, "state", FIT) == KEPT


def test_no_file_holds_a_name_or_a_payload(folder: Path) -> None:
    vault = Vault.open(folder)  # with the key file
    vault.keep(profile())
    vault.touch(ADA)
    for kind in ("embedding", "state"):
        vault.write(ADA, kind, FIT, OLD, slot="dog owners")
    files = list(folder.iterdir())
    assert len(files) == 5
    needles = [ADA, ADA[:12], HOW, HOW[:12], OLD[:12].decode(), FIT, "dog owners", "consent"]
    for file in files:
        content = file.read_bytes() + file.name.encode()
        for needle in needles:
            assert needle.encode() not in content
            assert needle.encode("utf-16-le") not in content
    first = vault._shelf.folder / f"{vault._shelf.keys.owner(ADA)}.profile"
    before = first.read_bytes()
    vault.keep(profile())
    assert before[8:20] != first.read_bytes()[8:20], "a nonce is used once"


def test_nobody_else_may_look(tmp_path: Path, umask: None) -> None:
    folder = tmp_path / "deep" / "users"
    vault = Vault.open(folder)
    vault.keep(profile())
    vault.write(ADA, "state", FIT, OLD)
    assert mode(folder) == 0o700
    assert {mode(file) for file in folder.iterdir()} == {0o600}
    os.umask(0o777)
    vault.write(ADA, "embedding", FIT, OLD)
    os.umask(0)
    assert vault.read(ADA, "embedding", FIT) == OLD
    assert {mode(file) for file in folder.iterdir()} == {0o600}
    folder.chmod(0o755)
    Vault.open(folder)
    assert mode(folder) == 0o700


def test_the_key_comes_from_the_caller_the_environment_or_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(folder)
    assert not (folder / "key").exists()
    for text in (KEY.hex(), base64.b64encode(KEY).decode(), base64.urlsafe_b64encode(KEY).decode()):
        monkeypatch.setenv("USERVLM_KEY", f" {text}\n")
        assert Vault.open(folder).read(ADA, "state", FIT) == OLD
    monkeypatch.setenv("USERVLM_KEY", "not a key")
    with pytest.raises(StoreError, match="USERVLM_KEY is no key") as caught:
        Vault.open(folder)
    assert "not a key" not in str(caught.value)
    monkeypatch.delenv("USERVLM_KEY")
    with pytest.raises(StoreError, match="key is gone"):
        Vault.open(folder)
    with pytest.raises(StoreError, match="32 bytes"):
        Vault.open(folder, KEY[:31])
    (folder / "key").write_text(KEY.hex())
    (folder / "key").chmod(0o640)
    with pytest.raises(StoreError, match="chmod 600"):
        Vault.open(folder)
    (folder / "key").chmod(0o600)
    assert Vault.open(folder).read(ADA, "state", FIT) == OLD
    (folder / "key").write_text("")
    with pytest.raises(StoreError, match="is no key"):
        Vault.open(folder)


def test_every_new_store_has_a_key_of_its_own(tmp_path: Path) -> None:
    keys = set()
    for name in ("one", "two"):
        Vault.open(tmp_path / name)
        keys.add((tmp_path / name / "key").read_text())
    assert len(keys) == 2 and all(len(base64.b64decode(key)) == 32 for key in keys)


def test_a_wrong_key_is_one_error_and_destroys_nothing(folder: Path) -> None:
    vault = store(folder)
    before = {file: (folder / file).read_bytes() for file in os.listdir(folder)}
    for damage in ("", "check gone", "check damaged"):
        if damage == "check gone":
            (folder / "check").unlink()
        elif damage == "check damaged":
            (folder / "check").write_bytes(b"uservlm1" + bytes(96))
        found = {file: (folder / file).read_bytes() for file in os.listdir(folder)}
        with pytest.raises(StoreError, match="the key is not the one"):
            Vault.open(folder, bytes(32))
        assert {file: (folder / file).read_bytes() for file in os.listdir(folder)} == found
        again = Vault.open(folder, KEY)
        assert again.read(ADA, "state", FIT) == OLD
        assert len(again.refused) == (damage == "check damaged")
    assert set(os.listdir(folder)) == set(before)
    vault.forget(ADA)
    vault.forget(GRACE)
    with pytest.raises(StoreError, match="the key is not the one"):
        Vault.open(folder, bytes(32))


def test_a_folder_exchanged_under_a_running_vault_is_left_alone(tmp_path: Path) -> None:
    vault = store(tmp_path / "users")
    Vault.open(tmp_path / "other", bytes(32)).keep(profile())
    (tmp_path / "users").rename(tmp_path / "away")
    for call in (vault.profiles, vault.purge, lambda: vault.keep(profile())):
        with pytest.raises(StoreError, match="No such file"):
            call()
    (tmp_path / "other").rename(tmp_path / "users")
    owner = Vault.open(tmp_path / "users", bytes(32))._shelf.keys.owner(ADA)
    for look in (vault.profiles, vault.purge):
        with pytest.raises(StoreError, match="exchanged"):
            look()
    assert (tmp_path / "users" / f"{owner}.profile").exists()


def test_a_folder_with_other_things_is_left_alone(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match="other things"):
        Vault.open(folder)
    assert os.listdir(folder) == ["thesis.tex"] and mode(folder) == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_somebody_else_is_left_alone(folder: Path) -> None:
    store(folder)
    os.chown(folder, 65534, 65534)
    with pytest.raises(StoreError, match="owner"):
        Vault.open(folder, KEY)


def test_a_consent_must_make_sense() -> None:
    good = Consent(NOW, HOW, "state")
    for wrong in (
        {"given": datetime(2026, 1, 1)},
        {"how": " "},
        {"keeps": "everything"},
        {"days": 0},
        {"days": float("nan")},
        {"days": 1e6},
    ):
        with pytest.raises(RequestError):
            replace(good, **wrong)
    for wrong in ({"name": " "}, {"name": "x" * 1025}, {"seen": datetime(2026, 1, 1)}):
        with pytest.raises(RequestError):
            replace(profile(), **wrong)


def test_a_consent_runs_out_to_the_moment_in_any_zone() -> None:
    local = datetime(2026, 3, 28, 12, tzinfo=timezone(timedelta(hours=5)))
    one = Profile("Ada", Consent(local, HOW, "state", days=1.5), local, local)
    end = datetime(2026, 3, 29, 19, tzinfo=timezone.utc)
    assert one.expires == end and one.expired(end)
    assert not one.expired(end - timedelta(microseconds=1))
    assert replace(one, consent=replace(one.consent, days=None)).expires is None


def test_odd_names_are_names(folder: Path) -> None:
    vault = Vault.open(folder, KEY)
    names = ["../../etc/passwd", "Ada\0", "Ada", "ada", "\udcff", "李", "a" * 1000]
    for name in names:
        vault.keep(profile(name))
        vault.write(name, "embedding", FIT, name.encode("utf-8", "replace"), slot="../x")
    assert sorted(one.name for one in Vault.open(folder, KEY).profiles()) == sorted(names)
    for name in names:
        assert vault.read(name, "embedding", FIT, slot="../x") == name.encode("utf-8", "replace")


def test_users_are_kept_where_the_caller_or_the_environment_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert users_folder().name == "users" and "uservlm" in str(users_folder())
    monkeypatch.setenv("USERVLM_USERS", str(folder))
    assert users_folder() == folder
    assert users_folder("elsewhere") == Path("elsewhere")
