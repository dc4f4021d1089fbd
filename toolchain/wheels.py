"""llama-cpp-python as a wheel for one target, which pip installs by its platform tag.

Owns: how a wheel is laid out, byte for byte the same for the same content, and its tag, which
auditwheel reads from the symbols its libraries ask for. Knows nothing of compiling.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Final, get_args

from uservlm.toolchain import bootstrap
from uservlm.toolchain.compile import compiled, plan_for
from uservlm.toolchain.targets import TARGETS, Compiler, Target

PYTHON: Final = "py3-none"
"""llama-cpp-python is plain Python over ctypes: any Python 3 loads the libraries."""
WHEEL: Final = "Wheel-Version: 1.0\nGenerator: uservlm-toolchain\nRoot-Is-Purelib: false\nTag: {}\n"
DATE: Final = (1980, 1, 1, 0, 0, 0)
"""Of every member: the earliest a zip file can say."""


def wheel_for(target: Target, compiler: Compiler | None = None, only: Sequence[str] = ()) -> Path:
    """Give the wheel of llama-cpp-python for a target, built first where the cache has none.

    Progress goes to stderr, some minutes of it where llama.cpp is compiled.

    Args:
        target: one of `TARGETS`.
        compiler: another than the target's own.
        only: of ggml's variants, by name; none: all of them.

    Raises:
        Refusal: a tool is missing, or the build failed; the message is one line with the way out.
    """
    folder = compiled(plan_for(target, compiler, only))
    wheels = folder.with_name(f"{folder.name}.wheel")
    wheels.mkdir(exist_ok=True)
    return write_wheel(folder, target.machine, wheels)


def write_wheel(folder: Path, machine: str, into: Path) -> Path:
    """Write a wheel whose tag says the oldest glibc that its libraries run with.

    Args:
        folder: with `llama_cpp/`, `PKG-INFO` and `licenses/`.
        machine: as pip names it: "x86_64", "aarch64" or "i686".
        into: a folder; a wheel of the same name there is replaced.

    Raises:
        Refusal: a library needs what not every machine of that glibc has.
    """
    with tempfile.TemporaryDirectory(dir=into) as scratch:
        plain = _pack(folder, f"linux_{machine}", Path(scratch))
        made = _pack(folder, oldest_platform(plain), Path(scratch))
        return made.replace(into / made.name)


def oldest_platform(wheel: Path) -> str:
    """Name the oldest platform a wheel runs on, such as "manylinux_2_28_aarch64".

    Raises:
        Refusal: there is none, since a library of the system is asked for by which none is known.
    """
    command = [sys.executable, "-m", "auditwheel", "show", "--json", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = " ".join(done.stderr.split())[-200:]
        remedy = ".venv/bin/pip install -c constraints.txt auditwheel"
        raise bootstrap.Refusal(f"auditwheel cannot read {wheel.name} ({reason}); {remedy}")
    found = json.loads(done.stdout)
    platform: str = found["overall_tag"]
    if platform.startswith("linux_"):
        asked = ", ".join(found["external_libs"]) or "symbols newer than any policy"
        raise bootstrap.Refusal(f"{wheel.name} runs on no other machine for sure: it needs {asked}")
    return platform


def _pack(folder: Path, platform: str, into: Path) -> Path:
    """Write the zip file; its bytes depend on the content and on the platform's name alone."""
    information = (folder / "PKG-INFO").read_bytes()
    fields, tag = BytesHeaderParser().parsebytes(information), f"{PYTHON}-{platform}"
    stem = f"{fields['Name'].replace('-', '_')}-{fields['Version']}"
    about = f"{stem}.dist-info"
    members = {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted((folder / "llama_cpp").rglob("*"))
        if file.is_file()
    }
    for file in sorted((folder / "licenses").iterdir()):
        members[f"{about}/licenses/{file.name}"] = file.read_bytes()
    members[f"{about}/METADATA"] = information
    members[f"{about}/WHEEL"] = WHEEL.format(tag).encode()
    record = f"{about}/RECORD"
    lines = [f"{name},{_digest(data)},{len(data)}\n" for name, data in members.items()]
    members[record] = "".join([*lines, f"{record},,\n"]).encode()
    wheel = into / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in members.items():
            member = zipfile.ZipInfo(name, DATE)
            mode = 0o100755 if ".so" in Path(name).suffixes else 0o100644
            member.external_attr = mode << 16
            archive.writestr(member, data, zipfile.ZIP_DEFLATED, 6)
    return wheel


def _digest(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"


def main() -> int:
    """Print the path of a target's wheel, made first if need be."""
    parser = argparse.ArgumentParser("wheels", description="Make a wheel of llama-cpp-python.")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--compiler", choices=get_args(Compiler), help="another than the usual one")
    chosen = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, bootstrap.stop)  # so that the compilers are ended too
    try:
        print(wheel_for(TARGETS[chosen.target], chosen.compiler))
    except bootstrap.Refusal as refusal:
        print(f"wheels: {refusal}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("wheels: interrupted; run it again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
