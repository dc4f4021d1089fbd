"""Which libraries a program or a library names, and where its own run path looks for them.

Owns: the reading of an ELF file's dynamic section, and the one change made there. Knows nothing of
where libraries come from, nor what is done about a missing one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection, DynamicTag
from elftools.elf.elffile import ELFFile

MAGIC: Final = b"\x7fELF"
FLAGS_1: Final = 0x6FFFFFFB
NO_DEFAULT_FOLDERS: Final = 0x800
"""DT_FLAGS_1 and its DF_1_NODEFLIB (elf.h): what the file opens is not looked for in /lib."""


@dataclass(frozen=True)
class Linked:
    """What the dynamic linker reads in a file."""

    machine: str
    """The processor, as ELF names it: "EM_X86_64"."""
    name: str | None
    """Its SONAME: by which others name it."""
    needed: tuple[str, ...]
    """The SONAMEs it names."""
    paths: tuple[str, ...]
    """Folders of its own run path, $ORIGIN and all."""


def is_elf(file: Path) -> bool:
    """Whether a file is a program, a library or an object."""
    with file.open("rb") as opened:
        return opened.read(len(MAGIC)) == MAGIC


def linked(file: Path) -> Linked:
    """Read what a file is linked against.

    Raises:
        ValueError: it is no ELF file, or a damaged one.
    """
    try:
        with file.open("rb") as opened:
            elf = ELFFile(opened)
            sections = [one for one in elf.iter_sections() if isinstance(one, DynamicSection)]
            tags = [tag for one in sections for tag in one.iter_tags()]
            return Linked(
                machine=str(elf["e_machine"]),
                name=next(iter(_texts(tags, "soname")), None),
                needed=tuple(_texts(tags, "needed")),
                paths=tuple(
                    folder
                    for kind in ("rpath", "runpath")
                    for text in _texts(tags, kind)
                    for folder in text.split(":")
                    if folder
                ),
            )
    except ELFError as error:
        raise ValueError(f"{file}: not a whole ELF file ({error})") from error


def closed(library: bytes) -> bytes:
    """Give a library that opens none of the machine's own: not from /lib and not from /usr/lib.

    It is about what is opened at run time, by the library's own code.

    Raises:
        ValueError: there is no room for it, or the library has such flags already.
    """
    elf = ELFFile(BytesIO(library))
    section = elf.get_section_by_name(".dynamic")
    if not isinstance(section, DynamicSection):
        raise ValueError("it has no dynamic section")
    entry = struct.Struct("<qQ" if elf.elfclass == 64 else "<iI")
    start, length = int(section["sh_offset"]), int(section["sh_size"])
    tags = [tag for tag, _ in entry.iter_unpack(library[start : start + length])]
    first = tags.index(0)
    if FLAGS_1 in tags or tags[first : first + 2] != [0, 0]:  # the list still has to end
        raise ValueError("its dynamic section has no room for another flag")
    changed = bytearray(library)
    entry.pack_into(changed, start + first * entry.size, FLAGS_1, NO_DEFAULT_FOLDERS)
    return bytes(changed)


def _texts(tags: list[DynamicTag], kind: str) -> list[str]:
    """Give the texts of the tags of one kind; pyelftools names the attribute after the kind."""
    return [str(getattr(tag, kind)) for tag in tags if hasattr(tag, kind)]
