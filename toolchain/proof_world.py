"""A target's world for a proof: an empty root with its runtime, a bundle, pictures and an emulator.

Owns: what is put into the root and how the target's Python is started there. Knows nothing of what
is asked there. The runtime is unpacked from its archive, for that is what a robot gets.
"""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from uservlm.toolchain import integrity, launcher, old_kernel
from uservlm.toolchain.empty_root import NOBODY, EmptyRoot, make_root, run
from uservlm.toolchain.emulators import Emulators
from uservlm.toolchain.proof_errors import SubjectError
from uservlm.toolchain.targets import Target

RUNTIME, PICTURES, QEMU = "/runtime", "/pictures", "/qemu"
Weights: TypeAlias = Literal["shipped", "float"]
"""Of the same model: 4 bits and int8, as it is shipped, or float16 and float32."""
BUNDLES: Final[dict[Weights, str]] = {"shipped": "/bundle", "float": "/bundle-float"}
REQUEST: Final = "/request.json"
HERE: Final = Path(__file__).parent
SCRIPTS: Final = ("proof_inside.py", "counted_inside.py")
NATIVE: Final = "native"
"""Instead of an emulated processor: this machine's own, as an old 32-bit kernel would offer it."""
_BUNDLES: Final = {"shipped": "make it with `make demo`", "float": "make it with `make proofs`"}
INSIDE: Final = (RUNTIME, *BUNDLES.values(), QEMU)
"""Whatever a program has mapped must be from here."""
FLAGS: Final = {
    "Nehalem": "sse sse2 pni ssse3 sse4_1 sse4_2 popcnt",
    "Westmere,+movbe,+rdrand": "sse sse2 pni ssse3 sse4_1 sse4_2 popcnt movbe aes pclmulqdq rdrand",
    "n270": "sse sse2 pni ssse3 movbe",
}
"""Of the emulated x86 processors as Linux would name them: qemu shows the host's /proc/cpuinfo."""
CPUINFO: Final = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: {}\nflags\t\t: {}\n\n"
Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Subject:
    """What is proven."""

    target: Target
    archive: Path
    """`uservlm-runtime-TARGET.tar.xz`."""
    bundles: Mapping[Weights, Path]
    pictures: Mapping[str, Path]
    """By the name of who is on them."""

    def check(self) -> None:
        """Refuse what is not there.

        Raises:
            SubjectError: so it is; says how to make it.
        """
        name = self.target.name
        ways = {
            self.archive: f"make it with `python toolchain/build.py {name}`",
            **{path / "manifest.json": _BUNDLES[name] for name, path in self.bundles.items()},
            **dict.fromkeys(self.pictures.values(), "make it with `make demo`"),
        }
        for path, way in ways.items():
            if not path.is_file():
                raise SubjectError(f"{path} is not there: {way}")


@dataclass(frozen=True)
class World:
    """The root, furnished."""

    root: EmptyRoot
    target: Target

    def command(self, processor: str, *arguments: str, program: str = "python") -> list[str]:
        """Give the command that runs a program of the runtime on a processor, shut in.

        Args:
            processor: as qemu names it, or `NATIVE`.
            arguments: paths as they are inside.
            program: one of `launcher.PROGRAMS`.
        """
        self._show(processor)
        start = launcher.command(Path(RUNTIME), self.target.loader, program)
        if processor != NATIVE:
            return self.root.command(QEMU, "-cpu", processor, *start, *arguments)
        shut_in = self.root.command(*start, *arguments)
        if self.target.machine != "i686":
            return shut_in
        return [*old_kernel.PROGRAM, *old_kernel.THREE_GB, *shut_in]

    def ask(self, processor: str, request: Mapping[str, Any], *, seconds: float) -> Done:
        """Run `proof_inside.py` with a request whose paths are inside.

        Raises:
            subprocess.TimeoutExpired: it takes longer.
        """
        self.write(REQUEST, json.dumps(request))
        command = self.command(processor, "/proof_inside.py", REQUEST)
        return run(command, self.root.environment, seconds=seconds)

    def write(self, inside: str, text: str) -> None:
        """Write a file that everybody inside may read."""
        path = self.root.folder / inside.lstrip("/")
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)

    def give(self, folder: Path, inside: str) -> None:
        """Copy a folder that is the program's own from then on."""
        self.root.put(folder, inside)
        place = self.root.folder / inside.lstrip("/")
        if os.geteuid() == 0:
            for path in (place, *place.rglob("*")):
                os.chown(path, NOBODY, NOBODY)

    @property
    def runtime(self) -> Path:
        """The runtime's folder, seen from outside."""
        return self.root.folder / RUNTIME.lstrip("/")

    @property
    def commit(self) -> str:
        """What the runtime's manifest says that it was built from.

        Raises:
            SubjectError: there is no such manifest.
        """
        try:
            return str(integrity.read(self.runtime)["commit"])
        except (integrity.ManifestError, KeyError) as error:
            raise SubjectError(f"the archive is none of a runtime of ours: {error}") from error

    @property
    def libraries(self) -> Path:
        """The folder of llama.cpp's libraries, seen from outside."""
        return self.runtime / "lib/python3/dist-packages/llama_cpp/lib"

    def _show(self, processor: str) -> None:
        """Have /proc/cpuinfo tell of the emulated processor, where qemu does not see to it."""
        flags, shown = FLAGS.get(processor), self.root.folder / "cpuinfo"
        if flags is None:
            shown.unlink(missing_ok=True)
        else:
            self.write("cpuinfo", CPUINFO.format(f"emulated {processor}", flags))


def furnish(subject: Subject, emulators: Emulators, folder: Path) -> World:
    """Make a target's world at `folder`, instead of whatever is there.

    Raises:
        SubjectError: the archive is damaged.
        EmptyRootError: this machine shuts nobody in.
    """
    root = make_root(folder)
    name = subject.archive.name.removesuffix(".tar.xz")
    try:
        with tarfile.open(subject.archive) as packed:
            packed.extractall(folder, filter="data")
        (folder / name).rename(folder / RUNTIME.lstrip("/"))
    except (OSError, tarfile.TarError, EOFError) as error:
        raise SubjectError(f"{subject.archive} is no archive of a runtime: {error}") from error
    for weights, bundle in subject.bundles.items():
        root.put(bundle, BUNDLES[weights])
    for who, picture in subject.pictures.items():
        root.put(picture, f"{PICTURES}/{who}.png")
    for script in SCRIPTS:
        root.put(HERE / script, f"/{script}")
    root.put(emulators.static(subject.target.machine), QEMU)
    return World(root, subject.target)


def last_words(done: Done, length: int = 300) -> str:
    """Give the end of what a program said on stderr, in one line."""
    return " ".join(done.stderr.split())[-length:]
