"""Joules, where the kernel exposes the processor's counters (RAPL, Linux powercap).

Owns: reading them. They count the whole processor package, whatever runs on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

POWERCAP: Final = Path("/sys/class/powercap")
WHY_NOT: Final = (
    "no readable RAPL counter in /sys/class/powercap: virtual machines have none, and elsewhere "
    "root may have to allow reading energy_uj"
)


@dataclass(frozen=True)
class Meter:
    """The counters of all processor packages."""

    zones: tuple[Path, ...]

    def read(self) -> tuple[int, ...]:
        """Give each zone's microjoules; they start again from 0 at some point."""
        return tuple(_number(zone / "energy_uj") for zone in self.zones)

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Give what was used between two readings; each zone may have started again once."""
        used = 0
        for zone, first, last in zip(self.zones, before, after, strict=True):
            used += last - first if last >= first else last + _number(zone / RANGE) - first
        return used / 1e6


RANGE: Final = "max_energy_range_uj"


def find_meter(powercap: Path = POWERCAP) -> Meter | None:
    """Find the packages' counters; None where the kernel exposes none that we may read."""
    zones = []
    for zone in sorted(powercap.glob("intel-rapl:?")):
        try:
            _number(zone / "energy_uj")
        except OSError:
            return None
        zones.append(zone)
    return Meter(tuple(zones)) if zones else None


def _number(file: Path) -> int:
    return int(file.read_text(encoding="ascii"))
