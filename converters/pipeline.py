"""The export itself: a checkpoint goes in, a bundle proven equal to it comes out.

Owns: the order of the steps and what the caller may choose. Every step is another module's work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from uservlm.converters import names
from uservlm.converters.cases import CASES, calibration_pictures
from uservlm.converters.checkpoint import Checkpoint, locate, open_checkpoint
from uservlm.converters.describe import (
    RECIPE_FILE,
    describe,
    is_made_by,
    read_pixels,
    write_manifest,
    write_recipe,
)
from uservlm.converters.errors import ConversionError
from uservlm.converters.language_gguf import write_language
from uservlm.converters.output import refuse_taken, staged, tidy
from uservlm.converters.parity import check, measure, run_reference
from uservlm.converters.progress import Steps
from uservlm.converters.quantise import QUANTISATIONS, UNQUANTISED, quantise
from uservlm.converters.vision_onnx import INT8_COSINE, export_vision, lowest_cosine, shrink_vision
from uservlm.models.prompt import TEMPLATE
from uservlm.runtime.bundle import LANGUAGE_FILE, VISION_FILE, Precision, Prompt
from uservlm.runtime.image import to_pixels

VISIONS = ("int8", "fp32")
SMALL = 50_000_000
"""Weights below which one thread computes: on a busy machine two were ten times slower."""


@dataclass(frozen=True)
class ExportOptions:
    """What the caller may choose."""

    model: str | Path
    """A checkpoint's folder, or a hub id such as `ACIDE/User-VLM-3B-base`."""
    out: Path
    """Folder of the bundle."""
    quant: str = "q4_k_m"
    """Weights of the language model, one of QUANTISATIONS."""
    vision: str = "int8"
    """Weights of the vision encoder, one of VISIONS."""
    template: str = TEMPLATE
    """Text around a question; PaliGemma's own models take `{question}` and a newline."""
    revision: str | None = None
    """Branch or commit of the hub repository."""
    cases: int = 16
    """Pairs of picture and question the bundle is compared on."""
    force: bool = False
    """Export again even when the bundle is there already."""

    def __post_init__(self) -> None:
        """Refuse what no export could be made of.

        Raises:
            ConversionError: names the option and what it may be.
        """
        if self.quant not in QUANTISATIONS:
            raise ConversionError(f"quant is {self.quant!r}, not one of {', '.join(QUANTISATIONS)}")
        if self.vision not in VISIONS:
            raise ConversionError(f"vision is {self.vision!r}, not one of {', '.join(VISIONS)}")
        if self.template.count("{question}") != 1 or not self.template.endswith("\n"):
            raise ConversionError(
                f"template {self.template!r} must hold {{question}} once and end in a newline"
            )
        if not 1 <= self.cases <= CASES:
            raise ConversionError(f"cases is {self.cases}: give 1 to {CASES}")


def export(options: ExportOptions, steps: Steps | None = None) -> Path:
    """Make the bundle, unless the very same one is there, and give its folder.

    Raises:
        CheckpointError, TokenizerError, ConversionError, OutputError: see those classes.
        ParityError: the bundle does not answer like the checkpoint; nothing is left of it.
    """
    steps = steps or Steps(quiet=True)
    origin = locate(options.model, options.revision)
    recipe = write_recipe(origin, options.quant, options.vision, options.template, options.cases)
    tidy(options.out)
    if not options.force and is_made_by(options.out, recipe):
        steps.say(f"{_shown(options.out)} is up to date with {origin.model}")
        return options.out
    refuse_taken(options.out)
    with steps.step("reading the checkpoint"):
        checkpoint = open_checkpoint(origin)
    with staged(options.out) as folder, _modest_libraries(), _threads(checkpoint):
        (folder / RECIPE_FILE).write_text(recipe.to_json(), encoding="utf-8")
        _make_language(checkpoint, folder, options.quant, steps)
        vision = _make_vision(checkpoint, folder, options.vision, steps)
        _prove(checkpoint, folder, Precision(options.quant, vision), options, steps)
    steps.say(f"{_shown(options.out)} is ready")
    return options.out


def _shown(path: Path) -> Path:
    """Give the path as somebody in this folder would write it."""
    here, there = Path.cwd(), path.resolve()
    return there.relative_to(here) if there.is_relative_to(here) else path


def _prove(
    checkpoint: Checkpoint, folder: Path, precision: Precision, options: ExportOptions, steps: Steps
) -> None:
    """Measure the bundle against the checkpoint and write the figures into its manifest."""
    manifest = describe(checkpoint, folder, precision, Prompt(options.template))
    with steps.step("asking the checkpoint (transformers)", options.cases) as done:
        features, expected = run_reference(checkpoint, manifest, options.cases, done)
    with steps.step("asking the bundle (exact, resident)", 2 * options.cases) as done:
        threads = 1 if _is_small(checkpoint) else None
        parity, resident = measure(folder, features, expected, manifest, done, threads)
    check(parity)
    write_manifest(folder, replace(manifest, parity=parity, resident=resident))
    steps.say(
        f"parity over {parity.cases} cases: vision cosine {parity.vision_cosine:.5f}, "
        f"first token KL {parity.first_token_kl:.2g} and same {parity.first_token_top1:.0%}, "
        f"same answer {parity.greedy_agreement:.0%}"
    )
    verdict = "faithful" if resident.faithful else "not faithful, exact stays the default"
    steps.say(
        f"resident against exact: same first token {resident.first_token_top1:.0%}, "
        f"ROUGE-1 {resident.rouge1:.3f}: {verdict}"
    )


def _make_language(checkpoint: Checkpoint, folder: Path, quant: str, steps: Steps) -> None:
    target = folder / LANGUAGE_FILE
    written = target if quant in UNQUANTISED else folder / "language.f16.gguf"
    total = names.weights(checkpoint.shape, names.LANGUAGE)
    with steps.step("language model -> GGUF", total) as advance:
        write_language(checkpoint, written, half=quant != "f32", advance=advance)
    if written != target:
        with steps.step(f"language model -> {quant}"):
            quantise(written, target, quant)
        written.unlink()


def _make_vision(checkpoint: Checkpoint, folder: Path, wanted: str, steps: Steps) -> str:
    """Write the graph and give the precision it ended up with."""
    target = folder / VISION_FILE
    with steps.step("vision encoder + projector -> ONNX"):
        whole = export_vision(checkpoint, target)
    if wanted == "fp32":
        return wanted
    small = folder / "vision.int8.onnx"
    with steps.step("vision encoder -> int8"):
        shrink_vision(target, small)
        pictures = [
            to_pixels(picture, read_pixels(checkpoint)) for picture in calibration_pictures()
        ]
        cosine = lowest_cosine(target, small, pictures)
    if cosine < INT8_COSINE:
        small.unlink()
        steps.warn(
            f"int8 vision gives a mean-token cosine of {cosine:.4f} (needed {INT8_COSINE}): "
            "the bundle keeps it in fp32, larger and slower"
        )
        return "fp32"
    for file in whole:
        file.unlink()
    small.rename(target)
    return wanted


def _is_small(checkpoint: Checkpoint) -> bool:
    """Tell whether threads would spend longer waiting for each other than computing."""
    return names.weights(checkpoint.shape) < SMALL


@contextmanager
def _threads(checkpoint: Checkpoint) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1 if _is_small(checkpoint) else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _modest_libraries() -> Iterator[None]:
    """Keep libraries from saying what is known and harmless; everything else stays."""
    import warnings

    from torch.jit._trace import TracerWarning
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            # The tracer warns of sizes fixed at export, which is meant; N and S never change.
            warnings.filterwarnings("ignore", category=TracerWarning)
            # optimum chooses torch's older exporter, which says so.
            warnings.filterwarnings(
                "ignore", category=DeprecationWarning, module=r"(torch|optimum)\b"
            )
            yield
    finally:
        logging.set_verbosity(level)
