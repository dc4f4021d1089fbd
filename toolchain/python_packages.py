"""The Python packages of a runtime: which ones, at which version, and their wheels.

Owns: what of setup.py's extras a target gets, and how wheels are fetched for another machine.
Versions are constraints.txt's. Knows nothing of what is done with a wheel.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Final

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from uservlm.toolchain.debian import UnavailableError, run
from uservlm.toolchain.targets import Target

ROOT: Final = Path(__file__).resolve().parents[1]
CONSTRAINTS: Final = ROOT / "constraints.txt"
PYTHON: Final = "3.11"
"""Debian 12's, of which every target has one and the same."""
GLIBC: Final = 36
"""Minor version of Debian 12's."""
EXTRAS: Final = ("", "serve", "pepper")
LEFT_OUT: Final = {
    "asyncssh": "it brings the app onto a robot, from a PC",
    "markdown-it-py": "of rich only the spelling of sizes is used",
    "pygments": "of rich only the spelling of sizes is used",
    "requests": "gguf reads files from the hub with it; here files are local",
}
"""Names that a requirement may ask for in vain, and why nothing misses them."""
FETCH_S: Final = 900.0


def wheels(target: Target, first: Iterable[Path], place: Path) -> list[Path]:
    """Give the wheels of what some wheels need, and theirs, and so on; those themselves too.

    Args:
        target: for which machine.
        first: wheels that are there already.
        place: a folder that keeps what is fetched.

    Raises:
        UnavailableError: one is not pinned, or the index that pip knows has no such wheel.
    """
    place.mkdir(parents=True, exist_ok=True)
    versions, environment = pins(target), _environment(target)
    found = {_name(wheel): wheel for wheel in first}
    new = list(found.values())
    absent = {*LEFT_OUT, *target.from_debian}
    while new:
        asked = {name for wheel in new for name in _needs(wheel, environment)}
        wanted = sorted(asked - found.keys() - absent)
        if unknown := [name for name in wanted if name not in versions]:
            raise UnavailableError(f"constraints.txt does not pin {', '.join(unknown)}")
        fetched = _fetched(target, {name: versions[name] for name in wanted}, place)
        new = list(fetched.values())
        found |= fetched
    return [found[name] for name in sorted(found)]


def pins(target: Target) -> dict[str, str]:
    """Read the version of each package that constraints.txt pins for a target."""
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if line and line[0] != "#"]
    environment = _environment(target)
    return {
        canonicalize_name(one.name): next(iter(one.specifier)).version
        for one in map(Requirement, lines)
        if one.marker is None or one.marker.evaluate(environment)
    }


def metadata(wheel: Path) -> Message:
    """Read what a wheel says of itself."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [one for one in opened.namelist() if _is_metadata(one)]
        return message_from_bytes(opened.read(name))


def our_wheel(place: Path) -> Path:
    """Build our own wheel, from a copy into which nothing that was left in the tree can leak.

    Raises:
        UnavailableError: it cannot be built.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree, left = (
            Path(folder),
            shutil.ignore_patterns("__pycache__", "build", ".*", "*.egg-info"),
        )
        for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md"):
            shutil.copy(ROOT / name, tree)
        for package in sorted(path.parent for path in ROOT.glob("*/__init__.py")):
            shutil.copytree(package, tree / package.name, ignore=left)
        shutil.rmtree(place, ignore_errors=True)
        build = ("-m", "build", "--wheel", "--no-isolation", "--outdir", place)
        run(tree, sys.executable, *build, tree, limit_s=FETCH_S)
    (wheel,) = place.glob("*.whl")
    return wheel


def _fetched(target: Target, wanted: dict[str, str], place: Path) -> dict[str, Path]:
    """Fetch the wheels that are not there yet, and those that are there but not whole."""
    for wheel in (_kept(place, name, version) for name, version in wanted.items()):
        if wheel and not _is_whole(wheel):
            wheel.unlink()  # by a download that was killed
    missing = [name for name in wanted if _kept(place, name, wanted[name]) is None]
    if missing:
        pip = (*("-m", "pip", "-q", "download", "--no-deps", "--only-binary=:all:"), "--retries=3")
        here = (f"--python-version={PYTHON}", "--implementation=cp", f"--dest={place}")
        tags = [f"--platform={tag}" for tag in _tags(target)]
        names = [f"{name}=={wanted[name]}" for name in missing]
        run(place, sys.executable, *pip, *here, *tags, *names, limit_s=FETCH_S)
    kept = {name: _kept(place, name, version) for name, version in wanted.items()}
    if lost := [name for name, wheel in kept.items() if wheel is None]:
        raise UnavailableError(f"pip fetched no wheel of {', '.join(lost)} for {target.name}")
    found = {name: wheel for name, wheel in kept.items() if wheel is not None}
    if damaged := [found[name].name for name in missing if not _is_whole(found[name])]:
        raise UnavailableError(f"pip fetched {', '.join(damaged)}, which is damaged: try again")
    return found


def _is_whole(wheel: Path) -> bool:
    """Whether every member of a wheel can be read and has its checksum."""
    try:
        with zipfile.ZipFile(wheel) as opened:
            return opened.testzip() is None
    except (zipfile.BadZipFile, zlib.error):
        return False


def _kept(place: Path, name: str, version: str) -> Path | None:
    for wheel in sorted(place.glob("*.whl")):
        found, number, *_ = parse_wheel_filename(wheel.name)
        if found == name and str(number) == version:
            return wheel
    return None


def _tags(target: Target) -> Iterator[str]:
    """Give the platforms whose wheels run with Debian 12's C library, the newest first."""
    for minor in range(GLIBC, 4, -1):
        yield f"manylinux_2_{minor}_{target.machine}"
    for old in ("manylinux2014", "manylinux2010", "manylinux1"):
        yield f"{old}_{target.machine}"


def _needs(wheel: Path, environment: dict[str, str]) -> Iterator[str]:
    """Give the names that a wheel requires there; of our own, with the target's extras."""
    extras = EXTRAS if _name(wheel) == "uservlm" else ("",)
    for line in metadata(wheel).get_all("Requires-Dist", []):
        one = Requirement(line)
        if one.marker is None or any(
            one.marker.evaluate({**environment, "extra": extra}) for extra in extras
        ):
            yield canonicalize_name(one.name)


def _environment(target: Target) -> dict[str, str]:
    """What markers are about, on the target."""
    here = {key: str(value) for key, value in default_environment().items()}
    return {
        **here,
        "extra": "",
        "implementation_name": "cpython",
        "implementation_version": f"{PYTHON}.0",
        "os_name": "posix",
        "platform_machine": target.machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{PYTHON}.0",
        "python_version": PYTHON,
        "sys_platform": "linux",
    }


def _name(wheel: Path) -> str:
    return str(parse_wheel_filename(wheel.name)[0])


def _is_metadata(name: str) -> bool:
    return name.count("/") == 1 and name.endswith(".dist-info/METADATA")
