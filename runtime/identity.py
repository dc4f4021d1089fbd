"""Who is in view: a known person, a new one, or not sure, from user embeddings alone.

Owns: how a user embedding becomes one vector, and the decision by thresholds that were measured on
this bundle (`bench/identity.py`). Knows nothing of pictures or of how people are kept. A vector
names a person as a fingerprint does: nothing here writes, logs or keeps one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from uservlm.runtime.errors import BundleError, EmbeddingError, IdentityError
from uservlm.runtime.identity_figures import Identity, IdentityLevel
from uservlm.runtime.manifest import Manifest
from uservlm.runtime.users import UserEmbedding, check_embedding

IDENTITY_FILE = "identity.npz"
"""What a user embedding is reduced by; drawn up by `bench/identity.py --record`."""
COMMAND: Final = "python bench/identity.py {bundle} --record"

Floats: TypeAlias = npt.NDArray[np.float32]
Kind = Literal["known", "new", "unsure"]


@dataclass(frozen=True, eq=False)
class Reduction:
    """From mean features, float32 [d], to the k numbers in which people differ."""

    centre: Floats = field(repr=False)
    """float32 [d]: what all pictures have in common, taken away first."""
    directions: Floats | None = field(default=None, repr=False)
    """float32 [d, k]; None keeps all d."""

    def __call__(self, means: Floats) -> Floats:
        """Reduce float32 [..., d] to unit vectors float32 [..., k].

        Raises:
            EmbeddingError: nothing is left of one: it has no direction.
        """
        apart = means - self.centre
        if self.directions is not None:
            apart = apart @ self.directions
        length = np.linalg.norm(apart, axis=-1, keepdims=True)
        if not (length > 0).all():
            raise EmbeddingError("the picture shows nothing by which people are told apart")
        return np.asarray(apart / length, dtype=np.float32)


@dataclass(frozen=True)
class Identification:
    """Who is in view, and how sure that is."""

    kind: Kind
    name: str | None
    """Of a known person; None otherwise."""
    nearest: str | None
    """Whom an unsure robot may think of; saying it aloud tells a stranger a name."""
    similarity: float | None
    """Cosine similarity to the nearest person, -1 … 1; None: nobody is known."""
    runner_up: float | None
    """The same of the second nearest person; None: there is none."""


class Identifier:
    """Tells the people of one bundle apart. Holds no person; safe to use from several threads."""

    def __init__(self, manifest: Manifest, folder: Path) -> None:
        """Read the reduction.

        Args:
            manifest: of the bundle.
            folder: where it lies.

        Raises:
            IdentityError: nothing was measured for this bundle.
            BundleError: `identity.npz` is damaged or of another shape.
        """
        self._measured = measured(manifest, folder)
        self._folder = folder
        shape = manifest.architecture
        self._shape = (shape.image_tokens, shape.width)
        self._vision = manifest.sees_as
        self._reduction = read_reduction(folder, shape.width)
        self.key = manifest.files[IDENTITY_FILE].sha256
        """Names the reduction: vectors made by another one say nothing to this one."""

    def pool(self, embedding: UserEmbedding) -> Floats:
        """Make a unit vector, float32 [k], of a user embedding.

        Raises:
            EmbeddingError: of another bundle, or nothing in it tells people apart.
        """
        check_embedding(embedding, self._shape, self._vision)
        return self._reduction(pool(embedding.features))

    def identify(self, vector: Floats, gallery: Mapping[str, Floats]) -> Identification:
        """Find out who is in view.

        Args:
            vector: from `pool`, float32 [k].
            gallery: by name, from `pool`: float32 [k], or [pictures, k] of several pictures.

        Raises:
            IdentityError: more people than the thresholds were measured for.
            EmbeddingError: vectors of several lengths: not all of them are from this bundle.
        """
        return identify(vector, gallery, level_for(self._measured, len(gallery), self._folder))


def pool(features: Floats) -> Floats:
    """Mean of the rows: float32 [N, d] to [d]."""
    return np.asarray(features.mean(axis=0, dtype=np.float64), dtype=np.float32)


def centroid(vectors: Floats) -> Floats:
    """One unit vector, float32 [k], for a person's [k] or [pictures, k]."""
    mean = np.atleast_2d(vectors).mean(axis=0)
    length = np.linalg.norm(mean)
    if not length > 0:
        raise EmbeddingError("the pictures of one person cancel out: they show different people")
    return np.asarray(mean / length, dtype=np.float32)


def identify(vector: Floats, gallery: Mapping[str, Floats], level: IdentityLevel) -> Identification:
    """Decide by the thresholds of `level`; arguments as for `Identifier.identify`."""
    if not gallery:
        return Identification("new", None, None, None, None)
    lengths = {vector.shape[-1], *(kept.shape[-1] for kept in gallery.values())}
    if len(lengths) > 1:
        raise EmbeddingError(f"vectors of {sorted(lengths)} numbers: pool the embeddings again")
    likeness = {name: float(centroid(kept) @ vector) for name, kept in gallery.items()}
    nearest, *others = sorted(likeness, key=likeness.__getitem__, reverse=True)
    similarity = likeness[nearest]
    runner_up = likeness[others[0]] if others else None
    kind = decide(similarity, runner_up, level)
    return Identification(
        kind, nearest if kind == "known" else None, nearest, similarity, runner_up
    )


def decide(similarity: float, runner_up: float | None, level: IdentityLevel) -> Kind:
    """Near enough and clearly nearer than anybody else is known; too far is new."""
    if similarity < level.new:
        return "new"
    clear = runner_up is None or similarity - runner_up >= level.margin
    return "known" if similarity >= level.known and clear else "unsure"


def measured(manifest: Manifest, folder: Path) -> Identity:
    """Give what was measured; a threshold is never guessed.

    Raises:
        IdentityError: nothing was; the message names the command.
    """
    if manifest.identity is None or IDENTITY_FILE not in manifest.files:
        raise IdentityError(
            f"how alike two pictures of one person are was not measured for {folder}: "
            f"run `{COMMAND.format(bundle=folder)}`, or name the user yourself"
        )
    return manifest.identity


def level_for(identity: Identity, people: int, folder: Path) -> IdentityLevel:
    """Give the thresholds for so many known people.

    Raises:
        IdentityError: nothing was measured for so many.
    """
    for level in identity.levels:
        if level.gallery >= people:
            return level
    raise IdentityError(
        f"{people} people are known, identification was measured for at most "
        f"{identity.levels[-1].gallery}: run `{COMMAND.format(bundle=folder)} --gallery {people}`"
    )


def read_reduction(folder: Path, width: int) -> Reduction:
    """Read a bundle's `identity.npz` for mean features of `width` numbers.

    Raises:
        BundleError: missing, damaged, or of another shape.
    """
    path = folder / IDENTITY_FILE
    again = f"run `{COMMAND.format(bundle=folder)}`"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            centre = np.asarray(arrays["centre"], dtype=np.float32)
            directions = (
                np.asarray(arrays["directions"], dtype=np.float32)
                if "directions" in arrays
                else None
            )
    except (BadZipFile, EOFError, KeyError, OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}; {again}") from error
    fits = directions is None or (directions.ndim == 2 and len(directions) == width)
    whole = np.isfinite(centre).all() and (directions is None or np.isfinite(directions).all())
    if centre.shape != (width,) or not fits or not whole:
        raise BundleError(f"{path} does not fit features of width {width}; {again}")
    return Reduction(centre, directions)


def write_reduction(folder: Path, reduction: Reduction) -> Path:
    """Write `identity.npz` and give its path; what it holds is of all people together."""
    arrays = {"centre": reduction.centre}
    if reduction.directions is not None:
        arrays["directions"] = reduction.directions
    np.savez(folder / IDENTITY_FILE, **arrays)  # type: ignore[arg-type]
    return folder / IDENTITY_FILE
