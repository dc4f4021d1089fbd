"""What must fail for a proof to mean anything: instructions, system calls, and a wrong build.

Owns: the controls, and what is spoiled for one of them. Knows nothing of what is asked.
"""

from __future__ import annotations

import importlib.util
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from uservlm.toolchain import old_kernel
from uservlm.toolchain.empty_root import run
from uservlm.toolchain.emulators import Emulators
from uservlm.toolchain.one_instruction import MACHINES, instructions, write_program
from uservlm.toolchain.proof import PART_S, Found, Part, try_part
from uservlm.toolchain.proof_errors import SubjectError
from uservlm.toolchain.proof_world import NATIVE, Done, World, last_words
from uservlm.toolchain.targets import Target

ILLEGAL: Final = -signal.SIGILL
WEAKER: Final = "n270"
"""An Atom without SSE4: what is compiled for the head's processor must die on it."""
NO_CODE: Final = "has no code for this processor"
"""What the runtime says (`packing.py`) where none of ggml's variants suits."""
QUICK_S: Final = 30.0


def instruction_controls(emulators: Emulators, target: Target, processor: str) -> Part:
    """Run programs of one instruction: the emulator must refuse what the processor lacks."""
    wanted, machine = instructions(target, processor), MACHINES[target.machine]
    emulator = emulators.static(target.machine)

    def work() -> Found:
        with tempfile.TemporaryDirectory(prefix="proof-") as folder:

            def status(code: bytes) -> int:
                program = write_program(Path(folder, "one"), machine, code)
                return run([emulator, "-cpu", processor, program], {}, seconds=QUICK_S).returncode

            ends = {name: (status(code), 0) for name, code in wanted.taken.items()}
            ends |= {name: (status(code), ILLEGAL) for name, code in wanted.refused.items()}
        return _wrong(ends), {"takes": list(wanted.taken), "refuses": list(wanted.refused)}

    must = "the emulator refuses (SIGILL) what this processor lacks, and takes what it has"
    return try_part("controls", f"qemu {processor}", must, work)


def old_kernel_controls() -> Part:
    """Run programs that see whether 32-bit calls are old and addresses end at 3 GB."""

    def work() -> Found:
        with tempfile.TemporaryDirectory(prefix="proof-") as folder:
            machine = MACHINES["i686"]
            calls = write_program(Path(folder, "calls"), machine, old_kernel.CALLS_ARE_OLD)
            stack = write_program(Path(folder, "stack"), machine, old_kernel.STACK_IS_BELOW_3_GB)
            ways: dict[str, tuple[list[str | Path], int]] = {
                "a new call, unfiltered,": ([calls], 1),
                "a new call, filtered,": ([*old_kernel.PROGRAM, calls], 0),
                "the stack of 4 GB": ([stack], 1),
                "the stack of 3 GB": ([*old_kernel.THREE_GB, stack], 0),
            }
            ends = {
                what: (run(command, {}, seconds=QUICK_S).returncode, status)
                for what, (command, status) in ways.items()
            }
        return _wrong(ends), {"newest_call": old_kernel.NEWEST}

    must = "32-bit system calls newer than Linux 4.0 fail with ENOSYS, and addresses end at 3 GB"
    return try_part("controls", NATIVE, must, work)


@dataclass(frozen=True)
class _Spoiling:
    """A build that must fail."""

    processor: str
    must: str
    spoil: Callable[[], AbstractContextManager[None]]
    says: str | None
    """What it says when it ends; None if it dies of an illegal instruction."""

    def problems(self, done: Done) -> list[str]:
        """Say what is wrong if it did not fail as it must; any other failure shows nothing."""
        if self.says is None and done.returncode == ILLEGAL:
            return []
        if self.says is not None and done.returncode > 0 and self.says in done.stderr:
            return []
        words = last_words(done, 120) or "nothing"
        return [f"it ends with {done.returncode} and says {words!r}: such a proof shows nothing"]


def wrong_build(world: World, request: Mapping[str, Any]) -> Part:
    """Have a build that is not meant for the processor fail under the same emulator."""
    spoiling = _spoiling(world)

    def work() -> Found:
        with spoiling.spoil():
            done = world.ask(spoiling.processor, request, seconds=PART_S)
        return spoiling.problems(done), {
            "status": done.returncode,
            "says": last_words(done, 120),
        }

    return try_part("control", f"qemu {spoiling.processor}", spoiling.must, work)


def _spoiling(world: World) -> _Spoiling:
    """Choose what must fail for a target.

    A foreign processor has no build of this host's: the head's is put on a weaker processor, and
    the boards' onto one that only a variant which is taken away would suit.
    """
    machine, weakest = world.target.machine, world.target.emulated[0]
    if machine == "i686":
        must = "on a processor without SSE4 the same runtime dies of SIGILL"
        return _Spoiling(WEAKER, must, nullcontext, says=None)
    if machine == "aarch64":
        must = "where the variant for this processor is taken away, the others refuse to be loaded"
        return _Spoiling(weakest, must, lambda: _without_variants(world, "armv8.0"), says=NO_CODE)
    must = "with llama.cpp as compiled for the host's own processor it dies of SIGILL"
    return _Spoiling(weakest, must, lambda: _with_libraries(world, native_libraries()), None)


@contextmanager
def _without_variants(world: World, name: str) -> Iterator[None]:
    with _kept(world):
        for file in list(world.libraries.glob(f"libggml-cpu-{name}*")):
            file.unlink()
        yield


@contextmanager
def _with_libraries(world: World, libraries: Path) -> Iterator[None]:
    """Exchange llama.cpp; what else lies there, such as OpenMP, it needs too."""
    with _kept(world):
        for file in [*world.libraries.glob("libggml*"), *world.libraries.glob("libllama*")]:
            file.unlink()
        shutil.copytree(libraries, world.libraries, dirs_exist_ok=True)
        yield


@contextmanager
def _kept(world: World) -> Iterator[None]:
    """Have llama.cpp's libraries afterwards as they were before."""
    kept = world.root.folder / "kept"
    shutil.copytree(world.libraries, kept)
    try:
        yield
    finally:
        shutil.rmtree(world.libraries, ignore_errors=True)
        kept.rename(world.libraries)


def native_libraries() -> Path:
    """Give the folder of the llama.cpp that was compiled for the host.

    Raises:
        SubjectError: it is not installed.
    """
    found = importlib.util.find_spec("llama_cpp")
    if found is None or found.origin is None:
        raise SubjectError("llama-cpp-python is not installed here: make bootstrap")
    return Path(found.origin).parent / "lib"


def _wrong(ends: Mapping[str, tuple[int, int]]) -> list[str]:
    """Say which programs ended otherwise than they must."""
    return [
        f"{what} ends with {status}, not {wanted}"
        for what, (status, wanted) in ends.items()
        if status != wanted
    ]
