"""The config.json of a checkpoint: a PaliGemma 2 this project can run, or a refusal that says why.

Owns: which configurations are supported and the sizes they imply. Knows nothing of tensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from uservlm.converters.errors import CheckpointError
from uservlm.converters.files import read_json
from uservlm.converters.names import Shape
from uservlm.converters.shards import way_from_quantised

if TYPE_CHECKING:
    from transformers import PaliGemmaConfig

FAMILY = ("paligemma", "gemma2", "siglip_vision_model")
"""model_type of the whole, of text_config and of vision_config."""
SUPPORTED = "only PaliGemma 2 is supported (a SigLIP vision model and Gemma 2, as User-VLM is)"
ACTIVATION = "gelu_pytorch_tanh"
LARGEST, LARGEST_WHOLE = 3.4e38, (1 << 31) - 1
"""Of the numbers that a GGUF file holds: float32 and, to be safe everywhere, int32."""
SIZES: dict[str, tuple[str, ...]] = {
    "text_config": (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings",
        "sliding_window",
    ),
    "vision_config": (
        "image_size", "patch_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads",
    ),
}  # fmt: skip
"""What must be a whole number above 0."""
CAPS = ("attn_logit_softcapping", "final_logit_softcapping")
"""Of text_config: a number above 0, or null for none."""
ROOM = 128
"""Tokens beside the picture's that the shortest question and its answer take, generously."""


def read_config(path: Path) -> PaliGemmaConfig:
    """Parse with transformers, whose defaults real configurations rely on.

    Raises:
        CheckpointError: missing, damaged, another family, quantised, or something llama.cpp's
            gemma2 graph or the vision graph would compute differently.
    """
    from transformers import PaliGemmaConfig

    raw = read_json(path)
    _check_family(path, raw)
    _check_unquantised(path, raw)
    try:
        config = PaliGemmaConfig.from_dict(_as_4_57(path, raw))
        _check_types(path, config)
        _check_supported(path, config)
        _check_room(path, config)
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{path} is damaged: {error}; fetch it again") from error
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


def _check_family(path: Path, raw: dict[str, Any]) -> None:
    """Refuse other models by what they are called."""
    whole = raw.get("model_type")
    if whole != FAMILY[0]:
        raise CheckpointError(f"{path} describes a model of type {whole!r}: {SUPPORTED}")
    for part, wanted in zip(("text_config", "vision_config"), FAMILY[1:], strict=True):
        settings = raw.get(part)
        found = settings.get("model_type") if isinstance(settings, dict) else None
        if found == "gemma":
            raise CheckpointError(f"{path} describes PaliGemma 1 ({part}: 'gemma'): {SUPPORTED}")
        if found != wanted:
            raise CheckpointError(f"{path} says {part} is {found!r}, not {wanted!r}: {SUPPORTED}")


def _check_unquantised(path: Path, raw: dict[str, Any]) -> None:
    settings = raw.get("quantization_config") or raw["text_config"].get("quantization_config")
    if settings:
        method = settings.get("quant_method") if isinstance(settings, dict) else settings
        raise CheckpointError(
            f"{path} describes a quantised checkpoint ({method}): {way_from_quantised()}"
        )


def _as_4_57(path: Path, raw: dict[str, Any]) -> dict[str, Any]:
    """Rewrite what transformers 5 says in other words, which 4.57 would take no notice of.

    5.x writes `rope_parameters` {rope_type, rope_theta} for `rope_theta` and `rope_scaling`. A
    vision model without `vision_use_head` gets one in transformers; PaliGemma never looks at it.
    """
    text, vision = dict(raw["text_config"]), {"vision_use_head": False, **raw["vision_config"]}
    rope = text.pop("rope_parameters", None) or {}
    kind = rope.get("rope_type", rope.get("type", "default")) if isinstance(rope, dict) else rope
    if kind != "default" or {*rope} - {"rope_type", "type", "rope_theta"}:
        raise _unsupported(path, "text_config.rope_parameters", rope, "rope_type 'default' alone")
    if "rope_theta" in rope:
        text["rope_theta"] = rope["rope_theta"]
    scaling = text.get("rope_scaling")
    if scaling and scaling != {"rope_type": "default"}:
        raise _unsupported(path, "text_config.rope_scaling", scaling, "none")
    return {**raw, "text_config": {**text, "rope_scaling": None}, "vision_config": vision}


def _check_types(path: Path, config: PaliGemmaConfig) -> None:
    """Refuse sizes and caps that are none before anything is computed with them."""
    for part, keys in SIZES.items():
        for key in keys:
            value = getattr(getattr(config, part), key)
            if type(value) is not int or not 0 < value <= LARGEST_WHOLE:
                raise _damaged(path, f"{part}.{key}", value, "a whole number above 0")
    for key in CAPS:
        value = getattr(config.text_config, key)
        number = type(value) in (int, float) and 0 < value < LARGEST
        if value is not None and not number:
            raise _damaged(path, f"text_config.{key}", value, "a number above 0 or null")


def _check_room(path: Path, config: PaliGemmaConfig) -> None:
    """Refuse a context that does not hold the picture and the shortest question."""
    context, tokens = config.text_config.max_position_embeddings, shape_of(config).image_tokens
    if context < tokens + ROOM:
        raise CheckpointError(
            f"{path}: text_config.max_position_embeddings is {context}, supported is at least "
            f"{tokens + ROOM}: {tokens} tokens are the picture's, and a question needs some too"
        )


def _check_supported(path: Path, config: PaliGemmaConfig) -> None:
    text, vision = config.text_config, config.vision_config
    kinds = ("sliding_attention", "full_attention")
    alternating = [kinds[layer % 2] for layer in range(text.num_hidden_layers)]
    heads, kv_heads = text.num_attention_heads, text.num_key_value_heads
    # transformers 5 writes it; what is absent means True, as PaliGemma was trained.
    both_ways = getattr(text, "use_bidirectional_attention", None) in (None, True)
    required = (
        ("text_config.hidden_activation", text.hidden_activation, ACTIVATION),
        ("text_config.attention_bias", text.attention_bias, False),
        ("text_config.layer_types", list(text.layer_types), alternating),
        ("text_config.use_bidirectional_attention", both_ways, True),
        ("text_config: heads % kv_heads", heads % kv_heads, 0),
        ("vision_config.hidden_act", vision.hidden_act, ACTIVATION),
        ("vision_config.vision_use_head", vision.vision_use_head, False),
        ("vision_config.num_channels", vision.num_channels, 3),
        ("vision_config: size % patch", vision.image_size % vision.patch_size, 0),
        ("vision_config: width % heads", vision.hidden_size % vision.num_attention_heads, 0),
        ("projection_dim", vision.projection_dim, text.hidden_size),
    )
    for what, value, wanted in required:
        if value != wanted:
            raise _unsupported(path, what, value, repr(wanted))
    positive = (
        ("text_config.rope_theta", text.rope_theta),
        ("text_config.rms_norm_eps", text.rms_norm_eps),
        ("text_config.query_pre_attn_scalar", text.query_pre_attn_scalar),
        ("vision_config.layer_norm_eps", vision.layer_norm_eps),
    )
    for what, value in positive:
        if not 0 < value < LARGEST:
            raise _unsupported(path, what, value, "a number above 0")


def _damaged(path: Path, what: str, value: object, wanted: str) -> CheckpointError:
    return CheckpointError(f"{path} is damaged: {what} is {value!r}, not {wanted}; fetch it again")


def _unsupported(path: Path, what: str, value: object, supported: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: {what} is {value!r}, supported is {supported}: "
        "this model computes something that the runtime does not"
    )
