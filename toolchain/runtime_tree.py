"""The folder that a runtime becomes: what is put into it, from where, and what is left out.

Owns: the layout, the patterns of what nothing there needs, the libraries that come along, and from
which package each file is. Knows nothing of how packages are fetched, nor of the manifest's form.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from uservlm.toolchain.elf import closed, is_elf, linked

SITE: Final = "lib/python3/dist-packages"
"""Where Debian's Python looks for packages below its prefix."""
STDLIB: Final = "lib/python3.11"
PYTHON: Final = "bin/python3.11"
LIBC: Final = "libc.so.6"
"""Changed on its way in, by one flag: else it opens the machine's own plug-ins for users and hosts
(/etc/nsswitch.conf), which are made for another libc. ✔ On Debian it took libnss_systemd.so.2."""

LEFT_OUT: Final = (
    # Of the standard library: tests, the interactive, and what asks for libraries of its own.
    *(f"{STDLIB}/{name}/*" for name in ("test", "idlelib", "lib2to3", "ensurepip", "venv")),
    *(f"{STDLIB}/{name}/*" for name in ("pydoc_data", "curses", "tkinter", "dbm", "unittest/test")),
    *(f"{STDLIB}/{name}.py" for name in ("turtle", "sitecustomize", "nturl2path")),
    *(f"{STDLIB}/lib-dynload/{name}.*" for name in ("_curses", "_curses_panel", "_dbm", "nis")),
    *(f"{STDLIB}/lib-dynload/{name}*" for name in ("_test", "_xx", "xx", "readline", "ossaudio")),
    f"{STDLIB}/lib-dynload/_crypt.*",
    f"{STDLIB}/__phello__/*",
    f"{STDLIB}/LICENSE.txt",
    # A wheel as scikit-build-core makes it has llama.cpp a second time, outside its package.
    f"{SITE}/lib/*",
    f"{SITE}/include/*",
    f"{SITE}/bin/*",
    # Of packages: tests, what compilers and type checkers read, and notes of pip's.
    *(f"{SITE}/{name}" for name in ("*/tests/*", "*/test/*", "*/testing/tests/*")),
    *(f"{SITE}/*.{end}" for end in ("pyi", "pyx", "pxd", "h", "hpp", "c", "a", "cmake", "pc")),
    *(f"{SITE}/*.dist-info/{name}" for name in ("RECORD", "INSTALLER", "REQUESTED", "*.json")),
    *(f"{SITE}/*.egg-info/{name}" for name in ("SOURCES.txt", "requires.txt")),
    *(f"{SITE}/numpy/{name}/*" for name in ("f2py", "distutils", "doc")),
    *(f"{SITE}/numpy/*core/_{name}*.so" for name in ("simd", "[orsu]*_tests")),
    *(f"{SITE}/onnxruntime/{name}/*" for name in ("quantization", "tools", "transformers")),
    f"{SITE}/onnxruntime/datasets/*",
    f"{SITE}/onnxruntime/capi/libonnxruntime.so.*",  # for C; its Python module has all of it too
    # Fonts, colour profiles, AVIF and Tk, for which nothing here asks Pillow.
    *(f"{SITE}/PIL/_{name}.*" for name in ("imagingft", "imagingcms", "imagingtk", "avif")),
    *(f"{SITE}/uservlm/{name}/*" for name in ("bench", "converters", "models")),
)


class Tree:
    """A folder that is being filled, and where each of its files is from."""

    def __init__(self, folder: Path) -> None:
        """Begin with a new folder."""
        folder.mkdir(parents=True)
        self.folder = folder
        self.origins: dict[str, str] = {}
        """By path in it, with slashes: the name of an origin, which the caller chose."""

    def write(self, path: str, content: bytes, origin: str, *, executable: bool = False) -> None:
        """Write a file, unless it is left out."""
        if any(fnmatchcase(path, pattern) for pattern in LEFT_OUT):
            return
        if path in self.origins:
            raise ValueError(f"{path} is in {self.origins[path]} and in {origin}")
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        place.chmod(0o755 if executable else 0o644)
        self.origins[path] = origin

    def copy(self, source: Path, path: str, origin: str) -> None:
        """Copy what a file or a link says, unless it is left out."""
        self.write(path, source.read_bytes(), origin, executable=os.access(source, os.X_OK))

    def add_wheel(self, wheel: Path, origin: str) -> None:
        """Unpack a wheel's modules and data; its scripts are for another Python."""
        with zipfile.ZipFile(wheel) as opened:
            for entry in opened.infolist():
                path = _installed(entry.filename)
                if path and not entry.is_dir():
                    runs = bool(entry.external_attr >> 16 & 0o100)
                    self.write(path, opened.read(entry), origin, executable=runs)

    def adopt(self, path: str, origin: str) -> None:
        """Take note of a file that was made in the folder."""
        if not (self.folder / path).is_file():
            raise ValueError(f"{path} was not made")
        self.origins[path] = origin

    def drop(self, path: str) -> None:
        """Remove a file that was put here."""
        (self.folder / path).unlink()
        del self.origins[path]

    def binaries(self) -> list[str]:
        """Give the paths of programs and libraries."""
        return sorted(path for path in self.origins if is_elf(self.folder / path))


def _installed(name: str) -> str | None:
    """Say where a wheel's file goes; a .data folder's modules go beside the others."""
    top, _, rest = name.partition("/")
    if not top.endswith(".data"):
        return f"{SITE}/{name}"
    kind, _, path = rest.partition("/")
    return f"{SITE}/{path}" if kind in ("purelib", "platlib") else None


def add_stdlib(tree: Tree, root: Path, origin: str) -> None:
    """Add what an unpacked Debian package has of Python itself."""
    if (program := root / "usr" / PYTHON).is_file():
        tree.copy(program, PYTHON, origin)
    _add_folder(tree, root / "usr" / STDLIB, STDLIB, origin)


def add_modules(tree: Tree, root: Path, origin: str) -> None:
    """Add the Python packages of an unpacked Debian package."""
    _add_folder(tree, root / "usr" / SITE, SITE, origin)


def _add_folder(tree: Tree, source: Path, path: str, origin: str) -> None:
    for file in sorted(source.rglob("*")):
        # Debian's links here lead to other names of the same, or out of the package.
        if file.is_file() and not file.is_symlink():
            tree.copy(file, f"{path}/{file.relative_to(source).as_posix()}", origin)


def add_libraries(
    tree: Tree, libraries: dict[str, tuple[Path, str]], extra: Iterable[str] = ()
) -> None:
    """Add the libraries that programs and libraries in the tree name, and theirs, and so on.

    Args:
        tree: takes them, into lib/, under the names by which they are asked for.
        libraries: what there is, by name: the file, and its origin.
        extra: names of what is opened at run time.

    Raises:
        LookupError: one that is named is nowhere.
    """
    missing = dict.fromkeys(extra, "at run time")
    done: set[str] = set()
    while True:
        for path in set(tree.binaries()) - done:
            done.add(path)
            for name in linked(tree.folder / path).needed:
                if not _beside(tree, path, name):
                    missing.setdefault(name, path)
        absent = [name for name in sorted(missing) if f"lib/{name}" not in tree.origins]
        if not absent:
            return
        for name in absent:
            if name not in libraries:
                raise LookupError(f"{name}, needed by {missing[name]}, is in no package")
            file, origin = libraries[name]
            content = file.read_bytes()
            tree.write(
                f"lib/{name}",
                closed(content) if name == LIBC else content,
                origin,
                executable=name.startswith("ld-"),
            )


def _beside(tree: Tree, path: str, name: str) -> bool:
    """Whether a library finds another in the tree: by its run path, or as a neighbour.

    A neighbour is found without a run path where a module that has one names both, as libqi's does.
    """
    here = os.path.dirname(path)
    folders = [one for one in linked(tree.folder / path).paths if one.startswith("$ORIGIN")]
    places = [os.path.normpath(here + one.removeprefix("$ORIGIN")) for one in folders]
    return any(f"{place}/{name}" in tree.origins for place in (here, *places))


def drop_unused(tree: Tree) -> None:
    """Remove what wheels bring in NAME.libs folders for parts of them that are left out."""
    while True:
        named = {name for path in tree.binaries() for name in linked(tree.folder / path).needed}
        unused = [
            path
            for path in tree.binaries()
            if path.startswith(f"{SITE}/")
            and os.path.dirname(path).endswith(".libs")
            and os.path.basename(path) not in named
        ]
        for path in unused:
            tree.drop(path)
        if not unused:
            return


def empty(folder: Path) -> Path:
    """Remove a folder with all that is in it; gives it back."""
    if folder.exists():
        shutil.rmtree(folder)
    return folder
