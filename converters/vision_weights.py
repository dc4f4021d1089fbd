"""The vision encoder's weights on their way from the checkpoint into an ONNX file.

Owns: the file's layout and the rounding to 8 bits. One tensor is held at a time, so that 1.65 GB of
weights cost none of memory. Knows nothing of what the graph computes.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from uservlm.converters import names
from uservlm.converters.checkpoint import Checkpoint

if TYPE_CHECKING:
    from onnx import ModelProto


class WeightStream:
    """Writes graphs with a checkpoint's weights, one tensor at a time.

    8-bit matrices are kept in memory once made (0.4 GB at full size): the gate writes several
    graphs that differ in a few matrices.
    """

    def __init__(self, checkpoint: Checkpoint, matrices: Collection[str]) -> None:
        """Take the linear layers by name: ONNX wants their weights transposed."""
        self._checkpoint = checkpoint
        self._transposed = {f"{matrix}.weight" for matrix in matrices}
        self._integers: dict[str, bytes] = {}

    def write(self, model: ModelProto, path: Path) -> None:
        """Write `model` to `path` with every placeholder replaced.

        A parser joins the fields of a message that comes in pieces, so the file is the graph
        without weights and behind it a piece per tensor (protobuf.dev/programming-guides/encoding,
        section "Last One Wins").

        Raises:
            CheckpointError: see `Checkpoint.read`.
        """
        from onnx import ModelProto

        wanted = {weight.name for weight in model.graph.initializer}
        bare = ModelProto()
        bare.CopyFrom(model)
        bare.graph.ClearField("initializer")
        with path.open("wb") as file:
            file.write(bare.SerializeToString())
            for name in vision_weights(self._checkpoint):
                file.write(self._whole(name) if name in wanted else self._shrunk(name))

    def _whole(self, name: str) -> bytes:
        tensor = self._checkpoint.read(name)
        return _piece({name: (tensor.T if name in self._transposed else tensor).numpy()})

    def _shrunk(self, name: str) -> bytes:
        if name not in self._integers:
            integers, scale = to_int8(self._checkpoint.read(name).numpy())
            self._integers[name] = _piece(
                {
                    f"{name}_quantized": integers.T,
                    f"{name}_scale": scale,
                    f"{name}_zero_point": np.zeros(len(scale), np.int8),
                }
            )
        return self._integers[name]


def to_int8(
    matrix: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Round each row of a matrix to `int8_steps` of its own.

    Args:
        matrix: float32 [rows, columns].

    Returns:
        Integers int8 [rows, columns] from -127 to 127, scale float32 [rows].
    """
    scale = int8_steps(matrix)
    steps = matrix / scale[:, None]
    np.round(steps, out=steps)
    np.clip(steps, -127, 127, out=steps)
    return steps.astype(np.int8), scale


def int8_steps(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Divide each row's range, made symmetric, into 254: value = scale · integer.

    The arithmetic of onnxruntime's `compute_scale_zp` (quantization/quant_utils.py) for all rows of
    float32 [rows, columns] at once; a row is a column of ONNX's transposed matrix.

    Returns:
        Scale float32 [rows].
    """
    scale: npt.NDArray[np.float64] = np.abs(rows).max(axis=1).astype(np.float64) * 2 / 254
    scale[scale < np.finfo(np.float32).tiny] = 1
    return scale.astype(np.float32)


def uint8_steps(
    rows: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Divide each row's range, zero included, into 255: value = scale · (integer - zero point).

    What onnxruntime does to a matrix's inputs while the graph runs; rows float32 [rows, columns].

    Returns:
        Scale float32 [rows], zero point uint8 [rows].
    """
    low, high = np.minimum(rows.min(axis=1), 0), np.maximum(rows.max(axis=1), 0)
    scale = (high.astype(np.float64) - low) / 255
    flat = scale < np.finfo(np.float32).tiny
    scale[flat] = 1
    zero_point = np.where(flat, 0, np.round(-low / scale))
    return scale.astype(np.float32), zero_point.astype(np.uint8)


def vision_weights(checkpoint: Checkpoint) -> list[str]:
    """List the checkpoint's tensors that the vision graph is made of."""
    return [name for name in checkpoint.places if name.startswith((names.VISION, names.PROJECTOR))]


def _piece(tensors: dict[str, npt.NDArray[np.generic]]) -> bytes:
    from onnx import GraphProto, ModelProto
    from onnx.numpy_helper import from_array

    initializers = [
        from_array(np.ascontiguousarray(tensor), name) for name, tensor in tensors.items()
    ]
    piece: bytes = ModelProto(graph=GraphProto(initializer=initializers)).SerializeToString()
    return piece
