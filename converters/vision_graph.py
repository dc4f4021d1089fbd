"""The vision encoder's ONNX graph, drawn without its weights, in float32 or rewritten for int8.

Owns: how the graph is drawn and which tensor of the checkpoint each of its weights is. The exporter
never sees the real ones: torch's parameters, its own copies and the file would be 5 GB at full
size. `vision_weights.py` puts them in. Knows nothing of which matrices should be shrunk.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from uservlm.converters.checkpoint import Checkpoint
from uservlm.converters.errors import ConversionError
from uservlm.converters.vision_weights import vision_weights
from uservlm.runtime.telemetry import silence_telemetry
from uservlm.runtime.vision_onnx import INPUT, OUTPUT

if TYPE_CHECKING:
    import torch
    from onnx import GraphProto, ModelProto
    from transformers import PaliGemmaConfig

OPSET = 18
STAND_IN_FEED_FORWARD = 16
"""Inner width of the stand-in's MLPs: no constant of the graph depends on it, and tracing at the
full 4304 would take three times as long."""

_LAYER = re.compile(r"\.layers\.\d+\.")


@dataclass(frozen=True)
class VisionGraph:
    """A graph whose weights are placeholders of one element."""

    model: ModelProto
    matrices: dict[str, str]
    """Linear layers by their names in the checkpoint, and the MatMul node of each."""


def module_with_projector(config: PaliGemmaConfig) -> torch.nn.Module:
    """Build SigLIP and projector from transformers' classes; the weights are not set.

    Its forward takes `pixel_values` float32 [batch, 3, S, S] and gives float32 [batch, N, d].
    """
    import torch
    from transformers import SiglipVisionModel
    from transformers.modeling_utils import no_init_weights
    from transformers.models.paligemma.modeling_paligemma import PaliGemmaMultiModalProjector

    class VisionWithProjector(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = config.vision_config
            self.vision_tower = SiglipVisionModel(config.vision_config)
            self.multi_modal_projector = PaliGemmaMultiModalProjector(config)

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            hidden = self.vision_tower(pixel_values).last_hidden_state
            features: torch.Tensor = self.multi_modal_projector(hidden)
            return features

    with no_init_weights():
        return VisionWithProjector().eval()


def draw_graph(checkpoint: Checkpoint) -> VisionGraph:
    """Draw the float32 graph of a checkpoint's shape; no weight is read.

    Raises:
        ConversionError: the exporter named the weights in a way that is not understood.
    """
    silence_telemetry()
    import onnx
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

    module = _stand_in(checkpoint.config)
    config = VisionWithProjectorOnnxConfig(module.config, task="feature-extraction")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        shapes = {"batch_size": 1}
        export(model=module, config=config, output=path, opset=OPSET, input_shapes=shapes)
        model = onnx.load(path)
    graph = VisionGraph(model, _name_weights(model.graph))
    found = {weight.name for weight in model.graph.initializer}
    if strange := sorted(found.symmetric_difference(vision_weights(checkpoint))):
        raise ConversionError(
            f"the drawn vision graph does not have the checkpoint's weights: {strange[:6]}; "
            "install the versions of torch and optimum-onnx that constraints.txt names"
        )
    return graph


def with_int8(graph: VisionGraph, kept: Collection[str] = ()) -> ModelProto:
    """Rewrite the graph by onnxruntime's dynamic quantisation, the matrices `kept` left alone.

    Signed weights, because VNNI multiplies them 2.5 times faster; on processors that would saturate
    them the runtime asks for unsigned ones (`runtime/vision.py`; DESIGN section 4, fact 13).
    """
    silence_telemetry()
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Its advice to pre-process the graph first does not apply: the exporter folded the constants.
    advice = _Without("Please consider to run pre-processing")
    logging.getLogger().addFilter(advice)
    try:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "graph.onnx"
            quantize_dynamic(
                graph.model,
                path,
                op_types_to_quantize=["MatMul"],
                nodes_to_exclude=[graph.matrices[name] for name in kept],
                weight_type=QuantType.QInt8,
                per_channel=True,
                # Placeholders tell shape inference nothing.
                extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
            )
            model = onnx.load(path)
    finally:
        logging.getLogger().removeFilter(advice)
    # What was inferred from the placeholders' sizes.
    model.graph.ClearField("value_info")
    return model


def _stand_in(config: PaliGemmaConfig) -> torch.nn.Module:
    """Build a module of the same shape whose layers share one layer's weights, narrow in the MLP.

    Values are random because the exporter merges equal tensors; shared ones it names one by one.
    """
    import torch

    config = copy.deepcopy(config)
    config.vision_config.intermediate_size = STAND_IN_FEED_FORWARD
    module = module_with_projector(config)
    generator = torch.Generator().manual_seed(0)
    drawn: dict[str, torch.Tensor] = {}
    for name, tensor in module.state_dict().items():
        first = _LAYER.sub(".layers.0.", name)
        if first not in drawn:
            drawn[first] = torch.rand(tensor.shape, generator=generator) * 0.01
        drawn[name] = drawn[first]
    module.load_state_dict(drawn, strict=True, assign=True)
    return module


def _name_weights(graph: GraphProto) -> dict[str, str]:
    """Give every weight of the graph its name in the checkpoint, with a placeholder as its value.

    The exporter writes one of several equal weights, and an Identity node for each of the others;
    transposed ones it numbers, but their MatMul nodes are named after the layer they belong to.

    Returns:
        Linear layers by their names in the checkpoint, and the MatMul node of each.
    """
    from onnx.numpy_helper import from_array

    weights = {weight.name: len(weight.dims) for weight in graph.initializer}
    copies = [node for node in graph.node if node.op_type == "Identity"]
    twins = [node for node in copies if node.input[0] in weights]
    for node in twins:
        weights[node.output[0]] = weights[node.input[0]]
        graph.node.remove(node)
    matrices = {}
    used = {}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            matrix = node.name.strip("/").removesuffix("/MatMul").replace("/", ".")
            matrices[matrix] = node.name
            used[f"{matrix}.weight"] = 2
            node.input[1] = f"{matrix}.weight"
        else:
            used.update({name: weights[name] for name in node.input if name in weights})
    graph.ClearField("initializer")
    for name, rank in used.items():
        graph.initializer.append(from_array(np.zeros((1,) * rank, np.float32), name))
    return matrices


class _Without(logging.Filter):
    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words

    def filter(self, record: logging.LogRecord) -> bool:
        return self.words not in record.getMessage()
