"""SigLIP and the projector of a checkpoint as one ONNX graph, in float32 or with int8 weights.

Owns: the graph's input and output, how it is exported and made smaller, and the gate that decides
whether the smaller one may stand in. Knows nothing of the language model: features are what the
projector gives, not divided by √d.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from uservlm.converters import names
from uservlm.converters.checkpoint import Checkpoint
from uservlm.runtime.vision import INPUT, OUTPUT, silence_telemetry

if TYPE_CHECKING:
    import torch
    from onnxruntime import InferenceSession

Pixels = npt.NDArray[np.float32]
"""float32 [batch, 3, S, S]."""
Features = npt.NDArray[np.float32]
"""float32 [batch, N, d]."""

OPSET = 18
INT8_COSINE = 0.99
"""Lowest mean-token cosine against float32, over the calibration pictures, that int8 may have."""


def vision_module(checkpoint: Checkpoint) -> torch.nn.Module:
    """Build SigLIP and projector from transformers' classes, every weight loaded strictly.

    Its forward takes `pixel_values` float32 [batch, 3, S, S] and gives float32 [batch, N, d].
    """
    import torch
    from transformers import SiglipVisionModel
    from transformers.modeling_utils import no_init_weights
    from transformers.models.paligemma.modeling_paligemma import PaliGemmaMultiModalProjector

    class VisionWithProjector(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = checkpoint.config.vision_config
            self.vision_tower = SiglipVisionModel(checkpoint.config.vision_config)
            self.multi_modal_projector = PaliGemmaMultiModalProjector(checkpoint.config)

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            hidden = self.vision_tower(pixel_values).last_hidden_state
            features: torch.Tensor = self.multi_modal_projector(hidden)
            return features

    with no_init_weights():
        module = VisionWithProjector()
    ours = [name for name in checkpoint.places if name.startswith((names.VISION, names.PROJECTOR))]
    module.load_state_dict({name: checkpoint.read(name) for name in ours}, strict=True, assign=True)
    return module.eval()


def export_vision(checkpoint: Checkpoint, path: Path) -> list[Path]:
    """Write the float32 graph to `path` and give the files it consists of.

    Past 2 GB the weights lie in a second file beside it, which the bundle must list too.
    """
    silence_telemetry()
    from optimum.exporters.onnx import export  # type: ignore[import-untyped]
    from optimum.exporters.onnx.config import VisionOnnxConfig  # type: ignore[import-untyped]
    from optimum.utils import NormalizedVisionConfig  # type: ignore[import-untyped]

    class VisionWithProjectorOnnxConfig(VisionOnnxConfig):  # type: ignore[misc]
        NORMALIZED_CONFIG_CLASS = NormalizedVisionConfig

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            return {INPUT: {0: "batch"}}

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            return {OUTPUT: {0: "batch"}}

    module = vision_module(checkpoint)
    config = VisionWithProjectorOnnxConfig(
        checkpoint.config.vision_config, task="feature-extraction"
    )
    export(model=module, config=config, output=path, opset=OPSET)
    return sorted(path.parent.glob(path.name + "*"))


def shrink_vision(source: Path, target: Path) -> None:
    """Write the graph again with uint8 weights in every MatMul; activations follow as it runs.

    QUInt8, because signed weights saturate on processors with AVX2 and without VNNI (DESIGN
    section 4, fact 13).
    """
    silence_telemetry()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Its advice to pre-process the graph first does not apply: the exporter folded the constants.
    advice = _Without("Please consider to run pre-processing")
    logging.getLogger().addFilter(advice)
    try:
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            weight_type=QuantType.QUInt8,
            per_channel=True,
        )
    finally:
        logging.getLogger().removeFilter(advice)


def open_vision(path: Path) -> InferenceSession:
    """Open a graph in onnxruntime on the CPU."""
    silence_telemetry()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_vision(session: InferenceSession, pixels: Pixels) -> Features:
    """Run the graph: float32 [batch, 3, S, S] to float32 [batch, N, d]."""
    features: Features = session.run([OUTPUT], {INPUT: pixels})[0]
    return features


def mean_token_cosine(first: Features, second: Features) -> float:
    """Give the cosine of each pair of rows, averaged over rows; float arrays [..., N, d]."""
    product = (first * second).sum(-1)
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    return float(np.mean(product / np.maximum(lengths, 1e-12)))


def lowest_cosine(reference: Path, candidate: Path, pictures: list[Pixels]) -> float:
    """Give the worst picture's mean-token cosine between two graphs."""
    first, second = open_vision(reference), open_vision(candidate)
    return min(
        mean_token_cosine(run_vision(first, pixels), run_vision(second, pixels))
        for pixels in pictures
    )


class _Without(logging.Filter):
    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words

    def filter(self, record: logging.LogRecord) -> bool:
        return self.words not in record.getMessage()
