"""A file on the robot's disk for a while, and the end of a log there: SSH and SFTP.

Owns: who is believed to be the robot, the login, and that a file which was sent is taken away again
whatever happens. Knows nothing of packages.

A robot that is met for the first time is believed, and its key is written into known_hosts, as ssh
does with StrictHostKeyChecking=accept-new; afterwards only that key is. Nothing weaker is spoken
than asyncssh does by itself, which suffices for an OpenSSH of 2016.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

import asyncssh

from uservlm.pepper_app.robot import PASSWORD_VARIABLE
from uservlm.pepper_app.service import RobotError

PORT: Final = 22
CONNECT_S, LOGIN_S = 10.0, 20.0
ALIVE_S: Final = 10.0
LOGS: Final = "/var/log/naoqi/servicemanager"
"""Where a robot was seen to keep what services print."""
TAIL_BYTES, TAIL_LINES = 4096, 8
_FAILURES: Final = (
    OSError,
    asyncio.TimeoutError,
    asyncssh.Error,
    asyncssh.ConfigParseError,
    asyncssh.KeyImportError,
    asyncssh.KeyEncryptionError,
)


@dataclass(frozen=True)
class Host:
    """Where one logs in."""

    name: str
    user: str
    password: str | None = field(repr=False)
    """None: with a key of the user's, as ssh does."""
    known: Path
    """Their known_hosts."""
    port: int = PORT


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
            with _refusals(self._host, "does not take the file; is its disk full?"):
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
        except _FAILURES:
            return ""
        text = end if isinstance(end, str) else end.decode("utf-8", "replace")
        lines = [_printable(line) for line in text.splitlines()]
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
        except _FAILURES as error:
            where = f"{self._host.user}@{self._host.name}"
            hand = f"ssh {shlex.quote(where)} rm {shlex.quote(at)}"
            self._say(f"{at} may still be there ({_why(error)}); take it away: {hand}")


@asynccontextmanager
async def disk(host: Host, say: Callable[[str], None]) -> AsyncIterator[Disk]:
    """Log in.

    Args:
        host: where.
        say: is told what a person should know.

    Raises:
        RobotError: nobody there, refused, or not who it was.
    """
    known = _known(host.known)
    trust = _Trust(host, known, say)
    with _refusals(host, trust.trouble):
        connection = await asyncssh.connect(
            host.name,
            host.port,
            username=host.user,
            password=host.password,
            client_factory=lambda: trust,
            known_hosts=known,
            connect_timeout=CONNECT_S,
            login_timeout=LOGIN_S,
            keepalive_interval=ALIVE_S,
        )
    async with connection:
        with _refusals(host, "lets nobody copy files (SFTP)"):
            files = await connection.start_sftp_client()
        yield Disk(host, files, say)


class _Trust(asyncssh.SSHClient):
    """Decides about a host key that known_hosts does not have."""

    def __init__(
        self, host: Host, known: asyncssh.SSHKnownHosts, say: Callable[[str], None]
    ) -> None:
        self._host, self._known, self._say, self._trouble = host, known, say, ""

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Believe it at the first time only."""
        place = self._host.known
        if asyncssh.match_known_hosts(self._known, host, addr, port)[0]:
            name = host if port == PORT else f"[{host}]:{port}"
            self._trouble = (
                f"has another key than before ({key.get_fingerprint()}): somebody may be in "
                f"between. If the robot was set up anew: ssh-keygen -f {place} -R '{name}'"
            )
            return False
        try:
            self._remember(host, port, key)
        except OSError as error:
            self._trouble = f"is new, and {place} cannot be written: {error.strerror}"
            return False
        self._say(f"{host} is new; its key {key.get_fingerprint()} is in {place} from now on")
        return True

    def trouble(self, error: BaseException) -> str:
        """Say why one cannot log in."""
        if self._trouble:
            return self._trouble
        if isinstance(error, asyncssh.PermissionDenied):
            given = "refuses the password of" if self._host.password else "wants a password of"
            return (
                f"{given} {self._host.user}: set {PASSWORD_VARIABLE}, or name its file with "
                "--password-file"
            )
        return f"takes no SSH connection at port {self._host.port}: {_why(error)}"

    def _remember(self, host: str, port: int, key: asyncssh.SSHKey) -> None:
        place = self._host.known
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = host if port == PORT else f"[{host}]:{port}"
        kind, body, *_ = key.export_public_key().decode("ascii").split()
        handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "r+b", buffering=0) as file:
            whole = file.seek(0, os.SEEK_END) == 0 or _last(file.fileno()) == b"\n"
            file.write(b"" if whole else b"\n")
            file.write(f"{name} {kind} {body}\n".encode())


def _known(place: Path) -> asyncssh.SSHKnownHosts:
    """Read the keys that are known.

    Raises:
        RobotError: the file cannot be read.
    """
    try:
        return asyncssh.import_known_hosts(place.read_text("utf-8") if place.exists() else "")
    except (OSError, ValueError) as error:
        raise RobotError(f"{place} cannot be read: {_why(error)}") from error


def _last(handle: int) -> bytes:
    return os.pread(handle, 1, os.fstat(handle).st_size - 1)


@contextmanager
def _refusals(host: Host, what: str | Callable[[BaseException], str]) -> Iterator[None]:
    """Turn what SSH raises into RobotError.

    Raises:
        RobotError: with the host's name, what it does not do, and why.
    """
    try:
        yield
    except _FAILURES as error:
        told = f"{what} ({_why(error)})" if isinstance(what, str) else what(error)
        raise RobotError(f"{host.name} {told}") from error


def _why(error: BaseException) -> str:
    """Give the reason of an error in a few words."""
    if isinstance(error, asyncio.TimeoutError) or not str(error):
        return "no answer"
    words = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
    return _printable(str(words).partition("\n")[0])


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)
