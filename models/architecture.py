"""The pocket model's shape: PaliGemma 2 in miniature, every mechanism of the large one kept.

Owns: the numbers. Hidden sizes and feed-forward widths are multiples of 256 so that llama.cpp's
K-quants apply; grouped-query attention, both softcaps, alternating sliding layers, tied embeddings
and a head size that divides nothing by accident are there so that a converter which gets the pocket
right has met what it will meet at 3B.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uservlm.models.shapes import Architecture

if TYPE_CHECKING:
    from transformers import PaliGemmaConfig

IMAGE_SIZE = 112
PATCH = 14
IMAGE_TOKENS = (IMAGE_SIZE // PATCH) ** 2
PAD, EOS, BOS = 0, 1, 2
"""Gemma's ids; `vocabulary.py` trains its pieces to them."""
PIECES = 2048
"""SentencePiece vocabulary; `<image>` is the first id after it."""
ROWS = 2112
"""Rows of the embedding table: pieces, `<image>` and padding, as 257 152 becomes 257 216 at 3B."""


def pocket_config() -> PaliGemmaConfig:
    """Give the configuration that is written to the checkpoint's config.json."""
    from transformers import PaliGemmaConfig

    return PaliGemmaConfig(
        image_token_index=PIECES,
        projection_dim=256,
        hidden_size=256,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=BOS,
        vision_config={
            "model_type": "siglip_vision_model",
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH,
            "hidden_size": 256,
            "intermediate_size": 512,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "projection_dim": 256,
            "vision_use_head": False,
        },
        text_config={
            "model_type": "gemma2",
            "vocab_size": ROWS,
            "hidden_size": 256,
            "intermediate_size": 512,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "query_pre_attn_scalar": 64,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "sliding_window": 4096,
            "max_position_embeddings": 8192,
            "hidden_activation": "gelu_pytorch_tanh",
            "num_image_tokens": IMAGE_TOKENS,
            "pad_token_id": PAD,
            "eos_token_id": EOS,
            "bos_token_id": BOS,
            "attn_implementation": "eager",
        },
    )


def pocket_shape(image_size: int = IMAGE_SIZE) -> Architecture:
    """Give its sizes as those of a catalog entry, for pictures of any size.

    Args:
        image_size: pixels of the square picture's side, a multiple of PATCH.
    """
    config = pocket_config()
    vision, text = config.vision_config, config.text_config
    return Architecture(
        image_size=image_size,
        vision_width=vision.hidden_size,
        vision_feed_forward=vision.intermediate_size,
        vision_layers=vision.num_hidden_layers,
        vision_heads=vision.num_attention_heads,
        width=text.hidden_size,
        feed_forward=text.intermediate_size,
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        head_dim=text.head_dim,
        scalar=text.query_pre_attn_scalar,
        rows=ROWS,
    )
