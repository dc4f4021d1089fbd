"""The user embedding: what is computed from one picture of a person, and reused for every question.

Owns: what it is, its name, whether it fits a bundle, and its end. Knows nothing of how it is made,
kept (`store.py`) or used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from uservlm.runtime.errors import EmbeddingError


@dataclass(frozen=True, eq=False)
class UserEmbedding:
    """Projected image features of one picture; give it wherever a picture is wanted.

    Raises:
        EmbeddingError: not a finite matrix.
    """

    features: npt.NDArray[np.float32] = field(repr=False)
    """float32 [N, d], read-only, as the projector gives them (not divided by √d)."""
    vision: str
    """Names the bundle's vision encoders (`Manifest.sees_as`); another bundle's is refused."""
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

    @property
    def erased(self) -> bool:
        """Whether the user was forgotten: nothing can be done with it any more."""
        return not self.digest

    def erase(self) -> None:
        """Overwrite the features, and forget the name of what they were."""
        object.__setattr__(self, "digest", "")
        self.features.flags.writeable = True
        self.features.fill(0)
        self.features.flags.writeable = False


def check_embedding(embedding: UserEmbedding, shape: tuple[int, int], vision: str) -> None:
    """Make sure that an embedding belongs to this bundle.

    Args:
        embedding: from anywhere.
        shape: (N, d) of the bundle.
        vision: `Manifest.sees_as` of the bundle.

    Raises:
        EmbeddingError: another encoder's, another shape, or of somebody forgotten.
    """
    check_kept(embedding)
    if embedding.vision != vision:
        raise EmbeddingError(
            f"the user embedding was made by vision encoder {embedding.vision[:12]}…, "
            f"this bundle has {vision[:12]}…: encode the picture again"
        )
    if embedding.features.shape != shape:
        found = embedding.features.shape
        raise EmbeddingError(f"the user embedding has shape {found}, not {shape}")


def check_kept(embedding: UserEmbedding) -> None:
    """Make sure that a user was not forgotten, perhaps while their question waited.

    Raises:
        EmbeddingError: they were.
    """
    if embedding.erased:
        raise EmbeddingError("the user was forgotten: nothing of them is left to answer with")
