"""What a manifest says about telling people apart: thresholds, and how often they err.

Owns: these words and numbers. Knows nothing of how they are measured (`bench/identity.py`) or used
(`identity.py`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class IdentityRates:
    """How often `identify` was right and wrong, on people on whom nothing was chosen.

    Shares of pictures, 0 … 1; pictures of one person are alike, so their margins follow from
    `people`. What the shares of one kind of people leave to 1 was unsure.
    """

    enrolled: int
    """Pictures of each person in the gallery."""
    people: int
    """Different people, by turns in the gallery and strangers to it."""
    known: float
    """Of people in the gallery: given their own name."""
    taken_for_new: float
    """Of people in the gallery: said to be new."""
    misnamed: float
    """Of people in the gallery: given another's name."""
    false_accept: float
    """Of strangers: given somebody's name."""
    new: float
    """Of strangers: said to be new."""


@dataclass(frozen=True)
class IdentityLevel:
    """The thresholds for one size of gallery: the more are known, the likelier a double is."""

    gallery: int
    """People known, at most."""
    known: float
    """Least cosine similarity for a name."""
    margin: float
    """Least distance of the nearest person's similarity from the second's, for a name."""
    new: float
    """Below this similarity nobody known is in view."""
    rates: tuple[IdentityRates, ...]
    """By number of pictures enrolled."""


@dataclass(frozen=True)
class Identity:
    """How well this bundle tells people apart, and from which similarity on it says so."""

    own_pictures: bool
    """Measured on pictures given with --pictures; otherwise on drawn people."""
    pooling: str
    """How a user embedding became one vector, as `bench/identity.py` calls it."""
    equal_error_rate: float
    """Of one picture against one picture, where false accepts and false rejects are equal."""
    aim: float
    """Share of misnamed and of falsely accepted pictures that the thresholds were chosen for."""
    levels: tuple[IdentityLevel, ...]
    """By size of gallery, ascending."""
