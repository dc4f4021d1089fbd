"""The GGUF: the checkpoint's values, and quantised as llama.cpp itself would have done it."""

from __future__ import annotations

import ctypes
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
llama_cpp = pytest.importorskip("llama_cpp")

from gguf import GGMLQuantizationType, GGUFReader, dequantize  # noqa: E402

from uservlm.converters import language_gguf  # noqa: E402
from uservlm.converters.checkpoint import open_checkpoint  # noqa: E402
from uservlm.converters.errors import ConversionError  # noqa: E402
from uservlm.converters.in_order import in_order  # noqa: E402
from uservlm.converters.language_gguf import query_factor, tensors, write_language  # noqa: E402
from uservlm.converters.names import Shape  # noqa: E402
from uservlm.converters.quantise import (  # noqa: E402
    MIXTURES,
    bytes_of,
    describe_mixture,
    kind_of,
    more_bits,
    quantise_rows,
)
from uservlm.converters.stored import largest_error  # noqa: E402
from uservlm.runtime.weights import Weights  # noqa: E402

MakeCheckpoint = Callable[..., Path]
SHAPES = ("square", "small", "narrow_heads", "scaled_queries", "uncapped")
QUANTISED = ("q4_k_m", "q4_0", "q8_0")


def by_llama_cpp(source: Path, target: Path, quant: str) -> None:
    """Quantise a float GGUF by llama.cpp's own program, as its library offers it."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = int(MIXTURES[quant].file_type), 1
    code = llama_cpp.llama_model_quantize(bytes(source), bytes(target), ctypes.byref(params))
    assert code == 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("quant", ["f16", "f32"])
def test_the_gguf_holds_the_checkpoints_values(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, shape: str, quant: str
) -> None:
    checkpoint = open_checkpoint(make_checkpoint(shape))
    write_language(checkpoint, tmp_path / "model.gguf", quant)
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
        tolerance = 1e-3 if quant == "f16" else 1e-6
        np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize("quant", QUANTISED)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_tensor_is_what_llama_cpp_makes_of_it(
    make_checkpoint: MakeCheckpoint,
    tmp_path: Path,
    shape: str,
    quant: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Types and bytes, also where rows do not divide by 256 and where a tensor is many blocks."""
    monkeypatch.setattr(language_gguf, "BLOCK", 5000)
    checkpoint = open_checkpoint(make_checkpoint(shape))
    write_language(checkpoint, tmp_path / "f32.gguf", "f32")
    by_llama_cpp(tmp_path / "f32.gguf", tmp_path / "theirs.gguf", quant)
    write_language(checkpoint, tmp_path / "ours.gguf", quant)
    theirs = {t.name: t for t in GGUFReader(tmp_path / "theirs.gguf").tensors}
    ours = {t.name: t for t in GGUFReader(tmp_path / "ours.gguf").tensors}
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        assert ours[name].tensor_type == tensor.tensor_type, name
        assert np.array_equal(ours[name].data, tensor.data), name


@pytest.mark.parametrize(("quant", "error"), [("q8_0", 0.01), ("q4_0", 0.13), ("q4_k_m", 0.1)])
def test_quantised_values_stay_near(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, quant: str, error: float
) -> None:
    checkpoint = open_checkpoint(make_checkpoint("square"))
    sizes = []
    for name in ("f16", quant):
        write_language(checkpoint, tmp_path / name, name)
        sizes.append((tmp_path / name).stat().st_size)
    whole = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "f16").tensors}
    for tensor in GGUFReader(tmp_path / quant).tensors:
        values = dequantize(whole[tensor.name].data, whole[tensor.name].tensor_type)
        found = dequantize(tensor.data, tensor.tensor_type)
        assert np.linalg.norm(found - values) < error * np.linalg.norm(values), tensor.name
    assert sizes[1] < sizes[0] * 0.62


def test_importance_moves_the_error_to_columns_that_matter_less() -> None:
    rows = np.random.default_rng(0).normal(size=(64, 512)).astype(np.float32)
    importance = np.where(np.arange(512) % 8 == 0, 100, 1).astype(np.float32)
    errors = []
    for given in (None, importance):
        packed = quantise_rows(rows, GGMLQuantizationType.Q4_0, given)
        found = dequantize(packed, GGMLQuantizationType.Q4_0)
        errors.append(float((importance * (found - rows) ** 2).sum()))
    assert errors[1] < 0.8 * errors[0]


def test_the_manifest_says_which_tensors_are_finer_and_why() -> None:
    shape = Shape(448, 14, 1152, 4304, 27, 2304, 9216, 26, 8, 4, 256, 257216)
    listed = [(entry.target, entry.shape) for entry in tensors(shape)]
    found = describe_mixture(listed, shape.layers, "q4_k_m", 0, 0.08)
    head, values = found.higher
    assert found.kind == "Q4_K" and 4.5 < found.bits_per_weight < 5.5
    assert head.tensors == ("token_embd.weight",) and "logit" in head.reason
    assert len(values.tensors) == 2 * sum(more_bits(layer, 26) for layer in range(26))
    assert {head.kind, values.kind} == {"Q6_K"}
    assert describe_mixture(listed, shape.layers, "f16", 0, 0.0).higher == ()
    odd = describe_mixture([("blk.0.attn_q.weight", (64, 96))], 1, "q4_k_m", 0, 0.08)
    assert odd.higher[0].kind == "Q5_0" and "block" in odd.higher[0].reason
    size = sum(bytes_of(s, kind_of(name, s, 26, "q4_k_m")) for name, s in listed)
    assert 1.60e9 < size < 1.75e9, "Gemma 2 2B in Q4_K_M is 1.7 GB"


def test_the_27b_has_its_own_query_scale(make_checkpoint: MakeCheckpoint) -> None:
    """llama.cpp knows it by its 46 layers and divides by √(width / heads) = √144, as it should."""
    shape = open_checkpoint(make_checkpoint("small")).shape
    big = replace(shape, layers=46, width=4608, heads=32, head_dim=128)
    assert query_factor(big, 144) == 1
    assert query_factor(replace(big, layers=42), 144) == pytest.approx((128 / 144) ** 0.5)


@pytest.mark.parametrize("quant", ["f16", "q4_k_m"])
def test_a_value_beyond_float16_stops_with_the_tensors_name(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, quant: str
) -> None:
    """Scales of quantised blocks are float16 too."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(make_checkpoint("small"), tmp_path / "small")
    stored = load_file(folder / "model.safetensors")
    key = next(key for key in stored if key.endswith("layers.1.mlp.up_proj.weight"))
    stored[key][0, 0] = 1e5
    save_file(stored, folder / "model.safetensors")
    with pytest.raises(ConversionError, match=r"layers\.1\.mlp\.up_proj\.weight .*float16"):
        write_language(open_checkpoint(folder), tmp_path / "out.gguf", quant)


def test_results_come_in_order_and_only_a_few_wait() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work(task: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.001 * (task % 3))
        return task * task

    for task, result in in_order(work, range(40), 2):
        assert result == task * task
        with lock:
            running -= 1
    assert most <= 4
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda task: 1 // task, [1, 0, 1], 2))


@pytest.mark.parametrize("quant", ["q4_k_m", "q4_0", "q8_0", "f16", "f32"])
@pytest.mark.parametrize("shape", ["square", "narrow_heads"])
def test_every_tensor_read_back_is_the_checkpoints(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, shape: str, quant: str
) -> None:
    checkpoint = open_checkpoint(make_checkpoint(shape))
    write_language(checkpoint, tmp_path / "model.gguf", quant)
    assert largest_error(checkpoint, tmp_path / "model.gguf") < 0.13


@pytest.mark.parametrize("name", ["blk.1.attn_q.weight", "token_embd.weight", "output_norm.weight"])
def test_one_damaged_matrix_is_found_in_four_bits(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, name: str
) -> None:
    """Answers would not show it: a matrix of queries moves the KL by less than rounding does."""
    checkpoint = open_checkpoint(make_checkpoint("square"))
    path = tmp_path / "model.gguf"
    write_language(checkpoint, path, "q4_k_m")
    tensor = Weights(path).tensors[name]
    data = bytearray(path.read_bytes())
    half = tensor.offset + tensor.bytes // 2
    data[half : tensor.offset + tensor.bytes] = data[tensor.offset : half][: tensor.bytes // 2]
    path.write_bytes(data)
    with pytest.raises(ConversionError, match=f"{name} is .* away from"):
        largest_error(checkpoint, path)
