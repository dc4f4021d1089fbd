"""`bench/soak.py`: a short soak keeps every promise, and a broken one is seen."""

from __future__ import annotations

import json
import random
from datetime import datetime, timezone
from pathlib import Path

import pytest

from uservlm.bench.soak import Job, Soak, _one, _prepare, growth, main, result
from uservlm.bench.soak_asking import Asking, Put
from uservlm.bench.soak_people import (
    QUESTIONS,
    Pictures,
    Right,
    answers_of,
    draw_pictures,
    from_json,
    gap,
    to_json,
)
from uservlm.bench.soak_store import WAYS, Folder, Kept, written
from uservlm.runtime import UserVLM
from uservlm.runtime.keyfile import KEY_VARIABLE
from uservlm.runtime.profiles import Consent, Keeps, Profile
from uservlm.runtime.vault import Vault

FIT = "any encoder"
PEOPLE = ("person 00", "person 01", "person 02", "person 04")


def keep(vault: Vault, name: str, keeps: Keeps) -> None:
    now = datetime.now(timezone.utc)
    vault.keep(Profile(name, Consent(now, "drawn", keeps), now, now))
    if written(keeps).embedding:
        vault.write(name, "embedding", FIT, name.encode() * 50)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Everybody but the last has agreed, and has an embedding there."""
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    vault = Vault.open(tmp_path / "users")
    for name in PEOPLE[:3]:
        keep(vault, name, "embedding")
    return Folder(tmp_path / "users", PEOPLE)


def file(folder: Folder, name: str, kind: str) -> Path:
    owner = {one: owner for owner, one in folder.owners().items()}[name]
    return folder.path / f"{owner}.{kind}"


LEDGER = {name: Kept("embedding", True) for name in PEOPLE[:3]}


def test_a_short_soak_keeps_every_promise(
    pocket_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    few = ["--turns", "100", "--users", "4", "--residents", "1", "--seed", "3"]
    code = main([str(pocket_bundle), *few])
    said = capsys.readouterr().out
    line = json.loads(said.splitlines()[-1])
    assert code == 0 and line["kept"], said
    assert line["turns"] >= 100 and line["answer"] > 50
    assert line["kills"] and line["damaged"] and line["restores"] and line["cancelled"]
    assert line["wrong_user"] == line["mismatches"] == line["ties"] == 0


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return draw_pictures(2)


def test_somebody_elses_answer_is_seen(pocket_bundle: Path, pictures: Pictures) -> None:
    with UserVLM.load(pocket_bundle, threads=1, verify=False) as vlm:
        first, second = (answers_of(vlm, one) for one in pictures.values())
        assert from_json(to_json(first)) == first
        ada, eve = pictures
        for right, found in (({ada: first, eve: second}, 0), ({ada: second, eve: first}, 1)):
            asking = Asking(vlm, pictures, right, {}, "0")
            put = Put(ada, QUESTIONS[0], "auto", by_name=False)
            asking.judge(put, asking.come(put))
            asking.judge(put, asking.come(Put(ada, QUESTIONS[0], "auto", False, pieces=15)))
            assert asking.counts["wrong user"] == found
            assert len(asking.faults) == 2 * found
            unknown = Put(ada, QUESTIONS[0], "auto")
            asking.judge(unknown, asking.come(unknown))
            assert "UnknownUserError" in asking.faults[-1]


def test_a_tie_is_told_from_a_mistake() -> None:
    right = Right(("A", "A red", "A red hat", "A red hat"), (9.0, 0.01, 8.0, 7.0))
    assert gap("A red hat", right) is None
    assert gap("A blue hat", right) == 0.01
    assert gap("A red cap", right) == 8.0
    assert gap("A red hat and", right) == gap("A red hat!", right) == 7.0
    assert gap("A red", right) == 8.0, "it ended too early"
    assert gap("A red", right, whole=False) is None
    assert gap("A blue", right, whole=False) == 0.01


@pytest.mark.parametrize("way", WAYS)
def test_every_damage_is_refused(folder: Folder, way: str) -> None:
    first, second, _ = (file(folder, name, "embedding") for name in PEOPLE[:3])
    WAYS[way](first, second, random.Random(1))
    vault = Vault.open(folder.path)
    assert vault.read(PEOPLE[0], "embedding", FIT) is None
    assert [one.file for one in vault.refused] == [first.name]
    assert (vault.read(PEOPLE[1], "embedding", FIT) is None) == (way == "swap")
    assert vault.read(PEOPLE[2], "embedding", FIT) is not None


def test_the_ledger_follows_the_damage(folder: Folder) -> None:
    ledger = dict(LEDGER)
    for seed in range(30):
        ledger, ways = folder.damage(ledger, random.Random(seed), 2)
        assert ways
        vault = Vault.open(folder.path)
        found = {one.name: bool(vault.read(one.name, "embedding", FIT)) for one in vault.profiles()}
        assert found == {name: kept.embedding for name, kept in ledger.items()}
        assert {one.file for one in vault.refused} <= set(folder.damaged)
        for name in PEOPLE[:3]:
            keep(vault, name, "embedding")
        ledger, faults = folder.check(LEDGER, ())
        assert faults == [] and ledger == LEDGER and not folder.damaged


def test_what_should_not_be_is_found(folder: Folder) -> None:
    assert folder.check(LEDGER, ()) == (LEDGER, [])
    vault = Vault.open(folder.path)
    keep(vault, PEOPLE[3], "profile")
    assert "without consent" in folder.check(LEDGER, ())[1][0]
    vault.forget(PEOPLE[3])
    vault.forget(PEOPLE[0])
    assert "the store has None" in folder.check(LEDGER, ())[1][0]
    assert folder.check(LEDGER, PEOPLE[:1])[1] == [], "it was just being done"
    vault.drop(PEOPLE[1], "embedding")
    _, faults = folder.check({name: LEDGER[name] for name in PEOPLE[1:3]}, ())
    assert faults == [f"the embedding of {PEOPLE[1]} is gone"]
    file(folder, PEOPLE[2], "profile").write_bytes(b"")
    assert "nobody damaged it" in folder.check({}, PEOPLE)[1][0]


def test_growth_is_judged_by_medians() -> None:
    def samples(last: int, files: int = 9, turns: int = 900) -> list[dict[str, int]]:
        size = [100_000] * (turns // 20) + [last] * (turns // 20)
        return [
            {
                "turns": 10 * n,
                "anon_kb": kb,
                "peak_kb": kb,
                "files": files if n > 60 else 9,
                "threads": 4,
            }
            for n, kb in enumerate(size)
        ]

    def kept(memory: list[dict[str, int]]) -> bool:
        soak = Soak(Folder(Path("users"), PEOPLE), random.Random(0), memory=memory)
        return bool(result(soak, 1.0)["kept"])

    assert kept(samples(101_000)) and not kept(samples(103_000))
    assert not kept(samples(100_000, files=10))
    assert kept(samples(103_000, turns=500)) and not growth(samples(1, turns=500))["judged"]


def test_a_process_that_dies_by_itself_is_seen(pocket_bundle: Path, tmp_path: Path) -> None:
    right = _prepare(pocket_bundle, 1, tmp_path)
    soak = Soak(Folder(tmp_path / "users", PEOPLE[:1]), random.Random(0))
    (tmp_path / "users").write_text("no folder")
    assert _one(soak, Job(5), pocket_bundle, tmp_path, right, "0")
    assert "a process ended with 1" in soak.faults[0] and "StoreError" in soak.faults[0]
