"""Pixels to image features: the only file that knows onnxruntime.

Owns: the ONNX session and the check that its graph is the one the manifest describes. Knows nothing
of pictures, users or the language model. onnxruntime is imported when a session is opened, with its
telemetry off: its Linux wheels otherwise write to the home directory (DESIGN section 4, fact 11).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from uservlm.runtime.errors import BundleError, EngineError
from uservlm.runtime.manifest import Architecture

if TYPE_CHECKING:
    import onnxruntime

INPUT: Final = "pixel_values"
OUTPUT: Final = "image_features"


class VisionEncoder:
    """SigLIP and projector as one ONNX graph."""

    def __init__(self, path: Path, architecture: Architecture, threads: int) -> None:
        """Open the graph.

        Args:
            path: `vision.onnx`.
            architecture: what the graph's input and output must fit.
            threads: for one run.

        Raises:
            BundleError: not an ONNX file, or another graph.
        """
        self._shape = (architecture.image_tokens, architecture.width)
        self._session = _open(path, threads)
        side = architecture.image_size
        _check_port(path, self._session.get_inputs(), INPUT, (3, side, side))
        _check_port(path, self._session.get_outputs(), OUTPUT, self._shape)

    def encode(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Run the graph on float32 [1, 3, S, S]; gives float32 [N, d], not divided by √d.

        Raises:
            EngineError: onnxruntime failed, or the features are not finite.
        """
        try:
            features = np.asarray(self._session.run([OUTPUT], {INPUT: pixels})[0])
        except _failures() as error:
            raise EngineError(f"onnxruntime could not run the vision encoder: {error}") from error
        if features.shape != (1, *self._shape) or features.dtype != np.float32:
            raise EngineError(
                f"the vision encoder gave {features.dtype} {features.shape}, "
                f"not float32 {(1, *self._shape)}"
            )
        if not np.isfinite(features).all():
            raise EngineError(
                "the vision encoder gave values that are not finite: export the bundle again"
            )
        return np.ascontiguousarray(features[0])


def silence_telemetry() -> None:
    """Keep onnxruntime from phoning home; it looks once, while it is imported."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def _open(path: Path, threads: int) -> onnxruntime.InferenceSession:
    silence_telemetry()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle vision threads would otherwise spin beside llama.cpp's.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _failures() as error:
        raise BundleError(f"{path} cannot be opened: {error}; export the bundle again") from error


def _failures() -> tuple[type[Exception], ...]:
    """Give onnxruntime's exceptions; they have no common base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile")
    more = ("NotImplemented", "RuntimeException", "EPFail")
    return tuple(getattr(state, name) for name in (*names, *more))


def _check_port(path: Path, ports: list[Any], name: str, shape: tuple[int, ...]) -> None:
    """Compare one input or output; a symbolic dimension fits any number."""
    found = {port.name: port for port in ports}
    if list(found) != [name]:
        raise BundleError(
            f"{path} has {sorted(found)} where {name!r} is wanted; export the bundle again"
        )
    port = found[name]
    sizes = port.shape[1:]
    fits = len(sizes) == len(shape) and all(
        not isinstance(size, int) or size == wanted
        for size, wanted in zip(sizes, shape, strict=True)
    )
    if port.type != "tensor(float)" or not fits:
        raise BundleError(
            f"{path}: {name} is {port.type} {port.shape}, not float32 {('batch', *shape)}; "
            "export the bundle again"
        )
