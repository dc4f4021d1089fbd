"""The vision encoder by onnxruntime: the only file of the runtime that knows it.

Owns: the ONNX session, when it is opened and that its memory goes back to the system.
`vision_graph.py` reads the file. onnxruntime is imported when a session is opened, with its
telemetry off (`telemetry.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from uservlm.runtime.errors import BundleError, EngineError
from uservlm.runtime.heap import trim
from uservlm.runtime.manifest import Architecture
from uservlm.runtime.native import loading
from uservlm.runtime.telemetry import silence_telemetry
from uservlm.runtime.vision import Pixels, VisionEncoder
from uservlm.runtime.vision_figures import VisionKind
from uservlm.runtime.vision_graph import FLOAT, Port, VisionGraph, read_graph

if TYPE_CHECKING:
    import onnxruntime

INPUT: Final = "pixel_values"
OUTPUT: Final = "image_features"
PROCESSOR: Final = Path("/proc/cpuinfo")
VNNI: Final = frozenset({"avx512_vnni", "avx_vnni"})
"""Flags of x86 processors that add products of bytes in 32 bits instead of saturating at 16 (MLAS,
core/mlas/lib/platform.cpp)."""


class OnnxVision(VisionEncoder):
    """SigLIP and projector as one ONNX graph."""

    kind: VisionKind = "onnx"

    def __init__(
        self, path: Path, architecture: Architecture, threads: int, *, keep: bool = False
    ) -> None:
        """Check the file without opening a session: milliseconds, and no onnxruntime.

        What only onnxruntime can see, such as an operator it does not know, shows with the first
        picture; a file with the manifest's SHA-256 has been through the converter's parity check.

        Args:
            path: `vision.onnx`.
            architecture: what the graph's input and output must fit.
            threads: for one run.
            keep: stay open between pictures, and let onnxruntime reorder the weights in memory for
                speed: for who encodes many pictures in a row. `release` closes it.

        Raises:
            BundleError: not an ONNX file, or another graph.
        """
        self._path, self._threads = path, threads
        self._graph = read_graph(path)
        super().__init__(architecture, keep=keep)
        side = architecture.image_size
        _check_port(path, self._graph.inputs, INPUT, (3, side, side))
        _check_port(path, self._graph.outputs, OUTPUT, self.shape)
        self._session: onnxruntime.InferenceSession | None = None

    @property
    def open(self) -> bool:
        """Whether a session is there, and its memory taken."""
        return self._session is not None

    def _run(self, pixels: Pixels) -> npt.NDArray[np.generic]:
        if self._session is None:
            self._session = _open(self._path, self._graph, self._threads, self._keep)
        import onnxruntime

        options = onnxruntime.RunOptions()
        # The arena of the activations outlives its session (✔ 300 MB at 448 px) unless it shrinks.
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        try:
            found = self._session.run([OUTPUT], {INPUT: pixels}, options)[0]
            features: npt.NDArray[np.generic] = np.asarray(found)[0]
            return features
        except _failures() as error:
            raise EngineError(f"onnxruntime could not run the vision encoder: {error}") from error

    def _close(self) -> None:
        if self._session is not None:
            self._session = None
            trim()


def set_int8_products(options: onnxruntime.SessionOptions, processor: Path = PROCESSOR) -> None:
    """Make products of int8 weights exact on this processor, at the least cost.

    Where they would saturate, onnxruntime is asked to turn the weights unsigned while it opens the
    graph ("session.x64quantprecision" in its onnxruntime_session_options_config_keys.h). It would
    do so with VNNI too, for nothing: ✔ SigLIP at 448 px then takes 2.3 times the processor time and
    0.5 GB more after opening. Unsigned weights, as in older bundles, are left as they are.

    Args:
        options: of the session to be opened.
        processor: a list as Linux gives it; without one, the weights are turned.
    """
    options.add_session_config_entry(
        "session.x64quantprecision", "0" if _sums_in_32_bits(processor) else "1"
    )


def _sums_in_32_bits(processor: Path) -> bool:
    """Whether each of the processors listed has VNNI; False if that is not known."""
    if not processor.is_file():
        return False
    lines = processor.read_text(encoding="utf-8", errors="replace").splitlines()
    flags = [set(line.split()) for line in lines if line.startswith("flags")]
    return bool(flags) and all(some & VNNI for some in flags)


def _open(path: Path, graph: VisionGraph, threads: int, keep: bool) -> onnxruntime.InferenceSession:
    silence_telemetry()
    with loading("onnxruntime", "onnxruntime", 'use a bundle\'s vision.gguf (vision="ggml")'):
        import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle vision threads would otherwise spin beside llama.cpp's.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    set_int8_products(options)
    folder = str(path.resolve().parent)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    # Weights in the processor's order are 0.4 GB of the process's own at 448 px, and take time to
    # make: for one picture ✔ about as long as they save (2.59 s with, 2.52 s without; two rounds).
    options.add_session_config_entry("session.disable_prepacking", "0" if keep else "1")
    try:
        return onnxruntime.InferenceSession(
            graph.model,
            options,
            providers=["CPUExecutionProvider"],
            provider_options=[{"arena_extend_strategy": "kSameAsRequested"}],
        )
    except _failures() as error:
        raise BundleError(f"{path} cannot be opened: {error}; export the bundle again") from error


def _failures() -> tuple[type[Exception], ...]:
    """Give onnxruntime's exceptions; they have no common base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile")
    more = ("NotImplemented", "RuntimeException", "EPFail")
    return tuple(getattr(state, name) for name in (*names, *more))


def _check_port(path: Path, ports: tuple[Port, ...], name: str, shape: tuple[int, ...]) -> None:
    """Compare one input or output; a symbolic dimension fits any number."""
    found = {port.name: port for port in ports}
    if list(found) != [name]:
        raise BundleError(
            f"{path} has {sorted(found)} where {name!r} is wanted; export the bundle again"
        )
    port = found[name]
    sizes = port.shape[1:]
    fits = len(sizes) == len(shape) and all(
        size in (None, wanted) for size, wanted in zip(sizes, shape, strict=True)
    )
    if port.element != FLOAT or not fits:
        raise BundleError(
            f"{path}: {name} is of type {port.element} {port.shape}, not float32 "
            f"{('batch', *shape)}; export the bundle again"
        )
