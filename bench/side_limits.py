"""What this machine can do at best: `python -m uservlm.bench.side_limits THREADS`.

Owns: the measuring of read bandwidth and of matrix products in float32, bfloat16 and int8. Each
number is the best of a few tries: a bound is what the machine can, not what it mostly does.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from uservlm.bench.serving import Found, serve

if TYPE_CHECKING:
    import torch

READ_BYTES = 2**30
"""Far beyond what a cache holds of it."""
SIDE = 2048
"""Of the square matrices: about a prefill's rows, and a layer's width at 3B."""
TRIES = 4


def reader(threads: int) -> Callable[[], Found]:
    """Read bandwidth: libc's memcmp of two halves, each thread its own part.

    Of memcmp, memchr, numpy's sum, max and or, and a loop of AVX-512 loads, memcmp read fastest
    (docs/decisions/0008), so the bound that a decoder is held against is the strictest.
    """
    buffer = mmap.mmap(-1, READ_BYTES)
    array = np.frombuffer(buffer, dtype=np.uint8)
    array[:] = 1
    compare, half = ctypes.CDLL(None).memcmp, READ_BYTES // threads // 2
    compare.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)

    def part(number: int) -> None:  # holds the array, and that the memory
        first = array.ctypes.data + 2 * half * number
        compare(first, first + half, half)

    def read() -> Found:
        workers = [Thread(target=part, args=(number,)) for number in range(threads)]
        start = perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return {"read": 2 * half * threads / (perf_counter() - start)}

    return read


def products(threads: int) -> Callable[[], Found]:
    """Multiply square matrices: the best of what PyTorch (oneDNN) and onnxruntime reach."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    floats = torch.randn(SIDE, SIDE)
    halves = floats.to(torch.bfloat16)
    bytes_ = torch.randint(-128, 127, (SIDE, SIDE), dtype=torch.int8)
    runtime = _onnx_product(threads, bytes_)

    def multiply() -> Found:
        return {
            "fp32": _best(lambda: torch.mm(floats, floats)),
            "bf16": _best(lambda: torch.mm(halves, halves)),
            "int8": max(_best(lambda: torch._int_mm(bytes_, bytes_)), _best(runtime)),
        }

    return multiply


def _best(product: Callable[[], Any]) -> float:
    times = []
    for _ in range(TRIES):
        start = perf_counter()
        product()
        times.append(perf_counter() - start)
    return 2 * SIDE**3 / min(times)


def _onnx_product(threads: int, values: torch.Tensor) -> Callable[[], Any]:
    """Give a MatMulInteger of unsigned rows by signed weights, as `vision.onnx` has them."""
    from uservlm.runtime.telemetry import silence_telemetry

    silence_telemetry()
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(values.numpy(), "weights")
    rows = helper.make_tensor_value_info("rows", TensorProto.UINT8, [SIDE, SIDE])
    found = helper.make_tensor_value_info("found", TensorProto.INT32, [SIDE, SIDE])
    node = helper.make_node("MatMulInteger", ["rows", "weights"], ["found"])
    graph = helper.make_graph([node], "product", [rows], [found], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    given = {"rows": values.numpy().view(np.uint8)}
    return lambda: session.run(None, given)


def main() -> None:
    """Get ready, say so, and obey."""
    threads = int(sys.argv[1])
    serve({"read": reader(threads), "multiply": products(threads)})


if __name__ == "__main__":
    main()
