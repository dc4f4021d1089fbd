"""Adapters while exporting: merged as peft merges them, written as GGUF, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lora import ATTENTION, merged, write_lora
from safetensors.torch import load_file, save_file

from uservlm.converters import names
from uservlm.converters.adapter_gguf import write_adapter
from uservlm.converters.adapters import WEIGHTS_FILE, LoraAdapter, mole_reason, open_adapter
from uservlm.converters.checkpoint import Checkpoint, open_checkpoint
from uservlm.converters.errors import CheckpointError, ConversionError
from uservlm.converters.export import POCKET
from uservlm.converters.language_gguf import query_factor
from uservlm.runtime.weights import Weights

QUERIES = "language_model.layers.1.self_attn.q_proj.weight"
PROJECTOR = "multi_modal_projector.linear.weight"
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True, "r": 8},
    "patterns": {
        "rank_pattern": {"q_proj": 2, r"layers\.0\.mlp\.(up|down)_proj": 8},
        "alpha_pattern": {r"layers\.1.*": 3, "k_proj": 40},
    },
    "patterns, stabilised": {"use_rslora": True, "rank_pattern": {"v_proj": 6}},
    "every linear layer": {"target_modules": "all-linear"},
    "whole projector": {"modules_to_save": ["multi_modal_projector"], "bias": "none"},
    "whole tied table": {
        "target_modules": ATTENTION,
        "modules_to_save": ["embed_tokens"],
        "ensure_weight_tying": True,
    },
}


@pytest.fixture(scope="module")
def base(make_checkpoint: Callable[..., Path]) -> Path:
    return make_checkpoint("small")


@pytest.fixture(scope="module")
def checkpoint(base: Path) -> Checkpoint:
    return open_checkpoint(base)


@pytest.fixture(scope="module")
def plain(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter on attention, in a folder that no test may change."""
    return write_lora(base, tmp_path_factory.mktemp("plain"), target_modules=ATTENTION)


@pytest.fixture
def copy(plain: Path, tmp_path: Path) -> Path:
    """The same, to damage."""
    for name in ("adapter_config.json", WEIGHTS_FILE):
        (tmp_path / name).write_bytes((plain / name).read_bytes())
    return tmp_path


def rename(folder: Path, change: Callable[[str], str]) -> None:
    stored = load_file(folder / WEIGHTS_FILE)
    save_file({change(key): value for key, value in stored.items()}, folder / WEIGHTS_FILE)


def configure(folder: Path, **fields: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def farthest(checkpoint: Checkpoint, model: Any) -> float:
    """Give the largest difference over all tensors."""
    wanted = {names.canonical(key): value for key, value in model.state_dict().items()}
    return max(
        float((checkpoint.read(name) - wanted[name]).abs().max()) for name in checkpoint.places
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_merge_is_pefts_own(
    base: Path, checkpoint: Checkpoint, tmp_path: Path, kind: str
) -> None:
    folder = write_lora(base, tmp_path, **KINDS[kind])
    adapter = open_adapter(folder, checkpoint.shape)
    changed = checkpoint.with_adapters((adapter,))
    assert farthest(changed, merged(base, folder)) < 1e-6
    assert all(not torch.equal(changed.read(n), checkpoint.read(n)) for n in adapter.targets)


def test_two_adapters_are_merged_in_order(
    base: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """A whole projector that comes second takes the place of one that came first."""
    one = write_lora(base, tmp_path / "1", 1, modules_to_save=["multi_modal_projector"])
    two = write_lora(base, tmp_path / "2", 2, r=2, modules_to_save=["multi_modal_projector"])
    both = tuple(open_adapter(folder, checkpoint.shape) for folder in (one, two))
    assert farthest(checkpoint.with_adapters(both), merged(base, one, two)) < 1e-6
    turned = checkpoint.with_adapters(both[::-1])
    assert farthest(turned, merged(base, one, two)) > 1e-3


def test_the_pockets_own_adapter_is_merged_as_by_peft() -> None:
    """Saved by the training in models/, bfloat16."""
    if not (POCKET / "adapter").is_dir():
        pytest.skip("models/pocket is not there: make it with `python -m uservlm.models.train`")
    pocket = open_checkpoint(POCKET)
    adapter = open_adapter(POCKET / "adapter", pocket.shape)
    assert (adapter.source, adapter.rank, len(adapter.targets)) == ("adapter", 16, 35)
    assert farthest(pocket.with_adapters((adapter,)), merged(POCKET, POCKET / "adapter")) < 1e-6


@pytest.mark.parametrize("name", [QUERIES, PROJECTOR, names.EMBEDDINGS])
def test_rows_are_those_of_the_whole(
    base: Path, checkpoint: Checkpoint, tmp_path: Path, name: str
) -> None:
    folder = write_lora(base, tmp_path, **KINDS["whole projector"])
    adapter = open_adapter(folder, checkpoint.shape)
    changed = checkpoint.with_adapters((adapter,))
    rows, whole = changed.read_rows(name, 3, 70), changed.read(name)
    assert rows.dtype == torch.float32 and torch.allclose(rows, whole[3:70], rtol=0, atol=1e-6)
    assert torch.equal(rows, checkpoint.read(name)[3:70]) == (name not in adapter.targets)


GENERATIONS: dict[str, Callable[[str], str]] = {
    "4.51": lambda key: (
        key.replace("model.model.language_model.", "model.language_model.model.")
        .replace("model.model.vision_tower.", "model.vision_tower.")
        .replace("model.model.multi_modal_projector.", "model.multi_modal_projector.")
    ),
    "5.x": lambda key: key.replace("vision_tower.vision_model.", "vision_tower."),
    "adapter's name": lambda key: (
        key.replace("lora_A.", "lora_A.default.")
        .replace("lora_B.", "lora_B.default.")
        .replace("projector.", "projector.modules_to_save.default.")
    ),
}


@pytest.mark.parametrize("generation", GENERATIONS)
def test_names_of_every_generation_are_known(
    base: Path, checkpoint: Checkpoint, tmp_path: Path, generation: str
) -> None:
    folder = write_lora(
        base, tmp_path, target_modules=".*_proj", modules_to_save=["multi_modal_projector"]
    )
    before = open_adapter(folder, checkpoint.shape)
    wanted = {name: before.apply(name, checkpoint.read(name)) for name in before.targets}
    rename(folder, GENERATIONS[generation])
    after = open_adapter(folder, checkpoint.shape)
    assert set(after.targets) == set(wanted) and before.saved != {}
    for name, values in wanted.items():
        assert torch.equal(after.apply(name, checkpoint.read(name)), values), name


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "DoRA": ({"use_dora": True}, "DoRA.*merge_and_unload"),
    "biases": ({"bias": "all"}, "bias='all'"),
    "LoRA biases": ({"lora_bias": True}, "biases"),
    "IA3": ({"peft_type": "IA3"}, "peft_type 'IA3'.*merge_and_unload"),
    "X-LoRA": ({"peft_type": "XLORA"}, "peft_type 'XLORA'.*plain LoRA"),
    "single tokens": ({"trainable_token_indices": [5]}, "single rows"),
    "transposed": ({"fan_in_fan_out": True}, "transposed"),
    "PiSSA": ({"init_lora_weights": "pissa"}, "pissa.*starts from"),
    "a later field": ({"use_something": True}, "use_something=True: not known"),
    "MoLE": ({"num_experts": 3}, r"num_experts\) is a mixture.*plain LoRA.*Table 7"),
    "MoLE by type": ({"peft_type": "MOLE"}, r"MOLE\) is a mixture"),
    "no rank": ({"r": None}, "damaged"),
    "rank 0": ({"r": 0}, "rank below 1"),
    "another rank": ({"r": 8}, r"lora_A.weight has shape \(4, 128\).*\(8, 128\)"),
    "a bad pattern": ({"rank_pattern": {"(": 2}}, "damaged"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_merged_is_refused(copy: Path, checkpoint: Checkpoint, case: str) -> None:
    fields, message = REFUSED[case]
    configure(copy, **fields)
    with pytest.raises(CheckpointError, match=message):
        open_adapter(copy, checkpoint.shape)


A = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"
B = A.replace("lora_A", "lora_B")


def drop(stored: dict[str, torch.Tensor]) -> None:
    del stored[B]


def narrow(stored: dict[str, torch.Tensor]) -> None:
    stored[A] = stored[A][:, :-1].contiguous()


def repeat(stored: dict[str, torch.Tensor]) -> None:
    stored[A.replace("A.weight", "A.default.weight")] = stored[A].clone()


def stray(stored: dict[str, torch.Tensor]) -> None:
    stored[A.replace("layers.0", "layers.3")] = stored[A].clone()


def foreign(stored: dict[str, torch.Tensor]) -> None:
    stored["q_proj.lora_A.weight"] = stored[A].clone()


def route(stored: dict[str, torch.Tensor]) -> None:
    stored[A.replace("self_attn.q_proj.lora_A", "mlp.router")] = torch.zeros(3, 128)


def adapt_tokens(stored: dict[str, torch.Tensor]) -> None:
    stored["base_model.model.model.language_model.embed_tokens.lora_embedding_A"] = stored[
        A
    ].clone()


def untie(stored: dict[str, torch.Tensor]) -> None:
    stored["base_model.model.lm_head.weight"] = torch.zeros(704, 128)


def vector(stored: dict[str, torch.Tensor]) -> None:
    stored["base_model.model.model.language_model.norm.lora_A.weight"] = torch.zeros(4, 128)
    stored["base_model.model.model.language_model.norm.lora_B.weight"] = torch.zeros(1, 4)


DAMAGES = {
    drop: "lora_A.weight without its other half",
    narrow: r"has shape \(4, 127\)",
    repeat: "are the same tensor",
    stray: "layers.3.*belongs to nothing in the checkpoint",
    foreign: "not as PEFT names tensors",
    route: r"mlp.router.weight\) is a mixture of LoRA experts.*Table 7",
    adapt_tokens: "lora_embedding_A adapts token embeddings",
    untie: "untied head",
    vector: "no matrix",
    dict.clear: "changes nothing",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_every_tensor_must_have_its_place(copy: Path, checkpoint: Checkpoint, damage: Any) -> None:
    stored = load_file(copy / WEIGHTS_FILE)
    damage(stored)
    save_file(stored, copy / WEIGHTS_FILE)
    with pytest.raises(CheckpointError, match=DAMAGES[damage]):
        open_adapter(copy, checkpoint.shape)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("config", [{}, {"ensure_weight_tying": True}])
def test_a_lora_on_the_token_embeddings_is_refused(
    base: Path, checkpoint: Checkpoint, tmp_path: Path, config: dict[str, Any]
) -> None:
    """peft's own merge of it changes the tied head too, which training did not or did twice."""
    folder = write_lora(base, tmp_path, target_modules=["q_proj", "embed_tokens"], **config)
    with pytest.raises(CheckpointError, match="adapts token embeddings|untied head"):
        open_adapter(folder, checkpoint.shape)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_embeddings_that_leave_their_head_behind_are_refused(
    base: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    folder = write_lora(base, tmp_path, modules_to_save=["embed_tokens"])
    with pytest.raises(CheckpointError, match=r"embed_tokens.weight .*untied head"):
        open_adapter(folder, checkpoint.shape)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_values_that_are_not_finite_are_refused(
    copy: Path, checkpoint: Checkpoint, value: float
) -> None:
    stored = load_file(copy / WEIGHTS_FILE)
    stored[B][2, 1] = value
    save_file(stored, copy / WEIGHTS_FILE)
    changed = checkpoint.with_adapters((open_adapter(copy, checkpoint.shape),))
    with pytest.raises(CheckpointError, match=r"q_proj.lora_B.weight.*NaN or infinity"):
        changed.read(QUERIES.replace("layers.1", "layers.0"))


def test_files_that_are_not_there_are_named(copy: Path, checkpoint: Checkpoint) -> None:
    whole = (copy / WEIGHTS_FILE).read_bytes()
    (copy / WEIGHTS_FILE).write_bytes(whole[:-9])
    with pytest.raises(CheckpointError, match="cut off"):
        open_adapter(copy, checkpoint.shape)
    (copy / WEIGHTS_FILE).rename(copy / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="pickled weights are not read"):
        open_adapter(copy, checkpoint.shape)
    with pytest.raises(CheckpointError, match="no folder"):
        open_adapter(copy / "nowhere", checkpoint.shape)
    (copy / WEIGHTS_FILE).write_bytes(whole)
    (copy / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match="adapter_config.json is missing"):
        open_adapter(copy, checkpoint.shape)


def test_a_mixture_is_known_by_its_tensors(checkpoint: Checkpoint) -> None:
    """Gemma's own gate_proj chooses nothing."""
    layer = "language_model.model.layers.0.mlp."
    for key in ("router.weight", "experts.0.lora_A.weight", "gate.weight", "lora_router.weight"):
        reason = mole_reason([layer + "gate_proj.weight", layer + key])
        assert reason is not None and layer + key in reason
    plain = [place.key for place in checkpoint.places.values()]
    assert any("gate_proj" in key for key in plain)
    assert mole_reason([*plain, layer + "gate_proj.lora_A.weight", layer + "gate_up_proj"]) is None


GGUF_NAMES = {
    **{f"attn_{part}": f"self_attn.{part}_proj" for part in "qkv"},
    "attn_output": "self_attn.o_proj",
    **{f"ffn_{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")},
}


def products(path: Path) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Multiply a GGUF's matrices as llama.cpp does."""
    from gguf import GGUFReader

    reader = GGUFReader(path)
    field = reader.get_field("adapter.lora.alpha")
    assert field is not None
    alpha = float(field.contents())
    found = {tensor.name: np.array(tensor.data, np.float32) for tensor in reader.tensors}
    downs = {name[:-7]: down for name, down in found.items() if name.endswith(".lora_a")}
    return {
        name: np.float32(alpha / len(down)) * (found[f"{name}.lora_b"] @ down)
        for name, down in downs.items()
    }


@pytest.mark.parametrize("kind", ["plain", "rank-stabilised", "patterns", "patterns, stabilised"])
def test_the_gguf_adds_what_peft_adds(
    base: Path, checkpoint: Checkpoint, tmp_path: Path, kind: str
) -> None:
    adapter = open_adapter(write_lora(base, tmp_path, **KINDS[kind]), checkpoint.shape)
    write_adapter(adapter, checkpoint, tmp_path / "x.gguf")
    found = products(tmp_path / "x.gguf")
    assert len(found) == len(adapter.targets) == 7 * checkpoint.shape.layers
    for short, name in GGUF_NAMES.items():
        for layer in range(checkpoint.shape.layers):
            delta = adapter.delta(f"language_model.layers.{layer}.{name}.weight")
            assert delta is not None
            ours = found[f"blk.{layer}.{short}.weight"]
            assert np.abs(ours - delta.numpy()).max() < 1e-6 < np.abs(ours).max()


def test_the_gguf_has_the_query_factor(make_checkpoint: Any, tmp_path: Path) -> None:
    base = make_checkpoint("scaled_queries")
    checkpoint = open_checkpoint(base)
    adapter = open_adapter(write_lora(base, tmp_path), checkpoint.shape)
    write_adapter(adapter, checkpoint, tmp_path / "x.gguf")
    found, factor = products(tmp_path / "x.gguf"), query_factor(checkpoint.shape, 144)
    queries, keys = (
        adapter.delta(QUERIES),
        adapter.delta(QUERIES.replace("q_proj", "k_proj")),
    )
    assert queries is not None and keys is not None and factor != 1
    assert np.allclose(found["blk.1.attn_q.weight"], queries.numpy() * factor, atol=1e-6)
    assert np.allclose(found["blk.1.attn_k.weight"], keys.numpy(), atol=1e-6)


def test_a_plain_adapter_keeps_its_alpha(
    plain: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """So that the file means to other tools what it means here."""
    write_adapter(open_adapter(plain, checkpoint.shape), checkpoint, tmp_path / "x.gguf")
    assert Weights(tmp_path / "x.gguf").values["adapter.lora.alpha"] == 12


APART: dict[str, tuple[dict[str, Any], str]] = {
    "vision": ({"target_modules": ".*(q_proj|fc1)"}, "vision_tower.*--adapter"),
    "projector": ({"target_modules": ".*(q_proj|linear)"}, r"multi_modal_projector.*--adapter"),
    "whole projector": ({"modules_to_save": ["multi_modal_projector"]}, "projector.*--adapter"),
    "whole table": (KINDS["whole tied table"], "embed_tokens.*--adapter"),
}


@pytest.mark.parametrize("case", APART)
def test_only_the_language_models_layers_can_be_kept_apart(
    base: Path, checkpoint: Checkpoint, tmp_path: Path, case: str
) -> None:
    config, message = APART[case]
    adapter = open_adapter(write_lora(base, tmp_path, **config), checkpoint.shape)
    assert isinstance(adapter, LoraAdapter)
    with pytest.raises(ConversionError, match=message):
        write_adapter(adapter, checkpoint, tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()
