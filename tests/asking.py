"""What the tests of the runtime ask, and of what: one question, one picture, one way to draw."""

from __future__ import annotations

import numpy as np

from uservlm.runtime import Chunk, GenerationOptions

QUESTION = "What should I wear today?"
PICTURE = np.random.default_rng(4).integers(0, 255, (40, 50, 3), dtype=np.uint8)
WARM = GenerationOptions(max_new_tokens=12, temperature=1.0, seed=7)
LONG = GenerationOptions(max_new_tokens=400, temperature=2.0, seed=5)
"""Random weights drawn from this hot speak until they are stopped."""


def texts(chunks: list[Chunk]) -> str:
    """Join a stream."""
    return "".join(chunk.text for chunk in chunks)
