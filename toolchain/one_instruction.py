"""Programs of one instruction: what an emulated processor must refuse, and what it must take.

Owns: the machine code, and the smallest ELF file that runs it and ends with 0. An emulator that
executed everything would prove nothing, so each proof first runs these on it. No compiler is
needed. Knows nothing of emulators.

Encodings: Intel's Software Developer's Manual, volume 2, and Arm's Architecture Reference Manual.
`lzcnt` and `tzcnt` are not among them: on processors without, they run as `bsr` and `bsf` and give
other numbers, which only a comparison of results shows.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uservlm.toolchain.targets import Target


@dataclass(frozen=True)
class Machine:
    """How a program looks for one kind of processor."""

    bits: int
    number: int
    """e_machine of the ELF header."""
    end: bytes
    """Code that ends the process with status 0."""


X86_64: Final = Machine(64, 62, bytes.fromhex("b83c000000 31ff 0f05"))
I386: Final = Machine(32, 3, bytes.fromhex("b801000000 31db cd80"))
AARCH64: Final = Machine(64, 183, struct.pack("<III", 0xD2800BA8, 0xD2800000, 0xD4000001))
MACHINES: Final = {"x86_64": X86_64, "i686": I386, "aarch64": AARCH64}
"""By what `uname -m` says."""

_X86: Final = {
    "SSE4.2": "f20f38f0c0",  # crc32
    "POPCNT": "f30fb8c0",
    "MOVBE": "0f38f00424",
    "RDRAND": "0fc7f0",
    "AVX": "c5fc57c0",  # vxorps
    "AVX2": "c5fdefc0",  # vpxor
    "FMA": "c4e27d98c0",
    "F16C": "c4e27d13c0",
    "BMI1": "c4e278f2c0",  # andn
    "BMI2": "c4e37bf0c001",  # rorx
    "AVX-512": "62f17d48efc0",  # vpxord
}
_ARM: Final = {
    "NEON": 0x4E20CC00,  # fmla
    "DOTPROD": 0x4E809400,  # sdot
    "FP16": 0x4E401400,  # fadd of half precision
    "I8MM": 0x4E80A400,  # smmla
    "BF16": 0x2E40FC00,  # bfdot
    "SVE": 0x2518E3E0,  # ptrue
}
_X86_WANTED: Final = {
    "Nehalem": ("SSE4.2", "POPCNT"),
    "Westmere,+movbe,+rdrand": ("SSE4.2", "POPCNT", "MOVBE", "RDRAND"),
}
"""What the processor has of the list; the rest it must refuse."""
_ARM_WANTED: Final = {
    "cortex-a53": ("NEON",),
    "cortex-a72": ("NEON",),
    "cortex-a76": ("NEON", "DOTPROD", "FP16"),
}


@dataclass(frozen=True)
class Instructions:
    """Machine code by the name of the extension it belongs to."""

    taken: Mapping[str, bytes]
    refused: Mapping[str, bytes]


def instructions(target: Target, processor: str) -> Instructions:
    """Say what an emulated processor of a target must take, and what it must refuse.

    Raises:
        KeyError: the processor is not among the target's.
    """
    if target.machine == "aarch64":
        code = {name: struct.pack("<I", word) for name, word in _ARM.items()}
        wanted = _ARM_WANTED[processor]
    else:
        code = {name: bytes.fromhex(text) for name, text in _X86.items()}
        wanted = _X86_WANTED[processor]
    return Instructions(
        {name: code[name] for name in wanted},
        {name: bytes_ for name, bytes_ in code.items() if name not in wanted},
    )


def write_program(path: Path, machine: Machine, code: bytes) -> Path:
    """Write an executable that runs `code` and, if it comes to that, ends with status 0."""
    path.write_bytes(_elf(machine, code + machine.end))
    path.chmod(0o755)
    return path


def _elf(machine: Machine, code: bytes) -> bytes:
    """Give a static ELF file with one segment, read and executed (System V ABI, chapter 4)."""
    wide = machine.bits == 64
    header, entry, base = (64, 56, 0x400000) if wide else (52, 32, 0x8048000)
    size, start = header + entry + len(code), base + header + entry
    identity = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    word = "Q" if wide else "I"
    head = struct.pack(
        f"<HHI3{word}I6H",
        *(2, machine.number, 1, start, header, 0, 0),
        *(header, entry, 1, 0, 0, 0),
    )
    readable = 5  # PF_R and PF_X
    if wide:
        segment = struct.pack("<2I6Q", 1, readable, 0, base, base, size, size, 0x1000)
    else:
        segment = struct.pack("<8I", 1, 0, base, base, size, size, readable, 0x1000)
    return identity + head + segment + code
