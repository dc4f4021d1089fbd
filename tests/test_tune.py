"""`uservlm tune` on a tiny bundle: real processes, real llama.cpp; no time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from uservlm.runtime.bundle import Bundle, open_bundle
from uservlm.runtime.errors import EngineError
from uservlm.runtime.sample_model import FORMATS, write_sample
from uservlm.runtime.settings import DEFAULTS, SETTINGS_FILE, read_settings
from uservlm.runtime.tune import NOISE, Trial, Tuner, best, line, run_probe
from uservlm.runtime.tune_probe import Probe, Times

FAST, SLOW = Times(2, 1.0, 0.1, 0.01), Times(2, 2.0, 0.2, 0.02)


@pytest.fixture(scope="module")
def bundle(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("tune") / "bundle"
    folder.mkdir()
    for file in make_bundle().iterdir():
        (folder / file.name).symlink_to(file)
    return open_bundle(folder, verify=False)


def trial(idle: Times, busy: Times | None = None, quant: str = "q4_0") -> Trial:
    return Trial(quant, DEFAULTS, idle, busy)


def probe(model: Path, image_tokens: int) -> Probe:
    return Probe(str(model), {"threads": None}, image_tokens, (1, 2), 0, 1, 2)


def test_the_fastest_is_taken() -> None:
    assert best([trial(SLOW), trial(FAST)]).idle == FAST


def test_what_is_faster_by_noise_alone_does_not_replace_the_first() -> None:
    hardly = replace(FAST, question=FAST.question * (1 - NOISE / 10))
    assert best([trial(FAST, quant="first"), trial(hardly, quant="other")]).quant == "first"


def test_being_fast_only_while_nobody_else_computes_does_not_win() -> None:
    terrible = Times(2, 100.0, 10.0, 1.0)
    robust, brittle = trial(SLOW, SLOW, "robust"), trial(FAST, terrible, "brittle")
    assert best([brittle, robust]).quant == "robust"


def test_a_line_says_all_that_was_varied() -> None:
    text = line(replace(trial(FAST, SLOW), settings=replace(DEFAULTS, threads=7)))
    for part in ("q4_0", "repacked", "plain", "f16", "briefly", "7", "2.0x"):
        assert part in text


@pytest.mark.parametrize("quant", FORMATS)
def test_every_format_makes_a_model_that_llama_computes_with(
    bundle: Bundle, tmp_path: Path, quant: str
) -> None:
    sample = write_sample(tmp_path, bundle.manifest.architecture, quant)
    assert 0 < sample.share <= 1
    found = run_probe(probe(sample.path, bundle.manifest.architecture.image_tokens))
    assert [times.threads for times in found] == [1, 2]
    assert all(min(times.user, times.question, times.token) > 0 for times in found)


def test_a_trial_that_fails_says_which(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    with pytest.raises(EngineError, match="BundleError"):
        run_probe(probe(broken, 16))


def test_what_is_chosen_was_tried(bundle: Bundle, tmp_path: Path) -> None:
    found = Tuner(bundle, tmp_path, repeats=1, answer=2).find()
    own = bundle.manifest.precision.language
    assert found.settings in {one.settings for one in found.trials if one.quant == own}
    assert {one.quant for one in found.trials} >= {own, "q4_0", "q4_k_m", "q8_0"}
    assert {one.settings.waiting for one in found.trials} == {"sleep", "briefly", "spin"}
    assert {one.settings.kv for one in found.trials} == {"f16", "q8_0"}


def test_the_command_writes_what_the_next_load_reads(bundle: Bundle) -> None:
    command = [sys.executable, "-m", "uservlm.runtime", "tune", str(bundle.path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    settings = read_settings(bundle)
    assert told["settings"] == json.loads(json.dumps(settings.__dict__))
    assert (bundle.path / SETTINGS_FILE).is_file()
