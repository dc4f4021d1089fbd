"""A run of days that survives a kill: what is kept of it, and whose it is.

Owns: the file `.NAME.partial/run.pt` beside an adapter that is on its way, what is in it, and when
it is written anew. Knows nothing of what is learnt (`preference_tuning.py`) nor of how a folder
appears whole in its place (`converters.output`).

Kept are the LoRA, the optimiser with its place on the schedule, the random numbers still to come
and how many steps are done. The records need no more: their order follows from the recipe's seed.
So a run that goes on ends where it would have ended, bit for bit with the same number of threads
and the same versions of the libraries.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from uservlm.converters.output import sync
from uservlm.models.learning import Learner
from uservlm.runtime.bundle import sha256
from uservlm.runtime.errors import UserVLMError

FILE = "run.pt"
OFTEN = 10.0
"""Minutes between two times that a run is kept: what a kill costs at most."""


class KeptError(UserVLMError):
    """What is kept of a run is another one's, or cannot be read."""


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files, hidden ones left out."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            digest.update(f"{name}\0{sha256(path)}\n".encode())
    return digest.hexdigest()


class Keeper:
    """Keeps one run in one file, and gives back what an earlier process kept of it."""

    def __init__(
        self, folder: Path, identity: Mapping[str, str], minutes: float, log: Callable[[str], None]
    ) -> None:
        """Look whether there is something to go on with.

        Args:
            folder: is there, and ours alone.
            identity: what the run's result depends on, each by the name that the user knows.
            minutes: between two times that it is kept; 0 keeps every step.
            log: is told what was kept.

        Raises:
            KeptError: another run's, or damaged.
        """
        self._file, self._identity = folder / FILE, dict(identity)
        self._seconds, self._log, self._last = 60 * minutes, log, time.monotonic()
        self._found = self._read() if self._file.exists() else None
        self.step: int = self._found["step"] if self._found else 0
        """Steps that are done."""

    def restore(self, parameters: Mapping[str, torch.nn.Parameter], learner: Learner) -> None:
        """Put everything back as it was after `step`; nothing where nothing was kept."""
        if self._found is None:
            return
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(self._found["adapter"][name])
        learner.restore(self._found["learner"])
        torch.set_rng_state(self._found["random"])
        if torch.cuda.is_available() and self._found["cuda"]:
            torch.cuda.set_rng_state_all(self._found["cuda"])
        self._found = None

    def offer(
        self, step: int, parameters: Mapping[str, torch.nn.Parameter], learner: Learner
    ) -> None:
        """Keep the run after `step` steps if it is time; killed meanwhile, the last one is whole.

        Raises:
            OSError: the disk does not take it.
        """
        if time.monotonic() - self._last < self._seconds:
            return
        draft = self._file.with_suffix(".draft")
        torch.save(
            {
                "identity": self._identity,
                "step": step,
                "adapter": {name: value.detach() for name, value in parameters.items()},
                "learner": learner.state(),
                "random": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            },
            draft,
        )
        sync(draft)
        draft.replace(self._file)
        sync(self._file.parent)
        self._last = time.monotonic()
        self._log(f"kept after step {step}")

    def _read(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = torch.load(self._file, map_location="cpu", weights_only=True)
        except (UnpicklingError, RuntimeError, EOFError) as error:
            raise KeptError(
                f"{self._file} cannot be read: remove {self._file.parent} to begin anew"
            ) from error
        for name, value in self._identity.items():
            if found["identity"].get(name) != value:
                raise KeptError(
                    f"{self._file.parent} keeps a run with another {name}: go on with the same, "
                    "give another --out, or remove that folder to begin anew"
                )
        return found
