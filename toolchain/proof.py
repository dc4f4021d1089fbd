"""What a proof found, as it is written down: `toolchain/proofs/TARGET.json`.

Owns: the form of the record, and how long a part may take. Knows nothing of what a part runs, nor
of the table that is made of it. A record may be committed: it names no path, no user and no host.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from uservlm.toolchain.proof_errors import RecordError

RECORDS: Final = Path(__file__).with_name("proofs")
FORMAT: Final = 1
PART_S: Final = 600.0
"""The longest a program may run in a part; it is minutes at most, and one that hangs shall end."""

Found: TypeAlias = tuple[list[str], dict[str, Any]]
"""Problems, none where the part holds, and figures."""


@dataclass(frozen=True)
class Part:
    """One thing that was shown, or was not."""

    kind: str
    """"archive", "controls", "control", "answers", "carried", "conversation" or "instructions"."""
    where: str
    """On what it ran: "qemu Nehalem", "native"."""
    must: str
    """What holds if it is shown."""
    problems: tuple[str, ...]
    """What did not; empty if it is shown."""
    figures: Mapping[str, Any]
    seconds: float
    """It took here; says nothing of a robot."""

    @property
    def held(self) -> bool:
        """Whether it is shown."""
        return not self.problems


def try_part(kind: str, where: str, must: str, work: Callable[[], Found]) -> Part:
    """Run a part, and note what came of it.

    One that takes too long has not held, nor one whose program prints what it should not.
    """
    begun = time.monotonic()
    try:
        problems, figures = work()
    except subprocess.TimeoutExpired as error:
        problems, figures = [f"it took longer than {error.timeout:g} s"], {}
    except ValueError as error:
        problems, figures = [f"what it printed cannot be used: {error}"], {}
    return Part(kind, where, must, tuple(problems), figures, round(time.monotonic() - begun, 1))


@dataclass(frozen=True)
class Proof:
    """Everything that was tried for one target, and with what."""

    target: str
    when: str
    """UTC, ISO 8601."""
    commit: str
    """Of the tree that the archive was built from, as its manifest says, not of who proves."""
    processor: str
    """Of the machine that ran it."""
    runtime: Mapping[str, Any]
    """Archive: file, sha256, bytes."""
    bundle: Mapping[str, Any]
    """Name, and the SHA-256 of its manifest, which has the files'."""
    qemu: Mapping[str, str]
    parts: tuple[Part, ...]
    estimates: tuple[Mapping[str, Any], ...] = field(default=())
    """Counted instructions of larger bundles, and times that were estimated of them, not measured.
    """

    @property
    def held(self) -> bool:
        """Whether all of it is shown."""
        return all(part.held for part in self.parts)


def is_committed(commit: str) -> bool:
    """Whether it is a commit and no more: "+" stands for changes that nobody else has."""
    return re.fullmatch("[0-9a-f]{10,40}", commit) is not None


def path_of(target: str, folder: Path = RECORDS) -> Path:
    """Say where a target's record lies."""
    return folder / f"{target}.json"


def save(proof: Proof, folder: Path = RECORDS) -> Path:
    """Write a record instead of the one before; gives its path."""
    folder.mkdir(exist_ok=True)
    path = path_of(proof.target, folder)
    draft = path.with_suffix(".draft")
    text = json.dumps({"format": FORMAT, **asdict(proof)}, indent=1, ensure_ascii=False)
    draft.write_text(text + "\n", encoding="utf-8")
    draft.replace(path)
    return path


def load(target: str, folder: Path = RECORDS) -> Proof:
    """Read a record.

    Raises:
        RecordError: there is none, or it has another form.
    """
    path = path_of(target, folder)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.pop("format") != FORMAT:
            raise RecordError(f"{path.name} has another format: run prove.py {target} again")
        parts = tuple(Part(**{**one, "problems": tuple(one["problems"])}) for one in found["parts"])
        return Proof(**{**found, "parts": parts, "estimates": tuple(found["estimates"])})
    except FileNotFoundError:
        raise RecordError(
            f"nothing was proven for {target} yet: python toolchain/prove.py {target}"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path.name} is damaged ({error}): run prove.py {target}") from error
