"""A checkpoint in Hugging Face layout: its configuration, and its tensors one at a time.

Owns: finding the folder and matching every stored tensor to exactly one canonical name.
`configuration.py` reads its numbers. Knows nothing of ONNX or GGUF.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uservlm.converters import names
from uservlm.converters.configuration import read_config, read_json, shape_of
from uservlm.converters.errors import CheckpointError
from uservlm.runtime.bundle import sha256

if TYPE_CHECKING:
    import torch
    from transformers import PaliGemmaConfig

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
FILES = ("*.json", "*.safetensors", "tokenizer.model", "README.md")
"""What is fetched from a hub repository and what a bundle depends on: never pickled weights."""


@dataclass(frozen=True)
class Place:
    """Where a tensor lies."""

    file: Path
    key: str
    """Its name in that file."""


@dataclass(frozen=True)
class Origin:
    """A folder with a checkpoint in it, not opened yet."""

    folder: Path
    model: str
    """Hub id, or the folder's name."""
    revision: str | None
    """Commit of the hub repository, when there was one."""


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint whose tensors are all known and all there."""

    origin: Origin
    config: PaliGemmaConfig
    shape: names.Shape
    places: dict[str, Place] = field(repr=False)
    """By canonical name; the tied head is not among them."""

    def read(self, name: str) -> torch.Tensor:
        """Read one tensor as float32, shape as in `names.expected`.

        Raises:
            CheckpointError: it holds a value that is not finite.
        """
        tensor = _read(self.places[name]).float()
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"{self.places[name].key} in {self.places[name].file.name} holds NaN or infinity"
            )
        return tensor

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self.origin.folder

    @property
    def config_sha256(self) -> str:
        """Of config.json."""
        return sha256(self.folder / CONFIG_FILE)

    def read_preprocessor(self) -> dict[str, Any]:
        """Give preprocessor_config.json, empty when there is none."""
        path = self.folder / "preprocessor_config.json"
        return read_json(path) if path.is_file() else {}


def locate(model: str | Path, revision: str | None = None) -> Origin:
    """Find a folder, or fetch a hub id of the form `owner/name` when no such folder exists.

    Raises:
        CheckpointError: neither, or the hub does not give it.
    """
    folder = Path(model)
    if folder.is_dir():
        return Origin(folder, folder.resolve().name, None)
    if folder.is_absolute() or len(folder.parts) != 2 or Path(folder.parts[0]).is_dir():
        raise CheckpointError(
            f"no folder {model}: give a checkpoint's folder or OWNER/NAME on the hub"
        )
    return _download(str(model), revision)


def open_checkpoint(origin: Origin | Path) -> Checkpoint:
    """Open a checkpoint's folder.

    Raises:
        CheckpointError: an adapter, damaged, not a PaliGemma 2, or tensors that do not match.
    """
    origin = origin if isinstance(origin, Origin) else locate(origin)
    _refuse_adapter(origin.folder)
    config = read_config(origin.folder / CONFIG_FILE)
    shape = shape_of(config)
    return Checkpoint(origin, config, shape, _match(origin.folder, shape))


def _download(model: str, revision: str | None) -> Origin:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=list(FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"no folder {model}, and the hub does not give it: {first} "
            "(a gated model needs `hf auth login`)"
        ) from error
    return Origin(folder, model, folder.name)


def _refuse_adapter(folder: Path) -> None:
    adapter = folder / "adapter_config.json"
    if adapter.is_file() and not (folder / CONFIG_FILE).is_file():
        base = read_json(adapter).get("base_model_name_or_path", "its base model")
        raise CheckpointError(
            f"{folder} is a PEFT adapter, not a checkpoint: merge it into {base} first "
            "(peft: PeftModel.from_pretrained(…).merge_and_unload(), then save_pretrained)"
        )


def _match(folder: Path, shape: names.Shape) -> dict[str, Place]:
    """Pair every stored tensor with one canonical name; anything left over stops the export."""
    found: dict[str, list[Place]] = defaultdict(list)
    unmatched: list[str] = []
    shapes: dict[Place, tuple[int, ...]] = {}
    wanted = names.expected(shape)
    for place, size in _stored(folder):
        name = names.canonical(place.key)
        if name in wanted or name == names.HEAD:
            found[name].append(place)
            shapes[place] = size
        else:
            unmatched.append(place.key)
    duplicates = [place.key for places in found.values() if len(places) > 1 for place in places]
    _stop_on(folder, "unknown", unmatched)
    _stop_on(folder, "missing", [name for name in wanted if name not in found])
    _stop_on(folder, "stored twice", duplicates)
    places = {name: places[0] for name, places in found.items()}
    _stop_on(folder, "of another shape than config.json says", [
        f"{place.key} {shapes[place]} instead of {wanted[name]}"
        for name, place in places.items()
        if name in wanted and shapes[place] != wanted[name]
    ])  # fmt: skip
    _check_tied(places)
    return places


def _stop_on(folder: Path, fault: str, keys: list[str]) -> None:
    if keys:
        more = f" and {len(keys) - 12} more" if len(keys) > 12 else ""
        raise CheckpointError(f"{folder}: tensors {fault}: {', '.join(sorted(keys)[:12])}{more}")


def _stored(folder: Path) -> list[tuple[Place, tuple[int, ...]]]:
    from safetensors import SafetensorError, safe_open

    stored = []
    for file in _weight_files(folder):
        try:
            with safe_open(file, framework="pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118 - it is not a mapping
                    stored.append((Place(file, key), tuple(tensors.get_slice(key).get_shape())))
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} is damaged: {error}") from error
    return stored


def _weight_files(folder: Path) -> list[Path]:
    single, index = folder / WEIGHTS_FILE, folder / INDEX_FILE
    if not index.is_file():
        if not single.is_file():
            raise CheckpointError(
                f"{folder} holds neither {WEIGHTS_FILE} nor {INDEX_FILE}; "
                "pickled weights are not read"
            )
        return [single]
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict):
        raise CheckpointError(f"{index} is damaged: it holds no weight_map")
    files = sorted({folder / str(shard) for shard in shards.values()})
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CheckpointError(
            f"{folder} lacks the shards {', '.join(missing)} that {INDEX_FILE} names"
        )
    return files


def _check_tied(places: dict[str, Place]) -> None:
    """Drop a stored head that equals the embeddings, as Gemma's does; refuse any other."""
    import torch

    head = places.pop(names.HEAD, None)
    if head is not None and not torch.equal(_read(head), _read(places[names.EMBEDDINGS])):
        raise CheckpointError(
            f"{head.key} differs from the token embeddings: an untied head is not supported"
        )


def _read(place: Place) -> torch.Tensor:
    from safetensors import safe_open

    with safe_open(place.file, framework="pt") as tensors:
        tensor: torch.Tensor = tensors.get_tensor(place.key)
    return tensor
