"""A bundle is hashed once, and again when a file was touched."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from uservlm.runtime import bundle as bundles
from uservlm.runtime import verified
from uservlm.runtime.bundle import LANGUAGE_FILE, open_bundle
from uservlm.runtime.errors import BundleError


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What is hashed from here on, by name; nothing was verified before."""
    names: list[str] = []
    plain = bundles.sha256

    def sha256(path: Path) -> str:
        names.append(path.name)
        return plain(path)

    monkeypatch.setattr(bundles, "sha256", sha256)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return names


def test_a_bundle_is_hashed_once(copy: Path, hashed: list[str]) -> None:
    open_bundle(copy, trust=True)
    assert LANGUAGE_FILE in hashed
    hashed.clear()
    open_bundle(copy, trust=True)
    assert not hashed
    open_bundle(copy)
    assert LANGUAGE_FILE in hashed, "who does not ask to trust gets every byte"


def test_a_touched_file_is_hashed_again(copy: Path, hashed: list[str]) -> None:
    open_bundle(copy, trust=True)
    file = copy / LANGUAGE_FILE
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as if nothing had happened
    with pytest.raises(BundleError, match="SHA-256"):
        open_bundle(copy, trust=True)
    data[-1] ^= 1
    file.write_bytes(data)
    hashed.clear()
    open_bundle(copy, trust=True)
    assert LANGUAGE_FILE in hashed


def test_another_folder_is_another_bundle(copy: Path, hashed: list[str], tmp_path: Path) -> None:
    open_bundle(copy, trust=True)
    hashed.clear()
    open_bundle(Path(shutil.copytree(copy, tmp_path / "other")), trust=True)
    assert LANGUAGE_FILE in hashed


def test_a_damaged_note_or_an_unwritable_cache_costs_time_only(
    copy: Path, hashed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_bundle(copy, trust=True)
    verified._place(copy).write_text("{")
    hashed.clear()
    open_bundle(copy, trust=True)
    assert LANGUAGE_FILE in hashed
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    open_bundle(copy, trust=True)
