"""A file on the robot's disk for a while, and the end of a log there: SFTP.

Owns: that a file which was sent is taken away again whatever happens. Knows nothing of packages,
nor of how one logs in (`ssh_login.py`).
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import PurePosixPath
from typing import Final

import asyncssh

from uservlm.pepper_app.ssh_login import FAILURES, Host, login, printable, refusals, why

LOGS: Final = "/var/log/naoqi/servicemanager"
"""Where a robot was seen to keep what services print."""
TAIL_BYTES, TAIL_LINES = 4096, 8


class Disk:
    """The robot's disk, and the logs on it."""

    def __init__(self, host: Host, files: asyncssh.SFTPClient, say: Callable[[str], None]) -> None:
        self._host, self._files, self._say = host, files, say

    @asynccontextmanager
    async def lent(self, name: str, content: bytes) -> AsyncIterator[str]:
        """Have a file there, which its owner alone can read; gives its path.

        Raises:
            RobotError: the robot does not take it.
        """
        at = ""
        try:
            with refusals(self._host, "does not take the file; is its disk full?"):
                home = str(await self._files.realpath("."))
                at = str(PurePosixPath(home) / f"{secrets.token_hex(8)}-{name}")
                rights = asyncssh.SFTPAttrs(permissions=0o600)
                async with self._files.open(at, "xb", rights) as file:
                    await file.write(content)
            yield at
        finally:
            await self._take_away(at)

    async def log(self, service: str) -> str:
        """Give the end of what a service has printed, or nothing where it cannot be had."""
        try:
            at = await self._newest(service)
            if not at:
                return ""
            size = await self._files.getsize(at) or 0
            async with self._files.open(at, "rb") as file:
                end = await file.read(TAIL_BYTES, max(0, size - TAIL_BYTES))
        except FAILURES:
            return ""
        text = end if isinstance(end, str) else end.decode("utf-8", "replace")
        lines = [printable(line) for line in text.splitlines()]
        return "\n".join([f"; {at} there ends:", *lines[-TAIL_LINES:]])

    async def _newest(self, service: str) -> str:
        found = []
        async for entry in self._files.scandir(LOGS):
            if service in str(entry.filename):
                found.append((entry.attrs.mtime or 0, f"{LOGS}/{entry.filename!s}"))
        return max(found)[1] if found else ""

    async def _take_away(self, at: str) -> None:
        """Delete the file, if it came to be one."""
        try:
            if at and await self._files.exists(at):
                await self._files.remove(at)
        except FAILURES as error:
            where = f"{self._host.user}@{self._host.name}"
            hand = f"ssh {shlex.quote(where)} rm {shlex.quote(at)}"
            self._say(f"{at} may still be there ({why(error)}); take it away: {hand}")


@asynccontextmanager
async def disk(host: Host, say: Callable[[str], None]) -> AsyncIterator[Disk]:
    """Log in.

    Args:
        host: where.
        say: is told what a person should know.

    Raises:
        RobotError: nobody there, refused, or not who it was.
    """
    async with login(host, say) as connection:
        with refusals(host, "lets nobody copy files (SFTP)"):
            files = await connection.start_sftp_client()
        yield Disk(host, files, say)
