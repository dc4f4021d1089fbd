"""Debian's packages of any release and architecture, without root and without a change to here.

Owns: an apt of its own beside the system's, what is fetched with it, and how a package is unpacked
and asked what it is. Their signature is checked. They come from the servers that this machine's apt
knows itself: none is named here. Knows nothing of what the packages are for.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
SETTINGS: Final = """#clear APT::Update;
APT::Architecture "{1}";
APT::Architectures "{1}";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::State "{0}/state";
Dir::State::status "/dev/null";
Dir::Cache "{0}/cache";
"""
STEP_S: Final = 120.0


class UnavailableError(Exception):
    """Something cannot be had here; the message says why, and what it takes."""


@dataclass(frozen=True)
class Package:
    """What a package says of itself."""

    name: str
    version: str
    architecture: str


def check() -> None:
    """Refuse where there is no apt.

    Raises:
        UnavailableError: so it is.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise UnavailableError("no apt-get and dpkg-deb here; it takes Debian, or a container's")


def fetch(
    work: Path, architecture: str, suite: str, packages: Sequence[str], *, closure: bool = False
) -> list[Path]:
    """Fetch packages into a folder, which keeps them.

    Args:
        work: an empty folder.
        architecture: Debian's name of it, as "i386".
        suite: Debian's name of the release, as "bookworm".
        packages: their names.
        closure: whether what they need comes too. It is then asked for in the release's security
            suite as well, where a server that apt knows has one that is whole.

    Returns:
        The packages' files, by name.

    Raises:
        UnavailableError: no server that apt knows has them.
    """
    settings = work / "apt.conf"
    settings.write_text(SETTINGS.format(work, architecture))
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    apt = ("apt-get", "-q", "-y", "-c", settings)
    known = run(work, *apt, "--print-uris", "update")
    servers = list(dict.fromkeys(re.findall(r"^'(\S+)/dists/\S+/InRelease'", known, re.MULTILINE)))
    ours = (
        *(*apt, f"-oDir::Etc::SourceList={work / 'sources.list'}"),
        "-oDir::Etc::SourceParts=/dev/null",
    )
    main, why = _first(work, ours, servers, suite, [])
    if main is None:
        raise UnavailableError(f"{why}it takes a Debian server with {suite} in apt's sources")
    if closure:
        safer, _ = _first(work, ours, servers, f"{suite}-security", [main])
        _use(work, ours, [main, *([safer] if safer else [])])
        run(work, *ours, "--download-only", "install", *packages)
        return sorted((work / "cache/archives").glob("*.deb"))
    run(work, *ours, "download", *packages)
    return sorted(work.glob("*.deb"))


def _first(
    work: Path, apt: Sequence[str | Path], servers: Sequence[str], suite: str, others: list[str]
) -> tuple[str | None, str]:
    """Find the line of the first server that has a suite; or none, and why."""
    why = ""
    for server in servers:
        line = f"deb [signed-by={KEYRING}] {server} {suite} main"
        try:
            _use(work, apt, [*others, line])
        except UnavailableError as error:
            why += f"{error}; "
        else:
            return line, why
    return None, why


def _use(work: Path, apt: Sequence[str | Path], lines: Sequence[str]) -> None:
    (work / "sources.list").write_text("".join(f"{line}\n" for line in lines))
    run(work, *apt, "--error-on=any", "update")


def about(package: Path) -> Package:
    """Read what a package is.

    Raises:
        UnavailableError: it is none.
    """
    form = "--showformat=${Package}\t${Version}\t${Architecture}"
    return Package(*run(package.parent, "dpkg-deb", "--show", form, package).split("\t"))


def unpack(package: Path, place: Path) -> None:
    """Unpack a package's files below a folder.

    Raises:
        UnavailableError: it is damaged, or there is no room.
    """
    run(package.parent, "dpkg-deb", "-x", package, place)


def run(work: Path, *command: str | Path, limit_s: float = STEP_S) -> str:
    """Run a step in a folder, and give what it prints.

    Raises:
        UnavailableError: it fails.
    """
    name, none = Path(command[0]).name, subprocess.DEVNULL
    try:
        return subprocess.check_output(
            command, cwd=work, stdin=none, stderr=subprocess.PIPE, text=True, timeout=limit_s
        )
    except subprocess.CalledProcessError as error:
        raise UnavailableError(f"{name} failed: {' '.join(error.stderr.split())[-300:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{name} does not run: {error}") from error
