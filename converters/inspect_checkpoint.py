"""What a checkpoint or an adapter is, and whether it can be exported, from headers alone.

Owns: the facts `uservlm inspect` tells about what is no bundle. No value is read and no model
built; what only values can tell (NaN, an untied head) shows at the export.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.filesize import decimal

from uservlm.converters import names
from uservlm.converters.adapter_config import parse_recipe
from uservlm.converters.adapters import WEIGHTS_FILE, mole_reason
from uservlm.converters.checkpoint import check_head, match
from uservlm.converters.configuration import read_config, shape_of
from uservlm.converters.errors import CheckpointError, TokenizerError
from uservlm.converters.files import read_json, reading
from uservlm.converters.hub import ADAPTER_FILE, CONFIG_FILE, FILES, Origin, locate
from uservlm.converters.pixels import pixels_in
from uservlm.converters.shards import Stored, list_file, list_stored
from uservlm.converters.tokenizer_gguf import read_vocabulary
from uservlm.models.prompt import TEMPLATE

if TYPE_CHECKING:
    from transformers import PaliGemmaConfig

Result = TypeVar("Result")

PARTS = (("vision", names.VISION), ("projector", names.PROJECTOR), ("language", names.LANGUAGE))
GENERATIONS = {
    ("vision_tower.vision_model.", "language_model.model."): "before 4.52, saved up to 4.57",
    ("model.vision_tower.vision_model.", "model.language_model."): "4.52 to 4.57, in memory",
    ("model.vision_tower.", "model.language_model."): "5, in memory",
    ("vision_tower.", "language_model.model."): "5, saved",
}
"""Which transformers called vision and language so; 5.23 was looked at."""
BUNDLES = (("q4_k_m", "int8"), ("q8_0", "int8"), ("f16", "fp32"))
"""Precisions whose bundle size is told."""
_MODULE = re.compile(r"([^.]+)\.lora_A\b")


@dataclass(frozen=True)
class AdapterFacts:
    """A PEFT adapter."""

    base: str
    """As adapter_config.json names it: a hub id or a path."""
    revision: str | None
    """Of the base."""
    kind: str
    """peft_type, LORA for one that can be exported."""
    rank: int | None
    alpha: float | None
    targets: tuple[str, ...]
    """Modules it changes, e.g. q_proj."""


@dataclass(frozen=True)
class CheckpointFacts:
    """A folder of weights that is not a bundle."""

    model: str
    """Hub id, or the folder's name."""
    revision: str | None
    """Commit of the hub repository, when there was one."""
    family: str
    """`PaliGemma 2`, `PEFT adapter`, or model_type of what is not supported."""
    exportable: bool
    reasons: tuple[str, ...]
    """Why not, each with the way out."""
    shape: names.Shape | None
    weights: dict[str, int]
    """How many, by part: vision, projector, language; of an adapter all are its own."""
    kinds: dict[str, int]
    """How many weights are stored in each number format, by the names of safetensors."""
    files: dict[str, int]
    """Bytes of each file that is read."""
    naming: str | None
    """Which transformers called its tensors so."""
    vocabulary: int | None
    """Tokens of the tokenizer; the embedding table may have more rows."""
    prompt: str | None
    """User-VLM's template, where README.md shows it; None: nothing is known."""
    bundles: dict[str, int]
    """Bytes a bundle will take, about, by its precisions."""
    adapter: AdapterFacts | None


def inspect_checkpoint(model: str | Path, revision: str | None = None) -> CheckpointFacts:
    """Look at a folder, or at a hub id that is in the cache; nothing is fetched.

    Raises:
        CheckpointError: there is no such folder. What is wrong inside it becomes a reason.
    """
    origin = locate(model, revision, fetch=False)
    return _inspect_adapter(origin) if origin.is_adapter else _inspect_model(origin)


def description(facts: CheckpointFacts) -> Iterator[tuple[str, str]]:
    """Give what a person reads, line by line: a heading and a text."""
    yield "name", facts.model + (f" at {facts.revision}" if facts.revision else "")
    yield "family", facts.family
    if facts.adapter is not None:
        yield from _adapter_lines(facts.adapter)
    if facts.shape is not None:
        yield from _shape_lines(facts.shape)
    total = sum(facts.weights.values())
    parts = ", ".join(f"{part} {count / 1e6:,.1f} M" for part, count in facts.weights.items())
    yield "weights", f"{total / 1e6:,.1f} M" + (f": {parts}" if len(facts.weights) > 1 else "")
    for kind, count in facts.kinds.items():
        yield "stored as", f"{kind}, {count / total:.0%}" if total else kind
    for name, size in facts.files.items():
        yield "file", f"{name}, {decimal(size)}"
    if facts.naming is not None:
        yield "named as by", f"transformers {facts.naming}"
    if facts.vocabulary is not None:
        yield "tokenizer", f"{facts.vocabulary:,} tokens"
    if facts.prompt is None:
        yield "prompt", "not known: export takes User-VLM's, unless --template gives yours"
    else:
        yield "prompt", f"{facts.prompt!r}, by its README.md; export's default"
    for precision, size in facts.bundles.items():
        yield "bundle", f"{precision}: about {decimal(size)}"
    yield "exportable", "yes, as far as headers tell" if facts.exportable else "no"
    for reason in facts.reasons:
        yield "reason", reason


def _adapter_lines(adapter: AdapterFacts) -> Iterator[tuple[str, str]]:
    yield "base", adapter.base + (f" at {adapter.revision}" if adapter.revision else "")
    yield "adapter", f"{adapter.kind}, rank {adapter.rank}, alpha {adapter.alpha}"
    yield "changes", ", ".join(adapter.targets) or "nothing"


def _shape_lines(shape: names.Shape) -> Iterator[tuple[str, str]]:
    yield "picture", f"{shape.image_size}×{shape.image_size}, {shape.image_tokens} tokens"
    yield "vision", f"{shape.vision_layers} layers of width {shape.vision_width}"
    heads = f"{shape.heads} heads ({shape.kv_heads} for KV) of {shape.head_dim}"
    yield "language", f"{shape.layers} layers of width {shape.width}, {heads}"
    yield "embeddings", f"{shape.rows:,} rows"


def _inspect_model(origin: Origin) -> CheckpointFacts:
    reasons: list[str] = []
    raw = _attempt(reasons, lambda: read_json(origin.folder / CONFIG_FILE))
    config = None
    if raw is not None:
        config = _attempt(reasons, lambda: read_config(origin.folder / CONFIG_FILE))
    shape = None if config is None else shape_of(config)
    stored = _attempt(reasons, lambda: list_stored(origin.folder)) or []
    if config is not None and stored:
        _attempt(reasons, partial(_check_tensors, origin.folder, config, stored))
    rows = None if shape is None else shape.rows
    vocabulary = _attempt(reasons, lambda: read_vocabulary(origin.folder, rows).tokens)
    if shape is not None:
        _attempt(reasons, partial(pixels_in, origin.folder, shape.image_size))
    keys = [tensor.place.key for tensor in stored]
    family = "PaliGemma 2" if shape else str((raw or {}).get("model_type", "unknown"))
    return CheckpointFacts(
        origin.model,
        origin.revision,
        family,
        not reasons,
        tuple(reasons),
        shape,
        weights=_count_parts(stored),
        kinds=_count_kinds(stored),
        files=_measure(origin.folder),
        naming=_naming(keys) if keys else None,
        vocabulary=vocabulary,
        prompt=_prompt(origin.folder),
        bundles={} if shape is None else _bundles(shape),
        adapter=None,
    )


def _inspect_adapter(origin: Origin) -> CheckpointFacts:
    path = origin.folder / ADAPTER_FILE
    reasons: list[str] = []
    settings = _attempt(reasons, lambda: read_json(path)) or {}
    stored = _attempt(reasons, lambda: list_file(origin.folder / WEIGHTS_FILE)) or []
    keys = (tensor.place.key for tensor in stored)
    experts = mole_reason((*keys, *settings, str(settings.get("peft_type"))))
    if experts is not None:
        reasons.append(f"{origin.folder} {experts}")
    elif settings:
        _attempt(reasons, lambda: parse_recipe(path, settings))
    found = (_MODULE.search(tensor.place.key) for tensor in stored)
    adapter = AdapterFacts(
        base=str(settings.get("base_model_name_or_path") or "not named"),
        revision=settings.get("revision"),
        kind=str(settings.get("peft_type")),
        rank=settings.get("r"),
        alpha=settings.get("lora_alpha"),
        targets=tuple(sorted({module[1] for module in found if module})),
    )
    return CheckpointFacts(
        origin.model,
        origin.revision,
        "PEFT adapter",
        not reasons,
        tuple(reasons),
        None,
        weights={"adapter": sum(math.prod(tensor.shape) for tensor in stored)},
        kinds=_count_kinds(stored),
        files=_measure(origin.folder),
        naming=None,
        vocabulary=None,
        prompt=_prompt(origin.folder),
        bundles={},
        adapter=adapter,
    )


def _attempt(reasons: list[str], look: Callable[[], Result]) -> Result | None:
    """Look at one thing; why it cannot be exported is a fact like any other."""
    try:
        return look()
    except (CheckpointError, TokenizerError) as error:
        if str(error) not in reasons:
            reasons.append(str(error))
        return None


def _check_tensors(folder: Path, config: PaliGemmaConfig, stored: list[Stored]) -> None:
    check_head(folder, config, match(folder, stored, shape_of(config)))


def _count_parts(stored: list[Stored]) -> dict[str, int]:
    """Count weights by part; what belongs to none is `other`."""
    counts: Counter[str] = Counter()
    for tensor in stored:
        name = names.canonical(tensor.place.key) or ""
        part = next((part for part, prefix in PARTS if name.startswith(prefix)), "other")
        counts[part] += math.prod(tensor.shape)
    return dict(counts)


def _count_kinds(stored: list[Stored]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for tensor in stored:
        counts[tensor.kind] += math.prod(tensor.shape)
    return dict(counts.most_common())


def _measure(folder: Path) -> dict[str, int]:
    with reading(folder):
        found = sorted({path for pattern in FILES for path in folder.glob(pattern)})
        return {path.name: path.stat().st_size for path in found if path.is_file()}


def _naming(keys: list[str]) -> str:
    """Say which transformers called vision and language so."""
    vision, language = (
        {prefix for key in keys if (prefix := _prefix(key, meaning))}
        for meaning in (names.VISION, names.LANGUAGE)
    )
    for pair, generation in GENERATIONS.items():
        if (vision, language) == ({pair[0]}, {pair[1]}):
            return generation
    return f"of no one version: {', '.join(sorted(vision | language)) or 'unknown names'}"


def _prefix(key: str, wanted: str) -> str | None:
    """Give what a stored name begins with if that stands for `wanted`."""
    found = next(((p, meaning) for p, meaning in names.PREFIXES if key.startswith(p)), None)
    return found[0] if found is not None and found[1] == wanted else None


def _prompt(folder: Path) -> str | None:
    """Recognise User-VLM's prompt in a model card; any other card says nothing."""
    path = folder / "README.md"
    if not path.is_file():
        return None
    with reading(path):
        return TEMPLATE if b"<|im_start|>" in path.read_bytes() else None


def _bundles(shape: names.Shape) -> dict[str, int]:
    from uservlm.converters.plan import bundle_bytes

    return {
        f"--quant {quant} --vision {vision}": bundle_bytes(shape, quant, vision)
        for quant, vision in BUNDLES
    }
