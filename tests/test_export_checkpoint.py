"""Opening a checkpoint: every tensor is matched exactly once, or the export stops naming it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from checkpoints import (  # noqa: E402
    Tensors,
    canonical_tensors,
    change_config,
    rewrite,
)
from safetensors.torch import load_file, save_file  # noqa: E402

from uservlm.converters import names  # noqa: E402
from uservlm.converters.checkpoint import open_checkpoint  # noqa: E402
from uservlm.converters.errors import CheckpointError  # noqa: E402

GENERATIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "before 4.52": (
        (names.VISION, "vision_tower.vision_model."),
        (names.PROJECTOR, "multi_modal_projector."),
        (names.LANGUAGE, "language_model.model."),
    ),
    "4.52": (
        (names.VISION, "model.vision_tower.vision_model."),
        (names.PROJECTOR, "model.multi_modal_projector."),
        (names.LANGUAGE, "model.language_model."),
    ),
    "5": (
        (names.VISION, "model.vision_tower."),
        (names.PROJECTOR, "model.multi_modal_projector."),
        (names.LANGUAGE, "model.language_model."),
    ),
    "short": (
        (names.VISION, "vision_tower."),
        (names.PROJECTOR, "multi_modal_projector."),
        (names.LANGUAGE, "language_model."),
    ),
    "saved by 5.23": (
        (names.VISION, "vision_tower."),
        (names.PROJECTOR, "multi_modal_projector."),
        (names.LANGUAGE, "language_model.model."),
    ),
}


@pytest.fixture
def folder(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(make_checkpoint("small"), tmp_path / "small")


def rename(folder: Path, generation: str) -> None:
    renamed = {}
    for name, tensor in canonical_tensors(folder).items():
        prefix, wanted = next(p for p in GENERATIONS[generation] if name.startswith(p[0]))
        renamed[wanted + name[len(prefix) :]] = tensor
    save_file(renamed, folder / "model.safetensors")


def test_what_transformers_saves_is_matched_whole(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    assert set(checkpoint.places) == set(names.expected(checkpoint.shape))
    assert len({place.key for place in checkpoint.places.values()}) == len(checkpoint.places)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_generation_of_names_gives_the_same_tensors(folder: Path, generation: str) -> None:
    wanted = canonical_tensors(folder)
    rename(folder, generation)
    checkpoint = open_checkpoint(folder)
    assert set(checkpoint.places) == set(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(checkpoint.read(name), tensor.float()), name


def test_a_missing_tensor_stops_with_its_name(folder: Path) -> None:
    key = next(k for k in load_file(folder / "model.safetensors") if k.endswith("1.mlp.fc1.bias"))
    rewrite(folder, lambda tensors: tensors.__delitem__(key))
    with pytest.raises(CheckpointError, match=r"missing: .*layers\.1\.mlp\.fc1\.bias"):
        open_checkpoint(folder)


def test_an_extra_tensor_stops_with_its_name(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"vision_tower.extra.weight": torch.ones(2)}))
    with pytest.raises(CheckpointError, match=r"unknown: vision_tower\.extra\.weight"):
        open_checkpoint(folder)


def test_a_renamed_tensor_stops_as_unknown(folder: Path) -> None:
    """The failure transformers only warns about: it would draw the vision tower at random."""

    def change(tensors: Tensors) -> None:
        key = next(key for key in tensors if "patch_embedding.weight" in key)
        tensors["tower.patch_embedding.weight"] = tensors.pop(key)

    rewrite(folder, change)
    with pytest.raises(CheckpointError, match=r"unknown: tower\.patch_embedding\.weight"):
        open_checkpoint(folder)


def test_a_tensor_stored_under_two_names_stops(folder: Path) -> None:
    def change(tensors: Tensors) -> None:
        key = next(key for key in tensors if key.endswith("projector.linear.bias"))
        twin = "model.multi_modal_projector.linear.bias"
        tensors[twin if key != twin else "multi_modal_projector.linear.bias"] = tensors[key] + 1

    rewrite(folder, change)
    with pytest.raises(CheckpointError, match="stored twice: .*linear.bias"):
        open_checkpoint(folder)


def test_a_tensor_of_another_shape_stops(folder: Path) -> None:
    change_config(folder, "text_config", intermediate_size=512)
    with pytest.raises(CheckpointError, match=r"mlp\.down_proj\.weight .* instead of"):
        open_checkpoint(folder)


def test_a_tied_head_is_accepted_and_another_is_not(folder: Path) -> None:
    def tie(tensors: Tensors) -> None:
        key = next(key for key in tensors if "embed_tokens" in key)
        tensors["language_model.lm_head.weight"] = tensors[key].clone()

    rewrite(folder, tie)
    open_checkpoint(folder)

    def untie(tensors: Tensors) -> None:
        tensors["language_model.lm_head.weight"] *= 2

    rewrite(folder, untie)
    with pytest.raises(CheckpointError, match="untied head"):
        open_checkpoint(folder)


def test_an_adapter_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "ACIDE/base"}')
    with pytest.raises(CheckpointError, match="adapter for ACIDE/base, .*--model .*--adapter"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "x.weight.absmax",
            torch.ones(4),
            r"quantised \(it holds x\.weight\.absmax\): .*dequantize",
        ),
        ("x.qweight", torch.ones(4, dtype=torch.int32), r"quantised \(it holds x\.qweight\)"),
        ("x.weight", torch.ones(4, dtype=torch.int8), "stored as I8, supported are BF16, F16, F32"),
        ("x.weight", torch.ones(4).to(torch.float8_e4m3fn), "stored as F8_E4M3, supported are"),
        ("language_model.model.layers.0.mlp.experts.1.lora_A.weight", torch.ones(2, 2), "MoLE"),
    ],
)
def test_tensors_of_another_kind_of_checkpoint_are_explained(
    folder: Path, key: str, value: torch.Tensor, message: str
) -> None:
    rewrite(folder, lambda tensors: tensors.update({key: value}))
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


def test_an_adapter_beside_a_checkpoint_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="a checkpoint and an adapter .*--adapter"):
        open_checkpoint(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no folder"):
        open_checkpoint(tmp_path / "nowhere")
