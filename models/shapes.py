"""The sizes a PaliGemma 2 can have: the catalog of published ones, read from `catalog/*.toml`.

Owns: the numbers and the names by which a shape is asked for. Knows nothing of tensors' values or
of files of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from uservlm.converters import names
from uservlm.models.toml import tomllib

_FOLDER = Path(__file__).parent / "catalog"


@dataclass(frozen=True)
class Architecture:
    """Everything config.json says that decides shapes or arithmetic."""

    image_size: int
    """Pixels of the square picture's side."""
    vision_width: int
    vision_feed_forward: int
    vision_layers: int
    vision_heads: int
    width: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    scalar: float
    """query_pre_attn_scalar: scores are divided by its root."""
    patch_size: int = 14
    caps: tuple[float | None, float | None] = (50.0, 30.0)
    """Softcaps of attention scores and logits."""
    sliding_window: int = 4096
    """Positions a layer of even number sees back."""
    context: int = 8192
    """Positions the model was trained for."""
    rope_theta: float = 10000.0
    eps: float = 1e-6
    """Of Gemma's RMS norms."""
    rows: int | None = None
    """Of the embedding table; None: the tokenizer's and `padding_rows`, to a multiple of 64."""
    padding_rows: int = 50

    @property
    def image_tokens(self) -> int:
        """N, the number of patches."""
        return (self.image_size // self.patch_size) ** 2

    def rows_for(self, vocabulary: int) -> int:
        """Rows of the embedding table over a vocabulary of that many tokens."""
        return self.rows or -(-(vocabulary + self.padding_rows) // 64) * 64

    def shape(self, rows: int) -> names.Shape:
        """The sizes tensors' shapes follow from."""
        return names.Shape(
            image_size=self.image_size,
            patch_size=self.patch_size,
            vision_width=self.vision_width,
            vision_feed_forward=self.vision_feed_forward,
            vision_layers=self.vision_layers,
            width=self.width,
            feed_forward=self.feed_forward,
            layers=self.layers,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            rows=rows,
        )


@dataclass(frozen=True)
class Entry:
    """One line of the catalog."""

    name: str
    """As `paligemma2-3b-448`, or the hub id of a model made from such a one."""
    architecture: Architecture
    made_from: str | None
    """Hub id of the model it was trained from; None for Google's own."""
    adapter: bool
    """Whether its repository holds a LoRA adapter over `made_from` and no weights of its own."""

    @property
    def weights(self) -> int:
        """Number of weights, the tied head counted once."""
        return names.weights(self.architecture.shape(self.architecture.rows_for(0)))


@cache
def catalog() -> Mapping[str, Entry]:
    """Every entry by name, read once, from the smallest to the largest."""
    entries: dict[str, Entry] = {}
    for path in sorted(_FOLDER.glob("*.toml"), key=lambda path: int(path.stem.rstrip("b"))):
        with path.open("rb") as file:
            entries.update((entry.name, entry) for entry in _entries(tomllib.load(file)))
    return MappingProxyType(entries)


def find(name: str) -> Entry:
    """Look a name up; ValueError lists the known ones."""
    if name not in catalog():
        raise ValueError(f"no shape is called {name!r}: choose one of {', '.join(catalog())}")
    return catalog()[name]


def _entries(data: Mapping[str, Any]) -> list[Entry]:
    model = data["model"]
    sizes = {side: _architecture(data, side) for side in model["image_sizes"]}
    found = [
        Entry(f"paligemma2-{model['size']}-{side}", architecture, None, adapter=False)
        for side, architecture in sizes.items()
    ]
    for name, alias in data.get("alias", {}).items():
        found.append(Entry(name, sizes[alias["size"]], alias["from"], alias["adapter"]))
    return found


def _architecture(data: Mapping[str, Any], side: int) -> Architecture:
    numbers = {**data["vision"], **data["language"]}
    return Architecture(image_size=side, **{**numbers, "caps": tuple(numbers["caps"])})
