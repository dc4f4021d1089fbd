"""The config.json: what every generation of transformers wrote, and what cannot be run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from checkpoints import change_config  # noqa: E402

from uservlm.converters import names  # noqa: E402
from uservlm.converters.checkpoint import open_checkpoint  # noqa: E402
from uservlm.converters.configuration import read_config, shape_of  # noqa: E402
from uservlm.converters.errors import CheckpointError  # noqa: E402

WRITTEN_BY_5: dict[str, object] = {
    "dtype": "bfloat16",
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "use_bidirectional_attention": True,
}
"""What transformers 5.23 writes into text_config beside what 4.57 does."""
PT_448: dict[str, object] = {
    "_vocab_size": 257152,
    "architectures": ["PaliGemmaForConditionalGeneration"],
    "bos_token_id": 2,
    "eos_token_id": 1,
    "hidden_size": 2048,
    "image_token_index": 257152,
    "model_type": "paligemma",
    "num_hidden_layers": 26,
    "pad_token_id": 0,
    "projection_dim": 2304,
    "text_config": {
        "architectures": ["Gemma2ForCausalLM"],
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "model_type": "gemma2",
        "num_hidden_layers": 26,
        "num_image_tokens": 1024,
        "query_pre_attn_scalar": 256,
        "torch_dtype": "float32",
        "vocab_size": 257216,
    },
    "torch_dtype": "bfloat16",
    "vision_config": {
        "hidden_size": 1152,
        "image_size": 448,
        "intermediate_size": 4304,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "num_image_tokens": 1024,
        "patch_size": 14,
        "projection_dim": 2304,
        "vision_use_head": False,
    },
}
"""As sparse as PaliGemma 2's own: heads, head size, softcaps and rope are left to the defaults."""


@pytest.fixture
def folder(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(make_checkpoint("small"), tmp_path / "small")


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        (None, {"model_type": "llava"}, "type 'llava': only PaliGemma 2"),
        (None, {"model_type": "gemma3"}, "type 'gemma3': only PaliGemma 2"),
        (None, {"vision_config": None}, "vision_config is None, not 'siglip_vision_model': only"),
        ("text_config", {"model_type": "gemma"}, "PaliGemma 1 .*: only PaliGemma 2"),
        ("text_config", {"model_type": "gemma3_text"}, "is 'gemma3_text', not 'gemma2'"),
        ("vision_config", {"model_type": "siglip2_vision_model"}, "is 'siglip2_vision_model', not"),
        ("vision_config", {"model_type": "clip_vision_model"}, "is 'clip_vision_model', not"),
        ("vision_config", {"vision_use_head": True}, "vision_use_head is True, supported is False"),
        ("vision_config", {"hidden_act": "quick_gelu"}, "hidden_act is 'quick_gelu', supported is"),
        (
            "vision_config",
            {"layer_norm_eps": 0},
            "layer_norm_eps is 0, supported is a number above",
        ),
        ("text_config", {"attention_bias": True}, "attention_bias"),
        ("text_config", {"hidden_activation": "relu"}, "hidden_activation"),
        ("text_config", {"layer_types": ["full_attention"] * 3}, "layer_types"),
        ("text_config", {"use_bidirectional_attention": False}, "use_bidirectional_attention"),
        (
            "text_config",
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
            "rope_scaling .*yarn",
        ),
        ("text_config", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "'linear'"),
        ("text_config", {"rope_parameters": {"rope_type": "default", "factor": 2.0}}, "'factor'"),
        ("text_config", {"rope_parameters": {"full_attention": {}}}, "'full_attention'"),
        ("text_config", {"rope_theta": -1}, "rope_theta is -1, supported is a number above 0"),
        ("text_config", {"num_hidden_layers": "three"}, "damaged"),
        ("vision_config", {"patch_size": 15}, "size % patch"),
        ("vision_config", {"patch_size": 0}, "damaged"),
        (
            None,
            {"quantization_config": {"quant_method": "bitsandbytes"}},
            "bitsandbytes.*dequantize",
        ),
        ("text_config", {"quantization_config": {"quant_method": "gptq"}}, "quantised .*gptq"),
        (None, {"projection_dim": 2048}, "projection_dim is 2048, supported is 128"),
        ("text_config", {"head_dim": 32.5}, "damaged: text_config.head_dim is 32.5, not a whole"),
        ("text_config", {"head_dim": True}, "damaged: text_config.head_dim is True, not a whole"),
        ("text_config", {"num_key_value_heads": 0}, "num_key_value_heads is 0, not a whole number"),
        ("text_config", {"max_position_embeddings": None}, "max_position_embeddings is None, not"),
        ("text_config", {"max_position_embeddings": 1 << 32}, "is 4294967296, not a whole number"),
        ("text_config", {"sliding_window": None}, "text_config.sliding_window is None, not a whol"),
        ("text_config", {"sliding_window": "a"}, "text_config.sliding_window is 'a', not a whole"),
        ("vision_config", {"image_size": "56"}, "damaged: "),
        ("text_config", {"attn_logit_softcapping": "x"}, "softcapping is 'x', not a number above"),
        ("text_config", {"attn_logit_softcapping": -50.0}, "softcapping is -50.0, not a number ab"),
        ("text_config", {"final_logit_softcapping": 0}, "softcapping is 0, not a number above 0"),
        ("text_config", {"rms_norm_eps": "tiny"}, "damaged: "),
        ("text_config", {"rope_theta": 1e39}, "rope_theta is 1e.39, supported is a number above"),
        (
            "text_config",
            {"max_position_embeddings": 100},
            "max_position_embeddings is 100, supported is at least 144: .*16 tokens .*picture",
        ),
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


@pytest.mark.parametrize("theta", [10000.0, 20000.0])
def test_a_configuration_of_transformers_5_is_read_as_it_is_meant(
    folder: Path, theta: float
) -> None:
    before = open_checkpoint(folder)
    rope = {"rope_theta": theta, "rope_type": "default"}
    change_config(folder, "text_config", **(WRITTEN_BY_5 | {"rope_parameters": rope}))
    config = json.loads((folder / "config.json").read_text())
    for part in (config, config["text_config"], config["vision_config"]):
        part.pop("torch_dtype", None)
    config["text_config"].pop("rope_theta", None)
    config["image_token_id"] = config.pop("image_token_index")
    config.update(transformers_version="5.23.0", dtype="bfloat16", vocab_size=257152)
    (folder / "config.json").write_text(json.dumps(config))
    after = open_checkpoint(folder)
    assert after.shape == before.shape
    assert after.config.text_config.rope_theta == theta
    assert after.config.image_token_index == before.config.image_token_index
    assert before.config.text_config.rope_theta == 10000.0


def test_a_sparse_configuration_gives_the_published_shape(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(PT_448))
    config = read_config(path)
    assert shape_of(config) == names.Shape(
        image_size=448,
        patch_size=14,
        vision_width=1152,
        vision_feed_forward=4304,
        vision_layers=27,
        width=2304,
        feed_forward=9216,
        layers=26,
        heads=8,
        kv_heads=4,
        head_dim=256,
        rows=257216,
    )
    assert shape_of(config).image_tokens == 1024
    text = config.text_config
    assert (text.attn_logit_softcapping, text.final_logit_softcapping) == (50.0, 30.0)
    assert (text.rope_theta, text.query_pre_attn_scalar, text.sliding_window) == (1e4, 256, 4096)
    assert config.vision_config.layer_norm_eps == 1e-6
    assert 3.0e9 < names.weights(shape_of(config)) < 3.1e9
