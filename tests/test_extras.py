"""Nobody is sent to pip where there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from uservlm.runtime.extras import CHECK, again, way_to
from uservlm.toolchain.launcher import PROGRAMS


def test_pip_has_it_but_not_in_a_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert way_to("bench") == "pip install 'uservlm[bench]'"
    assert CHECK.name in PROGRAMS
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert "pip" in way_to("bench") and "pip" in again("onnxruntime")
    (tmp_path / CHECK).parent.mkdir()
    (tmp_path / CHECK).touch()
    assert "pip" not in way_to("bench") and "uservlm[bench]" in way_to("bench")
    assert "install" not in again("onnxruntime") and str(tmp_path / CHECK) in again("onnxruntime")
