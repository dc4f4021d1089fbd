"""The vault: people on disk, each file sealed, none without consent, gone when told.

Owns: consent before every write, expiry, and forgetting. Which files there are and which are
believed: `shelf.py`. Knows nothing of what an embedding or a state is.

    vault = Vault.open(Path("users"))
    vault.keep(Profile("Ada", Consent(now, "said yes", keeps="state"), created=now, seen=now))
    vault.write("Ada", "state", fit, kv_bytes)
    vault.read("Ada", "state", fit)         # the same bytes, or None: look at the person again
    vault.forget("Ada")

    users/key                        the master key, unless USERVLM_KEY holds it
    users/check                      opens with the right key only
    users/OWNER.profile              OWNER: 32 digits, HMAC of the name
    users/OWNER.embedding[.SLOT]     SLOT: 16 digits, HMAC of the slot (adapter), if any
    users/OWNER.state[.SLOT]

There is no index: the folder is the truth, and the profile is what makes a user's other files
count. Forgetting removes it first; files without a profile, or beyond its consent, are removed
whenever the store is opened or purged. A file that is damaged, foreign, moved, or no plain file is
never given out: it is removed and listed in `refused`; without a profile the user is simply new.

Any number of processes and threads may use one folder; what one forgets the next read of another
does not find. Every method may raise StoreError: the disk or its rights refuse, another process
holds the folder for 30 s, or the folder was exchanged for one with another key. What was kept
before is then kept still.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Final, Literal

import platformdirs

from uservlm.runtime.durable import (
    Draft,
    close_to_others,
    disk_errors,
    locked,
    make_folder,
    sweep,
)
from uservlm.runtime.errors import ConsentError, RequestError, SealError
from uservlm.runtime.keyfile import master_key
from uservlm.runtime.profiles import Keeps, Profile, check_name, from_bytes, to_bytes
from uservlm.runtime.sealing import Keys, Label, sealed
from uservlm.runtime.shelf import Refused, Shelf, holds_store

__all__ = ["Kind", "Refused", "Vault", "users_folder"]

Kind = Literal["embedding", "state"]
FOLDER_VARIABLE: Final = "USERVLM_USERS"


def users_folder(given: str | Path | None = None) -> Path:
    """Say where users are kept: as given, else USERVLM_USERS, else the system's place for data."""
    chosen = given or os.environ.get(FOLDER_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_data_dir("uservlm")) / "users"


class Vault:
    """A folder of sealed people; see the module. Safe to use from several threads."""

    def __init__(self, shelf: Shelf) -> None:
        """Take a shelf that `open` has made sure of."""
        self._shelf = shelf

    @classmethod
    def open(cls, folder: Path, key: bytes | None = None, *, purge: bool = True) -> Vault:
        """Open a store, or make one in a new or empty folder.

        Args:
            folder: made with mode 0700; an existing store's is set to it again.
            key: 32 bytes; None: from USERVLM_KEY (base64 or hexadecimal), else from the file `key`
                in the folder, which is made (mode 0600) with a new store.
            purge: as the method, at once; False for who wants to hear the names.

        Raises:
            StoreError: the wrong key, none, or one that others can read; a folder of somebody else
                or with other things in it; the disk refuses. Nothing is removed then.
        """
        with disk_errors(f"the users' store {folder} cannot be opened"):
            make_folder(folder)
            with locked(folder):
                begun = holds_store(folder)
                close_to_others(folder)
                keys = Keys.derive(master_key(folder, key, new=not begun))
                vault = cls(Shelf(folder, keys))
                vault._shelf.prove_key()
                if purge:
                    sweep(folder)
                    vault._tidy(_now())
        return vault

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether a store was begun there, so that a look need not make one.

        Raises:
            StoreError: the folder holds other things, or may not be read.
        """
        with disk_errors(f"the users' store {folder} cannot be opened"):
            return folder.is_dir() and holds_store(folder)

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._shelf.folder

    @property
    def refused(self) -> tuple[Refused, ...]:
        """Files not believed since this vault was opened, each removed; the first thousand."""
        return tuple(self._shelf.refused)

    def profiles(self) -> tuple[Profile, ...]:
        """Everybody kept, by name; who has expired is purged."""
        now = _now()
        with disk_errors("the users cannot be listed"):
            owners = [label for label in self._shelf.labels() if label.kind == "profile"]
            found = [self._shelf.believed(label, "", _parsed) for label in owners]
        kept = [profile for profile in found if profile is not None]
        if any(profile.expired(now) for profile in kept):
            self.purge(now)
        return tuple(sorted((p for p in kept if not p.expired(now)), key=lambda p: p.name))

    def profile(self, name: str) -> Profile | None:
        """One user's profile; None: unknown, forgotten (by another process, too) or expired."""
        now = _now()
        with disk_errors("the user cannot be read"):
            profile = self._shelf.believed(self._label(name, "profile"), "", _parsed)
        if profile is not None and profile.expired(now):
            self.purge(now)
            return None
        return profile

    def keep(self, profile: Profile) -> None:
        """Write a profile, new or instead of the old one; what its consent no longer covers goes.

        To note when a known user was seen use `touch`, which brings nobody back.

        Raises:
            ConsentError: the consent has run out already.
        """
        if profile.expired(_now()):
            raise ConsentError(
                f"the consent of {profile.name!r} ran out on {profile.expires}: record a new one"
            )
        label = self._label(profile.name, "profile")
        with disk_errors("the user cannot be kept"), locked(self.folder):
            if self._shelf.settled(label, "", _parsed) is None:
                self._shelf.remove_owner(label.owner)  # what an earlier life of the name left
            self._put_profile(label, profile)
            self._remove_uncovered(label.owner, profile)

    def touch(self, name: str, seen: datetime | None = None) -> Profile | None:
        """Note when a user was seen (now); gives the profile, None if there is none any more."""
        label = self._label(name, "profile")
        with disk_errors("the user cannot be kept"), locked(self.folder):
            profile = self._shelf.settled(label, "", _parsed)
            if profile is None or profile.expired(_now()):
                return None
            profile = replace(profile, seen=seen or _now())
            self._put_profile(label, profile)
        return profile

    def write(
        self,
        name: str,
        kind: Kind,
        fit: str,
        payload: bytes | bytearray | memoryview,
        slot: str = "",
    ) -> None:
        """Keep an embedding or a state, instead of the one before, whatever that was made for.

        Args:
            name: of a user whose recorded consent covers `kind`.
            kind: "embedding" or "state".
            fit: everything the payload is valid with: encoder, or bundle, build and settings.
            payload: any contiguous buffer; not copied as a whole. Must not change meanwhile.
            slot: several may lie side by side under different slots: one for each adapter.

        Raises:
            ConsentError: no consent covers it, or the user was forgotten while it was written.
        """
        label, keys = self._label(name, kind, slot), self._shelf.keys
        data = memoryview(payload).cast("B")
        with disk_errors(f"the {kind} cannot be kept"):
            with locked(self.folder):
                self._require(name, kind)
                draft = Draft(self.folder, label.owner)
            with draft:  # others may write, and forget, while the disk is at work
                draft.write(sealed(keys, label, fit, data))
                with locked(self.folder):
                    self._require(name, kind)
                    try:
                        self._shelf.put(draft, label)
                    except FileNotFoundError as error:
                        raise ConsentError(
                            f"{name!r} was forgotten while their {kind} was written: it is not kept"
                        ) from error

    def read(self, name: str, kind: Kind, fit: str, slot: str = "") -> bytearray | None:
        """Give back what was written.

        Returns:
            The payload, authentic, in a buffer of the caller's own (to be overwritten after use);
            None: not there, made for another fit, not to be believed, or no consent covers it.
        """
        profile = self.profile(name)
        if profile is None or not profile.consent.covers(kind):
            return None
        with disk_errors(f"the {kind} cannot be read"):
            return self._shelf.believed(self._label(name, kind, slot), fit, lambda data: data)

    def drop(self, name: str, kind: Kind, slot: str = "") -> bool:
        """Remove one embedding or state, keeping the user; gives whether it was there."""
        with disk_errors(f"the {kind} cannot be removed"), locked(self.folder):
            return self._shelf.remove([self._label(name, kind, slot)]) > 0

    def sizes(self, name: str) -> dict[Keeps, int]:
        """Bytes on disk by kind, all slots together; kinds that are not there are left out."""
        with disk_errors("the user's files cannot be listed"):
            return self._shelf.sizes(self._shelf.keys.owner(name))

    def forget(self, name: str) -> bool:
        """Remove everything of a user, on its way or in place; gives whether there was anything."""
        with disk_errors("the user cannot be forgotten"), locked(self.folder):
            return self._shelf.remove_owner(self._shelf.keys.owner(name)) > 0

    def purge(self, now: datetime | None = None) -> tuple[str, ...]:
        """Remove who has expired by `now`, and what dead writers left; gives their names.

        Raises:
            RequestError: `now` has no time zone.
        """
        if now is not None and now.utcoffset() is None:
            raise RequestError(f"`now` needs a time zone; got {now.isoformat()}")
        with disk_errors("the users cannot be purged"), locked(self.folder):
            sweep(self.folder)
            return self._tidy(now or _now())

    # The rest is called with the folder held.

    def _tidy(self, now: datetime) -> tuple[str, ...]:
        gone = []
        for owner in sorted({label.owner for label in self._shelf.labels()}):
            profile = self._shelf.settled(Label("profile", owner), "", _parsed)
            if profile is not None and not profile.expired(now):
                self._remove_uncovered(owner, profile)
                continue
            self._shelf.remove_owner(owner)
            if profile is not None:
                gone.append(profile.name)
        return tuple(sorted(gone))

    def _require(self, name: str, kind: Keeps) -> None:
        profile = self._shelf.settled(self._label(name, "profile"), "", _parsed)
        if profile is None or profile.expired(_now()) or not profile.consent.covers(kind):
            given = f"they agreed to {profile.consent.keeps!r}" if profile else "there is none"
            raise ConsentError(
                f"no consent of {name!r} covers keeping their {kind} now ({given}): record one"
            )

    def _put_profile(self, label: Label, profile: Profile) -> None:
        payload = memoryview(to_bytes(profile))
        with Draft(self.folder, label.owner) as draft:
            draft.write(sealed(self._shelf.keys, label, "", payload))
            self._shelf.put(draft, label)

    def _remove_uncovered(self, owner: str, profile: Profile) -> None:
        beyond: list[Kind] = ["embedding", "state"]
        beyond = [kind for kind in beyond if not profile.consent.covers(kind)]
        self._shelf.remove(
            [x for x in self._shelf.labels() if x.owner == owner and x.kind in beyond]
        )

    def _label(self, name: str, kind: Keeps, slot: str = "") -> Label:
        check_name(name)
        return Label(kind, self._shelf.keys.owner(name), self._shelf.keys.slot(slot))


def _parsed(payload: bytearray) -> Profile:
    try:
        return from_bytes(payload)
    except (ValueError, RequestError) as error:
        raise SealError(f"it holds no profile of this version: {error}") from error


def _now() -> datetime:
    return datetime.now(timezone.utc)
