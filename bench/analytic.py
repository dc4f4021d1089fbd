"""The FLOPs of PaliGemma 2 by hand: every matrix product of one prefill written down.

Owns: the arithmetic. Knows nothing of torch or of what was counted; the tests hold it against the
counter. A multiply and an add are 2; norms, softmax, activations and rotations are left out, as the
counter leaves them out. Attention is taken over all keys: the prefix is bidirectional, and a window
of 4096 positions limits nothing below 896 px.
"""

from __future__ import annotations

from uservlm.models.shapes import Architecture

CHANNELS = 3
"""Of a picture."""


def vision(shape: Architecture) -> int:
    """FLOPs of SigLIP and the projector for one picture."""
    tokens, width = shape.image_tokens, shape.vision_width
    patches = _product(tokens, CHANNELS * shape.patch_size**2, width)
    projections = 4 * _product(tokens, width, width)
    feed_forward = 2 * _product(tokens, width, shape.vision_feed_forward)
    layer = projections + feed_forward + _attention(tokens, tokens, width)
    return patches + shape.vision_layers * layer + _product(tokens, width, shape.width)


def language(shape: Architecture, computed: int, cached: int = 0) -> int:
    """FLOPs of Gemma 2 for `computed` positions that also attend to `cached` earlier ones.

    The head is computed for the last position alone; only its logits choose a token.
    """
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    projections = 2 * _product(computed, shape.width, queries)
    projections += 2 * _product(computed, shape.width, keys)
    feed_forward = 3 * _product(computed, shape.width, shape.feed_forward)
    layer = projections + feed_forward + _attention(computed, computed + cached, queries)
    return shape.layers * layer + _product(1, shape.width, shape.rows_for(0))


def _product(rows: int, inner: int, columns: int) -> int:
    """FLOPs of [rows, inner] times [inner, columns]."""
    return 2 * rows * inner * columns


def _attention(queries: int, keys: int, width: int) -> int:
    """Scores and their weighted sum, over all heads: `width` is heads times the size of one."""
    return 2 * _product(queries, width, keys)
