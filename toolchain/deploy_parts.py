"""What is deployed: a runtime's archive and bundles, each known by what is in it.

Owns: the list of files with their SHA-256, the name a part has on the board, and the archive's
other forms for boards without xz. Knows nothing of the board's folders nor of SSH.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import shlex
import shutil
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final, cast

from uservlm.runtime.bundle import open_bundle
from uservlm.runtime.errors import RequestError
from uservlm.runtime.manifest import MANIFEST_FILE as BUNDLE_MANIFEST
from uservlm.toolchain import integrity
from uservlm.toolchain.board import Form

KEY_DIGITS: Final = 12
"""Of a SHA-256: enough to tell the few parts of one board apart."""
RUNTIME: Final = "runtime"
_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class File:
    """One file that is copied."""

    path: Path
    """Here."""
    name: str
    """There, below its part's folder."""
    sha256: str
    size: int
    by_hand: str = ""
    """What a shell here reads it from, where `path` is a passing one."""


@dataclass(frozen=True)
class Part:
    """A runtime or a bundle."""

    name: str
    """`runtime`, or the bundle's."""
    key: str
    """Its folder's name on the board; two of one key are the same."""
    files: tuple[File, ...]
    size: int
    """Bytes it takes there, once it is unpacked."""
    top: str = ""
    """The one folder in a runtime's archive."""


def file_of(path: Path, name: str | None = None) -> File:
    """Read a file once."""
    return File(path, name or path.name, integrity.digest(path), path.stat().st_size)


def runtime_part(
    archive: Path, target: str, form: Form, scratch: Path, have: frozenset[str] = frozenset()
) -> Part:
    """Read a runtime's archive, and write it in another form where that is asked for.

    Args:
        archive: a .tar.xz of toolchain/build.py's.
        target: what it must be for.
        form: what the board can open.
        scratch: a folder for the other form.
        have: keys of the parts that need not travel; such a one has no files.

    Raises:
        RequestError: it is not there, no runtime, damaged, or another target's.
    """
    if not archive.is_file():
        raise RequestError(
            f"{archive} is not there: make it with `python toolchain/build.py {target}`, or name "
            "another with --archive"
        )
    top, size, made_for = _contents(archive)
    if made_for != target:
        raise RequestError(f"{archive} is for {made_for}, and {target} is wanted")
    whole = file_of(archive)
    key = f"{RUNTIME}-{whole.sha256[:KEY_DIGITS]}"
    if key in have:
        return Part(RUNTIME, key, (), size, top)
    try:
        travels = _in_form(whole, form, scratch / f"{key}.{form}")
    except (lzma.LZMAError, EOFError) as error:
        raise _damaged(archive, error) from error
    return Part(RUNTIME, key, (travels,), size, top)


def bundle_part(folder: Path) -> Part:
    """Read a bundle; what `uservlm tune` found on this machine stays here.

    Raises:
        BundleError: it is not whole.
        RequestError: its name cannot be a folder's.
    """
    bundle = open_bundle(folder)
    name = bundle.path.resolve().name
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name[0] == ".":
        raise RequestError(f"{folder}: name its folder with letters, digits, '-', '_' and '.'")
    names = (BUNDLE_MANIFEST, *sorted(bundle.manifest.files))
    files = tuple(file_of(bundle.path / one, one) for one in names)
    told = "".join(f"{one.sha256} {one.name}\n" for one in files)
    key = f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:KEY_DIGITS]}"
    return Part(name, key, files, sum(one.size for one in files))


def _contents(archive: Path) -> tuple[str, int, str]:
    """Give the folder in an archive, its size unpacked and its target; the manifest is first."""
    try:
        with tarfile.open(archive, "r|xz") as tar:
            first = tar.next()
            top, _, name = first.name.partition("/") if first else ("", "", "")
            opened = tar.extractfile(first) if first and name == integrity.MANIFEST_FILE else None
            manifest = json.load(opened) if opened else {}
        target = str(manifest["target"])
        sizes = [one.get("size", 0) for one in manifest["files"].values()]
    except (OSError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise RequestError(f"{archive} is no runtime ({error!r}): make it again") from error
    except (lzma.LZMAError, tarfile.TarError) as error:
        raise _damaged(archive, error) from error
    return top, sum(sizes), target


def _in_form(whole: File, form: Form, path: Path) -> File:
    """Write an archive again, the same bytes each time: a copy that was cut off can go on.

    All of it is read also where it travels as it is: a damaged one is not copied for minutes.

    Raises:
        LZMAError, EOFError: it is damaged.
    """
    with lzma.open(whole.path) as packed:
        if form == "tar.xz":
            while packed.read(_CHUNK):
                pass
            return replace(whole, name=path.name)
        with path.open("wb") as file:
            if form == "tar":
                shutil.copyfileobj(packed, file)
            else:
                with gzip.GzipFile("", "wb", 6, file, mtime=0) as zipped:
                    shutil.copyfileobj(packed, cast("IO[bytes]", zipped))
    again = " | gzip -nc" if form == "tar.gz" else ""
    by_hand = f"<(xz -dc {shlex.quote(str(whole.path))}{again})"
    return replace(file_of(path), by_hand=by_hand)


def _damaged(archive: Path, error: Exception) -> RequestError:
    return RequestError(f"{archive} is damaged ({error}): make it again")
