"""Python 2.7 with libqi, as in the robot's head: in `.cache/python27/`, beside Python 3.

    python -m uservlm.toolchain.python27       makes it where it is missing; prints its command

Owns: which packages it is made of (Debian 11's and PyPI's), and the script that runs it. Knows
nothing of the programs it runs, nor how Debian's packages are fetched (`debian.py`). Not the
robot's own: NAOqi 2.5 has an older libqi, on 32 bits. PyPI has none before 1.6.0, like which 1.8.3
was seen to behave.

The script leaves the environment as it is, but for PYTHONPATH, which is Python 3's. libqi keeps the
number by which it knows a machine below QI_WRITABLE_PATH or HOME: leave them as the robot has them.
"""

from __future__ import annotations

import fcntl
import hashlib
import platform
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from uservlm.toolchain.debian import UnavailableError, check, fetch, run, unpack

PLACE: Final = Path(__file__).resolve().parents[1] / ".cache/python27"
PACKAGES: Final = (
    *("python2.7-minimal", "libpython2.7-minimal", "libpython2.7-stdlib", "libpython2.7"),
    *("libexpat1", "libffi7", "libssl1.1"),
)
SUITE: Final = "bullseye"
LIBQI: Final = "1.8.3", "51582b56336e6849dda8cf924ff8e9710cd6e3fdbfdb7c4961dbfdadbc817b98"
OPENSSL: Final = "1.6.0", "ca3004cfb106301121a3de83b70c03b10e91ea0c76586a521d31c81fd5c58d17"
"""The version of `qi` whose wheel has the OpenSSL 1.0 that the newer one links and lacks."""
SITE: Final = "usr/lib/python2.7/dist-packages"
LIBRARIES: Final = (f"{SITE}/qi/linux", "usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")
SCRIPT: Final = f"""#!/bin/sh
here=$(CDPATH= cd -P -- "${{0%/*}}" && pwd)
unset PYTHONHOME PYTHONPATH
export PYTHON27_COMMAND="$here/python2.7" PYTHON27_LIBRARIES="${{LD_LIBRARY_PATH-}}"
export LD_LIBRARY_PATH="{":".join(f"$here/{folder}" for folder in LIBRARIES)}"
exec "$here/usr/bin/python2.7" "$@"
"""
CUSTOMIZE: Final = '''"""Gives the programs that are started from here their own libraries back."""
import os
import sys

sys.executable = os.environ.pop("PYTHON27_COMMAND", sys.executable)
os.environ["LD_LIBRARY_PATH"] = os.environ.pop("PYTHON27_LIBRARIES", "")
'''
CHECK: Final = "import ctypes, hashlib, json, qi, ssl, xml.etree.cElementTree"
PIP: Final = (
    *("-m", "pip", "-q", "download", "--retries=1", "--no-deps", "--require-hashes"),
    *("--only-binary=:all:", "--python-version=27", "--platform=manylinux1_x86_64"),
)


def python27(place: Path = PLACE) -> list[str]:
    """Give the command of Python 2.7 with libqi, which is made first where it is missing.

    Raises:
        UnavailableError: it cannot be had here.
    """
    stamp = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    if not _is_made(place, stamp):
        _check_machine()
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.with_name(f"{place.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in place.parent.glob(f"{place.name}.making-*"):  # by one that was killed
                shutil.rmtree(left)
            if not _is_made(place, stamp):
                _renew(place, stamp)
    return [str(place / "python2.7")]


def _is_made(place: Path, stamp: str) -> bool:
    return (place / "stamp").is_file() and (place / "stamp").read_text() == stamp


def _check_machine() -> None:
    """Refuse where it cannot run, or cannot be fetched.

    Raises:
        UnavailableError: so it is.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise UnavailableError(f"its libqi is for Linux on x86_64; this is {platform.platform()}")
    check()


def _renew(place: Path, stamp: str) -> None:
    """Make it elsewhere and move it into place whole, so that nothing half is ever there."""
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f"{place.name}.making-") as folder:
        work, made, script = Path(folder), Path(folder, "made"), Path(folder, "made/python2.7")
        for package in fetch(work, "amd64", SUITE, PACKAGES):
            unpack(package, made)
        _add_libqi(work, made)
        customize = made / "usr/lib/python2.7/sitecustomize.py"  # a link that leaves the folder
        customize.unlink(missing_ok=True)
        customize.write_text(CUSTOMIZE)
        script.write_text(SCRIPT)
        script.chmod(0o755)
        run(work, script, "-c", CHECK)
        (made / "stamp").write_text(stamp)
        shutil.rmtree(place, ignore_errors=True)  # of another stamp, so it may be half meanwhile
        made.rename(place)


def _add_libqi(work: Path, made: Path) -> None:
    """Fetch libqi and its OpenSSL with the pip of the Python that runs this.

    Raises:
        UnavailableError: there is no pip, or it does not find them.
    """
    for version, digest in (LIBQI, OPENSSL):
        wanted, wheels = work / f"{version}.txt", work / version
        wanted.write_text(f"qi=={version} --hash=sha256:{digest}\n")
        run(work, sys.executable, *PIP, f"--dest={wheels}", f"--requirement={wanted}")
        with zipfile.ZipFile(next(wheels.iterdir())) as wheel:
            if version == LIBQI[0]:
                wheel.extractall(made / SITE)
            else:
                for name in ("libssl.so", "libcrypto.so"):
                    library = made / LIBRARIES[0] / f"{name}.1.0.0"
                    library.write_bytes(wheel.read(f"qi/linux/{name}"))


def main() -> int:
    """Print the command: 0, or 1 and why there is none."""
    try:
        print(*python27())
    except UnavailableError as error:
        print(f"python27: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
