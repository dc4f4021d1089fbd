"""The export itself: a checkpoint goes in, a bundle proven equal to it comes out.

Owns: what is looked for, opened and refused before anything is made, and the order of the steps.
A run that was killed goes on behind its last finished step (`workbench.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uservlm.converters import names
from uservlm.converters.checkpoint import Checkpoint
from uservlm.converters.describe import is_made_by, write_recipe
from uservlm.converters.making import look, make_adapters, make_language, make_visions
from uservlm.converters.options import ExportOptions
from uservlm.converters.output import check_disk, refuse_taken, tidy
from uservlm.converters.plan import READING, SMALL, disk_need, estimate
from uservlm.converters.progress import Steps
from uservlm.converters.proving import ask_bundle, ask_original, draft, finish
from uservlm.converters.sources import Wanted, find, open_all
from uservlm.converters.task import Task, check_readable
from uservlm.converters.workbench import workbench
from uservlm.runtime.manifest import MANIFEST_FILE


def export(options: ExportOptions, steps: Steps | None = None) -> Path:
    """Make the bundle, unless the very same one is there, and give its folder.

    Raises:
        CheckpointError, TokenizerError, ConversionError, OutputError: see those classes.
        ParityError: the bundle does not answer like the checkpoint; nothing is left of it.
    """
    steps = steps or Steps(quiet=True)
    refuse_taken(options.out)
    tidy(options.out)
    wanted = Wanted(options.model, options.revision, options.adapters, options.kept)
    found = find(wanted)
    recipe = write_recipe(found.base, found.merged, found.kept, options)
    if not options.force and is_made_by(options.out, recipe):
        steps.say(f"{_shown(options.out)} is up to date with {found.name}")
        return options.out
    if (options.out / MANIFEST_FILE).is_file():
        steps.say(f"{_shown(options.out)} holds another bundle, replaced when this one is ready")
    with steps.step(READING):
        checkpoint, kept = open_all(found)
        check_readable(checkpoint)
    with workbench(options.out) as bench, _modest_libraries(), _threads(checkpoint):
        _run(Task(options, checkpoint, kept, recipe, bench, steps))
    steps.say(f"{_shown(options.out)} is ready")
    return options.out


def _run(task: Task) -> None:
    """Go through all steps, those that serve others inside them."""
    shape = task.checkpoint.shape
    need = disk_need(shape, task.options, task.kept.values())
    check_disk(task.options.out, need - task.bench.held_bytes, "the export")
    task.steps.plan(estimate(shape, task.options))
    features = look(task)
    vision = make_visions(task, features)
    language = make_language(task, features)
    adapters = make_adapters(task)
    manifest = draft(task, vision, language, adapters)
    answers = ask_bundle(task, manifest, features)
    original = ask_original(task, answers, features)
    finish(task, manifest, answers, original, features)


def _shown(path: Path) -> Path:
    """Give the path as somebody in this folder would write it."""
    here, there = Path.cwd(), path.resolve()
    return there.relative_to(here) if there.is_relative_to(here) else path


@contextmanager
def _threads(checkpoint: Checkpoint) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1 if names.weights(checkpoint.shape) < SMALL else before)
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
