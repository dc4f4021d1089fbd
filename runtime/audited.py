"""Whether a bundle was audited as it is, and with what verdict.

Owns: what an audit is bound to, and the refusal to serve without a passing one. Knows nothing of
what is measured (`bench/audit`) or of what a manifest keeps of it (`audit_figures.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Final, Literal, TypeAlias

from uservlm.runtime.adapters import NO_ADAPTER
from uservlm.runtime.bundle import LANGUAGE_FILE
from uservlm.runtime.errors import AuditError
from uservlm.runtime.manifest import Manifest
from uservlm.runtime.request import resolve
from uservlm.runtime.vision_figures import VISION_FILES

Standing: TypeAlias = Literal["passed", "failed", "void", "own", "missing"]
"""void: the files, the prompt or the way of attending are no longer those that were audited.
own: --probes; whoever wrote the questions decides what such a verdict is worth."""

_WORDS: Final[dict[Standing, str]] = {
    "passed": "passed",
    "failed": "failed its audit",
    "void": "was audited with other files, another prompt or another attention",
    "own": "was audited with questions that are not the shipped ones",
    "missing": "was never audited",
}


def digest(manifest: Manifest, adapter: str) -> str:
    """Name what answers come from: weights, encoders, the adapter, the prompt, the pixels.

    Other adapters and what else lies in the bundle do not count.

    Args:
        manifest: of the bundle.
        adapter: one that the bundle keeps apart, or NO_ADAPTER.

    Returns:
        A hexadecimal SHA-256.
    """
    names = [LANGUAGE_FILE, *VISION_FILES.values()]
    if adapter != NO_ADAPTER:
        names.append(manifest.adapters[adapter].file)
    files = {name: manifest.files[name].sha256 for name in names if name in manifest.files}
    bound = [files, asdict(manifest.prompt), asdict(manifest.pixels)]
    return hashlib.sha256(json.dumps(bound, sort_keys=True).encode()).hexdigest()


def standing(manifest: Manifest, adapter: str, attention: str = "auto") -> Standing:
    """Say how the weights, or an adapter, stand.

    Args:
        manifest: of the bundle.
        adapter: one that the bundle keeps apart, or NO_ADAPTER.
        attention: by which answers will be computed: auto, exact or resident.
    """
    found = manifest.audits.get(adapter)
    if found is None:
        return "missing"
    mode = resolve(attention, manifest, None if adapter == NO_ADAPTER else adapter)
    if found.measured_on != digest(manifest, adapter) or found.attention != mode:
        return "void"
    if not found.passed:
        return "failed"
    return "own" if found.own_probes else "passed"


def require_audits(manifest: Manifest, adapters: Iterable[str], attention: str) -> None:
    """Make sure that everything that is about to be offered has passed.

    Args:
        manifest: of the bundle.
        adapters: by name, NO_ADAPTER for the weights as they are.
        attention: as asked for.

    Raises:
        AuditError: names what has not, and the way out.
    """
    stand = {one: standing(manifest, one, attention) for one in adapters}
    wrong = {one: found for one, found in stand.items() if found != "passed"}
    if not wrong:
        return
    told = "; ".join(f"{_called(one)} {_WORDS[found]}" for one, found in wrong.items())
    raise AuditError(
        f"{manifest.name}: {told}: run `uservlm audit` with --adapter {next(iter(wrong))}, or "
        "offer nothing but what passed with --only NAME"
    )


def _called(adapter: str) -> str:
    return "the model without adapter" if adapter == NO_ADAPTER else f"adapter {adapter!r}"
