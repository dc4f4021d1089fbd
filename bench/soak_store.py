"""What lies in the users' folder of the soak, what must lie there, and how it is damaged.

Owns: the ledger of who agreed to what, the comparison of folder and ledger, and the damage. Knows
nothing of engines or answers. It looks at files from outside, as an auditor would: by the names
that the store's key gives them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uservlm.runtime.durable import is_partial, remove
from uservlm.runtime.keyfile import KEY_FILE, master_key
from uservlm.runtime.profiles import KEEPS
from uservlm.runtime.sealing import Keys, Label
from uservlm.runtime.shelf import CHECK_FILE, file_of, label_of
from uservlm.runtime.vault import Vault

if TYPE_CHECKING:
    from uservlm.runtime.profiles import Keeps


@dataclass(frozen=True)
class Kept:
    """What is on disk of somebody."""

    keeps: Keeps
    """What they agreed to."""
    embedding: bool
    """Whether an undamaged embedding is there."""


Ledger = dict[str, Kept]
"""Name -> what is on disk; whoever is not in it is not on disk."""


def written(keeps: Keeps) -> Kept:
    """Give what is on disk after somebody was kept."""
    return Kept(keeps, KEEPS.index(keeps) >= KEEPS.index("embedding"))


@dataclass
class Folder:
    """The users' folder, seen from outside."""

    path: Path
    names: tuple[str, ...]
    """Everybody who takes part."""
    damaged: dict[str, tuple[int, int]] = field(default_factory=dict)
    """File -> its inode and time of change as the damage left it, until it is gone or replaced."""

    def owners(self) -> dict[str, str]:
        """Give owner -> name."""
        keys = Keys.derive(master_key(self.path, None, new=False))
        return {keys.owner(name): name for name in self.names}

    def check(self, ledger: Ledger, unsure: Iterable[str]) -> tuple[Ledger, list[str]]:
        """Open the store after an engine's end and compare it with the ledger.

        Args:
            ledger: what must be there.
            unsure: who was being kept or forgotten when the engine died: either is right.

        Returns:
            What is there, and what is wrong.
        """
        if not (self.path / CHECK_FILE).exists() and not ledger:
            return {}, []  # killed before the store was made
        unsure, faults = set(unsure), list[str]()
        faults += self._strangers(ledger, unsure)
        self._forget_repaired()
        vault = Vault.open(self.path, purge=False)
        found = {one.name: one.consent.keeps for one in vault.profiles()}
        faults += [
            f"{one.file} was refused ({one.reason}), and nobody damaged it"
            for one in vault.refused
            if one.file not in self.damaged
        ]
        for name in sorted(found.keys() | ledger.keys()):
            wanted = ledger[name].keeps if name in ledger else None
            if found.get(name) != wanted and name not in unsure:
                faults.append(f"{name} agreed to {wanted}, the store has {found.get(name)}")
        there = {name: self._kept(vault, name, keeps) for name, keeps in found.items()}
        for name in sorted(there.keys() & ledger.keys() - unsure):
            if there[name].embedding < ledger[name].embedding:
                faults.append(f"the embedding of {name} is gone")
        return there, faults

    def damage(self, ledger: Ledger, draw: random.Random, most: int) -> tuple[Ledger, list[str]]:
        """Damage up to `most` files in different ways; gives the ledger after it, and the ways."""
        if len(ledger) < 2:
            return ledger, []  # perhaps there is not even a key yet
        owners, ways, left = self.owners(), list[str](), dict(ledger)
        files = [
            one
            for one in sorted(os.listdir(self.path))
            if label_of(one) is not None and one not in self.damaged
        ]
        draw.shuffle(files)
        if len(files) > 4 and CHECK_FILE not in self.damaged and draw.random() < 0.3:
            files.insert(0, CHECK_FILE)
        for _ in range(draw.randint(1, most)):
            way = draw.choice(list(WAYS))
            if len(files) < 4:
                break
            hit, other = files.pop(0), files[0]
            if way == "swap":
                files.pop(0)
            WAYS[way](self.path / hit, self.path / other, draw)
            for file in (hit, other) if way == "swap" else (hit,):
                self._note(file)
                _strike(left, owners, file)
            ways.append(way)
        if draw.random() < 0.5:
            owner = draw.choice(list(owners))
            partial = f".{owner}.{draw.getrandbits(64):016x}.partial"
            (self.path / partial).write_bytes(draw.randbytes(500))
            ways.append("leftover")
        return left, ways

    def _strangers(self, ledger: Ledger, unsure: set[str]) -> list[str]:
        """Files that nobody's consent covers."""
        faults, owners = list[str](), self.owners()
        for file in sorted(os.listdir(self.path)):
            label = label_of(file)
            if file in (KEY_FILE, CHECK_FILE) or file in self.damaged or is_partial(file):
                continue
            name = owners.get(label.owner) if label else None
            kept = ledger.get(name) if name else None
            covered = label and kept and label.kind in KEEPS[: KEEPS.index(kept.keeps) + 1]
            if not covered and name not in unsure:
                faults.append(f"{file} of {name} is there without consent")
        return faults

    def _kept(self, vault: Vault, name: str, keeps: Keeps) -> Kept:
        owner = {one: owner for owner, one in self.owners().items()}[name]
        struck = file_of(Label("embedding", owner)) in self.damaged
        there = "embedding" in vault.sizes(name) and not struck
        return Kept(keeps, there and written(keeps).embedding)

    def _note(self, file: str) -> None:
        found = (self.path / file).lstat()
        self.damaged[file] = (found.st_ino, found.st_mtime_ns)

    def _forget_repaired(self) -> None:
        for file, seen in list(self.damaged.items()):
            path = self.path / file
            now = path.lstat() if os.path.lexists(path) else None
            if now is None or (now.st_ino, now.st_mtime_ns) != seen:
                del self.damaged[file]


def _strike(ledger: Ledger, owners: dict[str, str], file: str) -> None:
    label = label_of(file)
    name = owners.get(label.owner) if label else None
    if label is None or name not in ledger:
        return
    if label.kind == "profile":
        del ledger[name]
    elif label.kind == "embedding":
        ledger[name] = Kept(ledger[name].keeps, False)


def _cut(file: Path, _: Path, draw: random.Random) -> None:
    os.truncate(file, draw.randrange(file.stat().st_size))


def _flip(file: Path, _: Path, draw: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    file.write_bytes(data)


def _grow(file: Path, _: Path, draw: random.Random) -> None:
    file.write_bytes(file.read_bytes() + draw.randbytes(draw.randint(1, 100)))


def _garbage(file: Path, _: Path, draw: random.Random) -> None:
    file.write_bytes(draw.randbytes(file.stat().st_size))


def _swap(file: Path, other: Path, _: random.Random) -> None:
    aside = file.with_name(".aside")
    file.rename(aside)
    other.rename(file)
    aside.rename(other)


def _another(file: Path, other: Path, _: random.Random) -> None:
    file.write_bytes(other.read_bytes())


def _link(file: Path, other: Path, _: random.Random) -> None:
    remove([file])
    file.symlink_to(other.name)


def _folder(file: Path, _: Path, __: random.Random) -> None:
    remove([file])
    file.mkdir()


def _pipe(file: Path, _: Path, __: random.Random) -> None:
    remove([file])
    os.mkfifo(file)


WAYS: Final[dict[str, Callable[[Path, Path, random.Random], None]]] = {
    "cut": _cut,
    "flip": _flip,
    "grow": _grow,
    "garbage": _garbage,
    "swap": _swap,
    "another": _another,
    "link": _link,
    "folder": _folder,
    "pipe": _pipe,
}
"""How a file is damaged, given it and another one."""
