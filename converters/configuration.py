"""The config.json of a checkpoint: a PaliGemma 2 this project can run, or a refusal that says why.

Owns: which configurations are supported and the sizes they imply. Knows nothing of tensors.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uservlm.converters.errors import CheckpointError
from uservlm.converters.names import Shape

if TYPE_CHECKING:
    from transformers import PaliGemmaConfig

FAMILY = ("paligemma", "gemma2", "siglip_vision_model")
"""model_type of the whole, of text_config and of vision_config."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: missing, not JSON, or not an object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: give a folder in Hugging Face layout") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is damaged: it holds no JSON object")
    return data


def read_config(path: Path) -> PaliGemmaConfig:
    """Parse with transformers, whose defaults real configurations rely on.

    Raises:
        CheckpointError: missing, damaged, another family, or something llama.cpp's gemma2 graph
            or the vision graph would compute differently.
    """
    from transformers import PaliGemmaConfig

    raw = read_json(path)
    text, vision = raw.get("text_config"), raw.get("vision_config")
    found = (raw.get("model_type"), _model_type(text), _model_type(vision))
    if found != FAMILY:
        raise CheckpointError(
            f"{path} describes {found}, not {FAMILY}: only PaliGemma 2 is supported"
        )
    try:
        config = PaliGemmaConfig.from_dict(raw)
        _check_supported(path, config)
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return config


def shape_of(config: PaliGemmaConfig) -> Shape:
    """Give the sizes every tensor's shape follows from."""
    text, vision = config.text_config, config.vision_config
    return Shape(
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        vision_width=vision.hidden_size,
        vision_feed_forward=vision.intermediate_size,
        vision_layers=vision.num_hidden_layers,
        width=text.hidden_size,
        feed_forward=text.intermediate_size,
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        head_dim=text.head_dim,
        rows=text.vocab_size,
    )


def _model_type(part: object) -> object:
    return part.get("model_type") if isinstance(part, dict) else None


def _check_supported(path: Path, config: PaliGemmaConfig) -> None:
    text, vision = config.text_config, config.vision_config
    kinds = ("sliding_attention", "full_attention")
    alternating = [kinds[layer % 2] for layer in range(text.num_hidden_layers)]
    heads, kv_heads = text.num_attention_heads, text.num_key_value_heads
    required = (
        ("text_config.hidden_activation", text.hidden_activation, "gelu_pytorch_tanh"),
        ("text_config.attention_bias", text.attention_bias, False),
        ("text_config.layer_types", list(text.layer_types), alternating),
        ("text_config.rope_scaling", getattr(text, "rope_scaling", None), None),
        ("text_config: heads % kv_heads", heads % kv_heads, 0),
        ("vision_config.num_channels", vision.num_channels, 3),
        ("vision_config: size % patch", vision.image_size % vision.patch_size, 0),
        ("vision_config: width % heads", vision.hidden_size % vision.num_attention_heads, 0),
        ("projection_dim", vision.projection_dim, text.hidden_size),
    )
    for what, value, wanted in required:
        if value != wanted:
            raise CheckpointError(f"{path}: {what} is {value!r}, supported is {wanted!r}")
