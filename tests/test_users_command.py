"""`uservlm users`: what a shell sees of who is kept, and that forgetting is one command."""

from __future__ import annotations

import argparse
import json
import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from vault_people import ADA, FIT, GRACE, HOW, KEY, NOW, OLD, profile, store

from uservlm.runtime.errors import RequestError, StoreError, UnknownUserError
from uservlm.runtime.users_command import add_parser
from uservlm.runtime.vault import Vault


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("USERVLM_KEY", KEY.hex())
    monkeypatch.setenv("USERVLM_USERS", str(tmp_path / "users"))
    return tmp_path / "users"


def users(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers(required=True))
    options = parser.parse_args(["users", *arguments])
    options.run(options)


def test_list_is_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vault = store(folder)
    vault.keep(profile(GRACE, "profile", None))
    users("list")
    title, first, second = capsys.readouterr().out.splitlines()
    assert title.split() == ["name", "seen", "expires", "consent", "keeps", "bytes"]
    end = NOW + timedelta(days=365)
    assert first.startswith(ADA) and HOW in first and f"{end:%Y-%m-%d}" in first
    assert first.split()[-2:] == ["state", f"{sum(vault.sizes(ADA).values()):,}"]
    assert "never" in second and "profile" in second


def test_list_and_show_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vault = store(folder)
    users("list", "--json")
    ada, grace = map(json.loads, capsys.readouterr().out.splitlines())
    assert (ada["name"], grace["name"]) == (ADA, GRACE)
    assert ada["bytes"] == vault.sizes(ADA)
    assert datetime.fromisoformat(ada["expires"]) == profile().expires
    assert ada["consent"]["how"] == HOW and ada["consent"]["keeps"] == "state"
    users("show", ADA, "--json")
    assert json.loads(capsys.readouterr().out) == ada


def test_show_says_all_that_is_known(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vault = store(folder)
    users("show", ADA)
    text = capsys.readouterr().out
    for part in (ADA, HOW, "created", "seen", "expires", "consent keeps", "bytes of state"):
        assert part in text
    assert str(vault.sizes(ADA)["embedding"]) in text
    with pytest.raises(UnknownUserError, match=f"'Alan'.*known: {ADA}, {GRACE}"):
        users("show", "Alan")


def test_forget_erases_one_user(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vault = store(folder)
    users("forget", ADA)
    assert capsys.readouterr().out == f"forgotten: {ADA}\n"
    assert vault.read(ADA, "state", FIT) is None and len(os.listdir(folder)) == 4
    with pytest.raises(UnknownUserError):
        users("forget", ADA)
    users("forget", GRACE, "--json")
    assert json.loads(capsys.readouterr().out) == {"forgotten": [GRACE]}


def test_purge_names_who_went(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store(folder).keep(profile(days=30))
    users("purge")
    assert capsys.readouterr().out == "forgotten: nobody\n"
    monkeypatch.setattr("uservlm.runtime.vault._now", lambda: NOW + timedelta(days=31))
    users("purge")
    assert capsys.readouterr().out == f"forgotten: {ADA}\n"
    assert [one.name for one in Vault.open(folder).profiles()] == [GRACE]


def test_looking_makes_no_store(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    users("list")
    assert capsys.readouterr().out == f"nobody is kept in {folder}\n"
    users("list", "--json")
    users("purge", "--json")
    assert json.loads(capsys.readouterr().out) == {"forgotten": []}
    for command in ("show", "forget"):
        with pytest.raises(UnknownUserError, match="nobody"):
            users(command, ADA)
    assert not folder.exists()


def test_the_option_goes_before_the_environment(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(folder)
    users("list", "--users", str(tmp_path / "elsewhere"))
    assert "nobody" in capsys.readouterr().out


def test_damaged_files_are_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vault = store(folder)
    file = folder / f"{vault._shelf.keys.owner(ADA)}.profile"
    file.write_bytes(OLD)
    (folder / "check").unlink()  # a store nevertheless
    users("list", "--json")
    said = capsys.readouterr()
    assert json.loads(said.out)["name"] == GRACE
    assert file.name in said.err and ADA not in said.err


def test_a_name_cannot_steer_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Vault.open(folder).keep(profile("Eve\x1b[2J\nGrace"))
    users("list")
    users("forget", "Eve\x1b[2J\nGrace")
    assert "\x1b" not in (text := capsys.readouterr().out) and text.count("\n") == 3


def test_what_the_user_can_mend_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(folder)
    with pytest.raises(RequestError, match="blank"):
        users("show", " ")
    monkeypatch.setenv("USERVLM_KEY", "0" * 64)
    with pytest.raises(StoreError, match="the key is not the one"):
        users("list")
