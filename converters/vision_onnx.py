"""SigLIP and the projector of a checkpoint, as a torch module and as an ONNX file in float32.

Owns: how both are made and run, and how their features are compared. `vision_graph.py` draws the
graph, `vision_weights.py` fills it, `vision_int8.py` makes it smaller. Knows nothing of the
language model: features are what the projector gives, not divided by √d.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from uservlm.converters.checkpoint import Checkpoint
from uservlm.converters.vision_graph import draw_graph, module_with_projector
from uservlm.converters.vision_weights import WeightStream, vision_weights
from uservlm.runtime.telemetry import silence_telemetry
from uservlm.runtime.vision_onnx import INPUT, OUTPUT, set_int8_products

if TYPE_CHECKING:
    import torch
    from onnxruntime import InferenceSession

Pixels = npt.NDArray[np.float32]
"""float32 [batch, 3, S, S]."""
Features = npt.NDArray[np.float32]
"""float32 [batch, N, d]."""
Tokens = npt.NDArray[np.float32]
"""Cosines, float32 [batch, N]."""

INT8_COSINE = 0.99
"""Lowest mean-token cosine against float32, over the calibration pictures, that int8 may have."""


def vision_module(checkpoint: Checkpoint) -> torch.nn.Module:
    """Build SigLIP and projector from transformers' classes, every weight loaded strictly.

    Its forward takes `pixel_values` float32 [batch, 3, S, S] and gives float32 [batch, N, d].
    """
    module = module_with_projector(checkpoint.config)
    weights = {name: checkpoint.read(name) for name in vision_weights(checkpoint)}
    module.load_state_dict(weights, strict=True, assign=True)
    return module


def reference_features(
    checkpoint: Checkpoint,
    pictures: Sequence[Pixels],
    done: Callable[[int], None] = lambda count: None,
) -> list[Features]:
    """Compute features in float32 by torch: [1, N, d] of each picture [1, 3, S, S].

    The vision tower is loaded whole (1.65 GB at full size) and let go again; `done` is called with
    1 after each picture.
    """
    import torch

    module, found = vision_module(checkpoint), []
    for pixels in pictures:
        with torch.inference_mode():
            found.append(module(torch.from_numpy(pixels)).numpy())
        done(1)
    return found


def export_vision(checkpoint: Checkpoint, path: Path) -> list[Path]:
    """Write the float32 graph to `path` and give the files it consists of.

    At full size (So400m/14, 448 px) it is one file of 1.66 GB, written within 1 GB of memory.

    Raises:
        CheckpointError: see `Checkpoint.read`.
        ConversionError: see `draw_graph`.
    """
    graph = draw_graph(checkpoint)
    WeightStream(checkpoint, graph.matrices).write(graph.model, path)
    return [path]


def open_vision(path: Path) -> InferenceSession:
    """Open a graph in onnxruntime on the CPU."""
    silence_telemetry()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Threads that wait busily take the processor from whatever else the export runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    set_int8_products(options)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_vision(session: InferenceSession, pixels: Pixels) -> Features:
    """Run the graph: float32 [batch, 3, S, S] to float32 [batch, N, d]."""
    features: Features = session.run([OUTPUT], {INPUT: pixels})[0]
    return features


def token_cosines(first: Features, second: Features) -> Tokens:
    """Give the cosine of each pair of rows: float32 [..., N, d] twice to float32 [..., N]."""
    product = (first * second).sum(-1)
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    cosines: Tokens = product / np.maximum(lengths, 1e-12)
    return cosines


def lowest(found: Sequence[Tokens]) -> float:
    """Give the worst picture's mean over its tokens."""
    return min(float(tokens.mean()) for tokens in found)


def mean_token_cosine(first: Features, second: Features) -> float:
    """Give the cosine of each pair of rows, averaged over rows; float arrays [..., N, d]."""
    return float(token_cosines(first, second).mean())
