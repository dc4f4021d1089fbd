"""A root folder that holds nothing but what is put there, entered by a user without any rights.

    python -m uservlm.toolchain.empty_root ROOT COMMAND ...     paths of COMMAND are inside ROOT

Owns: how a program is shut in: its root, user 65534, no capability, /proc, two devices and nothing
else of the system's; it shares the network. Knows nothing of what runs there. What runs in an empty
root cannot have needed anything of the machine but its kernel.

It takes Linux, and to be root or to be allowed user namespaces. The program replaces the one that
shut it in, so its process, its signals and its status are what the caller sees.

/proc/cpuinfo tells of the processor that is there, also where qemu emulates another x86. A root
that holds a file `cpuinfo` shows that one instead.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uservlm.toolchain.one_instruction import MACHINES, write_program
from uservlm.toolchain.proof_errors import EmptyRootError

NOBODY: Final = 65534
HOME: Final = "/tmp"
"""Inside; the one folder that may be written."""
CPUINFO: Final = "cpuinfo"
DEVICES: Final = ("dev/null", "dev/urandom")
"""llama-cpp-python opens the one when it is imported, libqi the other for a session."""
_NEW_MOUNTS, _NEW_USERS = 0x00020000, 0x10000000
"""CLONE_NEWNS and CLONE_NEWUSER (sched.h)."""
_BIND, _RECURSIVE, _PRIVATE = 4096, 16384, 1 << 18
"""MS_BIND, MS_REC and MS_PRIVATE (sys/mount.h)."""
_NO_NEW_PRIVILEGES: Final = 38


@dataclass(frozen=True)
class EmptyRoot:
    """A folder that is a program's whole world."""

    folder: Path

    def command(self, *command: str | Path) -> list[str]:
        """Give the command that shuts `command` in."""
        start = [sys.executable, "-m", "uservlm.toolchain.empty_root", str(self.folder)]
        return [*start, *map(str, command)]

    def put(self, source: Path, inside: str) -> None:
        """Copy a file or a folder to a path inside."""
        place = self.folder / inside.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, symlinks=True)
        else:
            shutil.copy2(source, place)

    @property
    def environment(self) -> dict[str, str]:
        """What a program inside should have, and all it should have.

        Of a developer's machine one variable is enough to end it: OPENBLAS_CORETYPE=Haswell makes
        numpy use AVX whatever the processor.
        """
        return {"HOME": HOME}


def make_root(folder: Path) -> EmptyRoot:
    """Make an empty root instead of whatever is at `folder`.

    Raises:
        EmptyRootError: this machine shuts nobody in.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("proc", "dev"):
        (folder / name).mkdir(parents=True)
    for device in DEVICES:
        (folder / device).touch()
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)
    root = EmptyRoot(folder)
    _check(root)
    return root


def run(
    command: Sequence[str | Path], environment: Mapping[str, str], *, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a command in an environment that holds nothing else; gives what it printed.

    Raises:
        subprocess.TimeoutExpired: it took longer.
    """
    return subprocess.run(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )


def enter(folder: Path) -> None:
    """Shut this process in, for good.

    Raises:
        EmptyRootError: the kernel refuses.
    """
    user, group = os.geteuid(), os.getegid()
    library = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: object) -> None:
        if getattr(library, name)(*arguments) != 0:
            why = os.strerror(ctypes.get_errno())
            raise EmptyRootError(
                f"this machine shuts nobody in ({name}: {why}): run the proofs as root, or where "
                "user namespaces are allowed (sysctl user.max_user_namespaces)"
            )

    call("unshare", _NEW_MOUNTS | (_NEW_USERS if user != 0 else 0))
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{NOBODY} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1", encoding="ascii")
    call("mount", None, b"/", None, _RECURSIVE | _PRIVATE, None)
    proc, shown = folder / "proc", folder / CPUINFO
    call("mount", b"/proc", os.fsencode(proc), None, _BIND | _RECURSIVE, None)
    for device in DEVICES:
        call("mount", os.fsencode(f"/{device}"), os.fsencode(folder / device), None, _BIND, None)
    if shown.is_file():
        call("mount", os.fsencode(shown), os.fsencode(proc / CPUINFO), None, _BIND, None)
    os.chroot(folder)
    os.chdir("/")
    if user == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Become the command that is given, shut in; 2: it cannot be, or cannot be run."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if len(given) < 2:
            raise EmptyRootError("give ROOT and COMMAND")
        enter(Path(given[0]))
        os.execv(given[1], given[1:])
    except (EmptyRootError, OSError) as error:
        print(f"empty_root: {error}", file=sys.stderr)
        return 2


def _check(root: EmptyRoot) -> None:
    """Run a program that does nothing.

    Raises:
        EmptyRootError: it does not run.
    """
    machine = MACHINES.get(os.uname().machine)
    if machine is None:
        raise EmptyRootError(f"no proof on {os.uname().machine}: it takes Linux on x86-64")
    program = write_program(root.folder / "tmp" / "nothing", machine, b"")
    done = run(root.command("/tmp/nothing"), root.environment, seconds=30)
    program.unlink()
    if done.returncode != 0:
        raise EmptyRootError(
            done.stderr.strip().removeprefix("empty_root: ")
            or f"this machine shuts nobody in: status {done.returncode}"
        )


if __name__ == "__main__":
    sys.exit(main())
