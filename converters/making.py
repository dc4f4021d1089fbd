"""The steps that make a bundle's files.

Owns: what each of them depends on, what it is called while it runs, and which files it leaves.
How a file is made is another module's work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from uservlm.converters import names
from uservlm.converters.adapter_gguf import write_adapter
from uservlm.converters.adapters import LoraAdapter
from uservlm.converters.calibration import CalibrationFolder, calibration_folder
from uservlm.converters.describe import architecture_of
from uservlm.converters.language_gguf import write_language
from uservlm.converters.pixels import read_pixels
from uservlm.converters.plan import (
    IMPORTANCE,
    LANGUAGE,
    LOOKING,
    VISION,
    VISION_GGUF,
    adapter_words,
    vision_gguf,
)
from uservlm.converters.reference import Importance, embed, logits
from uservlm.converters.stored import largest_error
from uservlm.converters.task import JSON, Task, step_name
from uservlm.converters.vision_gguf import COSINE, check_gate, measure, write_vision
from uservlm.converters.vision_int8 import shrink_through_gate
from uservlm.converters.vision_onnx import Features, Pixels, export_vision, reference_features
from uservlm.converters.workbench import Finished
from uservlm.runtime.bundle import ADAPTER_FOLDER, LANGUAGE_FILE
from uservlm.runtime.cores import thread_count
from uservlm.runtime.vision_figures import VISION_FILES, GgmlVisionWeights, VisionKind

Looked: TypeAlias = Callable[[], tuple[list[Pixels], list[Features]]]
"""Gives pictures, float32 [1, 3, S, S] each, and the original's features of them."""


def look(task: Task) -> list[Features]:
    """Let the original look at the drawn pictures: float32 [N, d] for each."""
    pixels = task.pixels()

    def make(folder: Path) -> None:
        with task.steps.step(LOOKING, len(pixels)) as done:
            found = embed(task.checkpoint, pixels, done)
        np.save(folder / "features.npy", np.stack(found))

    step = task.step(LOOKING, "features", task.key(pictures=task.pictures), make)
    return list(np.load(step.folder / "features.npy"))


def make_visions(task: Task, features: list[Features]) -> dict[VisionKind, Finished[JSON]]:
    """Write the vision encoders that are wanted; each result says its precision and what it costs.

    Args:
        task: the export.
        features: the original's of the drawn pictures, float32 [N, d] each.
    """
    own = calibration_folder(task.options.calibration)
    measured_on = {"calibration": own.key, "pictures": task.pictures}

    @cache
    def looked() -> tuple[list[Pixels], list[Features]]:
        """Give pictures and what the original sees in them; one's own are looked at only here."""
        if own.folder is None:
            return task.pixels(), features
        pictures = own.pixels(read_pixels(task.checkpoint))
        return pictures, reference_features(task.checkpoint, pictures)

    kind = vision_gguf(task.checkpoint.shape, task.options)
    made: dict[VisionKind, Finished[JSON]] = {}
    if task.options.vision != "none":
        key = task.key(precision=task.options.vision, **measured_on)
        made["onnx"] = task.step(
            VISION, "vision", key, lambda folder: _onnx(task, folder, looked, own), ships=True
        )
        _report_vision(task, made["onnx"].result)
    if kind != "none":
        key = task.key(gguf=kind, **measured_on)
        made["ggml"] = task.step(
            VISION_GGUF,
            "vision-gguf",
            key,
            lambda folder: _ggml(task, folder, looked, own, kind),
            ships=True,
        )
    return made


def make_language(task: Task, features: list[Features]) -> Finished[float]:
    """Write the language model; the result is the relative error of its worst tensor.

    With an importance matrix the original is run before.
    """
    options, shape = task.options, task.checkpoint.shape

    def make(folder: Path) -> float:
        means = _importance(task, features) if options.importance else {}
        total = names.weights(shape, names.LANGUAGE)
        with task.steps.step(LANGUAGE, total) as done:
            write_language(
                task.checkpoint,
                folder / LANGUAGE_FILE,
                options.quant,
                importance=means,
                advance=done,
                threads=1 if task.small else 2,
            )
            return largest_error(task.checkpoint, folder / LANGUAGE_FILE)

    template = options.template if options.importance else None  # the prompts are made of it
    key = task.key(quant=options.quant, importance=options.importance, template=template)
    return task.step(LANGUAGE, "language", key, make, ships=True, drops=("importance",))


def make_adapters(task: Task) -> list[Finished[JSON]]:
    """Write the adapters that are kept apart; each result is what the manifest says of it."""
    return [_adapter(task, name, adapter) for name, adapter in task.kept.items()]


def _onnx(task: Task, folder: Path, looked: Looked, own: CalibrationFolder) -> JSON:
    file = folder / VISION_FILES["onnx"]
    if task.options.vision == "fp32":
        with task.steps.step(VISION):
            export_vision(task.checkpoint, file)
        return {"precision": "fp32", "weights": None}
    with task.steps.step(VISION) as done:
        found = shrink_through_gate(task.checkpoint, file, *looked(), own.folder is not None, done)
    precision = "fp32" if len(found.kept) == found.matrices else "int8"
    return {"precision": precision, "weights": asdict(found)}


def _ggml(task: Task, folder: Path, looked: Looked, own: CalibrationFolder, kind: str) -> JSON:
    file, limit = folder / VISION_FILES["ggml"], COSINE[kind]
    with task.steps.step(VISION_GGUF) as done:
        plain = write_vision(task.checkpoint, file, kind, done)
        pictures, expected = looked()
        threads = thread_count(1 if task.small else None)
        architecture = architecture_of(task.checkpoint)
        cosines = measure(file, architecture, pictures, expected, threads, done)
    mine = own.folder is not None
    found = GgmlVisionWeights(kind, len(pictures), mine, *cosines, limit, plain)
    check_gate(found)
    return {"precision": kind, "weights": asdict(found)}


def _report_vision(task: Task, result: JSON) -> None:
    weights = result["weights"]
    if weights and weights["kept"]:
        task.steps.warn(
            f"plain int8 vision gives a mean-token cosine of {weights['plain_cosine']:.4f} "
            f"(needed {weights['threshold']}): {len(weights['kept'])} matrices stay in float32 "
            f"({weights['kept_bytes'] / 1e6:.0f} MB more), which gives {weights['cosine']:.4f}"
        )


def _importance(task: Task, features: list[Features]) -> dict[str, Any]:
    """Measure what the matrices are multiplied with on the first calibration prompts."""

    def make(folder: Path) -> None:
        asked = task.asked(features, task.options.importance)
        found, layers = Importance(), task.checkpoint.shape.layers
        with task.steps.step(IMPORTANCE, layers) as done:
            logits(task.checkpoint, asked, done, found)
        np.savez(folder / "importance.npz", **found.means())  # type: ignore[arg-type]

    key = task.key(prompts=task.options.importance, template=task.options.template)
    step = task.step(IMPORTANCE, "importance", key, make)
    with np.load(step.folder / "importance.npz") as arrays:
        return dict(arrays)


def _adapter(task: Task, name: str, adapter: LoraAdapter) -> Finished[JSON]:
    file = f"{ADAPTER_FOLDER}/{name}.gguf"

    def make(folder: Path) -> JSON:
        (folder / file).parent.mkdir()
        with task.steps.step(adapter_words(name)):
            write_adapter(adapter, task.checkpoint, folder / file)
        return {"file": file, "source": adapter.source, "rank": adapter.rank}

    key = task.key(adapter=task.recipe.kept[name], name=name)
    return task.step(adapter_words(name), f"adapter-{step_name(name)}", key, make, ships=True)
