"""The vision encoder by ggml, on the libraries that llama.cpp brings: for where onnxruntime is not.

Owns: SigLIP and projector as a ggml graph, and the calls that run it. With `language.py` and
`packing.py` the third file that knows ggml. Knows nothing of where the libraries come from, nor of
what must be in the file: `vision_gguf.py` has checked that before anything here is called.

Weights are pages of the file: nothing of them is copied, put into another order, or given to AMX.
Attention is ggml's flash attention in float32, which keeps no scores: at 896 px they would be 1 GB.
The file is mapped and the memory of the activations taken for each picture, overwritten and given
back behind it; there is nothing that it would pay to keep. What ggml rounds to 8 bits on its way
into a product lies in a buffer of ggml's own, which is given back as it is.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from ctypes import c_bool, c_char_p, c_float, c_int, c_int64, c_size_t, c_void_p
from functools import cache
from math import sqrt
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from uservlm.runtime.errors import EngineError
from uservlm.runtime.heap import trim
from uservlm.runtime.language import load_llama
from uservlm.runtime.manifest import Architecture
from uservlm.runtime.packing import ggml_library, processor_device
from uservlm.runtime.vision import Features, Pixels, VisionEncoder
from uservlm.runtime.vision_figures import VisionKind
from uservlm.runtime.vision_gguf import CHANNELS, F32, Tower, open_tower
from uservlm.runtime.weights import Tensor, Weights

_NODES: Final = 64
"""More than a layer's operations and weights together, or those around the layers."""

Node = int
"""Address of a ggml_tensor."""


class _InitParams(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = [("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool)]


class _TensorHead(ctypes.Structure):
    """How a ggml_tensor begins."""

    _fields_ = [("type", c_int), ("buffer", c_void_p)]


_BASE: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "ggml_init": (c_void_p, (_InitParams,)),
    "ggml_free": (None, (c_void_p,)),
    "ggml_tensor_overhead": (c_size_t, ()),
    "ggml_graph_overhead_custom": (c_size_t, (c_size_t, c_bool)),
    "ggml_new_graph_custom": (c_void_p, (c_void_p, c_size_t, c_bool)),
    "ggml_build_forward_expand": (None, (c_void_p, c_void_p)),
    "ggml_new_tensor_1d": (c_void_p, (c_void_p, c_int, c_int64)),
    "ggml_new_tensor_2d": (c_void_p, (c_void_p, c_int, c_int64, c_int64)),
    "ggml_set_input": (None, (c_void_p,)),
    "ggml_set_output": (None, (c_void_p,)),
    "ggml_mul_mat": (c_void_p, (c_void_p,) * 3),
    "ggml_mul": (c_void_p, (c_void_p,) * 3),
    "ggml_add": (c_void_p, (c_void_p,) * 3),
    "ggml_norm": (c_void_p, (c_void_p, c_void_p, c_float)),
    "ggml_gelu": (c_void_p, (c_void_p,) * 2),
    "ggml_reshape_2d": (c_void_p, (c_void_p, c_void_p, c_int64, c_int64)),
    "ggml_reshape_3d": (c_void_p, (c_void_p, c_void_p, c_int64, c_int64, c_int64)),
    "ggml_permute": (c_void_p, (c_void_p, c_void_p, c_int, c_int, c_int, c_int)),
    "ggml_flash_attn_ext": (c_void_p, (c_void_p,) * 5 + (c_float,) * 3),
    "ggml_gallocr_new": (c_void_p, (c_void_p,)),
    "ggml_gallocr_alloc_graph": (c_bool, (c_void_p, c_void_p)),
    "ggml_gallocr_get_buffer_size": (c_size_t, (c_void_p, c_int)),
    "ggml_gallocr_free": (None, (c_void_p,)),
    "ggml_backend_dev_init": (c_void_p, (c_void_p, c_char_p)),
    "ggml_backend_dev_backend_reg": (c_void_p, (c_void_p,)),
    "ggml_backend_reg_get_proc_address": (c_void_p, (c_void_p, c_char_p)),
    "ggml_backend_get_default_buffer_type": (c_void_p, (c_void_p,)),
    "ggml_backend_graph_compute": (c_int, (c_void_p, c_void_p)),
    "ggml_backend_free": (None, (c_void_p,)),
    "ggml_backend_cpu_buffer_from_ptr": (c_void_p, (c_void_p, c_size_t)),
    "ggml_backend_buffer_clear": (None, (c_void_p, ctypes.c_uint8)),
    "ggml_backend_buffer_free": (None, (c_void_p,)),
    "ggml_backend_tensor_alloc": (c_int, (c_void_p, c_void_p, c_void_p)),
    "ggml_backend_tensor_set": (None, (c_void_p, c_void_p, c_size_t, c_size_t)),
    "ggml_backend_tensor_get": (None, (c_void_p, c_void_p, c_size_t, c_size_t)),
}
"""Function -> result and arguments (ggml.h, ggml-alloc.h, ggml-backend.h of 0.3.36)."""


class GgmlVision(VisionEncoder):
    """SigLIP and projector as one ggml graph."""

    kind: VisionKind = "ggml"

    def __init__(self, path: Path, architecture: Architecture, threads: int) -> None:
        """Check the file; ggml is neither loaded nor asked.

        Args:
            path: `vision.gguf`.
            architecture: what the file must fit.
            threads: to compute with.

        Raises:
            BundleError: not a vision encoder of these sizes, or damaged.
        """
        super().__init__(architecture, keep=False)
        self._path, self._architecture, self._threads = path, architecture, threads
        self._open = False
        self.compute_bytes = 0
        """What the activations of the latest picture took."""
        open_tower(path, architecture)

    @property
    def open(self) -> bool:
        """Whether a picture is being encoded."""
        return self._open

    def _run(self, pixels: Pixels) -> npt.NDArray[np.generic]:
        weights, tower = open_tower(self._path, self._architecture)
        size = tower.image_size
        if pixels.shape != (1, CHANNELS, size, size) or pixels.dtype != np.float32:
            raise EngineError(
                f"pixels are {pixels.dtype} {pixels.shape}, not float32 {(1, CHANNELS, size, size)}"
            )
        patches = to_patches(pixels, tower.patch_size)
        self._open = True
        try:
            return self._compute(weights, tower, patches)
        finally:
            patches.fill(0)

    def _compute(self, weights: Weights, tower: Tower, patches: Features) -> Features:
        ggml = _ggml()
        with ExitStack() as stack:
            backend = _made(ggml.ggml_backend_dev_init(_device(), None), "a CPU backend")
            stack.callback(ggml.ggml_backend_free, backend)
            _set_threads(backend, self._threads)
            mapped = weights.mapped
            file = ggml.ggml_backend_cpu_buffer_from_ptr(mapped.ctypes.data, mapped.nbytes)
            stack.callback(ggml.ggml_backend_buffer_free, _made(file, "a buffer"))
            count = (tower.layers + 1) * _NODES
            memory = count * ggml.ggml_tensor_overhead()
            memory += ggml.ggml_graph_overhead_custom(count, False)
            context = _made(ggml.ggml_init(_InitParams(memory, None, True)), "a context")
            stack.callback(ggml.ggml_free, context)
            drawing = _Drawing(ggml, context, tower)
            drawing.place(weights.tensors, file, mapped.ctypes.data)
            patch_node, features_node = drawing.input(), drawing.encode()
            graph = ggml.ggml_new_graph_custom(context, count, False)
            ggml.ggml_build_forward_expand(graph, features_node)
            kind = ggml.ggml_backend_get_default_buffer_type(backend)
            allocator = _made(ggml.ggml_gallocr_new(kind), "an allocator")
            stack.callback(ggml.ggml_gallocr_free, allocator)
            if not ggml.ggml_gallocr_alloc_graph(allocator, graph):
                raise EngineError("there is not enough memory for the vision encoder's activations")
            self.compute_bytes = ggml.ggml_gallocr_get_buffer_size(allocator, 0)
            held = _TensorHead.from_address(features_node).buffer
            stack.callback(ggml.ggml_backend_buffer_clear, held, 0)  # a face is in it
            features = np.empty((tower.tokens, tower.projection), np.float32)
            ggml.ggml_backend_tensor_set(patch_node, patches.ctypes.data, 0, patches.nbytes)
            status = ggml.ggml_backend_graph_compute(backend, graph)
            if status != 0:
                raise EngineError(f"ggml could not run the vision encoder (status {status})")
            ggml.ggml_backend_tensor_get(features_node, features.ctypes.data, 0, features.nbytes)
            return features

    def _close(self) -> None:
        if self._open:
            self._open = False
            trim()


class _Drawing:
    """The graph while it is drawn; ggml counts dimensions from the inside out."""

    def __init__(self, ggml: ctypes.CDLL, context: int, tower: Tower) -> None:
        self._ggml, self._context, self._tower = ggml, context, tower
        self._weights: dict[str, Node] = {}

    def place(self, tensors: Mapping[str, Tensor], buffer: int, base: int) -> None:
        """Make a node for each weight, whose data are where the file was mapped."""
        for name, tensor in tensors.items():
            new = f"new_tensor_{len(tensor.shape)}d"
            node = self._op(new, tensor.kind, *reversed(tensor.shape))
            self._ggml.ggml_backend_tensor_alloc(buffer, node, base + tensor.offset)
            self._weights[name] = node

    def input(self) -> Node:
        """Give the node for the patches [N, 3 · p · p]."""
        sizes = (self._tower.patch, self._tower.tokens)
        self._patches = self._op("new_tensor_2d", F32, *sizes)
        self._ggml.ggml_set_input(self._patches)
        return self._patches

    def encode(self) -> Node:
        """Draw everything from the patches to the features [N, d]."""
        embedded = self._linear("v.patch_embd", self._patches)
        rows = self._op("add", embedded, self._weights["v.position_embd.weight"])
        for layer in range(self._tower.layers):
            name = f"v.blk.{layer}"
            rows = self._op("add", rows, self._attend(name, self._norm(f"{name}.ln1", rows)))
            inner = self._linear(f"{name}.ffn_up", self._norm(f"{name}.ln2", rows))
            # ggml's gelu is the tanh approximation, as SigLIP's (gelu_pytorch_tanh).
            rows = self._op("add", rows, self._linear(f"{name}.ffn_down", self._op("gelu", inner)))
        features = self._linear("mm.0", self._norm("v.post_ln", rows))
        self._ggml.ggml_set_output(features)
        return features

    def _attend(self, name: str, rows: Node) -> Node:
        tower = self._tower
        head = tower.width // tower.heads
        queries, keys, values = (
            self._op(
                "permute",
                self._op(
                    "reshape_3d", self._linear(f"{name}.attn_{k}", rows),
                    head, tower.heads, tower.tokens,
                ),
                0, 2, 1, 3,
            )
            for k in "qkv"
        )  # fmt: skip
        # Its result is [head, heads, N] already.
        mixed = self._op("flash_attn_ext", queries, keys, values, None, 1 / sqrt(head), 0.0, 0.0)
        joined = self._op("reshape_2d", mixed, tower.width, tower.tokens)
        return self._linear(f"{name}.attn_out", joined)

    def _linear(self, name: str, rows: Node) -> Node:
        product = self._op("mul_mat", self._weights[f"{name}.weight"], rows)
        return self._op("add", product, self._weights[f"{name}.bias"])

    def _norm(self, name: str, rows: Node) -> Node:
        scaled = self._op(
            "mul", self._op("norm", rows, self._tower.epsilon), self._weights[f"{name}.weight"]
        )
        return self._op("add", scaled, self._weights[f"{name}.bias"])

    def _op(self, name: str, *arguments: Any) -> Node:
        node: Node = getattr(self._ggml, f"ggml_{name}")(self._context, *arguments)
        return node


def to_patches(pixels: Pixels, patch: int) -> Features:
    """Cut float32 [1, 3, S, S] into float32 [N, 3 · p · p], row by row, each as a kernel lies."""
    channels, side = pixels.shape[1], pixels.shape[2] // patch
    cut = pixels[0].reshape(channels, side, patch, side, patch).transpose(1, 3, 0, 2, 4)
    patches: Features = cut.reshape(side * side, channels * patch * patch).copy()
    return patches


@cache
def _ggml() -> ctypes.CDLL:
    """Give libggml-base with the functions' types declared; it is the one llama.cpp uses."""
    base = ggml_library(load_llama(), "ggml-base")
    for name, (result, arguments) in _BASE.items():
        function = getattr(base, name)
        function.restype, function.argtypes = result, arguments
    return base


def _device() -> int:
    """Give ggml's device that computes on the processor."""
    return _made(processor_device(load_llama()), "a device")


def _set_threads(backend: int, threads: int) -> None:
    registry = _ggml().ggml_backend_dev_backend_reg(_device())
    address = _ggml().ggml_backend_reg_get_proc_address(registry, b"ggml_backend_set_n_threads")
    prototype: Callable[[int], Any] = ctypes.CFUNCTYPE(None, c_void_p, c_int)
    prototype(_made(address, "a way to set threads"))(backend, threads)


def _made(handle: int | None, what: str) -> int:
    """Give a handle that is one.

    Raises:
        EngineError: ggml gave none.
    """
    if not handle:
        raise EngineError(f"ggml has {what} no more: there is not enough memory, or another build")
    return handle
