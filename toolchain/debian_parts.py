"""Debian's part of a runtime: which packages, unpacked and kept, and what each of them is.

Owns: the release, the packages' names, and the folders in `.cache/toolchain/` that keep them. Knows
nothing of which files of them a runtime takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uservlm.toolchain import debian, integrity, licences
from uservlm.toolchain.provenance import LICENCES, Origin
from uservlm.toolchain.runtime_tree import empty
from uservlm.toolchain.targets import Target

SUITE: Final = "bookworm"
STDLIB: Final = ("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib")
LIBRARIES: Final = ("libstdc++6", "libgomp1", "libssl3", "base-files")
"""Beside what those need: for wheels, for `OPENED`, and the texts of licences."""
MODULES: Final = {
    "cffi": "python3-cffi-backend",
    "cryptography": "python3-cryptography",
    "markupsafe": "python3-markupsafe",
    "numpy": "python3-numpy",
    "pillow": "python3-pil",
    "psutil": "python3-psutil",
    "pyyaml": "python3-yaml",
}
"""What Debian calls the Python packages that a target may take from it."""


@dataclass(frozen=True)
class Unpacked:
    """Debian's packages, each in a folder of its own."""

    roots: dict[str, Path]
    """By name."""
    origins: dict[str, Origin]
    sources: str
    """The suites they are from, as apt's lines say it."""

    @property
    def secured(self) -> bool:
        """Whether the release's security fixes are among them."""
        return f"{SUITE}-security " in self.sources


def debian_packages(target: Target, cache: Path, *, refresh: bool = False) -> Unpacked:
    """Give Debian's packages for a target, fetched where they are not kept from before.

    Args:
        target: for which machine.
        cache: the folder that keeps them.
        refresh: whether the servers are asked again.

    Raises:
        UnavailableError: they cannot be had.
    """
    names = (*STDLIB, *LIBRARIES, *(MODULES[name] for name in target.from_debian))
    place = cache / f"debian-{SUITE}-{target.debian}"
    wanted = "".join(f"{name}\n" for name in names)
    kept = place / "wanted"
    if refresh or not kept.is_file() or kept.read_text() != wanted:
        debian.check()
        making = empty(place.with_name(f"{place.name}.making"))
        making.mkdir(parents=True)
        for package in debian.fetch(making, target.debian, SUITE, names, closure=True):
            root = making / "roots" / debian.about(package).name
            root.mkdir(parents=True)
            debian.unpack(package, root)
        (making / "wanted").write_text(wanted)
        empty(place)
        making.rename(place)
    roots = {root.name: root for root in sorted((place / "roots").iterdir())}
    origins = {}
    for package in sorted((place / "cache/archives").glob("*.deb")):
        told = debian.about(package)
        origins[told.name] = _debian_origin(package, told, roots)
    return Unpacked(roots, origins, (place / "sources.list").read_text())


def _debian_origin(file: Path, package: debian.Package, roots: dict[str, Path]) -> Origin:
    found = licences.copyright_file(package.name, roots)
    text = found.read_text(encoding="utf-8", errors="replace") if found else ""
    return Origin(
        "debian",
        package.name,
        package.version,
        file.name,
        integrity.digest(file),
        licences.debian_names(package.name, text),
        (f"{LICENCES}/{package.name}/copyright",) if found else (),
    )


def libraries(unpacked: Unpacked) -> dict[str, tuple[Path, str]]:
    """Give the libraries in Debian's packages by the names that others ask for: file and origin."""
    found = {}
    for name, root in unpacked.roots.items():
        for file in sorted(root.rglob("*.so*")):
            real = file.resolve()
            if real.is_file() and real.is_relative_to(root.resolve()):  # else it is this machine's
                found[file.name] = real, unpacked.origins[name].key
    return found
