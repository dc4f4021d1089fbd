"""The sealed files of a users' store: found by owner, believed or removed, never half written.

Owns: file names, the proof that a key is the right one, and what becomes of a file that should not
be believed. Knows nothing of consent and expiry (`vault.py`), nor how a file is sealed
(`sealing.py`) or reaches the disk (`durable.py`). Methods that change or remove something are
called with the folder held (`durable.locked`), except where they say otherwise.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from uservlm.runtime.durable import Draft, is_partial, locked, plain_file, remove, sync
from uservlm.runtime.errors import SealError, StoreError
from uservlm.runtime.keyfile import KEY_FILE, KEY_VARIABLE
from uservlm.runtime.profiles import KEEPS, Keeps
from uservlm.runtime.sealing import Keys, Label, sealed, unseal

T = TypeVar("T")
CHECK: Final = Label("check", "")
CHECK_FILE: Final = "check"
MOST_REFUSALS: Final = 1000
_FILE = re.compile(r"([0-9a-f]{32})\.(?:(profile)|(embedding|state)(?:\.([0-9a-f]{16}))?)")


@dataclass(frozen=True)
class Refused:
    """A file that was not believed."""

    file: str
    """Its name in the folder; names nobody."""
    reason: str


def holds_store(folder: Path) -> bool:
    """Whether a store has been begun here; False for an empty folder.

    Raises:
        StoreError: the folder is used for something else.
    """
    entries = {entry for entry in os.listdir(folder) if not is_partial(entry)}
    if entries - {KEY_FILE} and CHECK_FILE not in entries and not any(map(label_of, entries)):
        raise StoreError(f"{folder} holds other things and no users' store: name another folder")
    return bool(entries)


def file_of(label: Label) -> str:
    """Give the file name of a label."""
    slot = f".{label.slot}" if label.slot else ""
    return f"{label.owner}.{label.kind}{slot}" if label != CHECK else CHECK_FILE


def label_of(file: str) -> Label | None:
    """Give the label a user's file must have by its name; None: no user's file."""
    found = _FILE.fullmatch(file)
    if found is None:
        return None
    owner, profile, kind, slot = found.groups()
    return Label(profile or kind, owner, slot or "")


class Shelf:
    """One folder under one key."""

    def __init__(self, folder: Path, keys: Keys) -> None:
        """Take a folder; nothing is looked at."""
        self.folder, self.keys = folder, keys
        self.refused: dict[Refused, None] = {}
        """In order; a set would forget it."""

    def prove_key(self) -> None:
        """Make sure that the files here were sealed with our key, by the check file.

        A missing or damaged check is written again when some other file opens, or none is there.

        Raises:
            StoreError: nothing opens. Nothing is removed.
        """
        fault = self._fault(CHECK)
        if fault is None:
            return
        labels = self.labels()
        if (labels or fault) and not any(self._fault(label) is None for label in labels):
            raise StoreError(
                f"the key is not the one that {self.folder} was made with ({KEY_VARIABLE}, or the "
                f"file {KEY_FILE} there), or a newer uservlm made it; nothing was changed"
            )
        if fault:
            self._note(CHECK_FILE, fault)
        with Draft(self.folder, "store") as draft:
            draft.write(sealed(self.keys, CHECK, "", memoryview(b"")))
            self.put(draft, CHECK)

    def labels(self) -> list[Label]:
        """What lies here, by file names."""
        found = (label_of(file) for file in sorted(os.listdir(self.folder)))
        return [label for label in found if label is not None]

    def believed(self, label: Label, fit: str, parse: Callable[[bytearray], T]) -> T | None:
        """Read a file; call it without the folder.

        A file that seems wrong is looked at again with the folder held, before it is refused.
        """
        try:
            return self._unsealed(label, fit, parse)
        except SealError:
            with locked(self.folder):
                return self.settled(label, fit, parse)

    def settled(self, label: Label, fit: str, parse: Callable[[bytearray], T]) -> T | None:
        """Read a file, or refuse it: it is removed, its owner's others too if it is the profile.

        Args:
            label: which.
            fit: what it must have been made for.
            parse: what to do with the payload; SealError refuses it.

        Raises:
            StoreError: the folder is not ours any more; nothing is removed.
        """
        try:
            return self._unsealed(label, fit, parse)
        except SealError as error:
            if self._fault(CHECK) is not None:
                raise StoreError(
                    f"{self.folder} was exchanged under a running vault: open it again"
                ) from error
            self._note(file_of(label), str(error))
            self.remove_owner(label.owner) if label.kind == "profile" else self.remove([label])
            return None

    def put(self, draft: Draft, label: Label) -> None:
        """Place a finished draft.

        Raises:
            FileNotFoundError: it was removed meanwhile.
        """
        target = self.folder / file_of(label)
        if target.is_dir() and not target.is_symlink():
            remove([target])  # a rename replaces anything but a folder
        draft.place(target.name)

    def remove(self, labels: list[Label]) -> int:
        """Remove files; gives how many there were."""
        return self._remove([file_of(label) for label in labels])

    def remove_owner(self, owner: str) -> int:
        """Remove everything of an owner: the profile first, the moment of forgetting.

        What is on its way goes too, and whatever else has a name that begins like theirs.
        """
        count = self.remove([Label("profile", owner)])
        begins = (owner, f".{owner}")
        return count + self._remove([f for f in os.listdir(self.folder) if f.startswith(begins)])

    def sizes(self, owner: str) -> dict[Keeps, int]:
        """Bytes of an owner's files by kind; links and pipes as they are, unfollowed."""
        total: dict[Keeps, int] = {}
        for label in self.labels():
            for kind in KEEPS:
                if (label.owner, label.kind) == (owner, kind):
                    with suppress(FileNotFoundError):
                        size = (self.folder / file_of(label)).lstat().st_size
                        total[kind] = total.get(kind, 0) + size
        return total

    def _remove(self, files: list[str]) -> int:
        count = remove(self.folder / file for file in files)
        if count:
            sync(self.folder)
        return count

    def _unsealed(self, label: Label, fit: str, parse: Callable[[bytearray], T]) -> T | None:
        try:
            with plain_file(self.folder / file_of(label)) as (stream, size):
                payload = unseal(stream, size, self.keys, label, fit)
        except FileNotFoundError:
            return None
        return None if payload is None else parse(payload)

    def _fault(self, label: Label) -> str | None:
        """None for a file that opens, as far as its head shows; "" for one that is not there."""
        try:
            with plain_file(self.folder / file_of(label)) as (stream, size):
                unseal(stream, size, self.keys, label, "")
        except FileNotFoundError:
            return ""
        except SealError as error:
            return str(error)
        return None

    def _note(self, file: str, reason: str) -> None:
        if len(self.refused) < MOST_REFUSALS:
            self.refused[Refused(file, reason)] = None
