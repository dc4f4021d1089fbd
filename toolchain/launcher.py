"""The scripts by which a runtime is started, and what its Python does first.

Owns: what is kept from the machine it runs on. Knows nothing of what is started.

A script is the one thing that the machine's own shell runs: it finds its folder and hands over to
the loader beside it. Whoever has no shell, or wants none, runs the same line (`command`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

PROGRAMS: Final = {
    "python": "",
    "uservlm": "-m uservlm.runtime",
    "uservlm-check": "-m uservlm.toolchain.integrity",
}
"""Names below bin/, and what Python is told."""

OPTIONS: Final = ("-I", "-B", "-X", "utf8")
"""Of Python: nothing from PYTHON* or the user's packages, nothing written beside the code, and
UTF-8 whatever the machine says, since its locales are not ours to read."""

_LOADER: Final = ("--inhibit-cache", "--library-path")

_SCRIPT: Final = """#!/bin/sh
# Runs with the Python and the libraries beside it; of this machine, only this shell is used.
unset LD_PRELOAD LD_AUDIT LD_LIBRARY_PATH GGML_BACKEND_PATH
export LC_ALL=C
self=$0
case $self in */*) ;; *) self=./$self ;; esac
while [ -h "$self" ]; do
    link=$(readlink "$self")
    case $link in /*) self=$link ;; *) self=${{self%/*}}/$link ;; esac
done
root=$(CDPATH= cd -P -- "${{self%/*}}/.." && pwd -P) || exit 2
case $root in
    *[:\\;]*) echo "$root: to the loader a colon or semicolon ends a path" >&2; exit 2 ;;
esac
exec "$root/lib/{loader}" {options} "$root/lib" "$root/bin/python3.11" {python}"$@"
"""

SITECUSTOMIZE: Final = '''"""Keeps what is loaded later inside this runtime, and what it starts."""

import os
import sys

sys.executable = os.path.join(sys.prefix, "bin", "python")
os.environ.update(
    OPENSSL_CONF=os.path.join(sys.prefix, "lib", "openssl.cnf"),
    OPENSSL_MODULES=os.path.join(sys.prefix, "lib", "ossl-modules"),
    ORT_DISABLE_TELEMETRY="1",
)
for name in (
    *("LD_AUDIT", "LD_LIBRARY_PATH", "LD_PRELOAD"),
    *("GGML_BACKEND_PATH", "OPENBLAS_CORETYPE", "OPENSSL_ENGINES"),
):
    os.environ.pop(name, None)
'''

OPENSSL: Final = (
    "# Read in place of the machine's own, which may name modules of another OpenSSL.\n"
)


def script(name: str, loader: str) -> str:
    """Give the text of one of `PROGRAMS`.

    Args:
        name: of the program.
        loader: file name of the dynamic linker.
    """
    python = "".join(f"{word} " for word in (*OPTIONS, PROGRAMS[name]) if word)
    return _SCRIPT.format(loader=loader, options=" ".join(_LOADER), python=python)


def command(root: Path, loader: str, name: str = "python") -> list[str]:
    """Give the line that a script runs, for a place without a shell.

    Args:
        root: the runtime's folder.
        loader: file name of the dynamic linker.
        name: of one of `PROGRAMS`.
    """
    start = [str(root / "lib" / loader), *_LOADER, str(root / "lib"), str(root / "bin/python3.11")]
    return [*start, *OPTIONS, *PROGRAMS[name].split()]
