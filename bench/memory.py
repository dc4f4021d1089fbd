"""Section `memory`: what each phase takes at its peak, and what a kept person costs.

Owns: the phases and tiers. A phase's peak is the kernel's own (VmHWM, begun anew for each), with
pages of mapped files.
"""

from __future__ import annotations

from typing import Final

from uservlm.bench.job import Job, row
from uservlm.bench.results import Measured, Row
from uservlm.runtime.budget import cell_bytes
from uservlm.runtime.room import HEAD_ROOM
from uservlm.runtime.vault import Vault

FRUGAL_MB: Final = 2500
"""What a large model is also held to, as on a robot's machine."""
PHASES: Final = {"a new face": "cold", "face known, exact": "exact", "face resident": "resident"}
EMBEDDING_BYTES: Final = 4
"""Of one number: float32."""


def measure(job: Job) -> Measured:
    """Ask in every way, and look at what it took."""
    rows = []
    with job.ours() as ours:
        job.say("memory by phase")
        rows.append(_peak("loading", ours("memory")))
        ours("keep", users=1)
        for phase, way in PHASES.items():
            ours("phase")
            ours("turn", way=way, answer_tokens=8)
            rows.append(_peak(phase, ours("memory")))
    if job.large:
        job.say(f"memory, held to {FRUGAL_MB} MB")
        with job.ours("--memory-mb", str(FRUGAL_MB)) as frugal:
            for way in PHASES.values():
                frugal("turn", way=way, answer_tokens=8)
            rows.append(_peak(f"all of it, memory_mb={FRUGAL_MB}", frugal("memory")))
    return Measured((*rows, *_kept(job)))


def _peak(phase: str, found: dict[str, float]) -> Row:
    return row("ours", "peak", phase, "bytes", [found["peak_bytes"]])


def _kept(job: Job) -> list[Row]:
    """Count the bytes of one person in each tier."""
    architecture = job.bundle.manifest.architecture
    cells = architecture.image_tokens + HEAD_ROOM
    tiers = {
        "embedding in memory": architecture.image_tokens * architecture.width * EMBEDDING_BYTES,
        "resident in memory": cells * cell_bytes(architecture),
    }
    for kind, size in Vault.open(job.scratch / "users").sizes("user 0").items():
        tiers[f"{kind} on disk, encrypted"] = size
    return [row("ours", "kept person", tier, "bytes", [float(n)]) for tier, n in tiers.items()]
