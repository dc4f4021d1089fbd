"""A checkpoint in Hugging Face layout: its configuration, and its tensors one at a time.

Owns: matching every stored tensor to exactly one canonical name. `hub.py` finds the folder,
`configuration.py` reads its numbers, `shards.py` its values. Knows nothing of ONNX or GGUF.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from uservlm.converters import names
from uservlm.converters.adapters import LoraAdapter, mole_reason
from uservlm.converters.configuration import read_config, shape_of
from uservlm.converters.errors import CheckpointError, TokenizerError
from uservlm.converters.files import is_there, read_json, reading, refuse_pointer
from uservlm.converters.hub import ADAPTER_FILE, CONFIG_FILE, Origin, locate
from uservlm.converters.shards import Place, Stored, equal, list_stored, read
from uservlm.runtime.bundle import sha256
from uservlm.runtime.manifest import MANIFEST_FILE

if TYPE_CHECKING:
    import torch
    from transformers import PaliGemmaConfig

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint whose tensors are all known and all there."""

    origin: Origin
    config: PaliGemmaConfig
    shape: names.Shape
    places: dict[str, Place] = field(repr=False)
    """By canonical name; the tied head is not among them."""
    adapters: tuple[LoraAdapter, ...] = ()
    """Merged, in this order, into whatever is read."""

    def with_adapters(self, adapters: tuple[LoraAdapter, ...]) -> Checkpoint:
        """Give the same checkpoint with these adapters merged, and no others."""
        return replace(self, adapters=adapters)

    def read(self, name: str) -> torch.Tensor:
        """Read one tensor as float32, shape as in `names.expected`.

        Raises:
            CheckpointError: it holds a value that is not finite.
        """
        return self._merge(name, read(self.places[name]))

    def read_rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Read rows [start, stop) of a matrix as float32, the rest of it never in memory.

        Raises:
            CheckpointError: they hold a value that is not finite.
        """
        return self._merge(name, read(self.places[name], start, stop), start)

    def _merge(self, name: str, values: torch.Tensor, start: int = 0) -> torch.Tensor:
        for adapter in self.adapters:
            values = adapter.apply(name, values, start)
        return values

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self.origin.folder

    @property
    def config_sha256(self) -> str:
        """Of config.json."""
        return sha256(self.folder / CONFIG_FILE)


def open_checkpoint(origin: Origin | Path) -> Checkpoint:
    """Open a checkpoint's folder; headers are read, values are not.

    Raises:
        CheckpointError: an adapter, damaged, not a PaliGemma 2, or tensors that do not match.
        TokenizerError: there is none.
    """
    origin = origin if isinstance(origin, Origin) else locate(origin)
    with reading(origin.folder):
        is_bundle = (origin.folder / MANIFEST_FILE).is_file()
    if is_bundle:
        raise CheckpointError(f"{origin.folder} is a bundle already: give the checkpoint it is of")
    _refuse_adapter(origin)
    config = read_config(origin.folder / CONFIG_FILE)
    words = [origin.folder / name for name in TOKENIZER_FILES]
    words = [path for path in words if is_there(path)]
    if not words:
        raise TokenizerError(
            f"{origin.folder} holds neither {' nor '.join(TOKENIZER_FILES)}: save the processor too"
        )
    for path in words:
        refuse_pointer(path)
    shape = shape_of(config)
    places = match(origin.folder, list_stored(origin.folder), shape)
    check_head(origin.folder, config, places)
    _check_tied(places)
    return Checkpoint(origin, config, shape, places)


def match(folder: Path, stored: list[Stored], shape: names.Shape) -> dict[str, Place]:
    """Pair every stored tensor with one canonical name; anything left over stops the export.

    Args:
        folder: named in errors.
        stored: of all files.
        shape: as config.json says.

    Returns:
        Places by canonical name, a stored head among them.

    Raises:
        CheckpointError: unknown, missing, stored twice, or of another shape.
    """
    wanted = names.expected(shape)
    wanted[names.HEAD] = wanted[names.EMBEDDINGS]
    found: dict[str, list[Stored]] = defaultdict(list)
    for tensor in stored:
        found[names.canonical(tensor.place.key) or ""].append(tensor)
    unknown = [t.place.key for name, those in found.items() if name not in wanted for t in those]
    _refuse_experts(folder, unknown)
    twice = [t.place.key for those in found.values() if len(those) > 1 for t in those]
    _stop_on(folder, "unknown", unknown)
    _stop_on(folder, "missing", [name for name in wanted if name not in found | {names.HEAD: []}])
    _stop_on(folder, "stored twice", twice)
    _stop_on(folder, "of another shape than config.json says", [
        f"{those[0].place.key} {those[0].shape} instead of {wanted[name]}"
        for name, those in found.items()
        if those[0].shape != wanted[name]
    ])  # fmt: skip
    return {name: those[0].place for name, those in found.items()}


def check_head(folder: Path, config: PaliGemmaConfig, stored: Collection[str]) -> None:
    """Refuse a model that needs a head of its own where none is stored: it would be random.

    transformers 4.57 goes by what text_config says, 5 by the whole.

    Args:
        folder: named in the error.
        config: says whether the head is tied.
        stored: canonical names.

    Raises:
        CheckpointError: the head is not tied and not stored.
    """
    tied = (config.tie_word_embeddings, config.text_config.tie_word_embeddings)
    if not all(tied) and names.HEAD not in stored:
        raise CheckpointError(
            f"{folder}: tie_word_embeddings is False, but no {names.HEAD} is stored: "
            "save it again with all its tensors, or set it true if the head was trained tied"
        )


def _refuse_adapter(origin: Origin) -> None:
    path = origin.folder / ADAPTER_FILE
    if origin.is_adapter:
        base = read_json(path).get("base_model_name_or_path") or "its base model"
        raise CheckpointError(
            f"{origin.folder} is a PEFT adapter for {base}, not a checkpoint: give {base} with "
            f"--model and this folder with --adapter"
        )
    if path.is_file():
        raise CheckpointError(
            f"{origin.folder} holds a checkpoint and an adapter ({ADAPTER_FILE}): move the adapter "
            "into a folder of its own; give it with --adapter if it is not merged yet"
        )


def _refuse_experts(folder: Path, unknown: list[str]) -> None:
    reason = mole_reason(unknown)
    if reason is not None:
        raise CheckpointError(f"{folder} {reason}")


def _stop_on(folder: Path, fault: str, keys: list[str]) -> None:
    if keys:
        more = f" and {len(keys) - 12} more" if len(keys) > 12 else ""
        raise CheckpointError(
            f"{folder}: tensors {fault}: {', '.join(sorted(keys)[:12])}{more}; "
            "save it again as it was trained, with config.json and all its shards"
        )


def _check_tied(places: dict[str, Place]) -> None:
    """Drop a stored head that equals the embeddings, as Gemma's does; refuse any other."""
    head = places.pop(names.HEAD, None)
    if head is not None and not equal(head, places[names.EMBEDDINGS]):
        raise CheckpointError(
            f"{head.key} differs from the token embeddings: an untied head is not supported; "
            "train with the head tied (tie_word_embeddings), as Gemma 2 is made"
        )
