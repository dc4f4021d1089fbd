"""A side of a benchmark as its parent sees it: a child process that measures when it is told to.

Owns: starting and ending children. `serving.py` is the other end.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from tempfile import TemporaryFile
from time import perf_counter
from types import TracebackType

from uservlm.runtime.errors import UserVLMError

LAST_LINES = 3
"""Of a child's complaints that a message repeats."""


class SideError(UserVLMError):
    """A side could not be started or ended early; the message has its last words."""


class Side:
    """A child process that takes a time when told to; a context manager."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start `python -m module arguments` and wait until it is ready.

        Raises:
            SideError: it ended before.
        """
        self.name = module.rpartition(".")[2]
        self._errors = TemporaryFile("w+b")
        start = perf_counter()
        self._process = subprocess.Popen(
            [python, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )
        self._read()
        self.ready_s = perf_counter() - start
        """From the start of the process until it was ready."""

    def __call__(self, do: str, **wanted: float | str | bool | None) -> dict[str, float]:
        """Have one thing measured.

        Raises:
            SideError: the process ended instead.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **wanted}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its last words are told by _read
        return self._read()

    def close(self) -> None:
        """End the process and wait until it is gone; again is no error."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            try:
                self._process.stdin.close()
            except BrokenPipeError:
                pass  # it is gone already
        self._process.wait()
        self._errors.close()

    def __enter__(self) -> Side:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._process.kill()
        self.close()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            found: dict[str, float] = json.loads(line)
            return found
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        raise SideError(f"{self.name} ended with code {code}: " + " | ".join(said[-LAST_LINES:]))
