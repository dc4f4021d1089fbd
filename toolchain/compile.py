"""llama.cpp compiled for one target: its libraries and the files of llama-cpp-python beside them.

Owns: the CMake options, the environment and the limits of a build, what is kept of it, and a cache
with everything that goes in as its key. Compilers' flags are in `cmake/`, wheels in `wheels.py`.
What was tried and measured: docs/decisions/0017.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uservlm.toolchain import bootstrap, llama_source, zig
from uservlm.toolchain.targets import Compiler, Target

CACHE: Final = Path(bootstrap.ROOT, ".cache", "toolchain")
FILES: Final = Path(bootstrap.ROOT, "toolchain", "cmake")
LAYOUT: Final = "3"
"""Part of the key: change it when this file starts to keep other things of a build."""
OPTIONS: Final = (
    *("CMAKE_BUILD_TYPE=Release", "BUILD_SHARED_LIBS=ON", "GGML_NATIVE=OFF", "GGML_CCACHE=OFF"),
    *("LLAMA_OPENSSL=OFF", "LLAMA_ALL_WARNINGS=OFF"),
    *(f"LLAMA_BUILD_{part}=OFF" for part in ("COMMON", "TESTS", "TOOLS", "EXAMPLES", "APP")),
)
"""Of every build. llama-cpp-python imports libllama only; libmtmd has no PaliGemma."""
VARIANTS: Final = ("GGML_BACKEND_DL=ON", "GGML_CPU_ALL_VARIANTS=ON")
LIBGOMP_TERMS: Final = Path("/usr/share/doc/libgomp1/copyright")
"""The GPL, and gcc's exception to it, under which it is passed on."""
PROCESS_BYTES: Final = 6 * 10**9
"""What one compiler may take: zig grew past 11 GB once, and a machine that swaps answers nobody."""


@dataclass(frozen=True)
class Plan:
    """How one target is compiled."""

    target: Target
    compiler: Compiler
    only: tuple[str, ...] = ()
    """Of ggml's variants, by their names; none: all of them."""

    @property
    def toolchain(self) -> Path:
        """The CMake toolchain file."""
        return FILES / f"{self.compiler}-{self.target.machine}.cmake"

    @property
    def openmp(self) -> bool:
        """Whether threads are OpenMP's: gcc's libgomp goes into the wheel; zig has none."""
        return self.compiler == "gcc"

    @property
    def variants(self) -> bool:
        """Whether ggml's CPU backend is compiled once per instruction set."""
        return self.target.variants and self.compiler == self.target.compiler

    @property
    def options(self) -> tuple[str, ...]:
        """CMake's variables, without a path that changes with the place of this tree."""
        openmp = f"GGML_OPENMP={'ON' if self.openmp else 'OFF'}"
        if not self.variants:
            return (*OPTIONS, openmp, *self.target.options)
        chosen = (f"GGML_CPU_VARIANTS={';'.join(self.only)}",) if self.only else ()
        return (*OPTIONS, openmp, *VARIANTS, *chosen)

    def key(self) -> str:
        """Name the build by everything that goes into it.

        Raises:
            Refusal: the compiler is missing.
        """
        files = [self.toolchain, *sorted(FILES.glob("*.cmake")), Path(bootstrap.FIXES)]
        files += [Path(path) for path in llama_source.patches()]
        digest = hashlib.sha256()
        for file in files:
            digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
        words = (LAYOUT, llama_source.SHA256, bootstrap.CXXFLAGS, *self.options)
        digest.update("\n".join((*words, *self._compiler_words())).encode())
        return f"{self.target.name}-{self.compiler}-{digest.hexdigest()[:12]}"

    def _compiler_words(self) -> tuple[str, ...]:
        if self.compiler == "zig":
            return (zig.VERSION, Path(zig.__file__).read_text())
        return (_answer(f"{self.target.machine}-linux-gnu-gcc", "--version"),)


def plan_for(target: Target, compiler: Compiler | None = None, only: Sequence[str] = ()) -> Plan:
    """Give the plan with the target's own compiler, or with another.

    Args:
        target: one of `TARGETS`.
        compiler: None for the target's own.
        only: variants of ggml's CPU backend, by the names in its file names; none: all of them.

    Raises:
        Refusal: that compiler is not for this target, or the target has no variants.
    """
    plan = Plan(target, compiler or target.compiler, tuple(only))
    if only and not plan.variants:
        raise bootstrap.Refusal(
            f"{target.name} is built for one processor: leave out --variants {','.join(only)}"
        )
    if not plan.toolchain.is_file():
        raise bootstrap.Refusal(
            f"nothing here compiles for {target.name} with {plan.compiler}; leave --compiler out"
        )
    return plan


def compiled(plan: Plan, cache: Path = CACHE) -> Path:
    """Give a folder with what the wheel holds, compiled first where the cache has none.

    Progress goes to stderr. Two at once wait for each other; one that was killed leaves nothing
    that counts.

    Returns:
        The folder: `llama_cpp/` with its libraries in `lib/`, `PKG-INFO` and `licenses/`.

    Raises:
        Refusal: a tool is missing, or the build failed; the message is one line with the way out.
    """
    place = cache / plan.key()
    if not place.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with redirect_stdout(sys.stderr), _alone(cache / f"{plan.target.name}.lock"):
            if not place.is_dir():
                for left in cache.glob(f"{plan.target.name}-*.making-*"):  # by one that was killed
                    shutil.rmtree(left)
                making = f"{place.name}.making-"
                with tempfile.TemporaryDirectory(dir=cache, prefix=making) as work:
                    _compile(plan, cache, Path(work)).rename(place)
    return place


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _compile(plan: Plan, cache: Path, work: Path) -> Path:
    """Compile in a new folder, from a new copy of the source: no other target's files are there."""
    cmake, ninja = _tool("cmake"), _tool("ninja")
    if plan.compiler == "zig":
        zig.write_compilers(zig.installed(cache), work / "bin")
    source = llama_source.unpacked(llama_source.archive(cache), work / "source")
    shutil.copy(bootstrap.FIXES, work)
    environment, label, build = _environment(plan, cache, work), plan.target.name, work / "build"
    defined = [f"-D{option}" for option in (f"CMAKE_MAKE_PROGRAM={ninja}", *plan.options)]
    place = ["-S", str(source / "vendor/llama.cpp"), "-B", str(build), "-G", "Ninja"]
    configure = [cmake, *place, f"--toolchain={plan.toolchain}", *defined]
    bootstrap.run(f"{label} configure", configure, environment)
    make = f'ulimit -v {PROCESS_BYTES // 1024} && exec "$@"'
    parts = ["--build", str(build), "--target", "llama", "--parallel", str(_jobs())]
    bootstrap.run(f"{label} compile", ["/bin/sh", "-c", make, "sh", cmake, *parts], environment)
    return _kept(plan, source, build, work / "made")


def _environment(plan: Plan, cache: Path, work: Path) -> dict[str, str]:
    """Leave out what would make the build depend on who starts it, and where."""
    path = os.pathsep.join([str(work / "bin"), os.environ.get("PATH", os.defpath)])
    # No path of this machine in an assertion's message: the same source gives the same bytes.
    maps = shlex.quote(f"-ffile-prefix-map={work}=.")
    ours = f"{shlex.quote(f'-I{work}')} {bootstrap.CXXFLAGS}"
    return {
        "PATH": path,
        "HOME": str(work),
        "TMPDIR": str(work),
        "LC_ALL": "C",
        "GIT_DIR": os.devnull,  # else the commit of the repository around it is compiled in
        "SOURCE_DATE_EPOCH": "0",
        "CFLAGS": maps,
        "CXXFLAGS": f"{maps} {ours}",
        "ZIG_GLOBAL_CACHE_DIR": str(cache / "zig"),  # libc++ of each target, some minutes of work
        "ZIG_LOCAL_CACHE_DIR": str(work / "zig"),
    }


def _kept(plan: Plan, source: Path, build: Path, made: Path) -> Path:
    """Take what belongs into the wheel, and nothing else."""
    ignored = shutil.ignore_patterns("lib", "__pycache__")
    shutil.copytree(source / "llama_cpp", made / "llama_cpp", ignore=ignored)
    libraries, licences = made / "llama_cpp/lib", made / "licenses"
    libraries.mkdir()
    licences.mkdir()
    for library in sorted((build / "bin").glob("lib*.so")):
        shutil.copy(library, libraries)
    if missing := [
        name for name in plan.only if not (libraries / f"libggml-cpu-{name}.so").exists()
    ]:
        raise bootstrap.Refusal(f"ggml has no variant {', '.join(missing)} for {plan.target.name}")
    shutil.copy(source / "PKG-INFO", made)
    shutil.copy(source / "LICENSE.md", licences / "llama-cpp-python.md")
    shutil.copy(source / "vendor/llama.cpp/LICENSE", licences / "llama.cpp.txt")
    if plan.openmp:
        _add_openmp(plan, libraries, licences)
    return made


def _add_openmp(plan: Plan, libraries: Path, licences: Path) -> None:
    """Put gcc's OpenMP beside the libraries that link to it: not every machine has it."""
    compiler, name = f"{plan.target.machine}-linux-gnu-gcc", "libgomp.so.1"
    found = Path(_answer(compiler, f"-print-file-name={name}").strip())
    if not (found.is_absolute() and LIBGOMP_TERMS.is_file()):
        raise bootstrap.Refusal(
            f"no {name} of {compiler} here, or not its terms at {LIBGOMP_TERMS}; build on Debian, "
            "with its libgomp1"
        )
    shutil.copy(found, libraries / name)
    shutil.copy(LIBGOMP_TERMS, licences / "libgomp.txt")


def _jobs() -> int:
    """Compile on every core, but on no more than have memory for it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(os.cpu_count() or 1, memory // PROCESS_BYTES))


def _tool(name: str) -> str:
    """Find a program beside this Python or on the PATH."""
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=here)
    if found is None:
        raise bootstrap.Refusal(f"no {name} here; .venv/bin/pip install -c constraints.txt {name}")
    return found


def _answer(compiler: str, question: str) -> str:
    """Ask a compiler something; its packages are Debian's."""
    try:
        return subprocess.check_output([compiler, question], text=True)
    except FileNotFoundError:
        package = compiler.replace("gcc", "").rstrip("-").replace("_", "-")
        raise bootstrap.Refusal(
            f"no {compiler} here; sudo apt install g++-{package} (or your system's gcc for it)"
        ) from None
