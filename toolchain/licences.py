"""Under which licences the parts of a runtime are, and the texts that say so.

Owns: where Debian's packages and wheels keep their licences, and how they are named. Knows nothing
of which parts there are.
"""

from __future__ import annotations

import re
import zipfile
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import Final

SHARED: Final = "usr/share/common-licenses"
"""Where Debian's package base-files has the texts that the others' copyright files name."""
UNNAMED: Final = "see its text"
_GCC: Final = "GPL-3+ with GCC-exception-3.1"
NAMED: Final = {
    **dict.fromkeys(("libgcc-s1", "libgfortran5", "libgomp1", "libstdc++6"), _GCC),
    "libquadmath0": "LGPL-2.0+",
    **dict.fromkeys(("libpython3.11-minimal", "libpython3.11-stdlib"), "PSF-2.0"),
    "python3.11-minimal": "PSF-2.0",
    **dict.fromkeys(("libxcb1", "python3-yaml"), "MIT"),
    **dict.fromkeys(("libxau6", "libxdmcp6"), "MIT-open-group"),
    "python3-markupsafe": "BSD-3-Clause",
    "python3-pil": "HPND",
}
"""Read in the copyright files of Debian 12 that no program can read."""
_NAME: Final = re.compile(r"[\w.+-]+(?: (?:and|or|with) [\w.+-]+)*", re.ASCII)
_CLASSIFIER: Final = "License :: "
_LONG: Final = 60
"""Letters of a licence's name; more are its text."""
_TEXTS: Final = re.compile(r"(licen[cs]e|copying|notice|copyright|authors)", re.IGNORECASE)


def copyright_file(package: str, roots: dict[str, Path]) -> Path | None:
    """Find the copyright file of a Debian package, which may be another package's.

    Args:
        package: its name.
        roots: where each package is unpacked, by name.
    """
    folder = roots[package] / "usr/share/doc" / package
    if folder.is_symlink():
        return copyright_file(PurePosixPath(folder.readlink()).name, roots)
    file = folder / "copyright"
    if file.is_symlink():  # ../other/copyright
        return copyright_file(PurePosixPath(file.readlink()).parent.name, roots)
    return file if file.is_file() else None


def debian_names(package: str, text: str) -> str:
    """Name a Debian package's licences.

    Args:
        package: its name.
        text: its copyright file, whose License fields are names where it is machine-readable.
    """
    if package in NAMED:
        return NAMED[package]
    named = re.findall(r"^License:[ \t]*(\S.*?)[ \t]*$", text, re.MULTILINE)
    names = [name for name in named if _NAME.fullmatch(name)] or sorted(shared_names(text))
    return "; ".join(dict.fromkeys(names)) or UNNAMED


def shared_names(text: str) -> set[str]:
    """Give the names of the shared texts that a copyright file refers to."""
    return set(re.findall(rf"/{SHARED}/([\w.+-]*\w)", text))


def wheel_names(metadata: Message) -> str:
    """Name a wheel's licence: the expression, the field if it is a name, or the classifiers."""
    if expression := metadata["License-Expression"]:
        return str(expression)
    field = (metadata["License"] or "").strip()
    if field and len(field) < _LONG and "\n" not in field:
        return field
    lines = [line for line in metadata.get_all("Classifier", []) if line.startswith(_CLASSIFIER)]
    return "; ".join(line.split(" :: ")[-1] for line in lines) or UNNAMED


def wheel_texts(wheel: Path) -> dict[str, bytes]:
    """Read a wheel's licence files, by a name without folders.

    They are in its .dist-info; where there are none, beside the modules.
    """
    with zipfile.ZipFile(wheel) as opened:
        names = [name for name in opened.namelist() if name[-1] != "/"]
        told = [name for name in names if _is_text(name) and ".dist-info/" in name]
        beside = [name for name in names if _is_text(name) and name.count("/") == 1]
        return {"-".join(_within(name)): opened.read(name) for name in told or beside}


def _is_text(name: str) -> bool:
    parts = name.split("/")
    return bool(_TEXTS.search(parts[-1])) or parts[1:2] == ["licenses"]


def _within(name: str) -> list[str]:
    """Give the parts of a path below a wheel's folder, without the one for licences."""
    parts = name.split("/")[1:]
    return parts[1:] if len(parts) > 1 and parts[0] in ("licenses", "license_files") else parts
