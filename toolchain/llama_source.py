"""llama.cpp's source for other machines: the sdist that `.venv` is built from, verified, changed.

Owns: the sdist's hash, where it is kept, and which of our patches belong to a build for other
machines. Fetching, unpacking and patching are `bootstrap.py`'s. Knows nothing of compilers.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Final

from uservlm.toolchain import bootstrap

SHA256: Final = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
"""Of the sdist that constraints.txt pins."""
DISPATCHED: Final = Path(bootstrap.PATCHES) / "targets"
"""Patches that make no difference to the build for this very processor, or none worth a rebuild."""


def archive(cache: Path) -> Path:
    """Give the sdist, fetched first where the cache has none.

    Raises:
        Refusal: it cannot be fetched, or is not the one that is known.
    """
    version = bootstrap.llama_version()
    place = cache / f"llama_cpp_python-{version}.tar.gz"
    if not place.is_file():
        with tempfile.TemporaryDirectory(dir=cache, prefix="source-") as scratch:
            found = Path(bootstrap.source_archive(version, f"{scratch}/archive", scratch))
            _verify(found)
            found.replace(place)
    return place


def patches() -> list[str]:
    """List our changes, in the order in which they are made."""
    return [*bootstrap.patches(), *bootstrap.patches(str(DISPATCHED))]


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack the sdist into a new folder, make our changes, and give llama-cpp-python's own folder.

    Raises:
        Refusal: it is not the sdist that is known, or a patch does not fit it.
    """
    _verify(archive)
    return Path(bootstrap.unpacked_source(str(archive), str(folder), patches()))


def _verify(archive: Path) -> None:
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        raise bootstrap.Refusal(
            f"{archive.name} has SHA-256 {found}, not {SHA256}: delete it and try again; if "
            "constraints.txt names another version, toolchain/llama_source.py needs its hash"
        )
