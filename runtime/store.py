"""Who is known: one embedding for each name, in memory, and on disk for those who agreed to it.

Owns: the names, which tier a person is found in (DESIGN section 7), and that forgetting reaches
every tier. Knows nothing of files, keys or llama.cpp: `vault.py` writes, and the engine is told
through `dropped` who left, so that nothing derived from them stays behind.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from threading import RLock
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from uservlm.runtime.errors import (
    ConsentError,
    PictureNeededError,
    RequestError,
    StoreError,
    UnknownUserError,
)
from uservlm.runtime.fit import Fit
from uservlm.runtime.lru import Lru
from uservlm.runtime.profiles import Consent, Profile
from uservlm.runtime.residents import Owner
from uservlm.runtime.roster import Entry, entry_of
from uservlm.runtime.users import UserEmbedding
from uservlm.runtime.vault import Refused, Vault

Vector: TypeAlias = npt.NDArray[np.float32]
"""Unit length, float32 [k]: what `identity.py` compares people by."""

_LOG = logging.getLogger("uservlm.store")

MAX_USERS: Final = 32
"""Users in memory by default; at 3B and 448 px each takes 9.4 MB."""


@contextmanager
def _disk_may_fail(doing: str) -> Iterator[None]:
    """A disk that fails costs a computation and never an answer."""
    try:
        yield
    except StoreError as error:
        _LOG.warning("a user's block cannot be %s: %s", doing, error)


class UserStore:
    """Embeddings by name; in memory the least recently used name goes first.

    Safe to use from several threads.
    """

    def __init__(
        self,
        accepts: Callable[[UserEmbedding], None],
        dropped: Callable[[UserEmbedding], None],
        shape: tuple[int, int],
        fit: Fit,
        vault: Vault | None = None,
        bound: int = MAX_USERS,
    ) -> None:
        """Start with nobody in memory.

        Args:
            accepts: raises EmbeddingError for an embedding that cannot be used.
            dropped: called with each embedding that leaves memory and that no other name holds.
            shape: (N, d) of an embedding.
            fit: what saved parts must have been made by.
            vault: where those who agreed are kept; None keeps nobody on disk.
            bound: most names in memory.
        """
        self._accepts, self._dropped = accepts, dropped
        self._shape, self._fit, self._vault = shape, fit, vault
        self._kept: Lru[str, UserEmbedding] = Lru(bound, self._let_go)
        self._recorded: dict[str, datetime] = {}
        """Of those read from or written to the vault, when their profile was made."""
        self._vectors: dict[str, Vector] = {}
        self._saved: set[tuple[str, Owner]] = set()
        self._lock = RLock()
        self._left: list[UserEmbedding] = []
        """Out of memory and not told of yet: who is told may wait for a turn, others shall not."""

    def keep(self, name: str, embedding: UserEmbedding, consent: Consent | None = None) -> None:
        """Keep a user under a name, instead of whom it named before.

        Args:
            name: of the user.
            embedding: of this bundle.
            consent: what they agreed to; None keeps to what they agreed to before, if anything.
                Without consent nothing is written.

        Raises:
            RequestError: the name is blank, or consent is given and there is no folder for users.
            EmbeddingError: the embedding is of another bundle, or was forgotten.
            ConsentError: the consent has run out, or another process forgot them meanwhile.
            StoreError: it cannot be written; nobody is kept then.
        """
        if not name.strip():
            raise RequestError("a user's name is blank: give one")
        self._accepts(embedding)
        self._check_saving(consent)
        with self._changing():
            self._write(name, embedding, consent)
            self._drop_vector(name)
            self._put(name, embedding)

    def agree(self, name: str, consent: Consent) -> None:
        """Keep somebody who is known already as they agree now; all at once with finding them.

        Raises:
            RequestError: there is no folder for users.
            UnknownUserError, PictureNeededError: see `find`.
            ConsentError: the consent has run out, or another process forgot them meanwhile.
            StoreError: it cannot be written; who was in memory only still is.
        """
        self._check_saving(consent)
        with self._changing():
            self._write(name, self._found(name), consent)

    def find(self, name: str) -> UserEmbedding:
        """Give a user's embedding, from memory or from disk.

        Raises:
            UnknownUserError: nobody of that name is kept.
            PictureNeededError: nothing that fits this bundle is kept of them but their name.
        """
        with self._changing():
            return self._found(name)

    def forget(self, name: str) -> None:
        """Let go of a user and of everything computed from their picture, in memory and on disk.

        Returns when it is done; a question that is being answered is waited for.

        Raises:
            UnknownUserError: nobody of that name is kept.
        """
        with self._changing():
            written = self._vault is not None and self._vault.forget(name)
            if not self._erase(name) and not written:
                raise self._unknown(name)

    def vectors(self, pool: Callable[[UserEmbedding], Vector]) -> dict[str, Vector]:
        """Give one vector for each user of whom an embedding of this bundle is kept.

        Args:
            pool: makes it; called once for each embedding.
        """
        with self._changing():
            self._sweep()
            names = self.names
            for name in self._vectors.keys() - set(names):
                self._drop_vector(name)
            for name in names:
                if name not in self._vectors:
                    with suppress(PictureNeededError, UnknownUserError):
                        self._vectors[name] = self._pooled(name, pool)
            return dict(self._vectors)

    def purge(self) -> tuple[str, ...]:
        """Forget everybody whose consent has run out; gives their names."""
        with self._changing():
            gone = self._vault.purge() if self._vault else ()
            for name in gone:
                self._erase(name)
            self._sweep()
            return gone

    def clear(self) -> None:
        """Let go of everybody in memory."""
        with self._changing():
            for name in {*self._kept.keys(), *self._vectors}:
                self._erase(name)

    @property
    def saving(self) -> bool:
        """Whether anybody can be kept on disk."""
        return self._vault is not None

    @property
    def refused(self) -> tuple[Refused, ...]:
        """Files of the folder that were damaged or foreign, and removed; their users are new."""
        return self._vault.refused if self._vault else ()

    def profile(self, name: str) -> Profile | None:
        """Give what is written of a user, None when nothing is."""
        return self._vault.profile(name) if self._vault else None

    def roster(self) -> tuple[Entry, ...]:
        """Give who is kept and in which tier; waits for nobody who is being forgotten."""
        here = dict(self._kept.items())
        written = {one.name: one for one in self._vault.profiles()} if self._vault else {}
        return tuple(
            entry_of(
                name,
                here.get(name),
                written.get(name),
                sum(self._vault.sizes(name).values()) if self._vault and name in written else 0,
            )
            for name in (*here, *(name for name in written if name not in here))
            if not self._stale(name, written.get(name))
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Who is kept: those in memory, least recently used first, then those on disk only."""
        here = self._kept.keys()
        written = self._vault.profiles() if self._vault else ()
        return here + tuple(one.name for one in written if one.name not in here)

    # The rest is what `prefill.SavedStates` wants, called on the worker's thread.

    def load(self, owner: Owner) -> npt.NDArray[np.uint8] | None:
        """Give the KV block of a user, when it was saved by what computes here."""
        with _disk_may_fail("read"):
            for name in self._names_of(owner):
                state = self._open(name, owner)
                if state is not None:
                    self._saved.add((name, owner))
                    return np.frombuffer(state, dtype=np.uint8)
        return None

    def wants(self, owner: Owner) -> bool:
        """Whether somebody agreed to have this block saved, and it is not."""
        with _disk_may_fail("looked for"):
            return bool(self._unsaved(owner))
        return False

    def save(self, owner: Owner, state: npt.NDArray[np.uint8]) -> None:
        """Save a block for everybody who agreed to it."""
        with _disk_may_fail("saved"):
            for name in self._unsaved(owner):
                assert self._vault is not None
                fit, slot = self._fit.state(owner), owner.adapter or ""
                with suppress(ConsentError):  # forgotten since it was asked for
                    self._vault.write(name, "state", fit, state.data, slot)
                    self._saved.add((name, owner))

    def _found(self, name: str) -> UserEmbedding:
        """Find a user while the store is held; see `find`."""
        profile = self._vault.profile(name) if self._vault else None
        embedding = self._kept.get(name)
        if self._stale(name, profile):
            self._erase(name)
            embedding = None
        if embedding is None and profile is not None:
            embedding = self._put(name, self._read(profile))
            self._recorded[name] = profile.created
        if embedding is None:
            raise self._unknown(name)
        return embedding

    def _check_saving(self, consent: Consent | None) -> None:
        if consent is not None and self._vault is None:
            raise RequestError(
                "consent is given, and there is no folder to keep users in: load with users=FOLDER"
            )

    def _open(self, name: str, owner: Owner) -> bytearray | None:
        if self._vault is None:
            return None
        state = self._vault.read(name, "state", self._fit.state(owner), owner.adapter or "")
        if state is None:
            self._saved.discard((name, owner))
        return state

    def _unsaved(self, owner: Owner) -> list[str]:
        names = self._names_of(owner) if self._vault else []
        profiles = [
            (name, self.profile(name)) for name in names if (name, owner) not in self._saved
        ]
        return [name for name, one in profiles if one is not None and one.consent.covers("state")]

    def _names_of(self, owner: Owner) -> list[str]:
        return [name for name, kept in self._kept.items() if kept.digest == owner.digest]

    def _write(self, name: str, embedding: UserEmbedding, consent: Consent | None) -> None:
        if self._vault is None:
            return
        if consent is None:
            known = profile = self._vault.touch(name)
            if profile is None:
                self._recorded.pop(name, None)
                return
        else:
            now, known = datetime.now(timezone.utc), self._vault.profile(name)
            profile = Profile(name, consent, known.created if known else now, now)
            self._vault.keep(profile)
            self._unsave(name)  # less consent has removed it
        try:
            if profile.consent.covers("embedding"):
                self._vault.write(name, "embedding", self._fit.embedding, embedding.features.data)
        except StoreError:
            if known is None:
                self._vault.forget(name)
            raise
        self._recorded[name] = profile.created

    def _read(self, profile: Profile) -> UserEmbedding:
        assert self._vault is not None
        data = self._vault.read(profile.name, "embedding", self._fit.embedding)
        if data is None or len(data) != 4 * self._shape[0] * self._shape[1]:
            raise PictureNeededError(
                f"user {profile.name!r} is known, but no embedding of this bundle is kept of them: "
                "give a picture"
            )
        features = np.frombuffer(data, dtype=np.float32).reshape(self._shape)
        embedding = UserEmbedding(features, self._fit.vision)
        features.fill(0)  # it was copied
        return embedding

    def _pooled(self, name: str, pool: Callable[[UserEmbedding], Vector]) -> Vector:
        """Pool an embedding, without keeping one in memory that is not there already."""
        kept, profile = self._kept.get(name), self.profile(name)
        if kept is not None:
            return pool(kept)
        if profile is None:
            raise self._unknown(name)
        embedding = self._read(profile)
        self._recorded[name] = profile.created
        try:
            return pool(embedding)
        finally:
            embedding.erase()

    def _drop_vector(self, name: str) -> None:
        vector = self._vectors.pop(name, None)
        if vector is not None:
            vector.fill(0)

    def _erase(self, name: str) -> bool:
        """Let go of a name in memory; gives whether it was there."""
        self._drop_vector(name)
        self._recorded.pop(name, None)
        self._unsave(name)
        return bool(self._kept.remove(lambda key, _: key == name))

    def _unsave(self, name: str) -> None:
        for entry in tuple(self._saved):  # the worker adds to it meanwhile
            if entry[0] == name:
                self._saved.discard(entry)

    def _put(self, name: str, embedding: UserEmbedding) -> UserEmbedding:
        """Keep a name; of equal embeddings one object is kept, so that erasing it erases all."""
        equal = (kept for kept in self._kept.values() if kept.digest == embedding.digest)
        embedding = next(equal, embedding)
        self._kept.put(name, embedding)
        return embedding

    def _stale(self, name: str, profile: Profile | None) -> bool:
        """Whether who was recorded here was forgotten elsewhere since, or has expired."""
        made = self._recorded.get(name)
        return made is not None and (profile is None or profile.created != made)

    def _sweep(self) -> None:
        """Let go of those whom the vault does not know any more."""
        for name in tuple(self._recorded):
            if self._stale(name, self.profile(name)):
                self._erase(name)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the store; when it is let go of, wait until all that left memory are told of.

        Each thread waits for those that it made leave, and for nobody else's.
        """
        gone: list[UserEmbedding] = []
        try:
            with self._lock:
                try:
                    yield
                finally:
                    gone, self._left = self._left, gone
        finally:
            for embedding in gone:
                self._tell(embedding)

    def _tell(self, embedding: UserEmbedding) -> None:
        if all(kept.digest != embedding.digest for kept in self._kept.values()):
            self._dropped(embedding)

    def _let_go(self, embedding: UserEmbedding) -> None:
        self._left.append(embedding)

    def _unknown(self, name: str) -> UnknownUserError:
        known = ", ".join(self.names) or "nobody"
        return UnknownUserError(f"no user {name!r} is kept; known: {known}")
