"""The bundles of a run of `python bench/quality.py`, and the ways in which each is asked.

Owns: labels of bundles, what is noted of them, and the order of the ways. Opens no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from uservlm.bench.quality_results import BundleFacts, Way
from uservlm.runtime.adapters import choose
from uservlm.runtime.bundle import Bundle, open_bundle
from uservlm.runtime.errors import RequestError
from uservlm.runtime.request import resolve


def open_all(folders: Sequence[Path]) -> dict[str, Bundle]:
    """Open bundles and give them by label: the folder's name, numbered where two share it.

    Raises:
        BundleError: one cannot be opened.
        RequestError: one is given twice.
    """
    found: dict[str, Bundle] = {}
    for folder in folders:
        place = folder.resolve()
        if any(place == one.path.resolve() for one in found.values()):
            raise RequestError(f"{folder} is given twice: give each bundle once")
        label, number = place.name, 2
        while label in found:
            label, number = f"{place.name} {number}", number + 1
        found[label] = open_bundle(folder)
    return found


def ways_of(
    bundles: Mapping[str, Bundle], attentions: Sequence[str], adapters: Sequence[str]
) -> list[Way]:
    """Give every way that is asked for, each once: bundles first, then adapters, then attention.

    Raises:
        AdapterError: a bundle has no such adapter.
        AttentionError: no such attention.
    """
    made = []
    for (label, bundle), adapter, attention in product(bundles.items(), adapters, attentions):
        chosen = choose(adapter, None, bundle.manifest)
        made.append(Way(label, resolve(attention, bundle.manifest, chosen), adapter))
    return list(dict.fromkeys(made))


def described(bundle: Bundle) -> BundleFacts:
    """Note what a bundle is."""
    manifest = bundle.manifest
    return BundleFacts(
        weights=manifest.source.model,
        revision=manifest.source.revision,
        language=manifest.precision.language,
        vision=manifest.precision.vision,
        files={name: record.sha256 for name, record in manifest.files.items()},
    )
