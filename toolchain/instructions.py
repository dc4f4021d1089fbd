"""How many instructions a program executes for a target, and what that may mean on a robot.

Owns: the counting under qemu's plugin, and the arithmetic of the estimate. What is counted is in
`counted_inside.py`. A count is exact and the same on every machine; a time made of it is an
estimate, for nobody here has the processor: its cores may be busy, its memory slower, and how many
instructions it completes in a cycle is assumed.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uservlm.toolchain import counted_inside as inside
from uservlm.toolchain.empty_root import run
from uservlm.toolchain.proof_errors import CountError

SOURCE: Final = Path(__file__).with_name("count_instructions.c")
COMPILE: Final = ("-std=c11", "-O2", "-shared", "-fPIC", "-fvisibility=hidden")


@dataclass(frozen=True)
class Processor:
    """Where the instructions would run."""

    name: str
    hertz: float
    cores: int
    per_cycle: tuple[float, float]
    """Instructions that a core completes in a cycle: assumed, least and most."""

    def seconds(self, count: float) -> tuple[float, float]:
        """Estimate how long so many instructions take, all cores sharing them: least and most."""
        least, most = (self.hertz * self.cores * one for one in self.per_cycle)
        return count / most, count / least


ATOM: Final = Processor("Atom E3845", 1.91e9, 4, (0.8, 1.0))
"""In the head of a Pepper with NAOqi 2.5."""


@dataclass(frozen=True)
class Counts:
    """Instructions, of one thread."""

    vision: int | None
    """For a picture; None if none was encoded."""
    prefill: float
    """For each position of a block."""
    decode: float
    """For each token of an answer."""


def make_plugin(folder: Path) -> Path:
    """Compile the plugin.

    Raises:
        CountError: there is no C compiler, or it fails.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise CountError("no C compiler `cc` here: it takes one to count (gcc or clang)")
    made = folder / "count_instructions.so"
    done = subprocess.run(
        [compiler, *COMPILE, "-o", str(made), str(SOURCE)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise CountError(f"{SOURCE.name} does not compile: {done.stderr.strip()[-500:]}")
    return made


def count(
    emulator: Sequence[str],
    processor: str,
    command: Sequence[str],
    folder: Path,
    *,
    environment: dict[str, str],
    seconds: float,
) -> dict[int, int]:
    """Run a command of the target's and give the count at each mark; 0 is the whole.

    Args:
        emulator: `Emulators.counting`.
        processor: emulated.
        command: the program, by its path here, and its arguments.
        folder: for the plugin and its notes.
        environment: of the program, which has nothing else.
        seconds: at most.

    Raises:
        CountError: the program fails, or takes longer.
    """
    notes, plugin = folder / "counts", make_plugin(folder)
    counted = [*emulator, "-cpu", processor, "-plugin", f"{plugin},out={notes}", *command]
    try:
        done = run(counted, environment, seconds=seconds)
    except subprocess.TimeoutExpired as error:
        raise CountError(f"counting took longer than {seconds:g} s: count less") from error
    if done.returncode != 0:
        raise CountError(f"the counted program ends with {done.returncode}: {done.stderr[-500:]}")
    lines = (line.split() for line in notes.read_text(encoding="ascii").splitlines())
    return {int(label): int(number) for label, number in lines}


def counts(marks: dict[int, int], *, vision: bool, positions: int, tokens: int) -> Counts:
    """Say what was counted between the marks of `counted_inside`.

    Raises:
        CountError: a mark is missing.
    """
    try:
        opened, saw = marks[inside.OPENED], marks[inside.SAW]
        prefilled, decoded = marks[inside.PREFILLED], marks[inside.DECODED]
    except KeyError as error:
        raise CountError(f"the program never came to mark {error}: was it counted?") from error
    return Counts(
        saw - opened if vision else None,
        (prefilled - saw) / positions,
        (decoded - prefilled) / tokens,
    )
