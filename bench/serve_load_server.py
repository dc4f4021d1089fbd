"""The server of the load test: a real `uservlm serve`, in a process and a folder of its own.

Owns: how it is begun and ended, and what its process takes. Knows nothing of clients.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from uservlm.runtime.errors import UserVLMError

STARTS_S: Final = 120.0
STOPS_S: Final = 10.0
"""From SIGTERM to the end of the process, as the product promises."""


class ServerError(UserVLMError):
    """The server did not start; the message holds what it said."""


@dataclass(frozen=True)
class Taken:
    """What a process takes at one moment."""

    anon_mb: float
    """Memory of its own, without mapped files."""
    peak_mb: float
    """All memory at its highest."""
    cpu_s: float
    threads: int
    files: int


@dataclass(frozen=True)
class Server:
    """One that listens."""

    process: subprocess.Popen[bytes]
    url: str

    def taken(self) -> Taken:
        """Look at the process."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        status = dict(line.split(":", 1) for line in lines)
        watched = psutil.Process(self.process.pid)
        times = watched.cpu_times()
        return Taken(
            anon_mb=round(int(status["RssAnon"].split()[0]) / 1024, 1),
            peak_mb=round(int(status["VmHWM"].split()[0]) / 1024, 1),
            cpu_s=round(times.user + times.system, 2),
            threads=int(status["Threads"]),
            files=watched.num_fds(),
        )

    def terminate(self) -> tuple[float, int | None]:
        """Send SIGTERM; gives the seconds until the process was gone, and its exit code.

        None instead of a code: it had to be killed.
        """
        begun = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(2 * STOPS_S)
        except subprocess.TimeoutExpired:
            return time.perf_counter() - begun, None
        return time.perf_counter() - begun, code


@contextmanager
def started(bundle: Path, folder: Path) -> Iterator[Server]:
    """Start one on a free port of loopback; people and the log go to `folder`.

    It is killed at the end.

    Raises:
        ServerError: it does not come to listen.
    """
    log = folder / "serve.log"
    command = [sys.executable, "-m", "uservlm.runtime", "serve", str(bundle.resolve())]
    command += ["--port", "0", "--users", str(folder / "people"), "--no-verify"]
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "HOME": str(folder)}
    with log.open("ab") as sink:
        begins = sink.tell()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stderr=sink
        )
    try:
        yield Server(process, listens_at(process, log, begins))
    finally:
        process.kill()
        process.wait()


def listens_at(process: subprocess.Popen[bytes], log: Path, begins: int) -> str:
    """Wait for the line in the log, from byte `begins`, that says where it listens.

    Raises:
        ServerError: it does not come to that.
    """
    until = time.monotonic() + STARTS_S
    while time.monotonic() < until and process.poll() is None:
        found = re.search(r"serving \S+ on (http://\S+)", log.read_text()[begins:])
        if found:
            return found[1]
        time.sleep(0.05)
    raise ServerError(f"the server did not start: {log.read_text()[begins:][-2000:]}")
