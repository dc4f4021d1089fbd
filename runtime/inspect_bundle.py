"""What a bundle is, in lines for a person; nothing is loaded.

Owns: which of the manifest's facts `uservlm inspect` shows and how they read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.filesize import decimal

from uservlm.runtime.adapters import NO_ADAPTER
from uservlm.runtime.audited import answers_by, standing
from uservlm.runtime.manifest import Agreement, LanguageWeights, Manifest, Parity, VisionWeights
from uservlm.runtime.vision_figures import VISION_FILES, VisionKind

_RUNS: Final[dict[VisionKind, str]] = {"onnx": "onnxruntime", "ggml": "ggml"}
SHOWN = 3
"""Names that are given of a longer list."""


def description(
    manifest: Manifest, attention: str, vision: tuple[VisionKind, ...]
) -> Iterator[tuple[str, str]]:
    """Give a heading and a text for each fact.

    Args:
        manifest: of the bundle.
        attention: what `--attention auto` stands for, exact or resident.
        vision: what can compute user embeddings here, the first choice first.
    """
    shape, source = manifest.architecture, manifest.source
    yield "name", manifest.name
    at = f" at {source.revision}" if source.revision else ""
    yield "source", f"{source.model}{at} ({source.license})"
    for adapter in source.merged:
        yield "merged", adapter
    yield "picture", f"{shape.image_size}×{shape.image_size}, {shape.image_tokens} tokens"
    yield "language", f"{shape.layers} layers of width {shape.width}, {manifest.precision.language}"
    if manifest.language is not None:
        yield from _language(manifest.language)
    if "onnx" in manifest.seeing:
        yield "vision", f"{VISION_FILES['onnx']}, {manifest.precision.vision}"
    if manifest.vision is not None:
        yield from _vision(manifest.vision)
    if (other := manifest.vision_ggml) is not None:
        yield "vision", f"{VISION_FILES['ggml']}, {other.kind}"
        yield "", f"cosine {other.cosine:.4f} on {other.pictures} {_pictures(other.own_pictures)}"
    yield "sees with", _RUNS[vision[0]] if vision else "nothing that is installed here"
    yield "prompt", repr(manifest.prompt.template)
    for file, record in manifest.files.items():
        yield "file", f"{file}, {decimal(record.bytes)}"
    yield "size", decimal(sum(record.bytes for record in manifest.files.values()))
    yield from _measured(manifest.parity, manifest.resident)
    for name, kept in manifest.adapters.items():
        yield "adapter", f"{name}, rank {kept.rank}, from {kept.source}"
        for heading, text in _measured(kept.parity, kept.resident):
            yield heading, f"{text} with {name}"
    yield from _audits(manifest)
    if (who := manifest.identity) is not None:
        most = who.levels[-1].gallery
        yield "identity", f"equal error rate {who.equal_error_rate:.1%}, up to {most} known people"
    yield "attention", attention


def _audits(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Tell each audit's verdict, and whether it is about the bundle as it is now."""
    for name, found in manifest.audits.items():
        failed = [probe for probe, kept in found.probes.items() if not kept.passed]
        words = f"failed {_list(tuple(failed))}" if failed else "passed"
        whose = "own and drawn" if found.own_pictures else "drawn"
        own = ", own probes" if found.own_probes else ""
        about = f"adapter {name}" if name != NO_ADAPTER else "no adapter"
        told = f"{words} ({about}, {found.people} people, {whose}{own}, {found.when})"
        stands, mode = standing(manifest, name), answers_by(manifest, name)
        if stands == "void":
            told = f"void, the bundle changed since: {told}"
        elif stands == "rules":
            told = f"void, made by other rules than this version's: {told}"
        elif stands == "attention":
            told = f"of {found.attention} answers alone, by default they are {mode}: {told}"
        yield "audit", told
        if stands in ("void", "rules", "attention"):
            yield "", f"again: uservlm audit BUNDLE --adapter {name} --attention {mode}"


def _language(weights: LanguageWeights) -> Iterator[tuple[str, str]]:
    matrix = f"importance of {weights.importance} prompts" if weights.importance else "unweighted"
    yield "", f"{weights.kind}, {weights.bits_per_weight:.2f} bits per weight, {matrix}"
    for higher in weights.higher:
        yield "", f"{higher.kind}: {_list(higher.tensors)} ({higher.reason})"


def _vision(weights: VisionWeights) -> Iterator[tuple[str, str]]:
    measured = f"cosine {weights.cosine:.4f} (all in int8 {weights.plain_cosine:.4f})"
    yield "", f"{measured} on {weights.pictures} {_pictures(weights.own_pictures)}"
    if weights.kept:
        many = f"{len(weights.kept)} of {weights.matrices} matrices"
        yield "", f"{many} in fp32, {decimal(weights.kept_bytes)} more: {_list(weights.kept)}"


def _pictures(own: bool) -> str:
    return "own pictures" if own else "drawn people"


def _list(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _measured(parity: Parity | None, resident: Agreement | None) -> Iterator[tuple[str, str]]:
    if parity is not None:
        tokens = f"first token {parity.first_token_top1:.1%}, all {parity.answer_top1:.1%}"
        yield "parity", f"{tokens} as the original, vision cosine {parity.vision_cosine:.4f}"
    if resident is not None:
        first = f"first token {resident.first_token_top1:.1%} as exact"
        yield "resident", f"{first}, ROUGE-1 {resident.rouge1:.3f}"
