"""Runs a program as an older kernel would: `python -m uservlm.toolchain.old_kernel COMMAND ...`.

Owns: the filter by which 32-bit system calls that are newer than Linux 4.0 do not exist (ENOSYS),
and the programs that show whether it and the address space are as they should be. NAOqi 2.5 has
Linux 4.0.4 on 32 bits. The filter is set here, in 64 bits, and holds for whatever this becomes;
system calls of 64 bits pass, for `setarch` and `unshare` in front of the program are such.

Numbers: arch/x86/entry/syscalls/syscall_32.tbl. 358 is execveat, of Linux 3.19; 359 is socket, of
Linux 4.3.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Sequence
from typing import Final

from uservlm.toolchain.proof_errors import OldKernelError

NEWEST: Final = 358
"""The last system call that Linux 4.0 has on 32 bits."""
PROGRAM: Final = (sys.executable, "-m", "uservlm.toolchain.old_kernel")
THREE_GB: Final = ("setarch", "i686", "-3")
"""In front of a command: `uname -m` says i686, and addresses end at 3 GB as on a 32-bit kernel."""

CALLS_ARE_OLD: Final = bytes.fromhex(
    "b893010000 31db 31c9 cd80"  # clock_gettime64(0, 0), which came with Linux 5.1
    "31db 83f8da 7403 43 9090"  # ebx = 0 if it answered -ENOSYS, else 1
    "b801000000 cd80"  # exit(ebx)
)
"""A 32-bit program that ends with 0 where the filter holds, with 1 where it does not."""
STACK_IS_BELOW_3_GB: Final = bytes.fromhex(
    "89e0 31db 3d000000c0 7203 43 9090 b801000000 cd80"  # ebx = esp >= 0xc0000000
)
"""A 32-bit program that ends with 0 where the stack is below 3 GB, else with 1."""

_ARCHITECTURE_I386: Final = 0x40000003
_LOAD, _IF_EQUAL, _IF_GREATER, _RETURN = 0x20, 0x15, 0x25, 0x06
_ALLOW, _NO_SUCH_CALL = 0x7FFF0000, 0x00050026
"""SECCOMP_RET_ALLOW, and SECCOMP_RET_ERRNO with ENOSYS."""
_FILTER: Final = (
    (_LOAD, 0, 0, 4),  # seccomp_data.arch
    (_IF_EQUAL, 0, 3, _ARCHITECTURE_I386),
    (_LOAD, 0, 0, 0),  # seccomp_data.nr
    (_IF_GREATER, 0, 1, NEWEST),
    (_RETURN, 0, 0, _NO_SUCH_CALL),
    (_RETURN, 0, 0, _ALLOW),
)
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTERED = 38, 22, 2


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def refuse_new_calls() -> None:
    """Make 32-bit system calls above `NEWEST` fail with ENOSYS, here and in what this becomes.

    Raises:
        OldKernelError: the kernel does not take the filter.
    """
    library = ctypes.CDLL(None, use_errno=True)
    code = b"".join(struct.pack("<HBBI", *step) for step in _FILTER)
    program = _Program(len(_FILTER), code)
    if library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or library.prctl(
        _SET_SECCOMP, _FILTERED, ctypes.byref(program)
    ):
        why = os.strerror(ctypes.get_errno())
        raise OldKernelError(f"the kernel takes no seccomp filter ({why}): run it where it does")


def main(arguments: Sequence[str] | None = None) -> int:
    """Become the command that is given, with the filter; 2: it cannot be set, or not be run."""
    command = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if not command:
            raise OldKernelError("no command: python -m uservlm.toolchain.old_kernel COMMAND ...")
        refuse_new_calls()
        os.execvp(command[0], command)
    except (OldKernelError, OSError) as error:
        print(f"old_kernel: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
