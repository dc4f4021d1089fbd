"""The LoRA adapters a bundle keeps apart: their names, and their files seen from the outside.

Owns: which adapter a question gets, and the check of every file, so that a damaged or foreign one
is a `BundleError` here and not an abort inside llama.cpp. Knows nothing of how they are applied.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from uservlm.runtime.bundle import Bundle
from uservlm.runtime.errors import AdapterError, BundleError
from uservlm.runtime.manifest import Manifest
from uservlm.runtime.weights import (
    ARCHITECTURE,
    EMBEDDING_TABLE,
    Tensor,
    Weights,
    expected_tensors,
)

NO_ADAPTER: Final = "none"
"""Asks for the weights as they are; so no adapter may be called that."""
_SUFFIXES: Final = (".lora_a", ".lora_b")
_FLOATS: Final = (0, 1)
"""GGMLQuantizationType F32 and F16."""


def check_name(name: str) -> None:
    """Make sure that an adapter can be asked for by this name.

    Raises:
        AdapterError: blank, or the one that means no adapter.
    """
    if not name.strip() or name == NO_ADAPTER:
        raise AdapterError(f"an adapter cannot be called {name!r}: choose another name")


def places_by_name(given: Iterable[str]) -> dict[str, str]:
    """Read NAME=PLACE arguments: command lines so name adapters that are kept apart.

    Raises:
        AdapterError: a name or a place is missing, or a name is given twice.
    """
    places: dict[str, str] = {}
    for text in given:
        name, _, place = text.partition("=")
        if not (name and place):
            raise AdapterError(
                f"an adapter that is kept apart is given as NAME=PLACE, not {text!r}"
            )
        if name in places:
            raise AdapterError(f"adapter {name!r} is given twice: {places[name]} and {place}")
        places[name] = place
    return places


def choose(asked: str | None, default: str | None, manifest: Manifest) -> str | None:
    """Give the adapter a question gets.

    Args:
        asked: its name, NO_ADAPTER for none, or None for the default.
        default: the engine's own, resolved before.
        manifest: of the bundle.

    Raises:
        AdapterError: the bundle has none of that name.
    """
    if asked is None:
        return default
    if asked == NO_ADAPTER:
        return None
    if asked not in manifest.adapters:
        known = ", ".join(manifest.adapters) or "no adapter at all"
        raise AdapterError(
            f"this bundle has no adapter {asked!r}; it has {known}, and {NO_ADAPTER!r} asks the "
            "bare weights"
        )
    return asked


def check_adapters(bundle: Bundle) -> dict[str, Path]:
    """Check every adapter's file against the architecture, and give the files by name.

    Raises:
        BundleError: a name that cannot be asked for, a file the manifest does not list, or one
            that is damaged or made for another model.
    """
    shapes = expected_tensors(bundle.manifest.architecture)
    files = {}
    for name, adapter in bundle.manifest.adapters.items():
        try:
            check_name(name)
        except AdapterError as error:
            raise BundleError(f"{bundle.path}: {error}") from error
        if adapter.file not in bundle.manifest.files:
            raise BundleError(
                f"{bundle.path}: the manifest does not list {adapter.file} of adapter {name!r}; "
                "export the bundle again"
            )
        files[name] = bundle.path / adapter.file
        _check_file(Weights(files[name]), shapes)
    return files


def _check_file(file: Weights, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse what llama.cpp asserts on or would add to the wrong matrix (src/llama-adapter.cpp)."""
    wanted = {
        "general.type": "adapter",
        "general.architecture": ARCHITECTURE,
        "adapter.type": "lora",
        "adapter.alora.invocation_tokens": None,
    }
    for key, value in wanted.items():
        if file.values.get(key) != value:
            raise _damaged(file.path, f"{key} is {file.values.get(key)!r}, not {value!r}")
    if not isinstance(file.values.get("adapter.lora.alpha"), float):
        raise _damaged(file.path, "adapter.lora.alpha is no number")
    pairs: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in file.tensors.items():
        pairs[name[:-7]][name[-7:]] = tensor
    if not pairs:
        raise _damaged(file.path, "it holds no matrices")
    for name, pair in pairs.items():
        _check_pair(file.path, name, pair, shapes)


def _check_pair(
    path: Path, name: str, pair: dict[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    size = shapes.get(name, ())
    if len(size) != 2 or name == EMBEDDING_TABLE or set(pair) != set(_SUFFIXES):
        raise _damaged(path, f"{name} with {', '.join(sorted(pair))} fits no matrix of the model")
    down, up = (pair[suffix] for suffix in _SUFFIXES)
    if len(down.shape) != 2 or down.shape[1] != size[1] or up.shape != (size[0], down.shape[0]):
        raise _damaged(path, f"{name} is {size}, the adapter's are {up.shape} and {down.shape}")
    if down.kind not in _FLOATS or up.kind not in _FLOATS:
        raise _damaged(path, f"{name} has types {down.kind} and {up.kind}, not f32 or f16")


def _damaged(path: Path, what: str) -> BundleError:
    return BundleError(f"{path} is no adapter for this model: {what}; export the bundle again")
