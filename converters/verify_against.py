"""A finished bundle held against its original again, with as many cases as there is time for.

Owns: finding the original of a bundle and making sure that it is that one. The figures and their
thresholds are `parity.py`'s.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from uservlm.converters.adapters import LoraAdapter
from uservlm.converters.cases import calibration_cases
from uservlm.converters.checkpoint import Checkpoint
from uservlm.converters.errors import CheckpointError
from uservlm.converters.parity import compare, thresholds
from uservlm.converters.plan import BUNDLE, LOOKING, effort, original_words
from uservlm.converters.progress import Steps
from uservlm.converters.proving import ask_models
from uservlm.converters.reference import embed, logits
from uservlm.converters.sources import Wanted, find, open_all
from uservlm.converters.task import ask_cases, check_readable, drawn_pixels
from uservlm.runtime.adapters import NO_ADAPTER, choose
from uservlm.runtime.bundle import Bundle, open_bundle, replace_manifest
from uservlm.runtime.errors import BundleError
from uservlm.runtime.manifest import Agreement, Parity


def hold_against(
    path: Path, original: Wanted, cases: int, steps: Steps
) -> dict[str, tuple[Parity, Agreement]]:
    """Measure a bundle's parity anew, against the checkpoint itself.

    Args:
        path: the bundle's folder.
        original: what it was made of.
        cases: how many pairs of picture and question, at most CASES.
        steps: shows what is going on.

    Returns:
        The figures by adapter, NO_ADAPTER first.

    Raises:
        BundleError: damaged, or without an adapter that was asked for.
        CheckpointError: see `resolve` and `open_checkpoint`; or of another shape than the bundle.
    """
    bundle = open_bundle(path)
    limits = thresholds(bundle.manifest.precision)
    checkpoint, kept = open_all(find(original))
    check_readable(checkpoint)
    _check_same(bundle, checkpoint, kept)
    asked, work = calibration_cases(cases), effort(checkpoint.shape, cases)
    pixels = drawn_pixels(checkpoint, work.pictures)
    with steps.step(LOOKING, len(pixels)) as done:
        features = embed(checkpoint, pixels, done)
    said = (NO_ADAPTER, *kept)
    with steps.step(BUNDLE, 2 * len(asked) * len(said)) as done:
        answers = ask_models(path, features, asked, said, done, work.tokens)
    questions = ask_cases(checkpoint, bundle.manifest.prompt, features, cases)
    found = {}
    for name, replies in answers.replies.items():
        more = () if name == NO_ADAPTER else (kept[name],)
        followed = [
            replace(one, answer=reply.followed)
            for one, reply in zip(questions, replies, strict=True)
        ]
        with steps.step(original_words(name), checkpoint.shape.layers) as done:
            merged = checkpoint.with_adapters(checkpoint.adapters + more)
            theirs = logits(merged, followed, done)
        figures = compare(theirs, replies, answers.cosine, limits)
        found[name] = (figures, answers.resident[name])
    return found


def record(path: Path, found: Mapping[str, tuple[Parity, Agreement]]) -> None:
    """Write newly measured figures into the bundle's manifest, whole or not at all.

    Raises:
        BundleError: it is no bundle any more, or it cannot be written.
    """
    manifest = open_bundle(path, verify=False).manifest
    parity, resident = found[NO_ADAPTER]
    adapters = {
        name: replace(adapter, parity=found[name][0], resident=found[name][1])
        if name in found
        else adapter
        for name, adapter in manifest.adapters.items()
    }
    whole = replace(manifest, parity=parity, resident=resident, adapters=adapters)
    try:
        replace_manifest(path, whole)
    except OSError as error:
        raise BundleError(
            f"{path} cannot be written ({error.strerror or error}): its manifest is as it was"
        ) from error


def check_writable(path: Path) -> None:
    """Make sure that figures can be recorded before they are measured.

    Raises:
        BundleError: the bundle may not be written.
    """
    effective = os.access in os.supports_effective_ids
    if not os.access(path, os.W_OK | os.X_OK, effective_ids=effective):
        raise BundleError(
            f"{path} may not be written by this user, so nothing could be recorded: "
            "change its permissions (chmod) or its owner, or verify without --record"
        )


def _check_same(bundle: Bundle, checkpoint: Checkpoint, kept: Mapping[str, LoraAdapter]) -> None:
    manifest = bundle.manifest
    given = tuple(adapter.source for adapter in checkpoint.adapters)
    if len(given) != len(manifest.source.merged):
        raise CheckpointError(
            f"{bundle.path} was made with these adapters merged: "
            f"{', '.join(manifest.source.merged) or 'none'}; given: {', '.join(given) or 'none'}: "
            "give each with --adapter, in that order"
        )
    if checkpoint.config_sha256 != manifest.source.config_sha256:
        raise CheckpointError(
            f"{bundle.path} was made of another checkpoint ({manifest.source.model}): "
            f"the config.json of {checkpoint.origin.model} differs"
        )
    for name in kept:
        choose(name, None, manifest)
