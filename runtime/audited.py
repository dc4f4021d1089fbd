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

Standing: TypeAlias = Literal["passed", "failed", "void", "rules", "attention", "own", "missing"]
"""void: the files, the prompt or the pixels are no longer those that were audited.
rules: they are, but this version asks other questions, of other people, or judges otherwise.
attention: all that is as it was, but answers are computed the other way.
own: --probes; whoever wrote the questions decides what such a verdict is worth."""

RULES: Final = "499e9dba1fe0dc42acb96b4130c99b3a47f359bf5652185efb3850a0ec4e7802"
"""What `rules` gives of the files that this version ships in `bench/audit`, which a robot's runtime
leaves out. After a change of probes.toml, thresholds.toml, lexicon.toml or world.SEED write here
what this prints: python -c "from uservlm.bench.audit.record import shipped; print(shipped())"
"""

_WORDS: Final[dict[Standing, str]] = {
    "passed": "passed",
    "failed": "failed its audit (`uservlm inspect` names the probes)",
    "void": "was audited with other files, another prompt or other pixels",
    "rules": "was audited by other rules (questions, people, limits, lexicon) than are shipped now",
    "attention": "was audited with another attention than {attention}",
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


def rules(probe_file: str, thresholds: str, seed: int) -> str:
    """Name the rules of a verdict: what was asked, of whom, and how it was judged.

    Args:
        probe_file: SHA-256 of the probes' file.
        thresholds: SHA-256 of the limits and of the lexicon.
        seed: of the drawn people.

    Returns:
        A hexadecimal SHA-256.
    """
    return hashlib.sha256(json.dumps([probe_file, thresholds, seed]).encode()).hexdigest()


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
    if found.measured_on != digest(manifest, adapter):
        return "void"
    by = rules(found.probe_file, found.thresholds, found.seed)
    if by != RULES and not found.own_probes:
        return "rules"
    if found.attention != answers_by(manifest, adapter, attention):
        return "attention"
    if not found.passed:
        return "failed"
    return "own" if found.own_probes else "passed"


def answers_by(manifest: Manifest, adapter: str, attention: str = "auto") -> str:
    """Say how answers will be computed, exact or resident; arguments as for `standing`."""
    return resolve(attention, manifest, None if adapter == NO_ADAPTER else adapter)


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
    modes = {one: answers_by(manifest, one, attention) for one in wrong}
    told = "; ".join(
        f"{_called(one)} {_WORDS[found].format(attention=modes[one])}"
        for one, found in wrong.items()
    )
    first = next(iter(wrong))
    raise AuditError(
        f"{manifest.name}: {told}: run `uservlm audit` with --adapter {first} --attention "
        f"{modes[first]}, or offer nothing but what passed with --only NAME"
    )


def _called(adapter: str) -> str:
    return "the model without adapter" if adapter == NO_ADAPTER else f"adapter {adapter!r}"
