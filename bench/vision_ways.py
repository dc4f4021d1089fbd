"""How long does looking take, by onnxruntime and by ggml? `python bench/vision_ways.py SHAPE`.

    python bench/vision_ways.py paligemma2-3b-224 --threads 2 --rounds 5

Owns: a random vision tower of a published size, written in both of a bundle's formats, and the
two timed in turns on drawn people, so that a busy machine slows both. Random weights prove nothing
about quality: the cosines say that both compute the same. The language model has one layer and is
never asked. The last line of stdout is the figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

if __name__ == "__main__":
    # This folder stands first in sys.path, where its modules would shadow other top-level names.
    here = Path(__file__).resolve().parent
    sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != here]

from uservlm.converters.checkpoint import open_checkpoint
from uservlm.converters.describe import architecture_of
from uservlm.converters.export import POCKET
from uservlm.converters.task import drawn_pixels
from uservlm.converters.vision_gguf import measure, write_vision
from uservlm.converters.vision_int8 import shrink_through_gate
from uservlm.converters.vision_onnx import Pixels, reference_features
from uservlm.models.architecture import ROWS
from uservlm.models.random_checkpoint import write_random_checkpoint
from uservlm.models.shapes import Architecture, find
from uservlm.runtime.cores import thread_count
from uservlm.runtime.telemetry import silence_telemetry
from uservlm.runtime.vision import VisionEncoder
from uservlm.runtime.vision_figures import VISION_FILES
from uservlm.runtime.vision_ggml import GgmlVision
from uservlm.runtime.vision_onnx import OnnxVision

PICTURES = 2
"""Drawn people that are looked at."""


def compare(shape: Architecture, folder: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Make both files in `folder` and measure them.

    Returns:
        Seconds of a picture (medians) by the clock and by the processor, of which neighbours on the
        machine change the first; bytes of the files; mean-token cosines against float32.
    """
    wanted = replace(shape, layers=1, feed_forward=256, rows=ROWS)
    checkpoint = open_checkpoint(write_random_checkpoint(folder / "model", POCKET, wanted))
    pictures = drawn_pixels(checkpoint, PICTURES)
    expected = reference_features(checkpoint, pictures)
    onnx, gguf = (folder / VISION_FILES[kind] for kind in ("onnx", "ggml"))
    int8 = shrink_through_gate(checkpoint, onnx, pictures, expected, False, lambda count: None)
    write_vision(checkpoint, gguf, "q8_0", lambda count: None)
    architecture = architecture_of(checkpoint)
    cosine, _ = measure(gguf, architecture, pictures, expected, threads, lambda count: None)
    ggml = GgmlVision(gguf, architecture, threads)
    ways: dict[str, VisionEncoder] = {
        "onnx_int8_kept_open": OnnxVision(onnx, architecture, threads, keep=True),
        "onnx_int8": OnnxVision(onnx, architecture, threads),
        "ggml_q8_0": ggml,
    }
    clock, work = timed(ways, pictures, rounds)
    return {
        "threads": threads,
        "rounds": rounds,
        "seconds": clock,
        "processor_seconds": work,
        "ggml_over_onnx": round(work["ggml_q8_0"] / work["onnx_int8"], 2),
        "bytes": {file.name: file.stat().st_size for file in (onnx, gguf)},
        "ggml_activations": ggml.compute_bytes,
        "cosine": {"onnx_int8": round(int8.cosine, 6), "ggml_q8_0": round(cosine, 6)},
    }


def timed(
    ways: dict[str, VisionEncoder], pictures: Sequence[Pixels], rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Look at a picture each way, in turns; the first round is not counted.

    Returns:
        Medians by the clock, and of what all threads of the process took.
    """
    clocks: tuple[Callable[[], float], ...] = (perf_counter, process_time)
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, encoder in ways.items():
            begun = [clock() for clock in clocks]
            encoder.encode(pictures[turn % len(pictures)])
            took = tuple(clock() - then for clock, then in zip(clocks, begun, strict=True))
            if turn:
                found[name].append(took)
    clock, work = (
        {
            name: round(statistics.median(took[i] for took in all_), 3)
            for name, all_ in found.items()
        }
        for i in range(2)
    )
    return clock, work


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures: 0, or 2 and why there are none."""
    silence_telemetry()
    parser = argparse.ArgumentParser(description="Looking, by onnxruntime and by ggml.")
    parser.add_argument("shape", help="name of the catalog, as paligemma2-3b-224")
    parser.add_argument("--threads", type=int, metavar="N", help="default: one a core")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            count = thread_count(options.threads)
            shape = find(options.shape).architecture
            found = compare(shape, Path(folder), count, options.rounds)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps({"shape": options.shape, **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
