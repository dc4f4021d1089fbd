"""How many threads this process should compute with.

Owns: counting. llama.cpp's threads wait for one another by spinning, so one thread more than there
are free physical cores costs more than it brings (DESIGN section 6).
"""

from __future__ import annotations

import os
from pathlib import Path

from uservlm.runtime.errors import RequestError

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""cgroup v2, as containers see it: "max 100000" or "150000 100000"."""


def thread_count(asked: int | None) -> int:
    """Give the number of threads: what was asked for, or the physical cores we may use.

    Raises:
        RequestError: fewer than one was asked for.
    """
    if asked is None:
        return max(1, min(_physical_cores(), _quota()))
    if asked < 1:
        raise RequestError(f"threads={asked}: at least 1, or None for one on each physical core")
    return asked


def _physical_cores() -> int:
    usable = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    siblings = {_siblings(cpu) for cpu in usable}
    return len(siblings)


def _siblings(cpu: int) -> str:
    """Name the core that `cpu` is a thread of; without sysfs every cpu is its own core."""
    file = Path(_TOPOLOGY.format(cpu))
    return file.read_text() if file.is_file() else str(cpu)


def _quota() -> int:
    if not _QUOTA.is_file():
        return os.cpu_count() or 1
    quota, period = _QUOTA.read_text().split()
    return (os.cpu_count() or 1) if quota == "max" else max(1, int(quota) // int(period))
