"""zig's C and C++ compiler instead of gcc: for a glibc older than any at hand, and for ARM's SME.

Owns: which zig, how it is fetched, and what gcc's way to name ARM's instruction sets is to zig. Run
as a program it is the compiler: CMake gets two scripts that start it. Knows nothing of llama.cpp.

PyPI's `ziglang` is 94 MB and unpacks to 345: no dependency of ours, but fetched into a folder of
the cache by the first build that needs it.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

VERSION: Final = "0.15.2"
HASHES: Final = {
    "x86_64": "806316453d1ede7174ed3fefb8e5348154629089c3bb5fe812dfd0e172fac130",
    "aarch64": "edc0aa60ec964a4cf462d40f68d7de242ddf37fd9a80f2afaee6397059463230",
}
"""SHA-256 of the wheels, by the machine that compiles."""
_FEATURES: Final = {"fp16": "fullfp16"}
"""Names of gcc's that are not LLVM's."""


def installed(cache: Path) -> Path:
    """Give zig's executable, fetched first where it is missing.

    Raises:
        Refusal: there is no zig for this machine, or pip does not get it.
    """
    from uservlm.toolchain import bootstrap

    place = cache / f"ziglang-{VERSION}"
    if not place.is_dir():
        machine = platform.machine()
        if machine not in HASHES:
            raise bootstrap.Refusal(f"no zig {VERSION} is known for {machine}; use --compiler gcc")
        with tempfile.TemporaryDirectory(dir=cache, prefix="zig-") as scratch:
            wanted, made = Path(scratch, "zig.txt"), Path(scratch, "made")
            wanted.write_text(f"ziglang=={VERSION} --hash=sha256:{HASHES[machine]}\n")
            where = ["--target", str(made), "-r", str(wanted)]
            install = ["install", "--no-deps", "--require-hashes", "--only-binary=:all:", *where]
            bootstrap.pip("zig", install, scratch)
            made.rename(place)
    return place / "ziglang" / "zig"


def write_compilers(zig: Path, folder: Path) -> None:
    """Write `zig-cc` and `zig-c++`, which take gcc's arguments."""
    folder.mkdir()
    for name in ("cc", "c++"):
        command = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(zig), name]
        script = folder / f"zig-{name}"
        script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        script.chmod(0o755)


def translated(arguments: Sequence[str]) -> list[str]:
    """Say in zig's words what is said in gcc's.

    `-march=armv8.2-a+dotprod+fp16` is `-mcpu=generic+v8_2a+dotprod+fullfp16` there, everything else
    is handed on as it is.
    """
    return [_translated(argument) for argument in arguments]


def _translated(argument: str) -> str:
    start, _, wanted = argument.partition("-march=armv")
    if start or not wanted:
        return argument
    version, *features = wanted.split("+")
    base = "v" + version.removesuffix("-a").replace(".", "_") + "a"
    return "+".join(["-mcpu=generic", base, *(_FEATURES.get(one, one) for one in features)])


def main() -> int:
    """Compile: the arguments are zig's path, `cc` or `c++`, and the compiler's."""
    zig, name, *arguments = sys.argv[1:]
    os.execv(zig, [zig, name, *translated(arguments)])


if __name__ == "__main__":
    sys.exit(main())
