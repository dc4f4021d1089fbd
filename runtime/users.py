"""Who is known: the user embedding, and the store that keeps one for each name.

Owns: what a user embedding is and whether it fits, and the names in memory. Nothing is ever written
to disk here. Knows nothing of how an embedding is made or used; the engine is told through
`dropped` when somebody is forgotten, so that nothing derived from them stays behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from uservlm.runtime.errors import EmbeddingError, RequestError, UnknownUserError
from uservlm.runtime.lru import Lru

MAX_USERS = 32
"""Users kept by default; at 3B and 448 px each takes 9.4 MB."""


@dataclass(frozen=True, eq=False)
class UserEmbedding:
    """Projected image features of one picture; give it wherever a picture is wanted.

    Raises:
        EmbeddingError: not a finite matrix.
    """

    features: npt.NDArray[np.float32] = field(repr=False)
    """float32 [N, d], read-only, as the projector gives them (not divided by √d)."""
    vision: str
    """SHA-256 of the vision encoder that made it; another bundle's is refused."""
    digest: str = field(init=False)
    """Names the content; equal features of one encoder have equal digests."""

    def __post_init__(self) -> None:
        """Take a read-only copy and name it."""
        features = np.array(self.features, dtype=np.float32, order="C")
        if features.ndim != 2 or features.size == 0 or not np.isfinite(features).all():
            raise EmbeddingError(
                f"a user embedding is a finite [N, d] matrix; got shape {features.shape}"
            )
        features.flags.writeable = False
        object.__setattr__(self, "features", features)
        name = blake2b(self.vision.encode(), digest_size=16)
        name.update(features.data)
        object.__setattr__(self, "digest", name.hexdigest())


def check_embedding(embedding: UserEmbedding, shape: tuple[int, int], vision: str) -> None:
    """Make sure that an embedding belongs to this bundle.

    Args:
        embedding: from anywhere.
        shape: (N, d) of the bundle.
        vision: SHA-256 of the bundle's vision encoder.

    Raises:
        EmbeddingError: another encoder's, or another shape.
    """
    if embedding.vision != vision:
        raise EmbeddingError(
            f"the user embedding was made by vision encoder {embedding.vision[:12]}…, "
            f"this bundle has {vision[:12]}…: encode the picture again"
        )
    if embedding.features.shape != shape:
        found = embedding.features.shape
        raise EmbeddingError(f"the user embedding has shape {found}, not {shape}")


class UserStore:
    """Embeddings by name, in memory only, the least recently used name going first.

    Safe to use from several threads.
    """

    def __init__(
        self,
        accepts: Callable[[UserEmbedding], None],
        dropped: Callable[[UserEmbedding], None],
        bound: int = MAX_USERS,
    ) -> None:
        """Start empty.

        Args:
            accepts: raises EmbeddingError for an embedding that cannot be used.
            dropped: called with each embedding that leaves and that no other name holds.
            bound: most names kept.
        """
        self._accepts, self._dropped = accepts, dropped
        self._kept: Lru[str, UserEmbedding] = Lru(bound, self._left)

    def keep(self, name: str, embedding: UserEmbedding) -> None:
        """Keep a user under a name, instead of whom it named before.

        Raises:
            RequestError: the name is blank.
            EmbeddingError: the embedding is of another bundle.
        """
        if not name.strip():
            raise RequestError("a user's name is blank: give one")
        self._accepts(embedding)
        self._kept.put(name, embedding)

    def find(self, name: str) -> UserEmbedding:
        """Give a user's embedding.

        Raises:
            UnknownUserError: nobody of that name is kept.
        """
        embedding = self._kept.get(name)
        if embedding is None:
            raise self._unknown(name)
        return embedding

    def forget(self, name: str) -> None:
        """Let go of a user and of everything computed from their picture.

        Raises:
            UnknownUserError: nobody of that name is kept.
        """
        if not self._kept.remove(lambda key, _: key == name):
            raise self._unknown(name)

    def clear(self) -> None:
        """Let go of everybody."""
        self._kept.remove(lambda *_: True)

    @property
    def names(self) -> tuple[str, ...]:
        """Who is kept, least recently used first."""
        return self._kept.keys()

    def _left(self, embedding: UserEmbedding) -> None:
        if all(kept.digest != embedding.digest for kept in self._kept.values()):
            self._dropped(embedding)

    def _unknown(self, name: str) -> UnknownUserError:
        known = ", ".join(self.names) or "nobody"
        return UnknownUserError(f"no user {name!r} is kept; known: {known}")
