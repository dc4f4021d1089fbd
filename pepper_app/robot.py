"""Where a robot is, how one logs in there, and which of our addresses it can reach.

Owns: the form of an address, the password's two places, and that it is shown nowhere. Knows nothing
of libqi.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from uservlm.pepper_app.service import RobotError
from uservlm.runtime.durable import disk_errors
from uservlm.runtime.errors import RequestError, StoreError
from uservlm.runtime.secretfile import read_secret

PASSWORD_VARIABLE: Final = "USERVLM_ROBOT_PASSWORD"
PORTS: Final = {"tcp": 9559, "tcps": 9503}
"""NAOqi 2.5 and 2.9."""
_FORM: Final = "give tcp://HOST:9559, or tcps://HOST:9503 for NAOqi 2.9"


@dataclass(frozen=True)
class Login:
    """Who we are to a robot that asks (NAOqi 2.9)."""

    user: str
    password: str | None = field(repr=False)


@dataclass(frozen=True)
class Robot:
    """A robot's service directory."""

    scheme: Literal["tcp", "tcps"]
    host: str
    port: int
    login: Login | None = None
    """Sent over tcps only, where nobody can read it on the way."""

    @property
    def url(self) -> str:
        """The address as libqi takes it."""
        return f"{self.scheme}://{self.host}:{self.port}"


def robot_at(url: str, login: Login | None) -> Robot:
    """Read an address.

    Args:
        url: tcp://HOST[:PORT] or tcps://HOST[:PORT].
        login: for tcps.

    Raises:
        RequestError: no such address, or tcps without a password.
    """
    if "@" in url:
        raise RequestError(f"a robot's address holds no password: set {PASSWORD_VARIABLE}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise RequestError(f"robot {url!r}: {error}; {_FORM}") from error
    more = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in PORTS or not host or more:
        raise RequestError(f"robot {url!r}: {_FORM}")
    if parts.scheme == "tcp":
        return Robot("tcp", host, port or PORTS["tcp"])
    if login is None or not login.password:
        raise RequestError(f"{url} asks for a password: set {PASSWORD_VARIABLE} or name its file")
    return Robot("tcps", host, port or PORTS["tcps"], login)


def read_password(file: str | None, variable: str = PASSWORD_VARIABLE) -> str | None:
    """Read a password from a file, else from a variable; None: neither.

    Raises:
        StoreError: the file cannot be read, is empty, or others can read it.
    """
    if file is None:
        return os.environ.get(variable) or None
    path = Path(file)
    with disk_errors(f"the password cannot be read from {path}"):
        text = read_secret(path)
    if not text:
        raise StoreError(f"{path} is empty: write the password there")
    return text


def facing(robot: Robot) -> str:
    """Give the address of this machine that the robot sees; connects to nobody.

    Raises:
        RobotError: the robot's name is not known, or no network leads there.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((robot.host, robot.port))
            return str(probe.getsockname()[0])
    except OSError as error:
        raise RobotError(f"no way to {robot.host}: {error.strerror or error}") from error
