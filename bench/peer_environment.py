"""A peer's own virtual environment, kept in the cache folder: made once, whole or not taken at all.

Owns: where environments are, when one is whole, and the one sentence that says why there is none.
Knows nothing of any peer. Packages come through pip as it is configured; no index is named.

A requirements file may say `# without: NAME NAME` in a line: packages that are taken out again
after installing, because they break what is there or phone home.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from uservlm.runtime.errors import UserVLMError
from uservlm.runtime.verified import cache_folder

Progress = Callable[[str], None]
REQUIREMENTS: Final = Path(__file__).with_name("peers")
STAMP: Final = "uservlm-made-from"
"""The last file to be written: an environment without it is not whole."""
_WITHOUT: Final = re.compile(r"^#\s*without:(.*)$", re.MULTILINE)
_ADDRESS: Final = re.compile(r"\S+://\S+|host='[^']*'")


class PeerError(UserVLMError):
    """A peer cannot run here; the message is one sentence for its row."""


def find_python(name: str, progress: Progress, requirements: Path | None = None) -> Path:
    """Give the Python of a peer's environment, which is made if it is not there.

    Args:
        name: of the peer.
        progress: is told what takes long.
        requirements: file for pip; None: `bench/peers/NAME.txt`.

    Raises:
        PeerError: it cannot be made.
    """
    wanted, folder = requirements or _listed(name), _folder(name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            stamp = _stamp(wanted)
            if not _is_whole(folder, stamp):
                progress(f"{name}: installing what {wanted.name} lists into {folder}, once")
                _make(name, folder, wanted, stamp)
            _link(folder)
    except OSError as error:
        raise PeerError(f"{name} has no environment: {error}") from error
    return _python(folder)


def is_made(name: str) -> bool:
    """Whether a peer's environment is there, whole and of its present requirements."""
    return _is_whole(_folder(name), _stamp(_listed(name)))


def _make(name: str, folder: Path, wanted: Path, stamp: str) -> None:
    (folder / STAMP).unlink(missing_ok=True)  # first, so that half a removal is not taken for whole
    if folder.exists():
        shutil.rmtree(folder)
    _run(name, [sys.executable, "-m", "venv", str(folder)])
    pip = [str(_python(folder)), "-m", "pip", "--disable-pip-version-check", "--no-input", "-q"]
    _run(name, [*pip, "install", "-r", str(wanted)])
    unwanted = " ".join(_WITHOUT.findall(wanted.read_text(encoding="utf-8"))).split()
    if unwanted:
        _run(name, [*pip, "uninstall", "-y", *unwanted])
    half = folder / f".{STAMP}"
    half.write_text(stamp, encoding="ascii")
    half.replace(folder / STAMP)


def _run(name: str, command: Sequence[str]) -> None:
    # A ROS shell's PYTHONPATH would hide from pip that something is missing.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerError(f"{name} could not be installed: {_reason(done.stdout + done.stderr)}")


def _reason(said: str) -> str:
    """Take the last complaint out of what pip or venv said, without any index's address."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error:")] or lines or ["no words"]
    return _ADDRESS.sub("the index", re.sub(r"(?i)^error:\s*", "", errors[-1]))


def _stamp(wanted: Path) -> str:
    """Hash of the requirements and of the Python that they are for."""
    made_with = f"{sys.version_info[:2]} {Path(sys.base_prefix).resolve()}\n"
    return hashlib.sha256(made_with.encode() + wanted.read_bytes()).hexdigest()


def _is_whole(folder: Path, stamp: str) -> bool:
    try:
        return (folder / STAMP).read_text(encoding="ascii") == stamp and _python(folder).exists()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def _folder(name: str) -> Path:
    return cache_folder() / "peers" / name


def _listed(name: str) -> Path:
    return REQUIREMENTS / f"{name}.txt"


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _link(folder: Path) -> None:
    """Let the environment import `uservlm.bench` from where this file is, and nothing else of us.

    Made anew each time: the checkout may have moved.
    """
    packages = next((folder / "lib").glob("python*/site-packages"))
    place = packages / "uservlm" / "bench"
    ours = Path(__file__).resolve().parent
    if place.is_symlink() and place.readlink() == ours:
        return
    place.parent.mkdir(exist_ok=True)
    half = place.with_name(f".bench.{os.getpid()}")
    half.symlink_to(ours)
    half.replace(place)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process makes this environment."""
    with folder.with_name(f"{folder.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
