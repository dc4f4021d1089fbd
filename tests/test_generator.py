"""Random checkpoints: true sizes, the same bytes every time, files like the real ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors")
transformers = pytest.importorskip("transformers")

from uservlm.converters import names  # noqa: E402
from uservlm.converters.checkpoint import open_checkpoint  # noqa: E402
from uservlm.converters.errors import CheckpointError  # noqa: E402
from uservlm.models import generate, random_tensors, shards  # noqa: E402
from uservlm.models.random_checkpoint import (  # noqa: E402
    NAMINGS,
    SHAPES,
    SHARD_BYTES,
    plan_weights,
    write_random_checkpoint,
)
from uservlm.models.random_tensors import NONE, REALISTIC, Outliers, draw  # noqa: E402
from uservlm.models.shapes import Architecture, catalog, find  # noqa: E402

SMALL = SHAPES["small"]
DEEP = replace(SMALL, vision_layers=27, layers=26)
"""The depth of the 3B: what goes wrong between layers shows here."""
Write = Callable[..., Path]


@pytest.fixture
def write(tokenizer_folder: Path, tmp_path: Path) -> Write:
    """Write a checkpoint into a folder of the test's own."""

    def write(name: str = "checkpoint", shape: Architecture = SMALL, **options: Any) -> Path:
        return write_random_checkpoint(tmp_path / name, tokenizer_folder, shape, **options)

    return write


def tensors(folder: Path) -> dict[str, Any]:
    """Everything stored, by canonical name, as safetensors reads it."""
    checkpoint = open_checkpoint(folder)
    return {name: checkpoint.read(name) for name in names.expected(checkpoint.shape)}


def load(folder: Path) -> Any:
    """The model as transformers opens it, and what it missed or had no place for."""
    loader = transformers.PaliGemmaForConditionalGeneration
    return loader.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)


def answer(model: Any, pixels: Any, question: int) -> Any:
    """Logits after N image tokens, bos and a question of three tokens."""
    config = model.config
    image = [config.image_token_index] * (config.vision_config.image_size // 14) ** 2
    ids = torch.tensor([[*image, 2, question, question + 1, 300]])
    with torch.no_grad():
        output = model(
            input_ids=ids,
            pixel_values=pixels,
            token_type_ids=torch.zeros_like(ids),
            attention_mask=torch.ones_like(ids),
        )
    return output.logits[0, -1]


def test_the_catalog_has_the_published_sizes() -> None:
    """Totals as the repositories' files tell them, in thousands of millions of weights."""
    for name, total in (
        ("3b-224", 3.032),
        ("3b-448", 3.033),
        ("10b-448", 9.664),
        ("28b-224", 27.65),
    ):
        assert find(f"paligemma2-{name}").weights == pytest.approx(total * 1e9, rel=2e-4)
    shape = find("paligemma2-3b-448").architecture.shape(257_216)
    assert names.weights(shape, names.LANGUAGE) == pytest.approx(2.618e9, rel=1e-3)
    assert names.weights(shape, names.VISION) == pytest.approx(0.413e9, rel=1e-2)
    assert shape.image_tokens == 1024


def test_the_3b_is_cut_into_the_shards_of_the_real_one() -> None:
    shape = find("ACIDE/User-VLM-3B-base").architecture.shape(257_216)
    layout, _ = plan_weights(shape, "bfloat16", "4.4x")
    sizes = dict.fromkeys(layout.headers, 0)
    for slot in layout.slots:
        sizes[slot.file] = slot.end
    assert [round(size / 1e9, 2) for size in sizes.values()] == [5.0, 1.07]
    assert layout.file_bytes == sum(sizes.values())


def test_aliases_share_the_sizes_of_what_they_were_made_from() -> None:
    for entry in catalog().values():
        if entry.made_from is not None and entry.made_from in catalog():
            assert entry.architecture == find(entry.made_from).architecture


def test_an_unknown_shape_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="paligemma2-3b-448"):
        find("paligemma2-2b-448")


def test_the_seed_decides_every_byte(write: Write) -> None:
    first, again, other = (write(name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    for path in first.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()
    ours, theirs = tensors(first), tensors(other)
    assert all(not torch.equal(ours[name], theirs[name]) for name in ours)


def test_no_two_tensors_are_alike(write: Write) -> None:
    stored = tensors(write())
    starts = [tuple(tensor.flatten()[:32].tolist()) for tensor in stored.values()]
    assert len(set(starts)) == len(starts)


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("dtype", shards.KINDS)
def test_every_naming_and_dtype_opens(write: Write, naming: str, dtype: str) -> None:
    """Both by our reader and, where transformers 4.57 knows the names, by its own."""
    folder = write(naming=naming, dtype=dtype)
    stored = tensors(folder)
    exact = tensors(write("exact", dtype="float32"))
    error = {"bfloat16": 2**-8, "float16": 2**-10, "float32": 0}[dtype]
    for name, tensor in stored.items():
        torch.testing.assert_close(tensor, exact[name], rtol=error, atol=1e-7)
    with safetensors.safe_open(folder / "model.safetensors", "pt") as file:
        assert {file.get_slice(key).get_dtype() for key in file.keys()} == {shards.KINDS[dtype][0]}
    if naming != "5":
        _, said = load(folder)
        assert not said["missing_keys"] and not said["unexpected_keys"]


def test_names_are_those_of_each_generation(write: Write, tmp_path: Path) -> None:
    """4.57 holds one naming in memory and saves another; 5 drops `vision_model.` from the first."""

    def keys(folder: Path) -> set[str]:
        with safetensors.safe_open(folder / "model.safetensors", "pt") as file:
            return set(file.keys())

    model, _ = load(write("old", naming="4.4x"))
    model.save_pretrained(tmp_path / "saved")
    memory = set(model.state_dict()) - {"lm_head.weight"}
    assert keys(tmp_path / "old") == keys(tmp_path / "saved")
    assert keys(write("memory", naming="4.52")) == memory
    assert keys(write("new", naming="5")) == {key.replace("vision_model.", "") for key in memory}


def test_bfloat16_rounds_as_torch_does() -> None:
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    ties = (np.arange(1000, dtype=np.uint32) * 0x8000 + 0x3F800000).view(np.float32)
    for array in (values, ties):
        ours = np.frombuffer(shards.as_bytes(array, "bfloat16"), np.int16)
        theirs = torch.from_numpy(array).bfloat16().view(torch.int16).numpy()
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("shard_bytes", [50_000, 300_000])
def test_shards_change_no_tensor(write: Write, shard_bytes: int) -> None:
    whole, cut = write("whole", DEEP), write("cut", DEEP, shard_bytes=shard_bytes)
    files = sorted(cut.glob("*.safetensors"))
    assert len(files) > 5
    assert not (cut / "model.safetensors").exists()
    index = json.loads((cut / shards.INDEX).read_text())
    assert index["metadata"]["total_size"] == 2 * names.weights(open_checkpoint(cut).shape)
    assert {cut / file for file in index["weight_map"].values()} == set(files)
    expected = tensors(whole)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors(cut).items())


def test_blocks_change_no_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    name = names.LANGUAGE + "layers.1.mlp.gate_proj.weight"
    (whole,) = draw(name, (64, 32), 3, REALISTIC)
    monkeypatch.setattr(random_tensors, "BLOCK", 100)
    parts = list(draw(name, (64, 32), 3, REALISTIC))
    assert len(parts) > 10
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_killed_run_leaves_nothing_that_opens(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The last tensor fails to be drawn, as if the process had ended there."""
    real = random_tensors.draw

    def stop(name: str, *rest: Any) -> Any:
        if name.endswith("layers.1.mlp.down_proj.weight"):
            raise KeyboardInterrupt
        return real(name, *rest)

    monkeypatch.setattr(random_tensors, "draw", stop)
    with pytest.raises(KeyboardInterrupt):
        write(shard_bytes=100_000)
    assert list((tmp_path / "checkpoint").glob("*.safetensors"))
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / "checkpoint")


@pytest.mark.parametrize("outliers", [NONE, REALISTIC])
def test_the_answer_depends_on_picture_and_question(write: Write, outliers: Outliers) -> None:
    model, _ = load(write(shape=DEEP, outliers=outliers))
    torch.manual_seed(0)
    side = DEEP.image_size
    first, second = torch.nn.functional.interpolate(torch.rand(2, 3, 4, 4) * 2 - 1, side).split(1)
    said = answer(model, first, 310)
    for other in (answer(model, second, 310), answer(model, first, 400)):
        assert torch.isfinite(other).all()
        assert float((said - other).norm() / said.norm()) > 0.1


def test_trained_weights_have_outliers_and_so_have_these() -> None:
    """In the true widths: loud gains, massive channels, uneven rows; float16 holds them."""
    sizes = names.expected(find("paligemma2-3b-224").architecture.shape(257_216))

    def drawn(name: str, outliers: Outliers = REALISTIC) -> Any:
        values = np.concatenate(list(draw(name, sizes[name], 0, outliers)))
        assert np.isfinite(values.astype(np.float16)).all()
        return values

    layer = f"{names.VISION}encoder.layers.2."
    gains = np.sort(drawn(f"{layer}layer_norm2.weight"))
    assert gains[-5] < 2 < gains[-4]
    assert gains[-1] < 45
    massive = np.sort(np.abs(drawn(f"{layer}mlp.fc2.bias")))
    assert massive[-4] < 1
    assert massive[-3:].tolist() == [40, 40, 40]
    gemma = np.sort(drawn(f"{names.LANGUAGE}layers.7.input_layernorm.weight")) + 1
    assert gemma[-5] < 2 < gemma[-4]
    rows = drawn(f"{layer}mlp.fc1.weight").std(axis=1)
    assert rows.max() > 3 * rows.min()
    plain = drawn(f"{layer}mlp.fc1.weight", NONE).std(axis=1)
    assert plain.max() < 1.2 * plain.min()


def test_planted_outliers_change_no_output_but_ruin_one_scale_per_tensor(write: Write) -> None:
    """Float32 is as without; what one scale for a whole activation leaves of the others is zero."""
    torch.manual_seed(0)
    pixels = torch.rand(1, 3, SMALL.image_size, SMALL.image_size) * 2 - 1
    found = []
    for name, planted in (("plain", ()), ("planted", (1,))):
        model, _ = load(write(name, outliers=Outliers(planted=planted)))
        seen: list[Any] = []
        layers = model.model.vision_tower.vision_model.encoder.layers
        layers[1].mlp.fc1.register_forward_pre_hook(
            lambda _, inputs, seen=seen: seen.append(inputs[0])
        )
        found.append((answer(model, pixels, 310), seen[0]))
    (plain, calm), (planted_answer, loud) = found
    torch.testing.assert_close(planted_answer, plain, rtol=1e-3, atol=1e-3)
    assert lost(calm) < 0.3
    assert lost(loud) > 0.9


def lost(activation: Any) -> float:
    """Share of values that uint8 with one scale for all rounds to zero."""
    step = float(activation.max() - activation.min()) / 255
    return float(((activation / step).round() == 0).float().mean())


def test_a_tokenizer_too_large_for_the_shape_is_refused(write: Write, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="64 rows"):
        write(shape=replace(SMALL, rows=64))
    assert not (tmp_path / "checkpoint").exists()


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "uservlm.models.generate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_lists_the_catalog() -> None:
    done = run("--list")
    assert done.returncode == 0
    assert "paligemma2-10b-896" in done.stdout
    assert "6.07 GB" in done.stdout


def test_the_command_writes_a_catalog_shape(
    tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = replace(find("paligemma2-3b-448"), architecture=replace(SMALL, rows=704))
    monkeypatch.setattr(generate, "find", lambda _: tiny)
    folder = generate.generate("tiny", tmp_path / "out", planted=(1,), tokenizer=tokenizer_folder)
    assert open_checkpoint(folder).shape.rows == 704


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "paligemma2-7b-448"}, "no shape is called"),
        ({"planted": (27,)}, "no vision layer 27"),
        ({"dtype": "int4"}, "cannot be stored"),
        ({"naming": "3"}, "no naming"),
    ],
)
def test_what_cannot_be_made_is_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        generate.generate(**{"name": "paligemma2-3b-448", "folder": tmp_path / "x", **options})
    assert not (tmp_path / "x").exists()


def test_a_full_folder_and_a_full_disk_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    with pytest.raises(ValueError, match="not empty"):
        generate.generate("paligemma2-3b-448", tmp_path / "full")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10**9}))
    with pytest.raises(ValueError, match=r"needs 6\.1 GB, but .* has 1\.0 GB free"):
        generate.generate("paligemma2-3b-448", tmp_path / "new" / "deep")
    assert not (tmp_path / "new").exists()


def test_memory_does_not_grow_with_the_size() -> None:
    """Blocks of the largest table are small; the tables themselves are never whole."""
    size = names.expected(find("paligemma2-28b-224").architecture.shape(257_216))[names.EMBEDDINGS]
    block = next(iter(draw(names.EMBEDDINGS, size, 0, REALISTIC)))
    assert block.nbytes <= 4 * random_tensors.BLOCK < SHARD_BYTES / 500
