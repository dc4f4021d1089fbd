"""The export: graph and weights equal the checkpoint's, a bundle appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("llama_cpp")

from gguf import GGUFReader, dequantize  # noqa: E402

from uservlm.converters import pipeline  # noqa: E402
from uservlm.converters.checkpoint import open_checkpoint  # noqa: E402
from uservlm.converters.errors import ConversionError, OutputError, ParityError  # noqa: E402
from uservlm.converters.language_gguf import query_factor, tensors, write_language  # noqa: E402
from uservlm.converters.parity import check, kl_divergence, rouge1, thresholds  # noqa: E402
from uservlm.converters.pipeline import ExportOptions, export  # noqa: E402
from uservlm.converters.progress import Steps  # noqa: E402
from uservlm.converters.quantise import quantise  # noqa: E402
from uservlm.converters.vision_onnx import (  # noqa: E402
    export_vision,
    mean_token_cosine,
    open_vision,
    run_vision,
    shrink_vision,
    vision_module,
)
from uservlm.runtime.bundle import LANGUAGE_FILE, Parity, Precision, Prompt, open_bundle  # noqa: E402

MakeCheckpoint = Callable[..., Path]
MakeBundle = Callable[..., Path]
SHAPES = ("square", "small", "narrow_heads", "scaled_queries", "uncapped")
ROOT = Path(__file__).parent.parent


def options(model: Path, out: Path, **more: Any) -> ExportOptions:
    return ExportOptions(model, out, **{"quant": "f16", "vision": "fp32", "cases": 2, **more})


def pixels(size: int, count: int = 2) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(1).uniform(-1, 1, (count, 3, size, size)).astype(np.float32)


# Vision


@pytest.mark.parametrize("shape", ["square", "small"])
def test_the_graph_computes_what_torch_does(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, shape: str
) -> None:
    checkpoint = open_checkpoint(make_checkpoint(shape))
    assert export_vision(checkpoint, tmp_path / "vision.onnx") == [tmp_path / "vision.onnx"]
    session = open_vision(tmp_path / "vision.onnx")
    size, tokens = checkpoint.shape.image_size, checkpoint.shape.image_tokens
    assert session.get_inputs()[0].shape == ["batch", 3, size, size]
    assert session.get_outputs()[0].shape == ["batch", tokens, checkpoint.shape.width]
    with torch.no_grad():
        wanted = vision_module(checkpoint)(torch.from_numpy(pixels(size))).numpy()
    found = run_vision(session, pixels(size))
    assert np.abs(found - wanted).max() < 1e-4 < wanted.std()
    shrink_vision(tmp_path / "vision.onnx", tmp_path / "int8.onnx")
    cosine = mean_token_cosine(
        wanted, run_vision(open_vision(tmp_path / "int8.onnx"), pixels(size))
    )
    assert 0.99 < cosine < 0.99999
    assert (tmp_path / "int8.onnx").stat().st_size < (tmp_path / "vision.onnx").stat().st_size


def test_a_rough_int8_graph_is_not_taken_and_that_is_said(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(Steps, "warn", lambda self, line: said.append(line))
    monkeypatch.setattr(pipeline, "lowest_cosine", lambda *_: 0.9)
    bundle = export(options(make_checkpoint("small"), tmp_path / "b", vision="int8"))
    assert "0.9000" in said[0]
    assert open_bundle(bundle).manifest.precision == Precision("f16", "fp32")
    assert not list(bundle.glob("*int8*"))


# Language


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("half", [True, False])
def test_the_gguf_holds_the_checkpoints_values(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, shape: str, half: bool
) -> None:
    checkpoint = open_checkpoint(make_checkpoint(shape))
    write_language(checkpoint, tmp_path / "model.gguf", half=half)
    stored = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "model.gguf").tensors}
    entries = list(tensors(checkpoint.shape))
    assert set(stored) == {entry.target for entry in entries}
    language = {name for name in checkpoint.places if name.startswith("language_model.")}
    assert {entry.source for entry in entries} == language
    text = checkpoint.config.text_config
    scale = np.sqrt(text.head_dim / text.query_pre_attn_scalar)
    for entry in entries:
        found = dequantize(stored[entry.target].data, stored[entry.target].tensor_type)
        wanted = checkpoint.read(entry.source).numpy()
        if entry.source.endswith("norm.weight"):
            wanted = wanted + 1
        if "q_proj" in entry.source:
            wanted = wanted * scale
        tolerance = 1e-3 if half else 1e-6
        np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=tolerance, atol=1e-6)


def test_the_27b_has_its_own_query_scale(make_checkpoint: MakeCheckpoint) -> None:
    """llama.cpp knows it by its 46 layers and divides by √(width / heads) = √144, as it should."""
    from dataclasses import replace

    shape = open_checkpoint(make_checkpoint("small")).shape
    big = replace(shape, layers=46, width=4608, heads=32, head_dim=128)
    assert query_factor(big, 144) == 1
    assert query_factor(replace(big, layers=42), 144) == pytest.approx((128 / 144) ** 0.5)


def test_a_value_beyond_float16_stops_with_the_tensors_name(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(make_checkpoint("small"), tmp_path / "small")
    stored = load_file(folder / "model.safetensors")
    key = next(key for key in stored if key.endswith("layers.1.mlp.up_proj.weight"))
    stored[key][0, 0] = 1e5
    save_file(stored, folder / "model.safetensors")
    with pytest.raises(ConversionError, match=r"layers\.1\.mlp\.up_proj\.weight .*float16"):
        export(options(folder, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kind", "error"), [("q8_0", 0.01), ("q4_0", 0.13), ("q4_k_m", 0.1)])
@pytest.mark.parametrize("shape", ["square", "narrow_heads"])
def test_quantised_values_stay_near(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, kind: str, error: float, shape: str
) -> None:
    checkpoint = open_checkpoint(make_checkpoint(shape))
    write_language(checkpoint, tmp_path / "f16.gguf")
    quantise(tmp_path / "f16.gguf", tmp_path / "small.gguf", kind, threads=1)
    whole = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "f16.gguf").tensors}
    small = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "small.gguf").tensors}
    assert set(whole) == set(small)
    for name, tensor in small.items():
        values = dequantize(whole[name].data, whole[name].tensor_type)
        found = dequantize(tensor.data, tensor.tensor_type)
        assert np.linalg.norm(found - values) < error * np.linalg.norm(values), name
    assert (tmp_path / "small.gguf").stat().st_size < (tmp_path / "f16.gguf").stat().st_size * 0.62


def test_what_cannot_be_quantised_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"not a model")
    with pytest.raises(ConversionError, match="could not quantise to q4_0.*failed to quantize"):
        quantise(tmp_path / "bad.gguf", tmp_path / "out.gguf", "q4_0")


# The whole


@pytest.mark.parametrize("shape", SHAPES)
def test_a_bundle_answers_as_its_checkpoint(make_bundle: MakeBundle, shape: str) -> None:
    """Weights rounded to f16 and a f16 KV cache are all that may differ."""
    bundle = open_bundle(make_bundle(shape))
    parity = bundle.manifest.parity
    assert parity is not None
    assert parity.vision_cosine > 0.99999
    assert parity.first_token_kl < 1e-4
    assert parity.first_token_top1 == 1
    assert bundle.manifest.resident is not None


def test_the_manifest_describes_the_checkpoint(tiny_bundle: Path, tiny_checkpoint: Path) -> None:
    manifest = open_bundle(tiny_bundle).manifest
    config = json.loads((tiny_checkpoint / "config.json").read_text())
    text = config["text_config"]
    assert manifest.architecture.width == text["hidden_size"]
    assert manifest.architecture.vocabulary == text["vocab_size"]
    assert manifest.architecture.image_tokens == 64
    assert manifest.source.model == tiny_checkpoint.name
    assert set(manifest.files) == {p.name for p in tiny_bundle.iterdir()} - {"manifest.json"}
    assert str(tiny_checkpoint) not in manifest.to_json()


def test_an_export_is_not_repeated_until_something_changes(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    wanted = options(make_checkpoint("small"), tmp_path / "b")
    made = (export(wanted) / LANGUAGE_FILE).stat().st_mtime_ns
    assert (export(wanted) / LANGUAGE_FILE).stat().st_mtime_ns == made
    with (tmp_path / "b" / LANGUAGE_FILE).open("ab") as stream:
        stream.write(b"damage")
    mended = (export(wanted) / LANGUAGE_FILE).stat().st_mtime_ns
    assert mended != made
    other = options(make_checkpoint("small"), tmp_path / "b", template="{question}\n")
    assert open_bundle(export(other)).manifest.prompt == Prompt("{question}\n")


def test_a_failed_export_leaves_the_old_bundle(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = export(options(make_checkpoint("small"), tmp_path / "b"))
    before = (out / "manifest.json").read_bytes()

    def fail(*_: object) -> None:
        raise ConversionError("in the middle")

    monkeypatch.setattr(pipeline, "export_vision", fail)
    with pytest.raises(ConversionError, match="in the middle"):
        export(options(make_checkpoint("small"), out, force=True))
    assert (out / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_killed_export_leaves_nothing_and_the_next_one_tidies_up(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from uservlm.converters import pipeline\n"
        "pipeline.export_vision = lambda *_: (print('there', flush=True), time.sleep(600))\n"
        "pipeline.export(pipeline.ExportOptions(sys.argv[1], Path(sys.argv[2])))\n"
    )
    model, out = make_checkpoint("small"), tmp_path / "b"
    command = [sys.executable, "-c", script, str(model), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        process.send_signal(signal.SIGKILL)
    assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == [f".b.partial-{process.pid}"]
    export(options(model, out))
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_swap_killed_half_way_is_taken_back(tmp_path: Path) -> None:
    from uservlm.converters.output import tidy

    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    old = tmp_path / f".b.old-{int(dead.stdout)}"
    old.mkdir()
    (old / "manifest.json").write_text("{}")
    alive = tmp_path / f".b.partial-{os.getppid()}"
    alive.mkdir()
    tidy(tmp_path / "b")
    assert (tmp_path / "b" / "manifest.json").is_file()
    assert alive.is_dir(), "another run is still writing there"


def test_a_folder_that_is_no_bundle_is_not_replaced(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="holds no bundle"):
        export(options(make_checkpoint("small"), tmp_path))
    assert (tmp_path / "thesis.tex").is_file()


# Parity


def test_a_wrong_weight_stops_the_export(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One matrix of one layer with its sign turned is noticed, and no bundle is left."""
    from uservlm.converters import language_gguf

    right = language_gguf.convert

    def wrong(entry: language_gguf.Entry, values: Any, factor: float) -> Any:
        changed = right(entry, values, factor)
        return -changed if entry.target == "blk.1.attn_output.weight" else changed

    monkeypatch.setattr(language_gguf, "convert", wrong)
    with pytest.raises(ParityError, match="first_token_kl is .* needed at most 0.001"):
        export(options(make_checkpoint("small"), tmp_path / "b"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("figure", ["vision_cosine", "first_token_kl", "first_token_top1"])
@pytest.mark.parametrize("worse", [0.3, float("nan")])
def test_each_figure_can_stop_a_bundle(figure: str, worse: float) -> None:
    good = {"vision_cosine": 1.0, "first_token_kl": 0.0, "first_token_top1": 1.0}
    limits = thresholds("q4_k_m", "int8")
    check(Parity(cases=1, greedy_agreement=1.0, threshold=limits, **good))
    with pytest.raises(ParityError, match=figure):
        check(Parity(cases=1, greedy_agreement=1.0, threshold=limits, **{**good, figure: worse}))


def test_kl_is_zero_for_the_same_and_positive_for_others() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 50)).astype(np.float32)
    assert kl_divergence(first, first + 3) == pytest.approx(0, abs=1e-9)
    p, q = (np.exp(x.astype(float)) / np.exp(x.astype(float)).sum() for x in (first, second))
    assert kl_divergence(first, second) == pytest.approx(float((p * np.log(p / q)).sum()))


def test_rouge1_counts_shared_words() -> None:
    assert rouge1("a red coat", "a red coat") == 1
    assert rouge1("red red red", "a red coat") == pytest.approx(1 / 3)
    assert rouge1("", "") == 1
    assert rouge1("", "coat") == 0


# The command


def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "converters" / "export.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, **more)


def test_the_script_exports_and_says_when_there_is_nothing_to_do(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    arguments = ("--model", str(make_checkpoint("small")), "--out", str(tmp_path / "b"))
    first = run(*arguments, "--quant", "f16", "--vision", "fp32", "--cases", "2", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    start = time.perf_counter()
    again = run(*arguments, "--quant", "f16", "--vision", "fp32", "--cases", "2", cwd=tmp_path)
    assert again.returncode == 0
    assert "up to date" in again.stderr.replace("\n", " ")
    assert time.perf_counter() - start < 30


def test_errors_are_one_line_and_exit_code_2(tmp_path: Path) -> None:
    found = run("--model", str(tmp_path / "nowhere"))
    assert found.returncode == 2
    assert found.stderr.startswith("export stopped: no folder")
    assert len(found.stderr.splitlines()) == 1


def test_without_an_install_the_script_names_the_way_out(tmp_path: Path) -> None:
    """-S leaves out site-packages, so nothing but the standard library is there."""
    script = str(ROOT / "converters" / "export.py")
    found = subprocess.run([sys.executable, "-S", script], capture_output=True, text=True)
    assert found.returncode == 2
    assert "pip install -e .[convert]" in found.stderr
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "bad", [{"quant": "q3"}, {"vision": "fp8"}, {"cases": 0}, {"template": "x"}]
)
def test_options_that_mean_nothing_are_refused(tmp_path: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(ConversionError, match=next(iter(bad))):
        options(tmp_path, tmp_path / "out", **bad)
