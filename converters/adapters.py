"""A PEFT LoRA adapter: what it adds to which tensor, read one matrix at a time.

Owns: matching every stored tensor to a canonical name, the scale PEFT gives it, and what can be
merged at all (`adapter_config.py`). Knows nothing of the checkpoint it is for but its shape.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from uservlm.converters import names
from uservlm.converters.adapter_config import CONFIG_FILE, Recipe, parse_recipe
from uservlm.converters.errors import CheckpointError
from uservlm.converters.files import read_json
from uservlm.converters.shards import Place, Stored, equal, list_file, read

if TYPE_CHECKING:
    import torch

WEIGHTS_FILE = "adapter_model.safetensors"
MODEL = "base_model.model."
"""What PEFT puts before the names of the model it wraps."""

MOLE = (
    "is a mixture of LoRA experts (MoLE): its router chooses an expert for every token, so no one "
    "matrix can stand for it, neither merged nor as GGUF LoRA. Export the plain LoRA checkpoint: "
    "in the User-VLM paper's Table 7 it scores above MoLE on every measure of bias"
)

Parts = dict[str, Stored]
"""What is stored for one weight: A and B, or WHOLE."""
WHOLE = "whole"
"""Instead of A and B: a weight that is brought as it is to be."""
_LORA = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(?:\.[^.]+)?\.weight")
"""`q_proj.lora_A.weight`, and with the adapter's name as older PEFT wrote it."""
_EMBEDDING_LORA = re.compile(r"\.lora_embedding_|\.base_layer\.")
"""peft saves the table itself beside an adapter for it."""
_SAVED = re.compile(r"\.modules_to_save\.[^.]+")
"""With the adapter's name, as in a state_dict that peft did not save; peft leaves both out."""
_ROUTED = re.compile(r"(?:^|[._])(?:routers?|experts?|gates?|gating|mol?e)(?=[._\d]|$)", re.I)
_PROJECTION = re.compile(r"gate_(?:up_)?proj")
"""Gemma's own gate, which chooses nothing."""


@dataclass(frozen=True)
class Pair:
    """The two matrices whose product is added to one weight."""

    down: Place
    """A [rank, in]."""
    up: Place
    """B [out, rank]."""
    rank: int
    scale: float
    """alpha / rank, or alpha / √rank when rank-stabilised."""


@dataclass(frozen=True)
class LoraAdapter:
    """An opened adapter whose tensors are all known and all fit the shape."""

    file: Path
    source: str
    """Hub id, or the folder's name."""
    pairs: dict[str, Pair] = field(repr=False)
    """By canonical name of the weight they change."""
    saved: dict[str, Place] = field(repr=False)
    """Whole weights (modules_to_save) by the canonical name of what they replace; the tied head is
    not among them."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Canonical names of all it changes."""
        return (*self.pairs, *self.saved)

    @property
    def rank(self) -> int:
        """The largest of its matrices; 0 when it has none."""
        return max((pair.rank for pair in self.pairs.values()), default=0)

    def factors(self, name: str) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Give A [rank, in] and B [out, rank] as stored, in float32; None when unchanged.

        Raises:
            CheckpointError: a value is not finite.
        """
        pair = self.pairs.get(name)
        return None if pair is None else (read(pair.down), read(pair.up))

    def delta(self, name: str) -> torch.Tensor | None:
        """Give what is added to a weight, float32 [out, in], or None; errors as for `factors`."""
        pair = self.pairs.get(name)
        return None if pair is None else self._product(pair)

    def apply(self, name: str, values: torch.Tensor, start: int = 0) -> torch.Tensor:
        """Give a tensor, or its rows from `start` on, as PEFT's `merge_and_unload` leaves them.

        Args:
            name: canonical name.
            values: float32, the whole tensor or some of its rows.
            start: the first of these rows.

        Raises:
            CheckpointError: a value of the adapter is not finite.
        """
        stop = start + len(values)
        if name in self.saved:
            values = read(self.saved[name], start, stop)
        pair = self.pairs.get(name)
        return values if pair is None else values + self._product(pair, start, stop)

    def _product(self, pair: Pair, start: int = 0, stop: int | None = None) -> torch.Tensor:
        return (read(pair.up, start, stop) @ read(pair.down)) * pair.scale


def open_adapter(folder: Path, shape: names.Shape, source: str | None = None) -> LoraAdapter:
    """Open the folder of an adapter; no values are read but a head's that is stored beside a table.

    Args:
        folder: holds adapter_config.json and adapter_model.safetensors.
        shape: of the checkpoint it is for.
        source: what to call it; None takes the folder's name.

    Raises:
        CheckpointError: missing, damaged, of a kind that cannot be merged, or made for another
            checkpoint.
    """
    file = folder / WEIGHTS_FILE
    if not folder.is_dir():
        raise CheckpointError(f"no folder {folder}: give one with {CONFIG_FILE} and {WEIGHTS_FILE}")
    if not (folder / CONFIG_FILE).is_file() and (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} is a checkpoint, not an adapter: give it with --model")
    if not file.is_file():
        raise CheckpointError(
            f"{folder} holds no {WEIGHTS_FILE} (pickled weights are not read): save it with a "
            "present peft, whose save_pretrained writes safetensors"
        )
    stored, config = list_file(file), read_json(folder / CONFIG_FILE)
    keys = (tensor.place.key for tensor in stored)
    reason = mole_reason((*keys, *config, str(config.get("peft_type"))))
    if reason is not None:
        raise CheckpointError(f"{folder} {reason}")
    if not stored:
        raise CheckpointError(f"{file} is empty: the adapter changes nothing")
    recipe = parse_recipe(folder / CONFIG_FILE, config)
    wanted = names.expected(shape)
    wanted[names.HEAD] = wanted[names.EMBEDDINGS]
    pairs, saved = {}, {}
    for name, parts in _group(file, stored, wanted).items():
        whole = parts.pop(WHOLE, None)
        if whole is not None:
            _check_shape(file, whole, wanted[name])
            saved[name] = whole.place
        if parts:
            pairs[name] = _pair(file, parts, recipe, wanted[name])
    saved = _tied(file, pairs, saved)
    return LoraAdapter(file, source or folder.resolve().name, pairs, saved)


def mole_reason(keys: Iterable[str]) -> str | None:
    """Say why a checkpoint with such tensors cannot be exported, if it is a mixture of experts.

    Args:
        keys: stored names of any generation; fields of a configuration do as well.
    """
    routed = next((key for key in keys if _ROUTED.search(_PROJECTION.sub("", key))), None)
    return None if routed is None else f"({routed}) {MOLE}"


def _group(file: Path, stored: list[Stored], wanted: Collection[str]) -> dict[str, Parts]:
    """Put every stored tensor to one canonical name; anything left over is an error."""
    found: dict[str, Parts] = defaultdict(dict)
    for tensor in stored:
        key = tensor.place.key
        module, part = _read_key(file, key)
        name = names.canonical(module)
        if name is None or name not in wanted:
            raise CheckpointError(
                f"{file}: {key} belongs to nothing in the checkpoint: "
                "is the adapter for another one?"
            )
        if part in found[name]:
            other = found[name][part].place.key
            raise CheckpointError(f"{file}: {key} and {other} are the same tensor")
        found[name][part] = tensor
    return found


def _read_key(file: Path, key: str) -> tuple[str, str]:
    """Give the name of the weight a stored tensor is for, and what it is of it: A, B or all."""
    if not key.startswith(MODEL):
        raise CheckpointError(f"{file}: {key} is not as PEFT names tensors ({MODEL}…)")
    if _EMBEDDING_LORA.search(key):
        raise CheckpointError(
            f"{file}: {key} adapts token embeddings, which Gemma shares with its head: "
            "train them whole (modules_to_save, ensure_weight_tying) or not at all"
        )
    name = key[len(MODEL) :]
    lora = _LORA.fullmatch(name)
    if lora is not None:
        return f"{lora['module']}.weight", lora["side"]
    return _SAVED.sub("", name), WHOLE


def _pair(file: Path, parts: dict[str, Stored], recipe: Recipe, size: tuple[int, ...]) -> Pair:
    """Check that A and B are there and multiply to the weight's shape."""
    if parts.keys() != {"A", "B"}:
        keys = ", ".join(tensor.place.key for tensor in parts.values())
        raise CheckpointError(f"{file}: {keys} without its other half: a weight needs A and B")
    down, up = parts["A"], parts["B"]
    module = down.place.key[len(MODEL) :].partition(".lora_A")[0]
    rank = recipe.rank(module)
    if len(size) != 2:
        raise CheckpointError(
            f"{file}: {down.place.key} adapts a weight of shape {size}, no matrix"
        )
    _check_shape(file, down, (rank, size[1]))
    _check_shape(file, up, (size[0], rank))
    return Pair(down.place, up.place, rank, recipe.scale(module))


def _check_shape(file: Path, tensor: Stored, wanted: tuple[int, ...]) -> None:
    if tensor.shape != wanted:
        raise CheckpointError(
            f"{file}: {tensor.place.key} has shape {tensor.shape}, the checkpoint and "
            f"{CONFIG_FILE} say {wanted}: is the adapter for another one?"
        )


def _tied(file: Path, pairs: dict[str, Pair], saved: dict[str, Place]) -> dict[str, Place]:
    """Leave out a whole head that equals the whole embeddings; refuse whatever would untie them."""
    table, head = saved.get(names.EMBEDDINGS), saved.get(names.HEAD)
    adapted = sorted({names.EMBEDDINGS, names.HEAD} & pairs.keys())
    both = table is not None and head is not None and equal(table, head)
    if adapted or not (both or table is head is None):
        what = ", ".join([*adapted, *(place.key for place in (table, head) if place is not None)])
        raise CheckpointError(
            f"{file}: {what} would make the head differ from the token embeddings: "
            "an untied head is not supported (peft: ensure_weight_tying=True keeps them one)"
        )
    return {name: place for name, place in saved.items() if name != names.HEAD}
