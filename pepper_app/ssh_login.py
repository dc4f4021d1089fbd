"""A login by SSH: who is believed to be the machine there, and what its refusals mean.

Owns: the host key, the login, and the words for what goes wrong. Knows nothing of what is done
there.

A machine that is met for the first time is believed, and its key is written into known_hosts, as
ssh does with StrictHostKeyChecking=accept-new; afterwards only that key is. Nothing weaker is
spoken than asyncssh does by itself, which suffices for an OpenSSH of 2016.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncssh

from uservlm.pepper_app.robot import PASSWORD_VARIABLE
from uservlm.pepper_app.service import RobotError

PORT: Final = 22
CONNECT_S, LOGIN_S = 10.0, 20.0
ALIVE_S: Final = 10.0
FAILURES: Final = (
    OSError,
    asyncio.TimeoutError,
    asyncssh.Error,
    asyncssh.ConfigParseError,
    asyncssh.KeyImportError,
    asyncssh.KeyEncryptionError,
)
"""What SSH raises."""


@dataclass(frozen=True)
class Host:
    """Where one logs in."""

    name: str
    user: str
    password: str | None = field(repr=False)
    """None: with a key of the user's, as ssh does."""
    known: Path
    """Their known_hosts."""
    port: int | None = None
    """None: as ~/.ssh/config says, else 22."""
    variable: str = PASSWORD_VARIABLE
    """Where a person may put the password, for the words of a refusal."""
    system: Path = Path("/etc/ssh/ssh_known_hosts")
    """What this machine knows for all of its users; read as ssh does, never written."""


@asynccontextmanager
async def login(
    host: Host, say: Callable[[str], None]
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Log in.

    Args:
        host: where.
        say: is told what a person should know.

    Raises:
        RobotError: nobody there, refused, or not who it was.
    """
    known = _known(host.known, host.system)
    trust = _Trust(host, known, say)
    with refusals(host, trust.trouble):
        connection = await asyncssh.connect(
            host.name,
            () if host.port is None else host.port,
            username=host.user,
            password=host.password,
            client_factory=lambda: trust,
            known_hosts=known,
            connect_timeout=CONNECT_S,
            login_timeout=LOGIN_S,
            keepalive_interval=ALIVE_S,
        )
    async with connection:
        yield connection


@contextmanager
def refusals(host: Host, what: str | Callable[[BaseException], str]) -> Iterator[None]:
    """Turn what SSH raises into RobotError.

    Raises:
        RobotError: with the host's name, what it does not do, and why.
    """
    try:
        yield
    except FAILURES as error:
        told = f"{what} ({why(error)})" if isinstance(what, str) else what(error)
        raise RobotError(f"{host.name} {told}") from error


def why(error: BaseException) -> str:
    """Give the reason of an error in a few words."""
    if isinstance(error, asyncio.TimeoutError) or not str(error):
        return "no answer"
    words = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
    return printable(str(words).partition("\n")[0])


def printable(text: str) -> str:
    """Give text without control characters."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


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
        keys, authorities, revoked, *_ = asyncssh.match_known_hosts(self._known, host, addr, port)
        if authorities or key in revoked:
            self._trouble = (
                f"shows a key of its own ({key.get_fingerprint()}), and {place} or "
                f"{self._host.system} "
                + ("revokes it" if key in revoked else "wants one that an authority has signed")
                + ": somebody may be in between"
            )
            return False
        if keys:
            name = host if port == PORT else f"[{host}]:{port}"
            self._trouble = (
                f"has another key than before ({key.get_fingerprint()}): somebody may be in "
                f"between. If it was set up anew: ssh-keygen -f {place} -R '{name}'"
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
            user = self._host.user
            given = (
                f"refuses the password of {user}"
                if self._host.password
                else f"takes no key of yours for {user}, and no password was given"
            )
            return (
                f"{given}: set {self._host.variable}, or name its file with --password-file; or "
                "bring a key of yours there with ssh-copy-id"
            )
        port = "" if self._host.port is None else f" at port {self._host.port}"
        return f"takes no SSH connection{port}: {why(error)}"

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


def _known(*places: Path) -> asyncssh.SSHKnownHosts:
    """Read the keys that are known, in any of these files.

    Raises:
        RobotError: a file cannot be read.
    """
    texts = []
    for place in places:
        try:
            texts.append(place.read_text("utf-8") if place.exists() else "")
            asyncssh.import_known_hosts(texts[-1])
        except (OSError, ValueError) as error:
            raise RobotError(f"{place} cannot be read: {why(error)}") from error
    return asyncssh.import_known_hosts("\n".join(texts))


def _last(handle: int) -> bytes:
    return os.pread(handle, 1, os.fstat(handle).st_size - 1)
