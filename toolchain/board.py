"""What a board is: the questions its own shell is asked, and which runtime its answers ask for.

Owns: the look, which changes nothing there, and the decision. Knows nothing of SSH nor of what is
done afterwards. Nothing is assumed from a name: a Pepper with NAOqi 2.9 may have 64 bits, and a
Raspberry Pi with a 64-bit kernel may have programs of 32.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final, Literal

from uservlm.runtime.errors import RequestError, UserVLMError
from uservlm.toolchain.targets import TARGETS, Target

Form = Literal["tar.xz", "tar.gz", "tar"]
"""How a runtime travels; the board must be able to open it."""

ELF_MACHINES: Final = {3: "x86", 62: "x86_64", 40: "arm", 183: "aarch64"}
"""e_machine in the header (elf.h)."""
X86_64_V2: Final = frozenset({"cx16", "popcnt", "sse4_1", "sse4_2", "ssse3"})
"""As /proc/cpuinfo calls them; numpy's wheels need this level."""
SILVERMONT: Final = frozenset({"movbe", "popcnt", "sse4_2", "ssse3"})
NEEDED: Final = ("tar", "flock", "sha256sum")
"""Programs without which nothing can be deployed safely; util-linux, coreutils or busybox."""
OPENERS: Final = ("xz", "gzip")

LOOK: Final = """
say() {{ printf '%s=%s\\n' "$1" "$2"; }}
say machine "$(uname -m)"
say bits "$(getconf LONG_BIT 2>/dev/null)"
say shell "$(head -c 20 /bin/sh | od -An -v -tx1 | tr -d ' \\n')"
say kernel "$(uname -r)"
say system "$(. /etc/os-release 2>/dev/null; echo "${{PRETTY_NAME:-}}")"
say flags "$(grep -m 1 -E '^(flags|Features)' /proc/cpuinfo 2>/dev/null | cut -d: -f2)"
say memory "$(grep -m 1 MemTotal /proc/meminfo 2>/dev/null | tr -dc 0-9)"
say home "$(cd && pwd)"
say home_itself "$(cd && pwd -P)"
cd
say folder_itself "$(cd -- {folder} 2>/dev/null && pwd -P)"
for name in {programs}; do
    command -v "$name" >/dev/null 2>&1 && say program "$name"
done
at={folder}
while [ ! -d "$at" ]; do at=$(dirname -- "$at"); done
say free "$(df -Pk "$at" | tail -n 1 | awk '{{print $4}}')"
for part in {folder}/parts/*; do
    [ -d "$part" ] && say part "${{part##*/}}"
done
unit="$HOME/.config/systemd/user/uservlm.service"
[ -f "$unit" ] && while IFS= read -r line; do say unit "$line"; done < "$unit"
[ -n "${{XDG_RUNTIME_DIR:-}}" ] || export XDG_RUNTIME_DIR="/run/user/$(id -u)"
say systemd "$(systemctl --user is-system-running 2>/dev/null)"
say linger "$(loginctl show-user "$(id -un)" -p Linger 2>/dev/null | cut -d= -f2)"
exit 0
"""
RUN_BY: Final = {"x86_64": ("x86_64",), "aarch64": ("aarch64",), "i686": ("i686", "x86_64")}
"""Kernels, by `uname -m`, that run a target's programs."""


class BoardError(UserVLMError):
    """The board is not one that a runtime is made for, or lacks what a deploy needs."""


class RoomError(BoardError):
    """What is to be brought does not fit."""


@dataclass(frozen=True)
class Board:
    """What was seen."""

    machine: str
    """`uname -m`: the kernel's word."""
    bits: int
    """`getconf LONG_BIT`, the C library's word; 0 where it does not say."""
    elf_bits: int
    """Of /bin/sh: 32 or 64, what its programs are."""
    elf_machine: str
    """One of `ELF_MACHINES`, or the number."""
    home: str
    """Of who logs in, as a login names it."""
    free: int
    """Bytes, where the folder is or would be; 0 where it is not known."""
    memory: int = 0
    """Bytes."""
    flags: frozenset[str] = frozenset()
    """The processor's, empty where they are not known."""
    programs: frozenset[str] = frozenset()
    """Of those that were asked for."""
    parts: frozenset[str] = frozenset()
    """Names of what an earlier deploy has left there whole."""
    kernel: str = ""
    system: str = ""
    home_itself: str = ""
    """The same without links; empty where it is not known."""
    folder_itself: str = ""
    """The deploy's folder without links; empty where there is none yet."""
    unit: str = ""
    """Text of an installed uservlm.service, whoever wrote it; empty: there is none."""
    systemd: str = ""
    """State of this user's service manager; empty or "offline": there is none."""
    linger: bool = False
    """Whether it runs also while the user is not logged in."""

    @property
    def about(self) -> str:
        """One line for a person."""
        words = [f"{self.machine}, {self.elf_bits}-bit programs"]
        words += [self.system] if self.system else []
        words += [f"Linux {self.kernel}"] if self.kernel else []
        words += [f"{self.memory / 1e9:.1f} GB of memory"] if self.memory else []
        return ", ".join([*words, f"{self.free / 1e9:.1f} GB free"])


def look(folder: str) -> str:
    """Give the script that looks; it changes nothing.

    Args:
        folder: where the runtime is or will be, absolute or below the home folder.
    """
    programs = (*NEEDED, *OPENERS, "systemctl")
    return LOOK.format(folder=shlex.quote(folder), programs=" ".join(programs))


def read_board(text: str) -> Board:
    """Read what the script has printed.

    Raises:
        BoardError: it is not what a POSIX shell on Linux prints.
    """
    pairs = [line.split("=", 1) for line in text.splitlines() if "=" in line]
    said = {name: value.strip() for name, value in pairs}
    header = _bytes(said.get("shell", ""))
    if not said.get("machine") or not said.get("home", "").startswith("/") or len(header) < 20:
        raise BoardError(
            f"there is no Linux with a shell there, or not one that is understood: {text[-200:]!r}"
        )
    number = int.from_bytes(header[18:20], "little" if header[5] == 1 else "big")
    return Board(
        machine=said["machine"],
        bits=_number(said.get("bits")),
        elf_bits={1: 32, 2: 64}.get(header[4], 0),
        elf_machine=ELF_MACHINES.get(number, str(number)),
        home=said["home"],
        free=1024 * _number(said.get("free")),
        memory=1024 * _number(said.get("memory")),
        flags=frozenset(said.get("flags", "").split()),
        programs=frozenset(value for name, value in pairs if name == "program"),
        parts=frozenset(value for name, value in pairs if name == "part"),
        kernel=said.get("kernel", ""),
        system=said.get("system", ""),
        home_itself=said.get("home_itself", ""),
        folder_itself=said.get("folder_itself", ""),
        unit="".join(f"{value}\n" for name, value in pairs if name == "unit"),
        systemd=said.get("systemd", ""),
        linger=said.get("linger") == "yes",
    )


def target_for(board: Board, given: str = "auto") -> Target:
    """Say which runtime fits.

    The kernel, the C library and /bin/sh must agree. Where they do not, as with 32-bit programs on
    a 64-bit kernel, naming the target decides: a runtime needs nothing there but the kernel.

    Raises:
        RequestError: no such target.
        BoardError: none fits, or the processor lacks instructions.
    """
    target = named(given) if given != "auto" else _found(board)
    machine = _machine(board)
    if machine and machine not in RUN_BY[target.machine]:
        raise BoardError(
            f"its kernel says {board.machine}, which runs nothing for {target.name}: leave "
            "--target out, or name another machine"
        )
    needed = {"x86_64": X86_64_V2, "pepper-i686": SILVERMONT}.get(target.name, frozenset())
    missing = sorted(needed - board.flags) if board.flags else []
    if missing:
        raise BoardError(
            f"its processor has no {', '.join(missing)}, which the runtime {target.name} needs: "
            "use another machine"
        )
    return target


def named(name: str) -> Target:
    """Give a target by its name.

    Raises:
        RequestError: there is none.
    """
    if name not in TARGETS:
        raise RequestError(f"target {name!r}: there are {', '.join(TARGETS)}")
    return TARGETS[name]


def form_for(board: Board) -> Form:
    """Say in which form the runtime travels: the smallest that can be opened there.

    Raises:
        BoardError: a program is missing without which nothing can be deployed.
    """
    missing = [name for name in NEEDED if name not in board.programs]
    if missing:
        raise BoardError(
            f"it has no {', '.join(missing)}: install them there (coreutils, util-linux, tar, or "
            "busybox)"
        )
    if "xz" in board.programs:
        return "tar.xz"
    return "tar.gz" if "gzip" in board.programs else "tar"


def _found(board: Board) -> Target:
    kinds = {
        ("x86_64", 64, "x86_64"): "x86_64",
        ("aarch64", 64, "aarch64"): "aarch64",
        ("i686", 32, "x86"): "pepper-i686",
    }
    name = kinds.get((_machine(board), board.elf_bits, board.elf_machine))
    if name is not None and board.bits in (0, board.elf_bits):
        return TARGETS[name]
    raise BoardError(
        f"its kernel says {board.machine}, its C library {board.bits or 'unknown'} bits, and "
        f"/bin/sh is {board.elf_bits}-bit {board.elf_machine}: no runtime is made for that. If you "
        f"know that its kernel runs one of {', '.join(TARGETS)}, name it with --target"
    )


def _machine(board: Board) -> str:
    """Name the kernel's processor as targets do."""
    return "i686" if board.machine in ("i386", "i486", "i586", "i686") else board.machine


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
