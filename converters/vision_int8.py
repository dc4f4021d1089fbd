"""The gate of an int8 vision encoder: measured against float32, and mended where it fails.

Owns: which matrices stay in float32 and what that costs, both by measurement. Every trial is a
real graph run by onnxruntime; what a matrix does alone only decides the order of the trials. Knows
nothing of the language model, and keeps nothing of the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uservlm.converters import names
from uservlm.converters.checkpoint import Checkpoint
from uservlm.converters.vision_graph import VisionGraph, draw_graph, with_int8
from uservlm.converters.vision_onnx import (
    INT8_COSINE,
    Features,
    Pixels,
    Tokens,
    lowest,
    open_vision,
    reference_features,
    run_vision,
    token_cosines,
    vision_module,
)
from uservlm.converters.vision_weights import WeightStream, int8_steps, uint8_steps
from uservlm.runtime.manifest import VisionWeights

if TYPE_CHECKING:
    import torch

SAMPLE = 64
"""Tokens on which a matrix's own damage is measured; the ranges come from all of them."""
DROPS = 8
"""Kept matrices that are tried without, at most: every trial is a graph written and run."""

Advance = Callable[[int], None]


def shrink_through_gate(
    checkpoint: Checkpoint,
    target: Path,
    pictures: Sequence[Pixels],
    expected: Sequence[Features] | None,
    own_pictures: bool,
    advance: Advance,
) -> VisionWeights:
    """Write the int8 graph to `target`, as many matrices in float32 as the gate asks for.

    The gate: on every picture the cosine of a token against float32, averaged over the tokens, is
    at least INT8_COSINE. When nothing but all matrices in float32 passes, that is what is written;
    `VisionWeights.matrices` equals the number kept, and the encoder is to be called fp32.

    Args:
        checkpoint: its weights are read tensor by tensor; should plain int8 fail, or `expected` be
            None, the float32 module is loaded too (1.7 GB at full size).
        target: the ONNX file.
        pictures: float32 [1, 3, S, S] each, at least one.
        expected: float32 features [1, N, d] of each picture, or None to compute them here.
        own_pictures: whether the user gave them.
        advance: called with 1 after every picture that was run through a graph.

    Raises:
        CheckpointError: see `Checkpoint.read`.
        ConversionError: see `draw_graph`.
    """
    if expected is None:
        expected = reference_features(checkpoint, pictures)
    graph = draw_graph(checkpoint)
    stream = WeightStream(checkpoint, graph.matrices)
    trial = _Trial(graph, stream, target, pictures, expected, advance)
    everywhere = range(len(pictures))
    plain = found = list(trial.run((), everywhere))
    kept: list[str] = []
    if lowest(plain) < INT8_COSINE:
        worst = int(np.argmin([tokens.mean() for tokens in plain]))
        order = by_damage(checkpoint, pictures[worst], graph.matrices)
        kept, found = _search(trial, order, worst)
    return VisionWeights(
        pictures=len(pictures),
        own_pictures=own_pictures,
        plain_cosine=lowest(plain),
        cosine=lowest(found),
        lowest_token_cosine=min(float(tokens.min()) for tokens in found),
        threshold=INT8_COSINE,
        matrices=len(graph.matrices),
        kept=tuple(sorted(kept, key=list(graph.matrices).index)),
        kept_bytes=sum(_saving(checkpoint, matrix) for matrix in kept),
    )


def by_damage(checkpoint: Checkpoint, pixels: Pixels, matrices: Collection[str]) -> list[str]:
    """Order linear layers by the relative error that int8 alone would put into their outputs.

    One float32 run of one picture [1, 3, S, S]; nothing of it is kept but a number per layer.
    """
    import torch

    module = vision_module(checkpoint)
    damage: dict[str, float] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(layer: torch.nn.Linear, inputs: tuple[torch.Tensor], _: Any) -> None:
            damage[name] = relative_error(layer.weight, inputs[0].flatten(0, -2))

        return hook

    for name in matrices:
        module.get_submodule(name).register_forward_hook(watch(name))
    with torch.inference_mode():
        module(torch.from_numpy(pixels))
    return sorted(matrices, key=lambda name: -damage[name])


def relative_error(weight: torch.Tensor, tokens: torch.Tensor) -> float:
    """Measure what 8 bits do to a linear layer: ‖rough - exact‖ / ‖exact‖ without its bias.

    Weights in 255 steps per output, inputs in 256 steps of one range, as onnxruntime's
    DynamicQuantizeLinear takes them.

    Args:
        weight: float32 [outputs, inputs].
        tokens: float32 [count, inputs].
    """
    import torch

    scale = torch.from_numpy(int8_steps(weight.numpy()))
    zeros = torch.zeros(len(scale), dtype=torch.int32)
    rough = torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -127, 127)
    step, zero = uint8_steps(tokens.flatten()[None].numpy())
    few = tokens[:: max(1, len(tokens) // SAMPLE)]
    exact = few @ weight.T
    rounded = torch.fake_quantize_per_tensor_affine(few, float(step[0]), int(zero[0]), 0, 255)
    return float((rounded @ rough.T - exact).norm() / exact.norm().clamp(min=1e-12))


def shortest(length: int, passes: Callable[[int], bool], failing: int = 0) -> int:
    """Find the smallest count in (failing, length] that passes, by doubling and bisecting.

    `passes(length)` is taken for granted and never asked.
    """
    low, high, step = failing, min(failing + 1, length), 1
    while high < length and not passes(high):
        step *= 2
        low, high = high, min(high + step, length)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class _Trial:
    """A graph with some matrices kept, written and run on some of the pictures."""

    graph: VisionGraph
    stream: WeightStream
    target: Path
    pictures: Sequence[Pixels]
    expected: Sequence[Features]
    advance: Advance

    def run(self, kept: Collection[str], which: Collection[int]) -> Iterator[Tokens]:
        """Give each picture's cosines token by token."""
        self.stream.write(with_int8(self.graph, kept), self.target)
        session = open_vision(self.target)
        for index in which:
            features = run_vision(session, self.pictures[index])
            self.advance(1)
            yield token_cosines(self.expected[index], features)

    def passes(self, kept: Collection[str], which: Collection[int]) -> bool:
        """Tell whether all of them pass; the first that does not ends the trial."""
        return all(tokens.mean() >= INT8_COSINE for tokens in self.run(kept, which))


def _search(trial: _Trial, order: list[str], worst: int) -> tuple[list[str], list[Tokens]]:
    """Keep as few of `order` as pass, looking at few pictures until the choice is made.

    The graph of what is given back was the last one written.
    """
    watched = [worst]
    count = 0
    while True:
        count = shortest(len(order), lambda some: trial.passes(order[:some], watched), count)
        kept = _without_idle(trial, order[:count], watched)
        found = list(trial.run(kept, range(len(trial.pictures))))
        if count == len(order) or lowest(found) >= INT8_COSINE:
            return kept, found
        watched.append(int(np.argmin([tokens.mean() for tokens in found])))


def _without_idle(trial: _Trial, kept: list[str], watched: list[int]) -> list[str]:
    """Drop matrices, least damaged first, that the gate does not need after all.

    The last of the order is needed: without it the search had gone on.
    """
    for matrix in kept[-2::-1][:DROPS]:
        fewer = [name for name in kept if name != matrix]
        if trial.passes(fewer, watched):
            kept = fewer
    return kept


def _saving(checkpoint: Checkpoint, matrix: str) -> int:
    """Bytes that 8 bits save: one instead of four a weight, five more an output."""
    outputs, inputs = names.expected(checkpoint.shape)[f"{matrix}.weight"]
    return 3 * outputs * inputs - 5 * outputs
