"""The steps that prove a bundle: it is asked, the original is asked, and both are compared.

Owns: the order of asking and what is kept of it until the figures are in the manifest. The figures
and their thresholds are `parity.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from uservlm.converters.cases import Case, calibration_cases, calibration_pictures
from uservlm.converters.describe import RECIPE_FILE, describe, write_manifest
from uservlm.converters.language_gguf import tensors
from uservlm.converters.parity import (
    Done,
    Logits,
    Reply,
    agree,
    ask,
    check,
    compare,
    lowest_cosine,
    thresholds,
)
from uservlm.converters.plan import BUNDLE, heading, original_words
from uservlm.converters.proof import make_proof
from uservlm.converters.quantise import describe_mixture
from uservlm.converters.reference import logits
from uservlm.converters.task import JSON, Task, step_name
from uservlm.converters.vision_onnx import Features
from uservlm.converters.workbench import Finished
from uservlm.runtime.adapters import NO_ADAPTER
from uservlm.runtime.bundle import LANGUAGE_FILE, record_file
from uservlm.runtime.manifest import (
    ENOUGH,
    Adapter,
    Agreement,
    Manifest,
    Parity,
    Precision,
    Prompt,
    VisionWeights,
)
from uservlm.runtime.vision_figures import VISION_FILES, GgmlVisionWeights, VisionKind

T = TypeVar("T")
ROOM = 512
"""KV cells beside one picture's: a question and its answer. More would be kept for users who are
not asked again; at 896 px a cell costs 0.2 MB of cache and scores."""
REPACKED = 2 * 10**9
"""Bytes of the largest language model that is asked from memory. Pages of a larger one's file may
be dropped again: a 3B in q8_0 took 6.0 GB with its weights in memory, and no export may take 5."""


@dataclass(frozen=True)
class Answers:
    """What the finished files say to the cases."""

    cosine: float
    """Lowest mean-token cosine of a user embedding."""
    replies: dict[str, list[Reply]]
    """Exact, by adapter; NO_ADAPTER for none."""
    resident: dict[str, Agreement]


def draft(
    task: Task,
    vision: Mapping[VisionKind, Finished[JSON]],
    language: Finished[float],
    adapters: Sequence[Finished[JSON]],
) -> Manifest:
    """Write a manifest with which the runtime can open what there is, nothing measured yet."""
    options, shape = task.options, task.checkpoint.shape
    steps: tuple[Finished[Any], ...] = (*vision.values(), language, *adapters)
    first = next(iter(vision.values()))
    onnx, ggml = (
        vision[kind].result["weights"] if kind in vision else None for kind in VISION_FILES
    )
    listed = [(entry.target, entry.shape) for entry in tensors(shape)]
    precision = Precision(options.quant, first.result["precision"])
    (task.bench.bundle / RECIPE_FILE).write_text(task.recipe.to_json(), encoding="utf-8")
    files = {name: record for step in steps for name, record in step.files.items()}
    files[RECIPE_FILE] = record_file(task.bench.bundle / RECIPE_FILE)
    manifest = replace(
        describe(task.checkpoint, precision, Prompt(options.template)),
        files=files,
        mask=options.mask,
        language=describe_mixture(
            listed, shape.layers, options.quant, options.importance, language.result
        ),
        vision=None if onnx is None else _named(VisionWeights, onnx, "kept"),
        vision_ggml=None if ggml is None else _named(GgmlVisionWeights, ggml, "plain"),
        encoder=next(iter(first.files.values())).sha256,
        adapters={
            name: Adapter(**step.result, parity=None, resident=None)
            for name, step in zip(task.kept, adapters, strict=True)
        },
    )
    write_manifest(task.bench.bundle, manifest)
    return manifest


def ask_bundle(task: Task, manifest: Manifest, features: list[Features]) -> Answers:
    """Ask the bundle, exactly and resident, with each of its adapters and with none."""
    said = (NO_ADAPTER, *task.kept)

    def make(folder: Path) -> JSON:
        cases = calibration_cases(task.effort.cases)
        total, threads = 2 * len(cases) * len(said), 1 if task.small else None
        with task.steps.step(BUNDLE, total) as done:
            found = ask_models(
                task.bench.bundle, features, cases, said, done, task.effort.tokens, threads
            )
        for name, replies in found.replies.items():
            _save(folder / f"{name}.npz", replies)
        return {
            "cosine": found.cosine,
            "texts": {name: [one.text for one in all_] for name, all_ in found.replies.items()},
            "resident": {name: asdict(one) for name, one in found.resident.items()},
        }

    key = task.key(
        files=_sums(manifest), effort=asdict(task.effort), template=manifest.prompt.template
    )
    step = task.step(BUNDLE, "answers", key, make)
    texts = step.result["texts"]
    return Answers(
        step.result["cosine"],
        {name: _load(step.folder / f"{name}.npz", texts[name]) for name in said},
        {name: Agreement(**one) for name, one in step.result["resident"].items()},
    )


def ask_original(task: Task, answers: Answers, features: list[Features]) -> dict[str, list[Logits]]:
    """Ask the checkpoint, with each adapter merged, what it would have said in their place."""
    return {
        name: _original_of(task, name, replies, features)
        for name, replies in answers.replies.items()
    }


def finish(
    task: Task,
    manifest: Manifest,
    answers: Answers,
    original: dict[str, list[Logits]],
    features: list[Features],
) -> None:
    """Compare, refuse what is not good enough, and write what was measured."""
    limits = thresholds(manifest.precision)
    parity = {
        name: compare(original[name], answers.replies[name], answers.cosine, limits)
        for name in original
    }
    for name, one in parity.items():
        check(one, f"the bundle with adapter {name}" if name != NO_ADAPTER else "the bundle")
    proof = make_proof(features, original, answers.replies, task.effort.tokens).save(
        task.bench.bundle
    )
    adapters = {
        name: replace(adapter, parity=parity[name], resident=answers.resident[name])
        for name, adapter in manifest.adapters.items()
    }
    whole = replace(
        manifest,
        files={**manifest.files, proof.name: record_file(proof)},
        parity=parity[NO_ADAPTER],
        resident=answers.resident[NO_ADAPTER],
        adapters=adapters,
    )
    write_manifest(task.bench.bundle, whole)
    _report(task, parity, answers.resident)


def verdict(resident: Agreement) -> str:
    """Say what follows from an agreement."""
    if resident.cases < ENOUGH:
        return f"{resident.cases} cases decide nothing, {ENOUGH} do"
    return "faithful" if resident.faithful else "not faithful, exact stays the default"


def ask_models(
    bundle: Path,
    features: Sequence[Features],
    cases: Sequence[Case],
    said: Sequence[str],
    done: Done,
    limit: int,
    threads: int | None = None,
) -> Answers:
    """Ask a bundle all cases, exactly and resident, with each adapter of `said`.

    Args:
        bundle: its folder.
        features: the original's user embeddings of the drawn pictures.
        cases: what is asked.
        said: names of adapters; NO_ADAPTER for the weights as they are.
        done: called with 1 after each answer.
        limit: tokens of each answer, at most.
        threads: None lets the runtime choose.
    """
    from uservlm.runtime import UserVLM

    cells = len(features[0]) + ROOM
    # As the product runs it where that fits: mapped weights are asked at a fifth of the speed.
    repack = None if (bundle / LANGUAGE_FILE).stat().st_size <= REPACKED else False
    # Resident has room for both; the hashes in the manifest were taken a moment ago.
    with UserVLM.load(
        bundle, attention="resident", threads=threads, context=cells, repack=repack, verify=False
    ) as vlm:
        seen = 1 + max(case.picture for case in cases)
        users = [vlm.encode(picture) for picture in calibration_pictures()[:seen]]
        exact = {name: ask(vlm, cases, users, "exact", done, name, limit) for name in said}
        resident = {
            name: agree(exact[name], ask(vlm, cases, users, "resident", done, name, limit))
            for name in said
        }
    return Answers(lowest_cosine(features[:seen], users), exact, resident)


def _original_of(
    task: Task, name: str, replies: Sequence[Reply], features: list[Features]
) -> list[Logits]:
    merged = task.checkpoint.adapters + (() if name == NO_ADAPTER else (task.kept[name],))
    checkpoint = task.checkpoint.with_adapters(merged)
    asked = [
        replace(one, answer=reply.followed)
        for one, reply in zip(task.asked(features, len(replies)), replies, strict=True)
    ]

    def make(folder: Path) -> None:
        with task.steps.step(original_words(name), checkpoint.shape.layers) as done:
            found = logits(checkpoint, asked, done)
        np.save(folder / "logits.npy", np.concatenate(found))

    key = task.key(
        answers=[list(one.answer) for one in asked],
        template=task.options.template,
        adapter=task.recipe.kept.get(name),
    )
    step = task.step(original_words(name), f"original-{step_name(name)}", key, make)
    ends = np.cumsum([len(one.answer) + 1 for one in asked])
    return np.split(np.load(step.folder / "logits.npy"), ends[:-1])


def _report(task: Task, parity: dict[str, Parity], resident: dict[str, Agreement]) -> None:
    for name, one in parity.items():
        again = resident[name]
        task.steps.say(
            f"{heading(name)}parity over {one.cases} cases, "
            f"{one.answer_positions} tokens: vision cosine {one.vision_cosine:.5f}, "
            f"KL {one.answer_kl:.2g}, same token {one.answer_top1:.0%}, "
            f"same answer {one.greedy_agreement:.0%}"
        )
        task.steps.say(
            f"{heading(name)}resident against exact: "
            f"same first token {again.first_token_top1:.0%}, "
            f"ROUGE-1 {again.rouge1:.3f}: {verdict(again)}"
        )


def _save(path: Path, replies: Sequence[Reply]) -> None:
    np.savez(
        path,
        tokens=np.array([token for reply in replies for token in reply.tokens], dtype=np.int32),
        lengths=np.array([len(reply.tokens) for reply in replies]),
        logits=np.concatenate([reply.logits for reply in replies]),
        positions=np.array([len(reply.logits) for reply in replies]),
    )


def _load(path: Path, texts: Sequence[str]) -> list[Reply]:
    with np.load(path) as arrays:
        tokens = np.split(arrays["tokens"], np.cumsum(arrays["lengths"])[:-1])
        found = np.split(arrays["logits"], np.cumsum(arrays["positions"])[:-1])
    return [
        Reply(tuple(int(token) for token in one), text, logits_)
        for one, text, logits_ in zip(tokens, texts, found, strict=True)
    ]


def _sums(manifest: Manifest) -> dict[str, str]:
    return {name: record.sha256 for name, record in manifest.files.items() if name != RECIPE_FILE}


def _named(kind: Callable[..., T], said: JSON, names: str) -> T:
    """Make a record of what JSON brought back, where a tuple became a list."""
    return kind(**{**said, names: tuple(said[names])})
