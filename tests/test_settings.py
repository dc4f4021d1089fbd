"""A tuning file is used where it was made, and nowhere else."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from uservlm.runtime.bundle import Bundle, open_bundle
from uservlm.runtime.packing import has_order, suits_amx
from uservlm.runtime.settings import (
    DEFAULTS,
    SETTINGS_FILE,
    Settings,
    read_settings,
    write_settings,
)
from uservlm.runtime.weights import Weights

FOUND = Settings(threads=3, waiting="spin", flash_attention=True, kv="q8_0", repack=False)


@pytest.fixture
def bundle(own_bundle: Path) -> Bundle:
    return open_bundle(own_bundle, verify=False)


@pytest.fixture
def own_bundle(make_bundle: Callable[..., Path], tmp_path: Path) -> Path:
    """A bundle whose folder this test may write to."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for file in make_bundle().iterdir():
        (folder / file.name).symlink_to(file)
    return folder


def change(bundle: Bundle, edit: Callable[[dict[str, Any]], None]) -> None:
    file = bundle.path / SETTINGS_FILE
    record = json.loads(file.read_text(encoding="utf-8"))
    edit(record)
    file.write_text(json.dumps(record), encoding="utf-8")


def test_without_a_file_the_defaults_hold_in_silence(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_settings(bundle) == DEFAULTS
    assert not caplog.records


def test_what_was_written_here_is_read_here(bundle: Bundle) -> None:
    write_settings(bundle, FOUND, {"trials": []})
    assert read_settings(bundle) == FOUND


@pytest.mark.parametrize("name", ["processor", "cores", "llama", "language"])
def test_settings_of_another_place_are_left_aside_and_it_is_said_why(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    write_settings(bundle, FOUND, {})
    other = 512 if name == "cores" else "another"
    change(bundle, lambda record: record["place"].update({name: other}))
    with caplog.at_level(logging.WARNING, "uservlm.settings"):
        assert read_settings(bundle) == DEFAULTS
    (record,) = caplog.records
    assert name in record.message and "uservlm tune" in record.message


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda record: record.update(format=99), "99"),
        (lambda record: record["settings"].update(threads=0), "threads=0"),
        (lambda record: record["settings"].update(threads=10**9), "threads=1000000000"),
        (lambda record: record["settings"].update(waiting="sometimes"), "waiting"),
        (lambda record: record["settings"].update(flash_attention=False), "flash_attention"),
        (lambda record: record["settings"].update(unknown=1), "unknown"),
        (lambda record: record["settings"].update(repack="yes"), "repack"),
        (lambda record: record.pop("place"), "place"),
    ],
)
def test_a_damaged_file_changes_nothing_and_is_named(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, damage: Any, reason: str
) -> None:
    write_settings(bundle, FOUND, {})
    change(bundle, damage)
    with caplog.at_level(logging.WARNING, "uservlm.settings"):
        assert read_settings(bundle) == DEFAULTS
    assert reason in caplog.text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_file_that_is_no_record_changes_nothing(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (bundle.path / SETTINGS_FILE).write_bytes(content)
    assert read_settings(bundle) == DEFAULTS
    assert SETTINGS_FILE in caplog.text


def test_whatever_changes_a_kv_cell_changes_its_name() -> None:
    ways = {
        DEFAULTS.arithmetic,
        replace(DEFAULTS, flash_attention=True).arithmetic,
        FOUND.arithmetic,
        replace(DEFAULTS, repack=False).arithmetic,
    }
    assert len(ways) == 4
    assert replace(DEFAULTS, threads=7, waiting="spin").arithmetic == DEFAULTS.arithmetic


def test_reading_settings_does_not_load_llama(bundle: Bundle) -> None:
    """OpenMP reads how to wait while the library is loaded: afterwards is too late."""
    code = (
        "import sys\n"
        "from uservlm.runtime.bundle import open_bundle\n"
        "from uservlm.runtime.settings import read_settings, this_place\n"
        f"bundle = open_bundle({str(bundle.path)!r}, verify=False)\n"
        "read_settings(bundle), this_place(bundle)\n"
        "assert not any(name.startswith('llama_cpp') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_amx_gets_only_what_it_can_multiply(tiny_bundle: Path) -> None:
    """llama.cpp does not check an override: a wrong one would end the process."""
    tensors = Weights(tiny_bundle / "language.gguf").tensors
    assert suits_amx(tensors)
    name = "blk.0.ffn_up.weight"
    for change in ({"shape": (40, 256)}, {"shape": (512, 250)}, {"kind": 30}):
        assert not suits_amx({**tensors, name: replace(tensors[name], **change)})
    assert not suits_amx({})


@pytest.mark.parametrize(
    ("features", "ordered"),
    [
        (b"CPU : SSE3 = 1 | SSSE3 = 1 | LLAMAFILE = 1 | REPACK = 1 | ", False),
        (b"CPU : SSE3 = 1 | AVX = 1 | F16C = 1 | REPACK = 1 | ", False),
        (b"CPU : AVX = 1 | AVX2 = 1 | FMA = 1 | REPACK = 1 | ", True),
        (b"CPU : NEON = 1 | ARM_FMA = 1 | REPACK = 1 | ", False),
        (b"CPU : NEON = 1 | ARM_FMA = 1 | DOTPROD = 1 | REPACK = 1 | ", True),
    ],
)
def test_weights_are_only_reordered_where_ggml_has_an_order(features: bytes, ordered: bool) -> None:
    assert has_order(features) is ordered
