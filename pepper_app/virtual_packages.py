"""PackageManager: packages that are really unpacked, each into a folder of its own.

Owns: the folder of the installed packages, and what their manifests say. Knows nothing of how
their services run. What is installed survives a restart.

The fields of `packages2` beyond the first two are inferred from the names in the documentation.
Not there: `installCheckMd5`, icons, installing from an object.
"""

from __future__ import annotations

import re
import shutil
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from xml.etree import ElementTree

from uservlm.pepper_app.service import Reply, RobotError, Service, Value
from uservlm.pepper_app.virtual_calls import Bus, Calls
from uservlm.pepper_app.virtual_world import World

NAME: Final = "PackageManager"
PACKAGE: Final = "(sssssssss{sm})"
LARGEST: Final = 512 * 2**20
"""Bytes of a package when unpacked."""
_BAD: Final = (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What zipfile raises of a file that is none, is damaged, locked or packed in another way."""
_UUID: Final = re.compile(r"[_\-a-zA-Z0-9]{1,50}")


@dataclass(frozen=True)
class Program:
    """A service of a package."""

    name: str
    autorun: bool
    line: str
    """Its execStart."""


@dataclass(frozen=True)
class Package:
    """What a manifest says."""

    uuid: str
    version: str
    folder: Path
    programs: tuple[Program, ...]


class Packages:
    """See the module."""

    def __init__(self, world: World, bus: Bus, folder: Path) -> None:
        """Know what is installed.

        Args:
            world: where it is.
            bus: carries signals.
            folder: holds one folder for each package.
        """
        self._world, self._bus, self._folder = world, bus, folder
        self._calls = Calls(world, NAME)
        self._hanging: list[Reply] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.installed = {
            package.uuid: package for package in map(_read, sorted(folder.glob("[!.]*")))
        }
        self.came: Callable[[Package], None] = lambda _: None
        self.goes: Callable[[str], None] = lambda _: None
        """Called before a package is gone."""

    def services(self) -> list[Service]:
        """See `Part`."""
        method = self._calls.method
        methods = (
            self._calls.slow("install", "s", "b", self._asked),
            method("hasPackage", "s", "b", lambda uuid: uuid in self.installed),
            method("removePkg", "s", "v", self._remove),
            method("packages2", "", f"[{PACKAGE}]", self._list),
            method("package2", "s", PACKAGE, lambda uuid: _told(self._find(uuid))),
        )
        return [Service(NAME, methods, {"onPackageInstalled2": "m", "onPackageRemoved2": "s"})]

    def held(self) -> list[str]:
        """See `Part`."""
        return []

    def folder_of(self, uuid: str) -> Path | None:
        """Give the folder of an installed package."""
        package = self.installed.get(uuid)
        return None if package is None else package.folder

    def _asked(self, reply: Reply, path: str) -> None:
        """Install, as long as that is not to go wrong."""
        with self._world.lock:
            wrong = self._world.misbehaving
            if "packages-busy" in wrong:
                raise RobotError("another package is being installed")
            if "packages-hang" in wrong:
                self._world.did(NAME, "install hangs", path)
                self._hanging.append(reply)
                return
            installed = "packages-lose" in wrong or self.install(path)
        self._calls.later(0.0, reply, installed)

    def install(self, path: str) -> bool:
        """Unpack a package in place of what has its uuid; gives False when it is none."""
        fresh = self._folder / ".new"
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            _unpack(Path(path), fresh)
            package = _read(fresh)
        except RobotError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            self._world.did(NAME, "install refused", path, str(error))
            return False
        if package.uuid in self.installed:
            self._remove(package.uuid)
        fresh.rename(self._folder / package.uuid)
        package = _read(self._folder / package.uuid)
        self.installed[package.uuid] = package
        self._world.did(NAME, "install", package.uuid, package.version)
        self._bus.tell(NAME, "onPackageInstalled2", list(_told(package)))
        self.came(package)
        return True

    def _remove(self, uuid: str) -> None:
        package = self._find(uuid)
        self.goes(uuid)
        del self.installed[uuid]
        shutil.rmtree(package.folder)
        self._world.did(NAME, "removePkg", uuid)
        self._bus.tell(NAME, "onPackageRemoved2", uuid)

    def _list(self) -> list[tuple[Value, ...]]:
        return [_told(package) for package in self.installed.values()]

    def _find(self, uuid: str) -> Package:
        if uuid not in self.installed:
            raise RobotError(f"no package {uuid}")
        return self.installed[uuid]


def _told(package: Package) -> tuple[Value, ...]:
    """Give uuid, version, author, channel, organization, date, type, installer, path, elements."""
    return (package.uuid, package.version, *[""] * 6, str(package.folder), {})


def _unpack(file: Path, folder: Path) -> None:
    """Unpack a zip file whose names all stay in the folder.

    Raises:
        RobotError: it is none, or too large.
    """
    try:
        with zipfile.ZipFile(file) as packed:
            _check(packed)
            packed.extractall(folder)
    except _BAD as error:
        raise RobotError(f"no package: {error}") from error


def _check(packed: zipfile.ZipFile) -> None:
    """Look at what would be unpacked.

    Raises:
        RobotError: something would lie outside, or it is too large.
    """
    for name in packed.namelist():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise RobotError(f"{name} would lie outside the package")
    if sum(entry.file_size for entry in packed.infolist()) > LARGEST:
        raise RobotError("too large")


def _read(folder: Path) -> Package:
    """Read a manifest, and make executable what it says is.

    Raises:
        RobotError: there is none, or it says what none may say.
    """
    try:
        root = ElementTree.parse(folder / "manifest.xml").getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise RobotError(f"no manifest: {error}") from error
    uuid, version = root.get("uuid", ""), root.get("version", "")
    if not _UUID.fullmatch(uuid) or not version:
        raise RobotError(f"the manifest's uuid {uuid!r} or version {version!r} is none")
    for entry in root.iterfind("executableFiles/file"):
        file = folder / entry.get("path", "")
        if not file.is_file() or not file.resolve().is_relative_to(folder.resolve()):
            raise RobotError(f"the package has no file {entry.get('path')}")
        file.chmod(0o755)
    programs = tuple(
        Program(one.get("name", ""), one.get("autorun") == "true", one.get("execStart", ""))
        for one in root.iterfind("services/service")
    )
    return Package(uuid, version, folder, programs)
