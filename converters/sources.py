"""Everything that goes into a bundle, found and opened: a checkpoint, adapters merged and kept.

Owns: how the places a user names become one opened checkpoint. Each place is `hub.py`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from uservlm.converters.adapter_gguf import check_kept
from uservlm.converters.adapters import LoraAdapter, open_adapter
from uservlm.converters.checkpoint import Checkpoint, open_checkpoint
from uservlm.converters.hub import Origin, locate, resolve


@dataclass(frozen=True)
class Wanted:
    """The places, as a user names them: folders or hub ids."""

    model: str | Path
    """Checkpoint; an adapter brings its base."""
    revision: str | None = None
    adapters: tuple[str | Path, ...] = ()
    """Merged into the weights, in order."""
    kept: Mapping[str, str | Path] = field(default_factory=dict)
    """Kept apart, by name."""


@dataclass(frozen=True)
class Found:
    """Where everything lies that goes into a bundle."""

    base: Origin
    merged: tuple[Origin, ...]
    kept: Mapping[str, Origin]

    @property
    def name(self) -> str:
        """Of what was trained last."""
        return (self.base, *self.merged)[-1].model


def find(wanted: Wanted) -> Found:
    """Find a checkpoint and its adapters, fetching what lies on the hub.

    Raises:
        CheckpointError: see `resolve` and `locate`.
    """
    source = resolve(wanted.model, wanted.revision)
    merged = (*source.adapters, *(locate(adapter) for adapter in wanted.adapters))
    return Found(source.base, merged, {name: locate(at) for name, at in wanted.kept.items()})


def open_all(found: Found) -> tuple[Checkpoint, dict[str, LoraAdapter]]:
    """Open the checkpoint, its adapters merged as it is read, and those that are kept apart.

    Raises:
        CheckpointError: see `open_checkpoint` and `open_adapter`.
        ConversionError: see `check_kept`.
    """
    checkpoint = open_checkpoint(found.base)

    def opened(origin: Origin) -> LoraAdapter:
        return open_adapter(origin.folder, checkpoint.shape, origin.model)

    merged = tuple(opened(origin) for origin in found.merged)
    kept = {name: opened(origin) for name, origin in found.kept.items()}
    for adapter in kept.values():
        check_kept(adapter, checkpoint.shape)
    return checkpoint.with_adapters(merged), kept
