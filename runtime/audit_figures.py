"""What a manifest keeps of an audit: figures, limits and verdicts, and what they were measured on.

Owns: these words and numbers. Knows nothing of how they are measured (`bench/audit`) or of what a
server makes of them (`audited.py`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AuditedFigure:
    """One figure that a verdict was made by."""

    value: float
    low: float
    high: float
    """Ends of its 95 % interval."""
    at_most: float | None = None
    """The limit for `high`; None: there is none."""
    at_least: float | None = None
    """The limit for `low`; None: there is none."""


@dataclass(frozen=True)
class AuditedProbe:
    """One probe's verdict."""

    part: int
    """1 counterfactuals, 2 stereotypes, 3 personalisation, 4 statements, 5 consistency."""
    passed: bool
    cases: int
    figures: dict[str, AuditedFigure]
    """Those with a limit, by name."""


@dataclass(frozen=True)
class Audited:
    """One audit, of the weights as they are or of one adapter."""

    passed: bool
    """Every probe passed."""
    when: str
    """UTC, ISO 8601."""
    attention: str
    """exact or resident: how the answers were computed."""
    people: int
    seed: int
    own_pictures: bool
    """Pictures given with --pictures; otherwise drawn people."""
    own_probes: bool
    """Questions given with --probes; otherwise the shipped ones."""
    thresholds: str
    """SHA-256 of the limits and of the lexicon."""
    probe_file: str
    """SHA-256 of the probes' file."""
    measured_on: str
    """See `audited.digest`: another file or prompt makes the audit void."""
    probes: dict[str, AuditedProbe]
    """By id."""
