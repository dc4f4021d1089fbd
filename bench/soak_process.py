"""The processes of the soak: how one is begun, fed, and ended when it hangs.

Owns: their environment, in which there is nowhere to write but the users' folder, and the memory
budget they get. Knows nothing of what they do (`soak_child.py`) nor of what they say (`soak.py`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from uservlm.runtime.bundle import open_bundle
from uservlm.runtime.errors import BudgetError, RequestError
from uservlm.runtime.keyfile import KEY_VARIABLE
from uservlm.runtime.opening import Wish, fitting_room
from uservlm.runtime.settings import read_settings
from uservlm.runtime.weights import EMBEDDING_TABLE, Weights

CHILD: Final = "uservlm.bench.soak_child"
HUNG_S: Final = 120
"""Seconds without a word, after which a process is taken to hang."""
LARGEST_MB: Final = 16384


def budget_for(bundle: Path, residents: int) -> int:
    """Find the smallest `memory_mb` that pays for so many residents, or for one more or two.

    Raises:
        RequestError: none up to `LARGEST_MB` does.
    """
    opened = open_bundle(bundle, verify=False)
    table = Weights(opened.language).tensors[EMBEDDING_TABLE].bytes
    settings = read_settings(opened)
    for budget in range(1, LARGEST_MB):
        try:
            wish = Wish(memory_mb=budget)
            room = fitting_room(opened, "resident", wish, settings, table)
        except BudgetError:
            continue
        if room.sequences > residents:
            return budget
    raise RequestError(f"no budget up to {LARGEST_MB} MB pays for {residents} residents")


@contextmanager
def child(job: dict[str, Any], bundle: Path, place: Path) -> Iterator[Any]:
    """Begin a process in a folder where it has nothing to write; its errors go to a file."""
    elsewhere = str(place / "elsewhere")
    own = {"TMPDIR": elsewhere, "HOME": elsewhere, "XDG_CACHE_HOME": elsewhere}
    environment = {k: v for k, v in os.environ.items() if k != KEY_VARIABLE} | own
    job |= {"bundle": str(bundle.resolve()), "pictures": str(place / "pictures.npz")}
    with (place / "errors").open("w") as told, subprocess.Popen(
        [sys.executable, "-m", CHILD], cwd=elsewhere, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(json.dumps(job))
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        process.wait()


class Guard(threading.Thread):
    """Has a process that hangs say where, and die; one that is stopped with us is let be."""

    def __init__(self, process: Any) -> None:
        """Begin to count the seconds in which nothing is heard."""
        super().__init__(daemon=True)
        self._process, self._done = process, threading.Event()
        self._silent = 0
        self.start()

    def heard(self) -> None:
        """Begin to count anew."""
        self._silent = 0

    def end(self) -> None:
        """Count no more."""
        self._done.set()

    def run(self) -> None:
        """Count single seconds: a pause of the whole machine is one of them."""
        while not self._done.wait(1):
            self._silent += 1
            if self._silent > HUNG_S:
                self._process.send_signal(signal.SIGABRT)
                return


def errors(place: Path) -> str:
    """Give the end of what the latest process wrote to its standard error."""
    return (place / "errors").read_text()[-4000:]
