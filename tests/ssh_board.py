"""A board in tests: a real SSH server on loopback, and a real shell with few programs.

Owns: the two servers (asyncssh's, and OpenSSH's where it is installed), the folder that is the
board's whole PATH, and a stand-in for a runtime's archive: its programs run this checkout.
systemctl, loginctl and journalctl are scripts there: programs of the far side, of which we know the
command line alone. What they were told is recorded, and they start what a unit says.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import asyncssh
import pytest

from uservlm.toolchain import archive, integrity

PROGRAMS = (
    *("awk", "cat", "chmod", "cut", "df", "dirname", "env", "flock", "getconf", "grep", "gzip"),
    *("head", "id", "ln", "ls", "mkdir", "mv", "od", "printf", "readlink", "rm", "rmdir", "sh"),
    *("sha256sum", "sleep", "tail", "tar", "tr", "uname", "wc", "xz"),
)
"""All that a board must have; without xz, gzip or getconf it goes as well."""
SYSTEMCTL = """#!/bin/sh
# Stands for systemd on the far side: records, and starts what the unit says.
printf '%s\\n' "$*" >> "$HOME/systemctl.log"
unit="$HOME/.config/systemd/user/uservlm.service"
pid=$(cat "$HOME/pid" 2> /dev/null)
end() { [ -z "$pid" ] || kill "$pid" 2> /dev/null; rm -f "$HOME/pid"; }
case "$2" in
is-system-running) echo running ;;
show) [ ! -f "$HOME/restarts" ] || { echo >> "$HOME/restarts"; wc -l < "$HOME/restarts"; } ;;
restart) end; line=$(grep '^ExecStart=' "$unit")
    eval "${line#ExecStart=} > $HOME/service.log 2>&1 &"
    echo $! > "$HOME/pid" ;;
disable) end ;;
is-active) kill -0 "$pid" 2> /dev/null && echo active && exit 0
    echo failed; exit 3 ;;
esac
"""
LOGINCTL = "#!/bin/sh\necho Linger=no\n"
JOURNALCTL = '#!/bin/sh\ncat "$HOME/service.log"\n'


@dataclass
class Board:
    """One board."""

    home: Path
    bin: Path
    port: int = 0
    user: str = "pi"
    commands: list[str] = field(default_factory=list)
    """Every command that came, of asyncssh's server alone."""
    children: list[Any] = field(default_factory=list)
    greeting: str = ""
    """What a login prints before anything else, as a careless ~/.bashrc does."""

    @property
    def environment(self) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": str(self.bin), "LANG": "C"}

    def program(self, name: str, text: str) -> None:
        """Put a program there in place of another."""
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def greets(self) -> str:
        return f"echo '{self.greeting}'; " if self.greeting else ""

    def told(self) -> list[str]:
        """What systemctl was told."""
        log = self.home / "systemctl.log"
        return log.read_text().splitlines() if log.exists() else []

    def run(self, *command: str) -> str:
        """Run a program there, as somebody who is logged in."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def board(folder: Path) -> Board:
    """Make the disk of one."""
    made = Board(folder / "home", folder / "bin")
    made.home.mkdir(parents=True)
    made.bin.mkdir()
    for name in PROGRAMS:
        found = shutil.which(name)
        if found is None and name not in ("getconf", "gzip", "xz"):
            pytest.skip(f"NOTHING WAS DEPLOYED: a board needs {name}, and it is not here")
        if found is not None:
            (made.bin / name).symlink_to(found)
    for name, text in (
        ("systemctl", SYSTEMCTL),
        ("loginctl", LOGINCTL),
        ("journalctl", JOURNALCTL),
    ):
        made.program(name, text)
    return made


async def _pour(source: Any, into: Any) -> None:
    """Hand on what comes, until it ends or nobody takes it any more."""
    with suppress(asyncssh.Error, asyncssh.SignalReceived, OSError):
        while piece := await source.read(1 << 16):
            into.write(piece)
            await into.drain()
        if isinstance(into, asyncio.StreamWriter):
            into.close()


class _Key(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False  # what is asked for is tested with the robot's server (test_deploy.py)


@contextmanager
def asyncssh_server(made: Board) -> Iterator[None]:
    """asyncssh's server: no SFTP, as with dropbear."""
    loop = asyncio.new_event_loop()

    async def shell(process: Any) -> None:
        made.commands.append(process.command)
        child = await asyncio.create_subprocess_exec(
            *(str(made.bin / "sh"), "-c", made.greets() + process.command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=made.environment,
            cwd=made.home,
            start_new_session=True,
        )
        made.children.append(child)
        typed = asyncio.create_task(_pour(process.stdin, child.stdin))
        await asyncio.gather(
            _pour(child.stdout, process.stdout), _pour(child.stderr, process.stderr), child.wait()
        )
        typed.cancel()
        process.exit(child.returncode)

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=_Key,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            process_factory=shell,
            encoding=None,
        )

    async def end() -> None:
        server.close()
        await server.wait_closed()
        for child in made.children:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
    made.port = server.get_port()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@contextmanager
def openssh_server(made: Board, sshd: str, key: Path) -> Iterator[None]:
    """OpenSSH's sshd, for whoever runs the tests; the board's home and PATH are set by it."""
    folder = made.home.parent / "sshd"
    folder.mkdir()
    host = asyncssh.generate_private_key("ssh-ed25519")
    host.write_private_key(folder / "host")
    (folder / "host").chmod(0o600)
    mine = asyncssh.generate_private_key("ssh-ed25519")
    mine.write_private_key(key)
    key.chmod(0o600)
    mine.write_public_key(folder / "authorized")
    with socket.create_server(("127.0.0.1", 0)) as free:
        made.port = free.getsockname()[1]
    made.user = getpass.getuser()
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {made.port}\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        f"SetEnv HOME={made.home} PATH={made.bin}\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd's own demand
    process = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "config")], stderr=-1)
    try:
        _answers(made.port, process)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _answers(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"sshd does not listen: {process.communicate()[1]!r}")


def runtime(folder: Path, note: str, uservlm: str) -> Path:
    """Pack a stand-in for a runtime: its programs run this checkout with this Python.

    Args:
        folder: for it.
        note: in a file of its own, to know it by.
        uservlm: what the program does, in shell.
    """
    inside = folder / "inside"
    (inside / "bin").mkdir(parents=True)
    python = f'exec "{sys.executable}"'
    for name, line in {
        "python": f'{python} "$@"',
        "uservlm": uservlm,
        "uservlm-check": f'{python} -m uservlm.toolchain.integrity "$@"',
    }.items():
        program = inside / "bin" / name
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
    (inside / "note").write_text(note)
    files = {name: integrity.described(inside / name) for name in integrity.listed(inside)}
    target = os.uname().machine
    manifest = {"format": integrity.FORMAT, "target": target, "files": files}
    (inside / integrity.MANIFEST_FILE).write_text(json.dumps(manifest))
    packed = folder / "runtime.tar.xz"
    archive.pack(inside, packed, name="uservlm-runtime", time=0)
    return packed
