"""ALServiceManager: runs the services of installed packages, as processes of their own.

Owns: starting (with the address of the directory behind the line), stopping (SIGTERM, SIGKILL
after 15 s) and the restart of an autorun service that has crashed, unless it has done so more than
five times in ten seconds. Knows nothing of what they do.

The interpreter of the robot (`/usr/bin/python2` and the like) is replaced by one that is here;
anything else of the line is run as it stands, so a package can do whatever this user can. These
are seconds of the clock, whatever the pace. Not there: memory usage, services of the system.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Final

from uservlm.pepper_app.service import Reply, RobotError, Service
from uservlm.pepper_app.virtual_calls import Bus, Calls
from uservlm.pepper_app.virtual_packages import Package, Packages, Program
from uservlm.pepper_app.virtual_world import World

NAME: Final = "ALServiceManager"
PATIENCE_S: Final = 15.0
LATE_S: Final = 1.0
CRASHES: Final = 5
CRASHES_S: Final = 10.0
PYTHONS: Final = ("python", "python2", "python2.7")
PROCESS: Final = "(sbs)"
"""Of `services` and `service`: name, whether it runs, execStart; the real structure is unknown."""


@dataclass
class _Run:
    """One service of a package."""

    package: Package
    program: Program
    process: subprocess.Popen[bytes] | None = None
    stopping: bool = False
    crashes: deque[float] = field(default_factory=lambda: deque(maxlen=CRASHES + 1))
    stopped: list[Callable[[], None]] = field(default_factory=list)


@dataclass(frozen=True)
class Running:
    """How services are run."""

    python: tuple[str, ...]
    """The command that stands for the robot's Python 2.7."""
    logs: Path
    """A folder for what they print."""
    patience_s: float = PATIENCE_S


class Services:
    """See the module."""

    def __init__(
        self, world: World, bus: Bus, packages: Packages, url: str, running: Running
    ) -> None:
        """Know the services of the packages; `autorun` starts those that want it.

        Args:
            world: where they are.
            bus: carries signals.
            packages: what is installed.
            url: of the directory.
            running: see `Running`.
        """
        self._world, self._bus, self._packages = world, bus, packages
        self._url, self._running = url, running
        self._runs: dict[str, _Run] = {}
        self._closed = False
        packages.came, packages.goes = self._came, self._goes
        running.logs.mkdir(parents=True, exist_ok=True)

    def services(self) -> list[Service]:
        """See `Part`."""
        calls = Calls(self._world, NAME)
        method = calls.method
        methods = [
            method("isServiceRunning", "s", "b", lambda name: self._find(name).process is not None),
            method("services", "", f"[{PROCESS}]", lambda: list(map(self._told, self._runs))),
            method("service", "s", PROCESS, self._told),
            method("start", "s", "v", self._begin),
            method("startService", "s", "b", lambda name: self._start(name)),
        ]
        for name, returns, answer in (("stop", "v", None), ("stopService", "b", True)):

            def stop(reply: Reply, service: str, answer: bool | None = answer) -> None:
                self._stop(service, lambda: reply.value(answer))

            methods.append(calls.slow(name, "s", returns, stop))
        for name, returns, answer in (("restart", "v", None), ("restartService", "b", True)):

            def restart(reply: Reply, service: str, answer: bool | None = answer) -> None:
                def stopped() -> None:
                    self._start(service)
                    reply.value(answer)

                self._stop(service, stopped)

            methods.append(calls.slow(name, "s", returns, restart))
        signals = {"serviceStarted": "ss", "serviceStopped": "ss"}
        return [Service(NAME, tuple(methods), signals)]

    def held(self) -> list[str]:
        """See `Part`."""
        return []

    def autorun(self) -> None:
        """Begin, as after a boot."""
        with self._world.lock:
            for package in self._packages.installed.values():
                self._came(package)

    def close(self) -> None:
        """End all that runs; returns when they are gone."""
        with self._world.lock:
            self._closed = True
            processes = [run.process for run in self._runs.values() if run.process]
            for name in list(self._runs):
                self._stop(name, lambda: None)
        for process in processes:
            process.wait(self._running.patience_s + 5)

    def _came(self, package: Package) -> None:
        if "services-late" in self._world.misbehaving:
            self._world.after(LATE_S * self._world.pace, lambda: self._know(package))
        else:
            self._know(package)

    def _know(self, package: Package) -> None:
        if self._packages.installed.get(package.uuid) is not package:
            return
        for program in package.programs:
            name = f"{package.uuid}.{program.name}"
            self._runs[name] = _Run(package, program)
            if program.autorun:
                self._start(name)

    def _goes(self, uuid: str) -> None:
        for name, run in list(self._runs.items()):
            if run.package.uuid == uuid:
                self._stop(name, lambda: None)
                del self._runs[name]

    def _find(self, name: str) -> _Run:
        if name not in self._runs:
            raise RobotError(f"no service {name}")
        return self._runs[name]

    def _told(self, name: str) -> tuple[str, bool, str]:
        run = self._find(name)
        return name, run.process is not None, run.program.line

    def _begin(self, name: str) -> None:
        self._start(name)

    def _start(self, name: str, reason: str = "asked") -> bool:
        """Start a service; one that runs already is left alone.

        Raises:
            RobotError: there is none, or its command cannot be run.
        """
        run = self._find(name)
        if run.process is not None:
            return True
        command = [*self._command(run.program.line), "--qi-url", self._url]
        log = self._running.logs / f"{name}.log"
        try:
            with log.open("ab") as told:
                process = run.process = subprocess.Popen(
                    command,
                    cwd=run.package.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=told,
                    stderr=told,
                    env={**os.environ, "QI_URL": self._url},
                )
        except OSError as error:
            self._world.did(NAME, "not started", name, str(error))
            raise RobotError(f"{name}: {command[0]} cannot be run: {error.strerror}") from error
        run.stopping = False
        self._world.did(NAME, "started", name, reason)
        self._bus.tell(NAME, "serviceStarted", name, reason)
        Thread(target=self._watch, args=(name, run, process), daemon=True).start()
        return True

    def _command(self, line: str) -> list[str]:
        words = shlex.split(line)
        if not words:
            raise RobotError("its execStart is empty")
        first, *rest = words
        return [*self._running.python, *rest] if Path(first).name in PYTHONS else words

    def _stop(self, name: str, stopped: Callable[[], None]) -> None:
        """Ask a service to end, and make it end when it does not."""
        with self._world.lock:
            run = self._find(name)
            process = run.process
            if process is not None:
                run.stopped.append(stopped)
                run.stopping = True
                process.terminate()
                patience = self._running.patience_s * self._world.pace
                self._world.after(patience, lambda: self._kill(name, process))
                return
        stopped()

    def _kill(self, name: str, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            self._world.did(NAME, "SIGKILL", name)
            process.kill()

    def _watch(self, name: str, run: _Run, process: subprocess.Popen[bytes]) -> None:
        """Wait for the end of a process, and tell."""
        code = process.wait()
        with self._world.lock:
            run.process, asked = None, run.stopping
            reason = "asked" if asked else f"exit code {code}"
            self._world.did(NAME, "stopped", name, reason)
            self._bus.tell(NAME, "serviceStopped", name, reason)
            waiting, run.stopped = run.stopped, []
            if not asked and code and run.program.autorun and not self._closed:
                self._again(name, run)
        for stopped in waiting:
            stopped()

    def _again(self, name: str, run: _Run) -> None:
        """Restart what has crashed, but not for ever."""
        now = monotonic()
        run.crashes.append(now)
        if len(run.crashes) > CRASHES and now - run.crashes[0] < CRASHES_S:
            self._world.did(NAME, "given up", name)
            return
        self._start(name, "crashed")
