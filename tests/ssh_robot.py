"""The robot's SSH server in tests: a real one, of asyncssh, with SFTP, on a thread of its own.

Owns: the server, and what can be wrong with it. Its disk is a folder here; beside that it has the
robot's folder of logs, where a robot has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import asyncssh

from uservlm.pepper_app.deploy_ssh import LOGS

USER, PASSWORD = "nao", "the-password-of-nao"
ELSEWHERE = b"/elsewhere"
OLD = {
    "kex_algs": ["curve25519-sha256@libssh.org", "ecdh-sha2-nistp256"],
    "encryption_algs": ["aes128-ctr"],
    "mac_algs": ["hmac-sha1"],
    "signature_algs": ["ssh-rsa"],
}
"""As OpenSSH before 7.2, of 2016, whose RSA keys sign with SHA-1 alone."""


class SshRobot:
    """One server, and what came to it."""

    def __init__(self, home: Path, logs: Path) -> None:
        self.home, self.logs = home, logs
        self.port = 0
        self.modes: list[int] = []
        """Of each file that was written here, at its end."""
        self.full = False
        """As OpenSSH says it: "Failure"."""
        self.keeps = False
        """Whether nothing can be deleted."""
        self.chroot = False
        """Whether who logs in sees other paths than NAOqi does."""


class _Login(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)


class _Disk(asyncssh.SFTPServer):
    def __init__(self, channel: Any, robot: SshRobot) -> None:
        super().__init__(channel)
        self._robot = robot

    def map_path(self, path: bytes) -> bytes:
        logs, home = str(self._robot.logs).encode(), str(self._robot.home).encode()
        if path.startswith(LOGS.encode()):
            return logs + path.removeprefix(LOGS.encode())
        if path.startswith(ELSEWHERE):
            return home + path.removeprefix(ELSEWHERE)
        return path if path.startswith(b"/") else home + b"/" + path

    def reverse_map_path(self, path: bytes) -> bytes:
        home = str(self._robot.home).encode()
        return path.replace(home, ELSEWHERE) if self._robot.chroot else path

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        if self._robot.full:
            raise asyncssh.SFTPFailure("Failure")
        return int(super().write(file_obj, offset, data))  # type: ignore[arg-type]

    def close(self, file_obj: object) -> None:
        super().close(file_obj)
        self._robot.modes += [path.stat().st_mode & 0o777 for path in self._robot.home.iterdir()]

    def remove(self, path: bytes) -> None:
        if self._robot.keeps:
            raise asyncssh.SFTPPermissionDenied("Permission denied")
        super().remove(path)


@contextmanager
def ssh_robot(home: Path, logs: Path, **algorithms: Any) -> Iterator[SshRobot]:
    """Have one, with an RSA key of its own."""
    robot, loop = SshRobot(home, logs), asyncio.new_event_loop()
    home.mkdir(parents=True, exist_ok=True)

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=_Login,
            server_host_keys=[asyncssh.generate_private_key("ssh-rsa")],
            sftp_factory=lambda channel: _Disk(channel, robot),
            **algorithms,
        )

    async def end() -> None:
        server.close()
        await server.wait_closed()

    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
    robot.port = server.get_port()
    try:
        yield robot
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
