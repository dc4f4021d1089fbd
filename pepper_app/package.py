"""`python -m uservlm.pepper_app.package`: the app as a package for NAOqi, a `.pkg` file.

Owns: what is in a package and how it is written. Knows nothing of robots; `deploy.py` brings one
there.

A package is a zip file of what the project's `.pml` names, which Choregraphe and qipkg read too,
and `settings.json` with what is decided here (onboard/settings.py checks it). It is stored and not
compressed, sorted, and every file has one date: the same files give the same bytes anywhere.

qipkg would add two translations, which hold no text: the behavior says none, the app has its own in
onboard/words.py and html/words.js. It needs Qt's `lrelease` for them, and without it ends with
"Could not find executable: lrelease" and status 2. They are in the project for Choregraphe.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from uservlm.pepper_app.project.onboard.problem import SettingError
from uservlm.pepper_app.project.onboard.settings import FILE, WAYS, Settings
from uservlm.pepper_app.project.onboard.words import ROBOT_LANGUAGES
from uservlm.runtime.durable import Draft, disk_errors, locked
from uservlm.runtime.errors import RequestError, StoreError, UserVLMError
from uservlm.runtime.secretfile import read_secret

PROJECT: Final = Path(__file__).parent / "project"
PML: Final = "uservlm.pml"
LISTS: Final = ("Dialogs/Dialog", "Resources/File", "Topics/Topic")
"""Where a `.pml` names files, besides its manifest and its behaviors."""
DATE: Final = (1980, 1, 1, 0, 0, 0)
PLAIN, EXECUTABLE, SECRET = 0o100644, 0o100755, 0o100600
UNIX: Final = 3


@dataclass(frozen=True)
class Package:
    """A package, ready to be written or sent."""

    uuid: str
    version: str
    services: tuple[str, ...]
    """As ALServiceManager names them."""
    content: bytes = field(repr=False)
    """May hold a token."""

    @property
    def name(self) -> str:
        """What qipkg would call the file."""
        return f"{self.uuid}-{self.version}.pkg"


def pack(settings: Mapping[str, Any], project: Path = PROJECT) -> Package:
    """Make a package.

    Args:
        settings: see `onboard/settings.py`; none means that the package has no such file.
        project: the folder with the `.pml`.

    Raises:
        RequestError: a setting that cannot be.
        StoreError: a file that the project names is not there.
    """
    files = {}
    with disk_errors(f"the project in {project} cannot be read"):
        for name in listed(project):
            files[name] = (project / name).read_bytes()
    if settings:
        files[FILE] = _written(settings)
    manifest = ElementTree.fromstring(files["manifest.xml"])
    uuid = manifest.attrib["uuid"]
    executable = {file.attrib["path"] for file in manifest.iterfind("executableFiles/file")}
    return Package(
        uuid,
        manifest.attrib["version"],
        tuple(f"{uuid}.{one.attrib['name']}" for one in manifest.iterfind("services/service")),
        _zipped(files, executable),
    )


def listed(project: Path = PROJECT) -> list[str]:
    """Name the files that the project's `.pml` puts into a package."""
    pml = ElementTree.parse(project / PML).getroot()
    behaviors = [
        f"{one.attrib['src']}/{one.attrib['xar']}"
        for one in pml.iterfind("BehaviorDescriptions/BehaviorDescription")
    ]
    named = [one.attrib["src"] for kind in LISTS for one in pml.iterfind(kind)]
    return sorted({"manifest.xml", *behaviors, *named})


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options by which the app's settings are given."""
    parser.add_argument(
        "--settings", type=Path, metavar="FILE", help="JSON; onboard/settings.py has the names"
    )
    parser.add_argument("--brain", metavar="URL", help="where the brain answers over HTTP")
    parser.add_argument("--token-file", metavar="FILE", help="with the brain's access token")
    parser.add_argument("--language", choices=sorted(ROBOT_LANGUAGES), help="else the robot's own")
    parser.add_argument(
        "--listen", metavar="WAYS", help=f"how to hear: some of {','.join(WAYS)}; else dialog"
    )


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Give the settings that were given; `pack` checks them.

    Raises:
        StoreError: the token's file cannot be read, is empty, or others can read it.
        RequestError: the settings' file is no JSON object.
    """
    settings: dict[str, Any] = {} if options.settings is None else _read(options.settings)
    if options.brain is not None:
        settings["brain"] = options.brain
    if options.token_file is not None:
        with disk_errors(f"the brain's token cannot be read from {options.token_file}"):
            settings["token"] = read_secret(Path(options.token_file))
        if not settings["token"]:
            raise StoreError(f"{options.token_file} is empty: write the brain's token there")
    if options.language is not None:
        settings["language"] = options.language
    if options.listen is not None:
        settings["listen"] = [way.strip() for way in options.listen.split(",") if way.strip()]
    return settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a package."""
    parser = argparse.ArgumentParser(
        prog="python -m uservlm.pepper_app.package",
        description="The app as a package for a Pepper with NAOqi 2.5.",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="else dist/, under its own name")
    add_settings(parser)
    options = parser.parse_args(arguments)
    try:
        settings = settings_of(options)
        package = pack(settings)
        path = options.out or Path("dist") / package.name
        _write(package, path)
    except UserVLMError as error:
        print(f"package: {error}", file=sys.stderr)
        return 2
    secret = "; it holds the brain's token: keep it to yourself" if "token" in settings else ""
    print(f"{path}: {len(package.content):,} bytes{secret}")
    return 0


def _read(file: Path) -> dict[str, Any]:
    """Read settings; `pack` checks them.

    Raises:
        StoreError: the file cannot be read.
        RequestError: it is no JSON object.
    """
    with disk_errors(f"the settings cannot be read from {file}"):
        text = file.read_text(encoding="utf-8")
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise RequestError(f"{file} is no JSON: {error}") from error
    if not isinstance(settings, dict):
        raise RequestError(f"{file} is no JSON object")
    return settings


def _written(settings: Mapping[str, Any]) -> bytes:
    """Write the settings as the app reads them.

    Raises:
        RequestError: it would refuse them.
    """
    try:
        Settings(dict(settings))
    except SettingError as error:
        raise RequestError(str(error)) from error
    return (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode()


def _zipped(files: Mapping[str, bytes], executable: set[str]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, DATE)
            entry.create_system = UNIX
            mode = SECRET if name == FILE else EXECUTABLE if name in executable else PLAIN
            entry.external_attr = mode << 16
            packed.writestr(entry, content)
    return made.getvalue()


def _write(package: Package, path: Path) -> None:
    """Write the file, whole or not at all, for its owner alone.

    Raises:
        StoreError: the disk refuses.
    """
    with disk_errors(f"{path} cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent), Draft(path.parent, "package") as draft:
            draft.write([package.content])
            draft.place(path.name)


if __name__ == "__main__":
    sys.exit(main())
