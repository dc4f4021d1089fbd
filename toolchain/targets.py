"""The processors we build for: what each is called by Debian, by pip, by the compiler and by ggml.

Owns: those names and how llama.cpp is compiled for each. Knows nothing of how anything is fetched,
compiled, packed or proven. What was tried before, and why a flag is here: docs/decisions/0017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Compiler = Literal["gcc", "zig"]
"""Debian's gcc, for that machine where it is another; or `zig cc`."""


@dataclass(frozen=True)
class Target:
    """One kind of machine."""

    name: str
    """As typed: `python toolchain/build.py NAME`."""
    about: str
    """Who has it, in a few words."""
    machine: str
    """What `uname -m` says there."""
    debian: str
    """Debian's name of the architecture."""
    triple: str
    """Debian's multiarch folder."""
    loader: str
    """File name of its dynamic linker."""
    compiler: Compiler
    """The one we ship; the other may be named."""
    variants: bool
    """Whether `compiler` builds ggml's CPU backend once per instruction set, to be chosen among at
    load time."""
    options: tuple[str, ...]
    """CMake's variables where it is built for one instruction set only."""
    emulated: tuple[str, ...]
    """Processors of qemu on which the bundle is proven, the weakest first."""
    from_debian: tuple[str, ...] = ()
    """Python packages, by PyPI's names, that have no wheel for it there and are Debian's here."""


_NO_AVX: Final = tuple(f"GGML_{name}=OFF" for name in ("AVX", "AVX2", "BMI2", "FMA", "F16C"))
"""Some of these are on unless one says otherwise."""

TARGETS: Final = {
    target.name: target
    for target in (
        Target(
            name="x86_64",
            about="PCs from 2009 on: SSE4.2 to AVX-512, and NAOqi 2.9 if it is 64-bit",
            machine="x86_64",
            debian="amd64",
            triple="x86_64-linux-gnu",
            loader="ld-linux-x86-64.so.2",
            compiler="gcc",
            variants=True,
            options=("GGML_SSE42=ON", *_NO_AVX),
            emulated=("Nehalem", "Westmere,+movbe,+rdrand"),
        ),
        Target(
            name="aarch64",
            about="Raspberry Pi 4 and 5, Jetson Orin",
            machine="aarch64",
            debian="arm64",
            triple="aarch64-linux-gnu",
            loader="ld-linux-aarch64.so.1",
            compiler="zig",
            variants=True,
            options=("GGML_CPU_ARM_ARCH=armv8.2-a+dotprod+fp16",),
            emulated=("cortex-a53", "cortex-a72", "cortex-a76"),
        ),
        Target(
            name="pepper-i686",
            about="the head of a Pepper with NAOqi 2.5: Atom E3845, 32 bits",
            machine="i686",
            debian="i386",
            triple="i386-linux-gnu",
            loader="ld-linux.so.2",
            compiler="zig",
            variants=False,
            options=("GGML_SSE42=ON", *_NO_AVX),
            emulated=("Westmere,+movbe,+rdrand",),
            from_debian=(
                *("cffi", "cryptography", "markupsafe", "numpy", "pillow", "psutil", "pyyaml"),
            ),
        ),
    )
}
