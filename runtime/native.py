"""Packages with libraries of their own that are damaged: one sentence, no traceback and no signal.

Owns: how damage shows, before such a library is loaded and while it is. One that was cut short must
be found before: the kernel ends the process that reads behind a mapped file's end (SIGBUS). What
else may be wrong with its bytes only digests tell, as `uservlm-check` has them. Knows nothing of
what the packages do.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from uservlm.runtime.errors import EngineError
from uservlm.runtime.extras import again

_BREAKS: Final = (
    *(ImportError, OSError, RuntimeError),  # the system's loader, and llama_cpp's words for it
    *(SyntaxError, ValueError, EOFError),  # a source or bytecode that ends too early
    *(AttributeError, NameError),  # a module that does
)
"""What the import of a damaged package raises."""
_ELF: Final = {1: ("HHIIIIIHHH", "II8xI12x"), 2: ("HHIQQQIHHH", "I4xQ16xQ16x")}
"""Of 32 and 64 bits (man 5 elf): the header behind its first 16 bytes, whose fifth, ninth and tenth
say where the program headers are, how large and how many; of each its type, and its place and size
in the file."""
_LOAD: Final = 1
"""PT_LOAD, a segment that is mapped."""


@contextmanager
def loading(package: str, project: str, instead: str = "") -> Iterator[None]:
    """Say in one sentence what is wrong with a package while it is imported and set up.

    Args:
        package: as it is imported.
        project: as it is installed.
        instead: another way out, behind "or"; none by default.

    Raises:
        EngineError: it is damaged; with the way out.
    """
    try:
        if package not in sys.modules:
            _check_libraries(package)
        yield
    except _BREAKS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        ways = f"{again(project)}, or {instead}" if instead else again(project)
        raise EngineError(f"{project} cannot be loaded ({reason}): {ways}") from error


def is_cut_short(library: Path) -> bool:
    """Whether segments of a shared library lie behind its end.

    False for a file that is no ELF, or without program headers: the system's loader refuses it.

    Raises:
        OSError: it cannot be read.
    """
    with library.open("rb") as file:
        first = file.read(16)
        if len(first) < 16 or first[:4] != b"\x7fELF" or first[4] not in _ELF:
            return False
        order = "<" if first[5] == 1 else ">"
        header, entry = (struct.Struct(order + fields) for fields in _ELF[first[4]])
        try:
            found = header.unpack(file.read(header.size))
            file.seek(found[4])
            size, count = found[8:]
            table = file.read(size * count)
            segments = [entry.unpack_from(table, at * size) for at in range(count)]
        except struct.error:
            return False
        ends = [place + length for kind, place, length in segments if kind == _LOAD]
        return max(ends, default=0) > library.stat().st_size


def _check_libraries(package: str) -> None:
    """Look at all libraries of a package that is about to be imported.

    Raises:
        ImportError: one is cut short.
        OSError: one cannot be read.
    """
    spec = find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        for library in sorted(Path(folder).rglob("*.so*")):
            if library.is_file() and is_cut_short(library):
                raise ImportError(f"{library} is cut short")
