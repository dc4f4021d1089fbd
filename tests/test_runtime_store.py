"""Keeping people across restarts: which tier answers, and who may be written at all."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from asking import PICTURE, QUESTION, WARM

from uservlm.runtime import UserVLM
from uservlm.runtime.errors import PictureNeededError, RequestError, UnknownUserError
from uservlm.runtime.profiles import Consent, Keeps

OTHER = PICTURE[::-1].copy()


def open_(bundle: Path, users: Path | None, **more: object) -> UserVLM:
    return UserVLM.load(bundle, users=users, attention="resident", threads=1, verify=False, **more)  # type: ignore[arg-type]


def agreed(keeps: Keeps = "state", days: float | None = 30, ago: float = 0) -> Consent:
    given = datetime.now(timezone.utc) - timedelta(days=ago)
    return Consent(given, "said yes to the robot", keeps, days)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_without_consent_nothing_of_anybody_is_written(tiny_bundle: Path, tmp_path: Path) -> None:
    with open_(tiny_bundle, tmp_path / "users") as vlm:
        empty = files(tmp_path)
        vlm.users.keep("Ada", vlm.encode(PICTURE))
        vlm.ask(QUESTION, user="Ada", options=WARM)
        vlm.ask(QUESTION, image=OTHER, options=WARM)
        vlm._worker.call(vlm._prefiller.save)
        assert files(tmp_path) == empty
    assert files(tmp_path) == empty


def test_consent_without_a_folder_is_refused(vlm: UserVLM) -> None:
    with pytest.raises(RequestError, match="users=FOLDER"):
        vlm.users.keep("Ada", vlm.encode(PICTURE), agreed())
    assert "Ada" not in vlm.users.names


def test_a_known_user_is_restored_without_a_picture_or_a_prefill(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    with open_(tiny_bundle, tmp_path) as vlm:
        vlm.users.keep("Ada", vlm.encode(PICTURE), agreed())
        wanted = vlm.ask(QUESTION, user="Ada", options=WARM)
        logits = vlm.first_logits(QUESTION, user="Ada")
    with open_(tiny_bundle, tmp_path) as vlm:
        assert vlm.users.names == ("Ada",)
        again = vlm.ask(QUESTION, user="Ada", options=WARM)
        assert again.text == wanted.text
        assert (again.usage.resident, again.usage.vision_runs) == ("restored", 0)
        assert np.array_equal(vlm.first_logits(QUESTION, user="Ada"), logits)
        counters = vlm.counters
        assert (counters.resident_builds, counters.resident_restores) == (0, 1)


@pytest.mark.parametrize("change", ["context", "repack", "consent", "residents"])
def test_otherwise_the_embedding_is_used(
    tiny_bundle: Path, make_bundle: object, tmp_path: Path, change: str
) -> None:
    """Other settings, or a consent that does not cover the state: same person, a new block."""
    keeps: Keeps = "embedding" if change == "consent" else "state"
    with open_(tiny_bundle, tmp_path) as vlm:
        vlm.users.keep("Ada", vlm.encode(PICTURE), agreed(keeps))
        wanted = vlm.ask(QUESTION, user="Ada", options=WARM).text
    more = {
        "context": {"context": 1024},
        "repack": {"repack": False},
        "residents": {"memory_mb": 400},
    }.get(change, {})
    with open_(tiny_bundle, tmp_path, **more) as vlm:
        answer = vlm.ask(QUESTION, user="Ada", options=WARM)
        found = "restored" if change == "context" else "built"
        assert (answer.usage.resident, answer.usage.vision_runs) == (found, 0)
        assert change == "repack" or answer.text == wanted


def test_another_bundle_asks_for_a_picture(
    tiny_bundle: Path, make_bundle: object, tmp_path: Path
) -> None:
    with open_(tiny_bundle, tmp_path) as vlm:
        vlm.users.keep("Ada", vlm.encode(PICTURE), agreed())
        vlm.ask(QUESTION, user="Ada", options=WARM)
    other = make_bundle("square", "f16", "int8")  # type: ignore[operator]
    with open_(other, tmp_path) as vlm:
        assert vlm.users.names == ("Ada",)
        with pytest.raises(PictureNeededError, match="Ada.*give a picture"):
            vlm.ask(QUESTION, user="Ada")
        vlm.users.keep("Ada", vlm.encode(PICTURE))
        assert vlm.ask(QUESTION, user="Ada", options=WARM).text


def test_who_leaves_the_context_comes_back_from_disk(tiny_bundle: Path, tmp_path: Path) -> None:
    """Four people and room for three: nobody's block is computed twice."""
    pictures = {f"user {n}": np.roll(PICTURE, 7 * n, axis=1) for n in range(4)}
    with open_(tiny_bundle, tmp_path) as vlm:
        for name, picture in pictures.items():
            vlm.users.keep(name, vlm.encode(picture), agreed())
        wanted = {name: vlm.ask(QUESTION, user=name, options=WARM).text for name in pictures}
        for name in pictures:
            assert vlm.ask(QUESTION, user=name, options=WARM).text == wanted[name]
        assert vlm.counters.resident_builds == 4
        assert vlm.counters.resident_restores >= 1


def test_forgotten_means_everywhere(tiny_bundle: Path, tmp_path: Path) -> None:
    with open_(tiny_bundle, tmp_path) as vlm:
        empty = files(tmp_path)
        for name, picture in (("Ada", PICTURE), ("Bob", OTHER)):
            vlm.users.keep(name, vlm.encode(picture), agreed())
            vlm.ask(QUESTION, user=name, options=WARM)
        vlm._worker.call(vlm._prefiller.save)
        full = files(tmp_path)
        vlm.users.forget("Ada")
        left = files(tmp_path)
        assert len(full - left) == 3, "profile, embedding and state"
        with pytest.raises(UnknownUserError):
            vlm.ask(QUESTION, user="Ada")
        vlm.users.forget("Bob")
        assert files(tmp_path) == empty
    with open_(tiny_bundle, tmp_path) as vlm:
        assert vlm.users.names == ()


def test_forgotten_by_another_process_is_forgotten_here(tiny_bundle: Path, tmp_path: Path) -> None:
    with open_(tiny_bundle, tmp_path) as one, open_(tiny_bundle, tmp_path) as other:
        one.users.keep("Ada", one.encode(PICTURE), agreed())
        assert one.ask(QUESTION, user="Ada", options=WARM).text
        other.users.forget("Ada")
        with pytest.raises(UnknownUserError):
            one.ask(QUESTION, user="Ada", options=WARM)
        assert one._prefiller.residents == ()


def test_consent_runs_out(tiny_bundle: Path, tmp_path: Path) -> None:
    with open_(tiny_bundle, tmp_path) as vlm:
        vlm.users.keep("Ada", vlm.encode(PICTURE), agreed(days=1, ago=0.99999))
        assert vlm.users.profile("Ada") is not None
        vlm.users.keep("Bob", vlm.encode(OTHER), agreed(days=30))
        while vlm.users.profile("Ada") is not None:
            pass
        with pytest.raises(UnknownUserError):
            vlm.ask(QUESTION, user="Ada")
        assert vlm.users.names == ("Bob",)
