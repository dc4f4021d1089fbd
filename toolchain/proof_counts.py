"""Counted instructions of a bundle on a target, and the time they may take on a robot.

Owns: the part of a proof that counts, and the form of an estimate. Knows nothing of how one counts
(`instructions.py`). It runs outside of the root, from the same unpacked runtime.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from uservlm.runtime.bundle import open_bundle
from uservlm.toolchain import instructions, launcher, old_kernel
from uservlm.toolchain.emulators import Emulators
from uservlm.toolchain.instructions import Counts, Processor
from uservlm.toolchain.proof import PART_S, Found, Part, try_part
from uservlm.toolchain.proof_answers import place
from uservlm.toolchain.proof_errors import CountError
from uservlm.toolchain.proof_world import HERE, World
from uservlm.toolchain.targets import Target

POSITIONS, TOKENS = 16, 4
"""Of the block and of the answer that are counted.

What each costs depends on how many there are: a matrix is unpacked once for several rows, and
attention looks back at all before it. The pocket's position takes 31.8 million instructions in a
block of 4 and 29.7 in one of 16. So a count always says over how many it was taken.
"""


def counting(world: World, processor: str, emulators: Emulators, bundle: Path) -> Part:
    """Count a small bundle's instructions, a picture's too where `counts_vision`."""
    vision = counts_vision(world.target)

    def work() -> Found:
        with tempfile.TemporaryDirectory(prefix="proof-") as folder:
            place_ = Path(folder)
            try:
                found = count_bundle(world, processor, emulators, bundle, place_, vision=vision)
            except CountError as error:
                return [str(error)], {}
        return [], {**asdict(found), "positions": POSITIONS, "tokens": TOKENS}

    picture = "of a picture, " if vision else ""
    must = f"the instructions {picture}of a position of the prefix and of a token are counted"
    return try_part("instructions", place(processor), must, work)


def counts_vision(target: Target) -> bool:
    """Whether a picture can be counted for a target.

    The qemu that counts shows an Arm program the host's /proc/cpuinfo, which has no Arm in it, and
    onnxruntime dies of it when it is imported.
    """
    return target.machine != "aarch64"


def count_bundle(
    world: World,
    processor: str,
    emulators: Emulators,
    bundle: Path,
    folder: Path,
    *,
    vision: bool,
    seconds: float = PART_S,
) -> Counts:
    """Count what one thread executes for a bundle.

    Args:
        world: has the runtime.
        processor: emulated.
        emulators: see there.
        bundle: any.
        folder: for notes.
        vision: whether a picture is counted too, which takes longest.
        seconds: at most.

    Raises:
        CountError: it fails, or takes longer.
    """
    marks = instructions.count(
        emulators.counting(world.target.machine),
        processor,
        _work(world, bundle, folder, vision=vision),
        folder,
        environment={"HOME": str(folder)},
        seconds=seconds,
    )
    return instructions.counts(marks, vision=vision, positions=POSITIONS, tokens=TOKENS)


def memory_within_3_gb(
    world: World, bundle: Path, folder: Path, *, vision: bool, seconds: float = PART_S
) -> dict[str, int]:
    """Do the same work natively as the head's kernel would have it; gives MB of 10⁶ bytes.

    Raises:
        CountError: it does not fit, or takes longer.
    """
    work = _work(world, bundle, folder, vision=vision)
    command, peaks = [*old_kernel.PROGRAM, *old_kernel.THREE_GB, *work], dict[str, int]()
    end = time.monotonic() + seconds
    with subprocess.Popen(
        command, env={"HOME": str(folder)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            while process.poll() is None and time.monotonic() < end:
                peaks = _peaks(process.pid) or peaks
                time.sleep(0.02)
        finally:
            process.kill()
        said = (process.stderr.read() if process.stderr else b"").decode("utf-8", "replace")
    if process.returncode != 0:
        why = " ".join(said.split())[-300:] or f"status {process.returncode}"
        raise CountError(f"{bundle.name} does not run within 3 GB: {why}")
    return peaks


def _work(world: World, bundle: Path, folder: Path, *, vision: bool) -> list[str]:
    """Give the command that does what is counted, outside of the root."""
    asked = folder / "request.json"
    request = {"bundle": str(bundle.resolve()), "vision": vision}
    asked.write_text(json.dumps({**request, "positions": POSITIONS, "tokens": TOKENS}))
    start = launcher.command(world.runtime.resolve(), world.target.loader)
    return [*start, str(HERE / "counted_inside.py"), str(asked)]


def _peaks(process: int) -> dict[str, int]:
    """Read the peaks of a process that runs; nothing if it has just ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return {}
    kilobytes = dict(re.findall(r"^(VmPeak|VmHWM):\s+(\d+) kB", status, re.MULTILINE))
    names = {"VmPeak": "address_space_mb", "VmHWM": "peak_mb"}
    return {names[one]: round(int(found) * 1024 / 1e6) for one, found in kilobytes.items()}


def estimate(
    bundle: Path, counts: Counts, robot: Processor, memory: Mapping[str, int], commit: str
) -> Mapping[str, Any]:
    """Give what was counted for a bundle, and the seconds that it may take on a robot.

    The image's positions are taken to cost as much each as the `POSITIONS` that were counted.

    Args:
        bundle: that was counted.
        counts: of it.
        robot: whose processor is assumed.
        memory: what `memory_within_3_gb` gave, or nothing.
        commit: of the runtime that was counted.

    Raises:
        BundleError: there is no bundle.
    """
    manifest = open_bundle(bundle, verify=False).manifest
    tokens = manifest.architecture.image_tokens
    work = {"token": counts.decode, "image_tokens": counts.prefill * tokens}
    if counts.vision is not None:
        work["vision"] = counts.vision
    return {
        "bundle": manifest.name,
        "image_size": manifest.architecture.image_size,
        "language": manifest.precision.language,
        "vision": manifest.precision.vision,
        "counted": {**asdict(counts), "positions": POSITIONS, "tokens": TOKENS},
        "native_within_3_gb": dict(memory),
        "estimated_seconds": {
            name: [float(f"{one:.2g}") for one in robot.seconds(count)]
            for name, count in work.items()
        },
        "commit": commit,
        "on": asdict(robot),
        "how": "instructions / (hertz x cores x instructions a cycle, assumed); not measured",
    }
