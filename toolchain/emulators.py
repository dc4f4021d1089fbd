"""qemu's emulators of programs, in `.cache/emulators/`: one to prove with, one to count with.

Owns: which versions, and how each is started. Knows nothing of what they run.

* Debian 13's is one static file a processor: it runs in an empty root, and tells an emulated
  Arm program of an Arm processor in /proc/cpuinfo, which onnxruntime needs.
* Debian 12's takes plugins, which count instructions (`count_instructions.c`); the static one
  takes none. It is linked, and runs with its own libraries outside of any root.

Both are fetched and unpacked without root (`debian.py`), and only run on x86-64.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uservlm.runtime.durable import locked
from uservlm.toolchain import debian

PLACE: Final = Path(__file__).resolve().parents[1] / ".cache/emulators"
PROGRAMS: Final = {"x86_64": "qemu-x86_64", "i686": "qemu-i386", "aarch64": "qemu-aarch64"}
"""By what `uname -m` says there."""
PROVING, COUNTING = "trixie", "bookworm"
LIBRARIES: Final = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
LOADER: Final = "lib64/ld-linux-x86-64.so.2"
PATIENCE_S: Final = 600.0
"""For another process that makes the same; it fetches 100 MB."""


@dataclass(frozen=True)
class Emulators:
    """Both, unpacked."""

    place: Path

    def static(self, machine: str) -> Path:
        """Give the one file that emulates such a machine, to be put into a root."""
        return self.place / PROVING / PROGRAMS[machine]

    def counting(self, machine: str) -> list[str]:
        """Give the command that emulates such a machine and takes `-plugin`."""
        root = self.place / COUNTING
        folders = ":".join(str(root / folder) for folder in LIBRARIES)
        program = root / "usr/bin" / PROGRAMS[machine]
        return [str(root / LOADER), "--library-path", folders, str(program)]

    def versions(self, machine: str) -> dict[str, str]:
        """Say which qemu proves and which counts."""
        commands = {"proving": [str(self.static(machine))], "counting": self.counting(machine)}
        return {name: _version(command) for name, command in commands.items()}


def emulators(place: Path = PLACE) -> Emulators:
    """Give the emulators, which are fetched first where they are missing.

    Raises:
        UnavailableError: they cannot be had here.
    """
    stamp = _stamp()
    if not _is_made(place, stamp):
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            raise debian.UnavailableError(f"qemu's are for Linux on x86-64: {platform.platform()}")
        debian.check()
        place.parent.mkdir(parents=True, exist_ok=True)
        with locked(place.parent, PATIENCE_S):
            if not _is_made(place, stamp):
                _make(place, stamp)
    return Emulators(place)


def _stamp() -> str:
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def _is_made(place: Path, stamp: str) -> bool:
    return (place / "stamp").is_file() and (place / "stamp").read_text() == stamp


def _make(place: Path, stamp: str) -> None:
    """Make them elsewhere and move them into place whole."""
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f"{place.name}.making-") as folder:
        made = Path(folder, "made")
        (made / PROVING).mkdir(parents=True)
        (unpacked := Path(folder, "static")).mkdir()
        (fetched := Path(folder, PROVING)).mkdir()
        for package in debian.fetch(fetched, "amd64", PROVING, ["qemu-user"]):
            debian.unpack(package, unpacked)
        for program in PROGRAMS.values():
            (unpacked / "usr/bin" / program).rename(made / PROVING / program)
        (fetched := Path(folder, COUNTING)).mkdir()
        for package in debian.fetch(fetched, "amd64", COUNTING, ["qemu-user"], closure=True):
            debian.unpack(package, made / COUNTING)
        (made / "stamp").write_text(stamp)
        shutil.rmtree(place, ignore_errors=True)  # of another stamp, so it may be half meanwhile
        made.rename(place)


def _version(command: list[str]) -> str:
    """Give the version that qemu prints first: "qemu-i386 version 10.0.13 (Debian …)"."""
    told = subprocess.run(
        [*command, "--version"], env={}, capture_output=True, text=True, timeout=30, check=True
    )
    return told.stdout.split(" version ")[-1].partition(" ")[0]
