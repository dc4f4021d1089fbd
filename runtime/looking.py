"""From pictures to user embeddings, remembering the latest ones.

Owns: that the same picture is looked at once. Knows nothing of names, questions or llama.cpp. Safe
to use from several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import blake2b
from time import perf_counter
from typing import Final, TypeAlias

from uservlm.runtime.counters import Tally
from uservlm.runtime.image import Picture, PixelSpec, to_pixels
from uservlm.runtime.lru import Lru
from uservlm.runtime.users import UserEmbedding
from uservlm.runtime.vision import VisionEncoder

PICTURES: Final = 16
"""Pictures whose embedding is remembered, so that asking again about one runs no vision."""

MakeWay: TypeAlias = Callable[[], AbstractContextManager[None]]
Seen: TypeAlias = "Picture | UserEmbedding"
"""What a question may be about."""


@dataclass(frozen=True)
class Look:
    """What looking gave."""

    embedding: UserEmbedding
    fresh: bool = False
    """Whether vision ran for it."""
    pixels_s: float = 0.0
    """Seconds it took to decode and resize the picture."""


class Looker:
    """Gives the embedding of whatever stands for a user."""

    def __init__(
        self, vision: VisionEncoder, spec: PixelSpec, name: str, tally: Tally, beside: MakeWay
    ) -> None:
        """Remember nothing yet.

        Args:
            vision: the encoder.
            spec: how it wants its pixels.
            name: `Manifest.sees_as`.
            tally: counts its runs.
            beside: entered while it runs; may make room for it.
        """
        self._vision, self._spec, self._name, self._tally = vision, spec, name, tally
        self._beside = beside
        self._pictures: Lru[bytes, UserEmbedding] = Lru(PICTURES)

    def look(self, source: Seen) -> Look:
        """Give the embedding, from memory when this very picture was seen lately.

        Raises:
            ImageError: see `image.open_picture`.
            EngineError: the vision encoder failed.
        """
        if isinstance(source, UserEmbedding):
            return Look(source)
        begun = perf_counter()
        pixels = to_pixels(source, self._spec)
        took = perf_counter() - begun
        try:
            name = blake2b(pixels.data, digest_size=16).digest()
            known = self._pictures.get(name)
            if known is not None:
                return Look(known, pixels_s=took)
            with self._beside():
                features = self._vision.encode(pixels)
        finally:
            pixels.fill(0)  # no trace of a face is left in freed memory
        embedding = UserEmbedding(features, self._name)
        features.fill(0)
        self._tally.add(vision_runs=1)
        self._pictures.put(name, embedding)
        return Look(embedding, True, took)

    @property
    def open(self) -> bool:
        """Whether the encoder's memory is taken."""
        return self._vision.open

    def release(self) -> Generator[None, None, None]:
        """Give that memory back: the next face may be long in coming. An idle job."""
        self._vision.release()
        yield

    @property
    def remembered(self) -> frozenset[str]:
        """The digests of the embeddings whose pictures are remembered."""
        return frozenset(kept.digest for kept in self._pictures.values())

    def forget(self, *digests: str) -> None:
        """Forget the pictures of some embeddings, and overwrite what is kept of them."""
        for kept in self._pictures.values():
            if kept.digest in digests:
                kept.erase()
        self._pictures.remove(lambda _, kept: kept.erased)

    def clear(self) -> None:
        """Forget all pictures."""
        self._pictures.remove(lambda *_: True)
