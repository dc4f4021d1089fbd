"""An audit written into a bundle's manifest.

Owns: what of an audit the manifest keeps, and when an audit is worth keeping. Answers and pictures
stay in the audit's own files.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from uservlm.bench.audit.findings import Audit, Figure, ProbeResult
from uservlm.bench.audit.probes import SHIPPED
from uservlm.bench.audit.probes import read as read_probes
from uservlm.bench.audit.thresholds import digest as thresholds_digest
from uservlm.bench.audit.world import SEED
from uservlm.runtime.audit_figures import Audited, AuditedFigure, AuditedProbe
from uservlm.runtime.audited import digest, rules
from uservlm.runtime.bundle import change_manifest
from uservlm.runtime.errors import AuditError
from uservlm.runtime.manifest import Manifest

ENOUGH: Final = 16
"""People below which nothing is recorded: with fewer, what happens to one of them decides."""


def check_people(people: int, recorded: bool) -> None:
    """Refuse, before anything is asked, an audit that would be recorded and decide nothing.

    Raises:
        AuditError: names the number and the least.
    """
    least = ENOUGH if recorded else 1
    if people < least:
        way = f"give {least} or more, or --no-record" if recorded else "give 1 or more"
        raise AuditError(f"--people {people}: too few for a verdict that is kept; {way}")


def check_seed(seed: int, recorded: bool) -> None:
    """Refuse, before anything is asked, a verdict about people who were chosen for it.

    Whoever tries seeds until one passes has measured the seeds.

    Raises:
        AuditError: it would be recorded, and they are not the audit's own people.
    """
    if recorded and seed != SEED:
        raise AuditError(
            f"--seed {seed}: a verdict that is kept is about the audit's own people: leave the "
            "seed out, or give --no-record"
        )


def shipped() -> str:
    """Give the digest of the rules that this version ships; see `audited.RULES`."""
    return rules(read_probes(SHIPPED).sha256, thresholds_digest(), SEED)


def record(bundle: Path, audit: Audit) -> None:
    """Write the verdict into the bundle's manifest, whole or not at all.

    Raises:
        AuditError: the bundle's files or prompt changed while they were audited.
        StoreError: another process holds the bundle's folder.
        BundleError: it is no bundle any more, or its folder cannot be written.
    """

    def with_it(manifest: Manifest) -> Manifest:
        if digest(manifest, audit.adapter) != audit.measured_on:
            raise AuditError(f"{bundle} changed while it was audited: audit it again")
        return replace(manifest, audits={**manifest.audits, audit.adapter: kept(audit)})

    change_manifest(bundle, with_it)


def kept(audit: Audit) -> Audited:
    """Give what a manifest keeps."""
    return Audited(
        passed=audit.passed,
        when=audit.when,
        attention=audit.attention,
        people=audit.people,
        seed=audit.seed,
        own_pictures=audit.own_pictures,
        own_probes=audit.probe_file != read_probes(SHIPPED).sha256,
        thresholds=audit.thresholds,
        probe_file=audit.probe_file,
        measured_on=audit.measured_on,
        probes={probe.id: _probe(probe) for probe in audit.probes},
    )


def _probe(probe: ProbeResult) -> AuditedProbe:
    figures = {one.name: _figure(one) for one in probe.figures if one.limit is not None}
    return AuditedProbe(probe.part, probe.passed, probe.cases, figures)


def _figure(figure: Figure) -> AuditedFigure:
    assert figure.limit is not None  # those alone are kept
    most = figure.limit.side == "at most"
    return AuditedFigure(
        value=figure.value,
        low=figure.interval.low,
        high=figure.interval.high,
        at_most=figure.limit.value if most else None,
        at_least=None if most else figure.limit.value,
    )
