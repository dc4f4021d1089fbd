"""What a bundle says about itself: the manifest, and the recipe it was made by.

Owns: turning a checkpoint and the files of a bundle into a `Manifest`, and deciding whether a
bundle that lies there already is the one that would be made again. Measures nothing.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uservlm.converters.calibration import calibration_folder
from uservlm.converters.checkpoint import Checkpoint
from uservlm.converters.files import reading
from uservlm.converters.hub import FILES, Origin
from uservlm.converters.options import ExportOptions
from uservlm.converters.pixels import read_pixels
from uservlm.runtime.bundle import open_bundle, sha256
from uservlm.runtime.errors import BundleError
from uservlm.runtime.manifest import (
    FORMAT,
    MANIFEST_FILE,
    Architecture,
    Manifest,
    Precision,
    Prompt,
    Source,
)

RECIPE_FILE = "recipe.json"
PACKAGES = (
    "uservlm",
    "torch",
    "transformers",
    "optimum-onnx",
    "onnx",
    "onnxruntime",
    "gguf",
    "llama-cpp-python",
)
"""Whose versions the manifest records; one that is not installed is left out."""
CHOSEN = ("quant", "vision", "vision_gguf", "template", "mask", "importance", "cases")
"""Of `ExportOptions`: what changes a bundle and is no place."""


@dataclass(frozen=True)
class Recipe:
    """Everything a bundle depends on: the same recipe makes the same bundle."""

    checkpoint: dict[str, str]
    """SHA-256 of each file that is read, by name."""
    merged: list[dict[str, str]]
    """The same of each adapter merged, in order."""
    kept: dict[str, dict[str, str]]
    """The same of each adapter kept apart, by its name."""
    options: dict[str, Any]
    """What was chosen of `ExportOptions`, without the places."""
    pictures: str
    """Number, bytes and age of the calibration pictures: of people's faces not even a sum."""
    converter: str
    """SHA-256 over the sources of uservlm.converters."""
    versions: dict[str, str]
    """Of PACKAGES."""

    def to_json(self) -> str:
        """Serialise, indented."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


def write_recipe(
    base: Origin, merged: Sequence[Origin], kept: Mapping[str, Origin], options: ExportOptions
) -> Recipe:
    """Hash all files that are read and this package's sources.

    Raises:
        CheckpointError: a file cannot be read.
    """
    return Recipe(
        checkpoint=_hashes(base),
        merged=[_hashes(origin) for origin in merged],
        kept={name: _hashes(origin) for name, origin in kept.items()},
        options={name: getattr(options, name) for name in CHOSEN},
        pictures=calibration_folder(options.calibration).key,
        converter=_own_sources(),
        versions=_versions(),
    )


def is_made_by(out: Path, recipe: Recipe) -> bool:
    """Tell whether `out` holds a whole bundle made by this very recipe."""
    try:
        if (out / RECIPE_FILE).read_bytes() != recipe.to_json().encode():
            return False
        open_bundle(out)
    except (OSError, BundleError):
        # Damaged since it was made: it is made again, which mends it.
        return False
    return True


def describe(checkpoint: Checkpoint, precision: Precision, prompt: Prompt) -> Manifest:
    """Describe a bundle of which no file has been recorded and nothing measured yet.

    Raises:
        CheckpointError: the pixels are prepared in a way the runtime does not know.
    """
    return Manifest(
        format=FORMAT,
        name=_name(checkpoint),
        source=_source(checkpoint),
        architecture=architecture_of(checkpoint),
        prompt=prompt,
        pixels=read_pixels(checkpoint),
        precision=precision,
        files={},
        versions=_versions(),
        parity=None,
        resident=None,
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`."""
    (folder / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")


def architecture_of(checkpoint: Checkpoint) -> Architecture:
    """Give the sizes that a bundle of this checkpoint has."""
    shape = checkpoint.shape
    return Architecture(
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        image_tokens=shape.image_tokens,
        width=shape.width,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        feed_forward=shape.feed_forward,
        vocabulary=shape.rows,
        context=checkpoint.config.text_config.max_position_embeddings,
    )


def _source(checkpoint: Checkpoint) -> Source:
    origin = checkpoint.origin
    return Source(
        origin.model,
        origin.revision,
        _license(origin.folder / "README.md"),
        checkpoint.config_sha256,
        tuple(adapter.source for adapter in checkpoint.adapters),
    )


def _name(checkpoint: Checkpoint) -> str:
    """Name a bundle after what was trained last."""
    sources = [checkpoint.origin.model, *(adapter.source for adapter in checkpoint.adapters)]
    return sources[-1].rpartition("/")[2]


def _hashes(origin: Origin) -> dict[str, str]:
    """Hash the files that are fetched or read; a link that leads nowhere is an error."""
    with reading(origin.folder):
        found = sorted(path for pattern in FILES for path in origin.folder.glob(pattern))
        files = [path for path in found if path.is_file() or not path.exists()]
    with ThreadPoolExecutor(2) as pool:
        return dict(zip((path.name for path in files), pool.map(_hash, files), strict=True))


def _hash(path: Path) -> str:
    with reading(path):
        return sha256(path)


def _license(card: Path) -> str:
    """Read `license:` from the front matter of a model card."""
    if not card.is_file():
        return "unknown"
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return "unknown"
    for line in lines[1:]:
        key, _, value = line.partition(":")
        if key == "license":
            return value.strip().strip("\"'") or "unknown"
        if line.strip() == "---":
            break
    return "unknown"


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _own_sources() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
