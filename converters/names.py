"""The names of PaliGemma 2's tensors: one table of what there is, one of how it was called when.

Owns: the canonical names (those of transformers 4.57 without the leading `model.`), their shapes,
and the prefixes every generation of checkpoints used. Knows nothing of files or values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

VISION = "vision_tower.vision_model."
PROJECTOR = "multi_modal_projector."
LANGUAGE = "language_model."
HEAD = "lm_head.weight"
EMBEDDINGS = LANGUAGE + "embed_tokens.weight"

PREFIXES: tuple[tuple[str, str], ...] = (
    ("model.vision_tower.vision_model.", VISION),
    ("model.vision_tower.", VISION),
    ("vision_tower.vision_model.", VISION),
    ("vision_tower.", VISION),
    ("model.multi_modal_projector.", PROJECTOR),
    ("multi_modal_projector.", PROJECTOR),
    ("model.language_model.lm_head.", "lm_head."),
    ("language_model.lm_head.", "lm_head."),
    ("model.lm_head.", "lm_head."),
    ("lm_head.", "lm_head."),
    ("model.language_model.model.", LANGUAGE),
    ("model.language_model.", LANGUAGE),
    ("language_model.model.", LANGUAGE),
    ("language_model.", LANGUAGE),
)
"""What a stored name may begin with and what that means; the first match counts, so longer first.

transformers < 4.52 wrote `language_model.model.*`, 4.52 to 4.57 `model.language_model.*` (saved
under the old names by `save_pretrained`), 5.x dropped `vision_model.` (DESIGN section 4, fact 6).
"""


@dataclass(frozen=True)
class Shape:
    """The sizes every tensor's shape follows from, by the names of config.json."""

    image_size: int
    patch_size: int
    vision_width: int
    vision_feed_forward: int
    vision_layers: int
    width: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rows: int
    """Of the token-embedding table."""

    @property
    def image_tokens(self) -> int:
        """N, the number of patches."""
        return (self.image_size // self.patch_size) ** 2


Table = tuple[tuple[str, tuple[str, ...]], ...]

_VISION: Table = (
    ("embeddings.patch_embedding.weight", ("vision_width", "3", "patch_size", "patch_size")),
    ("embeddings.patch_embedding.bias", ("vision_width",)),
    ("embeddings.position_embedding.weight", ("image_tokens", "vision_width")),
    ("post_layernorm.weight", ("vision_width",)),
    ("post_layernorm.bias", ("vision_width",)),
)
_VISION_LAYER: Table = (
    ("layer_norm1.weight", ("vision_width",)),
    ("layer_norm1.bias", ("vision_width",)),
    ("layer_norm2.weight", ("vision_width",)),
    ("layer_norm2.bias", ("vision_width",)),
    ("self_attn.q_proj.weight", ("vision_width", "vision_width")),
    ("self_attn.q_proj.bias", ("vision_width",)),
    ("self_attn.k_proj.weight", ("vision_width", "vision_width")),
    ("self_attn.k_proj.bias", ("vision_width",)),
    ("self_attn.v_proj.weight", ("vision_width", "vision_width")),
    ("self_attn.v_proj.bias", ("vision_width",)),
    ("self_attn.out_proj.weight", ("vision_width", "vision_width")),
    ("self_attn.out_proj.bias", ("vision_width",)),
    ("mlp.fc1.weight", ("vision_feed_forward", "vision_width")),
    ("mlp.fc1.bias", ("vision_feed_forward",)),
    ("mlp.fc2.weight", ("vision_width", "vision_feed_forward")),
    ("mlp.fc2.bias", ("vision_width",)),
)
_PROJECTOR: Table = (
    ("linear.weight", ("width", "vision_width")),
    ("linear.bias", ("width",)),
)
_LANGUAGE: Table = (
    ("embed_tokens.weight", ("rows", "width")),
    ("norm.weight", ("width",)),
)
_LANGUAGE_LAYER: Table = (
    ("input_layernorm.weight", ("width",)),
    ("post_attention_layernorm.weight", ("width",)),
    ("pre_feedforward_layernorm.weight", ("width",)),
    ("post_feedforward_layernorm.weight", ("width",)),
    ("self_attn.q_proj.weight", ("heads*head_dim", "width")),
    ("self_attn.k_proj.weight", ("kv_heads*head_dim", "width")),
    ("self_attn.v_proj.weight", ("kv_heads*head_dim", "width")),
    ("self_attn.o_proj.weight", ("width", "heads*head_dim")),
    ("mlp.gate_proj.weight", ("feed_forward", "width")),
    ("mlp.up_proj.weight", ("feed_forward", "width")),
    ("mlp.down_proj.weight", ("width", "feed_forward")),
)


def expected(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Every canonical name the checkpoint must hold, with its shape; the tied head not counted."""
    return {
        prefix + name: tuple(_size(term, shape) for term in terms)
        for prefix, table in _tables(shape)
        for name, terms in table
    }


def canonical(stored: str) -> str | None:
    """Translate a stored name, or None when no generation began a name like that."""
    for prefix, meaning in PREFIXES:
        if stored.startswith(prefix):
            return meaning + stored[len(prefix) :]
    return None


def _tables(shape: Shape) -> Iterator[tuple[str, Table]]:
    yield VISION, _VISION
    for layer in range(shape.vision_layers):
        yield f"{VISION}encoder.layers.{layer}.", _VISION_LAYER
    yield PROJECTOR, _PROJECTOR
    yield LANGUAGE, _LANGUAGE
    for layer in range(shape.layers):
        yield f"{LANGUAGE}layers.{layer}.", _LANGUAGE_LAYER


def _size(term: str, shape: Shape) -> int:
    product = 1
    for factor in term.split("*"):
        product *= int(factor) if factor.isdigit() else int(getattr(shape, factor))
    return product


def weights(shape: Shape, prefix: str = "") -> int:
    """Count the weights of all tensors whose canonical name begins with `prefix`."""
    return sum(math.prod(size) for name, size in expected(shape).items() if name.startswith(prefix))
