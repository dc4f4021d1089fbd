"""Opening a checkpoint: every tensor is matched exactly once, or the export stops naming it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from uservlm.converters import names  # noqa: E402
from uservlm.converters.checkpoint import open_checkpoint  # noqa: E402
from uservlm.converters.errors import CheckpointError  # noqa: E402

Tensors = dict[str, "torch.Tensor"]
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
}


@pytest.fixture
def folder(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(make_checkpoint("small"), tmp_path / "small")


def canonical_tensors(folder: Path) -> Tensors:
    stored = load_file(folder / "model.safetensors")
    return {str(names.canonical(key)): tensor for key, tensor in stored.items()}


def rewrite(folder: Path, change: Callable[[Tensors], None]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)


def rename(folder: Path, generation: str) -> None:
    renamed = {}
    for name, tensor in canonical_tensors(folder).items():
        prefix, wanted = next(p for p in GENERATIONS[generation] if name.startswith(p[0]))
        renamed[wanted + name[len(prefix) :]] = tensor
    save_file(renamed, folder / "model.safetensors")


def change_config(folder: Path, part: str | None, **values: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    (config[part] if part else config).update(values)
    path.write_text(json.dumps(config))


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


def test_shards_are_read_as_one(folder: Path) -> None:
    wanted = canonical_tensors(folder)
    keys = sorted(load_file(folder / "model.safetensors"))
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards = {"a.safetensors": keys[::2], "b.safetensors": keys[1::2]}
    for file, part in shards.items():
        save_file({key: tensors[key] for key in part}, folder / file)
    index = {"weight_map": {key: file for file, part in shards.items() for key in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    checkpoint = open_checkpoint(folder)
    assert all(torch.equal(checkpoint.read(name), wanted[name].float()) for name in wanted)
    (folder / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks the shards b\.safetensors"):
        open_checkpoint(folder)


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


def test_values_that_are_no_numbers_stop_with_the_name(folder: Path) -> None:
    def change(tensors: Tensors) -> None:
        key = next(key for key in tensors if key.endswith("projector.linear.bias"))
        tensors[key][3] = float("nan")

    rewrite(folder, change)
    with pytest.raises(CheckpointError, match="linear.bias .* NaN"):
        open_checkpoint(folder).read("multi_modal_projector.linear.bias")


def test_an_adapter_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "ACIDE/base"}')
    with pytest.raises(CheckpointError, match="adapter.*merge it into ACIDE/base"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        (None, {"model_type": "llava"}, "only PaliGemma 2"),
        (None, {"vision_config": None}, "only PaliGemma 2"),
        ("text_config", {"model_type": "gemma"}, "only PaliGemma 2"),
        ("text_config", {"attention_bias": True}, "attention_bias"),
        ("text_config", {"hidden_activation": "relu"}, "hidden_activation"),
        ("text_config", {"layer_types": ["full_attention"] * 3}, "layer_types"),
        ("text_config", {"num_hidden_layers": "three"}, "damaged"),
        ("vision_config", {"patch_size": 15}, "size % patch"),
        ("vision_config", {"patch_size": 0}, "damaged"),
    ],
)
def test_a_configuration_that_cannot_be_run_is_refused(
    folder: Path, part: str | None, values: dict[str, object], message: str
) -> None:
    change_config(folder, part, **values)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00\xff"])
def test_a_damaged_configuration_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match="is damaged"):
        open_checkpoint(folder)


def test_damaged_weights_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        open_checkpoint(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no folder"):
        open_checkpoint(tmp_path / "nowhere")
