"""Damaged bundles are refused by name; loading and importing leave no trace."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from uservlm.runtime import UserVLM
from uservlm.runtime.bundle import LANGUAGE_FILE
from uservlm.runtime.errors import (
    BundleError,
)
from uservlm.runtime.manifest import MANIFEST_FILE
from uservlm.runtime.vision_figures import VISION_FILES

VISION_FILE = VISION_FILES["onnx"]


def damage(copy: Path, name: str, data: bytes) -> None:
    """Replace a file and make the manifest agree, as if it had been exported like that."""
    from uservlm.runtime.bundle import record_file

    (copy / name).write_bytes(data)
    manifest = json.loads((copy / MANIFEST_FILE).read_text())
    record = record_file(copy / name)
    manifest["files"][name] = {"bytes": record.bytes, "sha256": record.sha256}
    (copy / MANIFEST_FILE).write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", [MANIFEST_FILE, VISION_FILE, LANGUAGE_FILE])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        UserVLM.load(copy)


@pytest.mark.parametrize("name", [VISION_FILE, LANGUAGE_FILE])
def test_a_changed_file_is_noticed(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError, match="SHA-256"):
        UserVLM.load(copy)
    (copy / name).write_bytes(data[:-1])
    with pytest.raises(BundleError, match="bytes"):
        UserVLM.load(copy, verify=False)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"format": 2}', "\xff"])
def test_a_damaged_manifest_is_refused(copy: Path, text: str) -> None:
    (copy / MANIFEST_FILE).write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=r"manifest\.json"):
        UserVLM.load(copy)


@pytest.mark.parametrize("data", [b"", b"GGUF", b"GGUF" + b"\xff" * 400, b"no" * 500])
@pytest.mark.parametrize("name", [VISION_FILE, LANGUAGE_FILE])
def test_garbage_that_the_manifest_vouches_for(copy: Path, name: str, data: bytes) -> None:
    damage(copy, name, data)
    with pytest.raises(BundleError, match=name):
        UserVLM.load(copy, threads=1)


def test_a_language_model_cut_anywhere_is_refused(copy: Path) -> None:
    """llama.cpp would abort the process for some of these."""
    whole = (copy / LANGUAGE_FILE).read_bytes()
    cuts = [*range(4, 4000, 311), *np.linspace(4000, len(whole) - 1, 12).astype(int)]
    for cut in cuts:
        damage(copy, LANGUAGE_FILE, whole[:cut])
        with pytest.raises(BundleError, match=LANGUAGE_FILE):
            UserVLM.load(copy, threads=1)


def test_parts_of_two_bundles_do_not_go_together(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST_FILE).read_text())
    for field, value in (("width", 512), ("layers", 9), ("vocabulary", 77), ("image_size", 56)):
        shape = {**manifest["architecture"], field: value}
        (copy / MANIFEST_FILE).write_text(json.dumps({**manifest, "architecture": shape}))
        with pytest.raises(BundleError):
            UserVLM.load(copy, threads=1, verify=False)


def test_llamas_log_goes_to_ours(vlm: UserVLM, tiny_bundle: Path, caplog: object) -> None:
    assert isinstance(caplog, pytest.LogCaptureFixture)
    with caplog.at_level(logging.INFO), UserVLM.load(tiny_bundle, threads=1, verify=False):
        pass
    names = {record.name for record in caplog.records}
    assert names <= {"uservlm.llama"}
    assert all(record.levelno >= logging.WARNING for record in caplog.records)


def test_importing_loads_nothing_heavy_and_writes_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, uservlm.runtime;"
        "print([m for m in ('torch', 'transformers', 'qi', 'onnxruntime', 'llama_cpp', 'gguf',"
        " 'cv2') if m in sys.modules])"
    )
    home = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=home, check=True
    )
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []


def test_answering_loads_no_torch_and_writes_one_note(tiny_bundle: Path, tmp_path: Path) -> None:
    """That the bundle was whole. onnxruntime's telemetry would leave files there too."""
    code = (
        "import sys, numpy, uservlm.runtime as r;"
        f"v = r.UserVLM.load({str(tiny_bundle)!r}, threads=1);"
        "v.ask('Who?', image=numpy.zeros((9, 9, 3), numpy.uint8), options=r.GenerationOptions(2));"
        "v.close();"
        "print([m for m in ('torch', 'transformers', 'qi', 'cv2') if m in sys.modules])"
    )
    env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**env, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)},
        cwd=tmp_path,
        check=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.parent for path in written] == [tmp_path / "uservlm" / "verified"]
