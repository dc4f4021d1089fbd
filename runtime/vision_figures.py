"""What a manifest says of a bundle's vision files beside their precision: part of `manifest.json`.

Owns: which files there may be, and what was measured of `vision.gguf`. Knows nothing of how they
are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

VisionKind: TypeAlias = Literal["onnx", "ggml"]
"""What computes the features: onnxruntime or ggml."""
VISION_FILES: Final[dict[VisionKind, str]] = {"onnx": "vision.onnx", "ggml": "vision.gguf"}
"""The file that each of them reads; a bundle holds one of them or both."""


@dataclass(frozen=True)
class GgmlVisionWeights:
    """How `vision.gguf` is stored, and how near it is to float32."""

    kind: str
    """q8_0 or f32."""
    pictures: int
    """How many it was measured on."""
    own_pictures: bool
    """Pictures given with --calibration; otherwise drawn people."""
    cosine: float
    """Lowest mean-token cosine of a picture against the original in float32."""
    lowest_token_cosine: float
    """Of the single worst token of all pictures."""
    threshold: float
    """What `cosine` had to reach."""
    plain: tuple[str, ...]
    """Matrices in float32, by their names in the checkpoint: all of f32; of q8_0 those whose rows
    are no multiple of 32, and the patch and position embeddings, which are small."""
