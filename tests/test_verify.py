"""`uservlm verify`: a bundle that still answers like its original, and one that does not."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from uservlm.converters.errors import CheckpointError, ParityError  # noqa: E402
from uservlm.converters.plan import (  # noqa: E402
    bundle_bytes,
    disk_need,
    effort,
    estimate,
    prefill_operations,
    vision_operations,
)
from uservlm.converters.progress import Steps  # noqa: E402
from uservlm.converters.proof import read_proof  # noqa: E402
from uservlm.converters.sources import Wanted  # noqa: E402
from uservlm.converters.verify import check_repeats, repeat  # noqa: E402
from uservlm.converters.verify_against import hold_against  # noqa: E402
from uservlm.runtime.__main__ import main  # noqa: E402
from uservlm.runtime.adapters import NO_ADAPTER  # noqa: E402
from uservlm.runtime.bundle import LANGUAGE_FILE, PROOF_FILE, open_bundle, record_file  # noqa: E402
from uservlm.runtime.errors import BundleError  # noqa: E402
from uservlm.runtime.manifest import MANIFEST_FILE  # noqa: E402
from uservlm.runtime.vision_figures import VISION_FILES  # noqa: E402

MakeBundle = Callable[..., Path]
MakeCheckpoint = Callable[..., Path]


def swap_file(bundle: Path, name: str, source: Path) -> None:
    """Put another file into a bundle and let the manifest list it as if it had always been."""
    shutil.copy(source, bundle / name)
    text = json.loads((bundle / MANIFEST_FILE).read_text())
    text["files"][name] = dataclasses.asdict(record_file(bundle / name))
    (bundle / MANIFEST_FILE).write_text(json.dumps(text))


def test_a_bundle_says_again_what_it_said(tiny_bundle: Path) -> None:
    (again,) = repeat(tiny_bundle)
    assert again.adapter == NO_ADAPTER and again.cases == again.recorded.cases
    assert again.same_answers == 1
    assert again.first_token_kl == pytest.approx(again.recorded.first_token_kl, abs=1e-4)
    assert again.vision_cosine > 0.9999
    check_repeats([again])


@pytest.mark.parametrize(
    ("file", "figure"), [(LANGUAGE_FILE, "first_token_kl"), (VISION_FILES["onnx"], "vision_cosine")]
)
def test_another_model_under_the_same_manifest_is_found_out(
    copy: Path, make_bundle: MakeBundle, make_checkpoint: MakeCheckpoint, tmp_path: Path,
    file: str, figure: str,
) -> None:  # fmt: skip
    from uservlm.converters.checkpoint import open_checkpoint
    from uservlm.converters.language_gguf import write_language
    from uservlm.converters.vision_onnx import export_vision

    other = open_checkpoint(make_checkpoint("square", seed=1))
    if file == LANGUAGE_FILE:
        write_language(other, tmp_path / "other", "f16")
    else:
        export_vision(other, tmp_path / "other")
    swap_file(copy, file, tmp_path / "other")
    with pytest.raises(ParityError, match=figure):
        check_repeats(repeat(copy))
    assert main(["verify", str(copy)]) == 2


def test_the_proof_is_small_and_holds_no_picture(tiny_bundle: Path) -> None:
    proof = read_proof(tiny_bundle)
    with np.load(tiny_bundle / PROOF_FILE) as arrays:
        assert set(arrays) == {"features", "limit", "none/first", "none/lengths", "none/answers"}
    assert proof.features.dtype == np.float16 and proof.features.shape[1] <= 256


def test_without_a_proof_the_way_out_is_named(copy: Path) -> None:
    text = json.loads((copy / MANIFEST_FILE).read_text())
    del text["files"][PROOF_FILE]
    (copy / MANIFEST_FILE).write_text(json.dumps(text))
    (copy / PROOF_FILE).unlink()
    with pytest.raises(BundleError, match="--reference"):
        repeat(copy)


def test_it_needs_nothing_that_converts(tiny_bundle: Path) -> None:
    """On a robot's machine there is no torch."""
    script = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'optimum', 'onnx', 'safetensors', 'peft'):\n"
        "    sys.modules[name] = None\n"
        "from uservlm.runtime.__main__ import main\n"
        "sys.exit(main(['verify', sys.argv[1], '--json']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny_bundle)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    assert record["same_answers"] == 1


def test_the_original_is_asked_with_other_cases(tiny_bundle: Path, tiny_checkpoint: Path) -> None:
    wanted = Wanted(tiny_checkpoint)
    found = hold_against(tiny_bundle, wanted, 6, Steps(quiet=True))
    parity, resident = found[NO_ADAPTER]
    assert (parity.cases, resident.cases) == (6, 6)
    assert parity.answer_kl < 1e-4


def test_new_figures_are_recorded_and_decide(copy: Path, tiny_checkpoint: Path) -> None:
    """Four cases say nothing about resident, sixteen do."""
    before = open_bundle(copy).manifest
    assert before.resident is not None and not before.resident.faithful
    command = ["verify", str(copy), "--reference", str(tiny_checkpoint), "--cases", "16"]
    assert main(command) == 0
    assert open_bundle(copy).manifest == before
    assert main([*command, "--record"]) == 0
    after = open_bundle(copy).manifest
    assert after.parity is not None and after.resident is not None
    assert (after.parity.cases, after.resident.cases) == (16, 16)
    assert after.resident.faithful == (
        min(after.resident.first_token_top1, after.resident.rouge1) >= after.resident.threshold
    )


def test_few_cases_do_not_overwrite_what_many_decided(
    copy: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (copy / MANIFEST_FILE).read_bytes()
    command = ["verify", str(copy), "--reference", str(tiny_checkpoint)]
    assert main([*command, "--record"]) == 2
    assert "--cases 16 or more" in capsys.readouterr().err
    assert main([*command, "--cases", "0"]) == 2 == main([*command, "--cases", "33"])
    assert "give 1 to 32" in capsys.readouterr().err
    assert main(["verify", str(copy), "--cases", "8"]) == 2
    assert "--reference" in capsys.readouterr().err
    assert (copy / MANIFEST_FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("change", "reference", "message"),
    [
        (lambda data: data["parity"].update(threshold={}), False, "lacks vision_cosine, answer_kl"),
        (lambda data: data.update(parity=None), False, "holds no parity"),
        (lambda data: data["precision"].update(language="q3"), True, "language is 'q3', not one"),
        (lambda data: data["precision"].update(vision="int4"), True, "vision is 'int4', not one"),
    ],
)
def test_a_manifest_changed_by_hand_is_refused_before_anything_is_asked(
    copy: Path,
    tiny_checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], object],
    reference: bool,
    message: str,
) -> None:
    data = json.loads((copy / MANIFEST_FILE).read_text())
    change(data)
    (copy / MANIFEST_FILE).write_text(json.dumps(data))
    more = ["--reference", str(tiny_checkpoint)] if reference else []
    assert main(["verify", str(copy), *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and "export the bundle again" in line


def test_a_proof_of_an_adapter_that_is_not_listed_is_refused(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(copy / PROOF_FILE) as arrays:
        more = {key.replace("none/", "fair/"): arrays[key] for key in arrays if "/" in key}
        np.savez(copy / PROOF_FILE, **{**dict(arrays), **more})
    swap_file(copy, PROOF_FILE, Path(shutil.copy(copy / PROOF_FILE, copy.parent / "proof")))
    assert main(["verify", str(copy)]) == 2
    assert "proof.npz is about an adapter 'fair'" in capsys.readouterr().err


def test_what_could_not_be_recorded_is_not_measured(
    tiny_bundle: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user = os.geteuid()
    with TemporaryDirectory() as place:
        closed = shutil.copytree(tiny_bundle, Path(place) / "bundle")
        Path(place).chmod(0o755)
        closed.chmod(0o555)
        command = ["verify", str(closed), "--reference", str(tiny_checkpoint), "--cases", "16"]
        try:
            if user == 0:
                os.seteuid(65534)
            assert main([*command, "--record"]) == 2
        finally:
            os.seteuid(user)
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{closed} may not be written" in line and "without --record" in line


def test_another_original_is_refused(tiny_bundle: Path, make_checkpoint: MakeCheckpoint) -> None:
    with pytest.raises(CheckpointError, match=r"another checkpoint .*square"):
        hold_against(tiny_bundle, Wanted(make_checkpoint("small")), 2, Steps(quiet=True))


def test_what_an_export_takes_follows_from_the_shape(make_checkpoint: MakeCheckpoint) -> None:
    from uservlm.converters.options import ExportOptions
    from uservlm.models.shapes import find

    small = find("paligemma2-3b-448")
    shape = small.architecture.shape(257216)
    options = ExportOptions("x", Path("y"))
    assert 1.9e9 < bundle_bytes(shape, "q4_k_m", "int8") < 2.4e9
    assert bundle_bytes(shape, "q4_k_m", "int8") < disk_need(shape, options) < 3e9
    assert effort(shape).cases < 16
    assert 0.9e12 < vision_operations(shape) < 1.1e12
    assert 4.2e12 < prefill_operations(shape, 1084) < 5e12
    steps = dict(estimate(shape, options))
    assert 200 < sum(steps.values()) < 600
    large = find("paligemma2-10b-448").architecture.shape(257216)
    assert sum(dict(estimate(large, options)).values()) > 3 * sum(steps.values())
