"""A tiny PaliGemma 2 with random weights, saved as transformers saves the real one.

Owns: a handful of shapes no two mechanisms of which look alike, and weights large enough that the
answer depends on picture and question. For tests: it knows no person and no language.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


@dataclass(frozen=True)
class RandomShape:
    """Sizes of a random checkpoint, by the names of config.json."""

    image_size: int = 112
    patch_size: int = 14
    vision_width: int = 96
    vision_feed_forward: int = 160
    vision_layers: int = 2
    vision_heads: int = 4
    width: int = 256
    feed_forward: int = 512
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    scalar: float = 64
    """query_pre_attn_scalar: scores are divided by its root."""
    caps: tuple[float | None, float | None] = (50.0, 30.0)
    """Softcaps of attention scores and logits."""
    padding_rows: int = 50
    """Embedding rows beyond the vocabulary, at least; the total is a multiple of 64."""


SQUARE = RandomShape()
SMALL = RandomShape(image_size=56, layers=3, vision_width=64, vision_feed_forward=96)
SHAPES: dict[str, RandomShape] = {
    "square": SQUARE,
    "small": replace(SMALL, width=128, feed_forward=256, kv_heads=1, head_dim=32, scalar=32),
    "narrow_heads": replace(SMALL, heads=8, kv_heads=4, head_dim=48, scalar=48),
    "scaled_queries": replace(SMALL, head_dim=32, scalar=144),
    "uncapped": replace(SMALL, caps=(None, None)),
}
"""narrow_heads has head_dim ≠ width / heads, scaled_queries a query scale of its own as Gemma 2's
27B, uncapped no softcaps, as the PaliGemma 2 paper trains its last stage."""


def write_random_checkpoint(
    folder: Path,
    tokenizer: Path,
    shape: RandomShape = SQUARE,
    seed: int = 0,
    dtype: str = "bfloat16",
) -> Path:
    """Save a checkpoint into `folder` and return it.

    Args:
        folder: made if it is not there.
        tokenizer: folder whose tokenizer files are copied; it must know `<image>`.
        shape: sizes.
        seed: fixes every weight.
        dtype: bfloat16, float16 or float32, of the stored weights.
    """
    import torch
    from transformers import PaliGemmaForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copy(tokenizer / name, folder / name)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = PaliGemmaForConditionalGeneration(_config(shape, tokenizer))
        _draw(model)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(_preprocessor(shape), encoding="utf-8")
    return folder


def _config(shape: RandomShape, tokenizer: Path) -> PaliGemmaConfig:
    from transformers import AutoTokenizer, PaliGemmaConfig

    words = AutoTokenizer.from_pretrained(tokenizer)
    rows = -(-(len(words) + shape.padding_rows) // 64) * 64
    return PaliGemmaConfig(
        image_token_index=words.convert_tokens_to_ids("<image>"),
        projection_dim=shape.width,
        hidden_size=shape.width,
        pad_token_id=words.pad_token_id,
        eos_token_id=words.eos_token_id,
        bos_token_id=words.bos_token_id,
        vision_config={
            "model_type": "siglip_vision_model",
            "image_size": shape.image_size,
            "patch_size": shape.patch_size,
            "hidden_size": shape.vision_width,
            "intermediate_size": shape.vision_feed_forward,
            "num_hidden_layers": shape.vision_layers,
            "num_attention_heads": shape.vision_heads,
            "projection_dim": shape.width,
            "vision_use_head": False,
        },
        text_config={
            "model_type": "gemma2",
            "vocab_size": rows,
            "hidden_size": shape.width,
            "intermediate_size": shape.feed_forward,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "query_pre_attn_scalar": shape.scalar,
            "attn_logit_softcapping": shape.caps[0],
            "final_logit_softcapping": shape.caps[1],
            "pad_token_id": words.pad_token_id,
            "eos_token_id": words.eos_token_id,
            "bos_token_id": words.bos_token_id,
        },
    )


def _draw(model: PaliGemmaForConditionalGeneration) -> None:
    """Fill every weight: norms off their rest, matrices keeping the size of what they are fed."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.randn_like(weight) * _spread(name, weight) + _centre(name))


def _spread(name: str, weight: torch.Tensor) -> float:
    if "embed_tokens" in name or "lm_head" in name:
        # The head is tied and fed rows of length √width: the logits' std is about 1.
        return float(weight.shape[1] ** -0.5)
    if weight.ndim == 1:
        return 0.1
    if "position_embedding" in name:
        return 0.5
    # More would let attention magnify every rounding, as trained weights do not.
    return float(weight[0].numel() ** -0.5)


def _centre(name: str) -> float:
    if not name.endswith("norm.weight") and "layer_norm" not in name:
        return 0.0
    if "vision_tower" in name:
        return 1.0 if name.endswith("weight") else 0.0
    # Gemma adds 1 itself. What layers add to the stream is trebled, or the tied head would only
    # ever repeat the last token of the prompt.
    return 2.0 if "post_" in name else 0.0


def _preprocessor(shape: RandomShape) -> str:
    side = shape.image_size
    return json.dumps(
        {
            "image_processor_type": "SiglipImageProcessor",
            "processor_class": "PaliGemmaProcessor",
            "do_resize": True,
            "do_rescale": True,
            "do_normalize": True,
            "rescale_factor": 1 / 255,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "image_seq_length": (side // shape.patch_size) ** 2,
            "resample": 3,
            "size": {"height": side, "width": side},
        },
        indent=2,
    )
