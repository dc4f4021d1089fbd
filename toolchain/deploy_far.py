"""A board's shell over SSH: scripts, files that go on where they were cut off, and the lock.

Owns: how a script is run and what its failure means. Knows nothing of what the scripts do.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shlex
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncssh

from uservlm.pepper_app.ssh_login import FAILURES, Host, printable, refusals
from uservlm.runtime.errors import RequestError, UserVLMError
from uservlm.toolchain import deploy_steps
from uservlm.toolchain.board import BoardError
from uservlm.toolchain.deploy_parts import File
from uservlm.toolchain.deploy_remove import BUSY
from uservlm.toolchain.deploy_service import FOREIGN
from uservlm.toolchain.deploy_steps import HELD, OTHERS, Step

LOOK_S: Final = 30.0
STEP_S: Final = 1800.0
"""An Atom with a slow disk unpacks for minutes."""
CHUNK: Final = 1 << 18
PROGRESS_S: Final = 5.0
TOLD_LINES: Final = 8
_MEANING: Final = {
    OTHERS: "{folder} holds other things: choose an empty folder with --to",
    HELD: "somebody else is deploying to {folder}: wait until they have ended",
    FOREIGN: "the unit uservlm.service there is of another folder: take that away first, with "
    "--to and --remove",
    BUSY: "programs run from {folder} (processes {said}): end them first; nothing was removed",
}


@dataclass(frozen=True)
class Done:
    """How a script has ended."""

    status: int
    out: str
    err: str


class Far:
    """The shell."""

    def __init__(
        self,
        host: Host,
        connection: asyncssh.SSHClientConnection,
        folder: str,
        say: Callable[[str], None],
    ) -> None:
        self._host, self._connection = host, connection
        self._folder, self._say = folder, say

    async def look(self, script: str) -> str:
        """Give what a script prints.

        Raises:
            BoardError: it fails.
            RobotError: the connection does.
        """
        return self._good("look", await self._run(script, LOOK_S))

    async def do(self, step: Step) -> str:
        """Do a step, and give what it prints.

        Raises:
            BoardError: it fails, or a file does not arrive as it is here.
            RequestError: a file here cannot be read.
            RobotError: the connection fails.
        """
        self._say(f"{step.about} …")
        if step.sends is None:
            return self._good(step.about, await self._run(step.script, STEP_S))
        out = self._good(step.about, await self._send(step, step.sends))
        if step.sends.sha256 not in out:
            await self._run(deploy_steps.drop(self._folder, step.sends.name), LOOK_S)
            raise BoardError(
                f"{self._host.name}: {step.sends.name} arrived damaged, and is deleted: try again"
            )
        return out

    async def attempt(self, step: Step, seconds: float = LOOK_S) -> str | None:
        """Do a step where the connection still allows it; None: it does not, or the step fails."""
        with suppress(UserVLMError, *FAILURES):
            return self._good(step.about, await self._run(step.script, seconds))
        return None

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Keep other deploys away.

        Raises:
            BoardError: somebody deploys, or the folder is not ours.
            RobotError: the board does not answer in time.
        """
        command = _sh(deploy_steps.lock(self._folder))
        with refusals(self._host, "ends the connection"):
            holder = await self._connection.create_process(command, encoding=None)
        try:
            with refusals(self._host, f"did not lock {self._folder} within {LOOK_S:g} s"):
                held = await asyncio.wait_for(_says(holder.stdout, b"held"), LOOK_S)
            if not held:
                ended = await holder.wait()
                self._good("lock", Done(ended.exit_status or 1, "", _text(ended.stderr)))
            yield
        finally:
            holder.close()
            with suppress(*FAILURES):
                await asyncio.wait_for(holder.wait_closed(), LOOK_S)

    async def _send(self, step: Step, file: File) -> Done:
        at = await self._offset(file)
        with refusals(self._host, "ends the connection"):
            async with self._connection.create_process(_sh(step.script), encoding=None) as process:
                sent = asyncio.create_task(self._feed(process, file, at))
                ended = asyncio.create_task(process.wait())
                try:
                    # Whoever reads there waits for ever for what cannot be read here.
                    await asyncio.wait((sent, ended), return_when=asyncio.FIRST_COMPLETED)
                    if sent.done() and isinstance(sent.exception(), RequestError):
                        process.terminate()
                        await sent
                    return _done(await ended)
                finally:
                    for task in (sent, ended):
                        task.cancel()
                        with suppress(asyncio.CancelledError, RequestError, *FAILURES):
                            await task

    async def _feed(self, process: asyncssh.SSHClientProcess[bytes], file: File, at: int) -> None:
        began, told = time.monotonic(), time.monotonic()
        first = at
        for chunk in _chunks(file.path, at):
            process.stdin.write(chunk)
            await process.stdin.drain()
            at += len(chunk)
            if (now := time.monotonic()) > told + PROGRESS_S:
                told, rate = now, (at - first) / (now - began)
                self._say(f"  {at / file.size:4.0%}, {rate / 1e6:.1f} MB/s")
        process.stdin.write_eof()

    async def _offset(self, file: File) -> int:
        """Say from where to go on: behind what is there, if it is the beginning of the file."""
        script = deploy_steps.there(self._folder, file.name)
        out = self._good("look", await self._run(script, STEP_S))
        found = re.search(r"^ *(\d+)\n([0-9a-f]{64})\b", out, re.MULTILINE)
        size = int(found[1]) if found else 0
        if found and size <= file.size and _begins(file.path, size) == found[2]:
            self._say(f"  {size:,} bytes of it are there already")
            return size
        if size:
            await self._run(deploy_steps.drop(self._folder, file.name), LOOK_S)
        return 0

    async def _run(self, script: str, seconds: float) -> Done:
        with refusals(self._host, f"did not finish within {seconds:g} s, or is gone"):
            async with self._connection.create_process(
                _sh(script), stdin=asyncssh.DEVNULL, encoding=None
            ) as process:
                try:
                    return _done(await asyncio.wait_for(process.wait(), seconds))
                except (asyncio.CancelledError, asyncio.TimeoutError):
                    process.terminate()
                    raise

    def _good(self, about: str, done: Done) -> str:
        if done.status == 0:
            return done.out
        meaning = _MEANING.get(done.status)
        if meaning:
            told = meaning.format(folder=self._folder, said=printable(done.err.strip()))
            raise BoardError(f"{self._host.name}: {told}")
        lines = (f"{done.out}\n{done.err}".strip() or "it said nothing").splitlines()
        told = "\n  ".join(printable(line) for line in lines[-TOLD_LINES:])
        raise BoardError(f"{self._host.name}: {about}: failed with {done.status}:\n  {told}")


def _done(ended: asyncssh.SSHCompletedProcess) -> Done:
    if ended.exit_status is None:
        raise asyncssh.ConnectionLost("the connection ended")
    return Done(ended.exit_status, _text(ended.stdout), _text(ended.stderr))


def _text(said: bytes | str | None) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said or ""


async def _says(out: asyncssh.SSHReader[bytes], word: bytes) -> bool:
    """Read until a line is that word; a login may print lines of its own before it."""
    while line := await out.readline():
        if line.strip() == word:
            return True
    return False


def _chunks(path: Path, at: int) -> Iterator[bytes]:
    """Read a file from there on.

    Raises:
        RequestError: it cannot be read.
    """
    try:
        with path.open("rb") as opened:
            opened.seek(at)
            while chunk := opened.read(CHUNK):
                yield chunk
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}; try again") from error


def _begins(path: Path, size: int) -> str:
    """Give the SHA-256 of a file's beginning."""
    found = hashlib.sha256()
    with path.open("rb") as opened:
        while size and (chunk := opened.read(min(CHUNK, size))):
            found.update(chunk)
            size -= len(chunk)
    return found.hexdigest()


def _sh(script: str) -> str:
    """Give the command for whatever shell somebody logs in with."""
    return f"sh -c {shlex.quote(script)}"
