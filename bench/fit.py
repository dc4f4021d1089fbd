"""How a cost grows: the exponent of a power law, and how sure of it one may be.

Owns: the arithmetic, pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from statistics import linear_regression, median

from uservlm.bench.results import Curve, Spread

LEAST = 3
"""Points: with two, every exponent fits."""


def exponent(at: Sequence[float], values: Sequence[float]) -> Spread:
    """Fit values ≈ a·atᵇ by least squares on logarithms.

    Args:
        at: x values, all above 0.
        values: y values, all above 0.

    Returns:
        b, with the least and the greatest b when one point is left out.

    Raises:
        ValueError: fewer than LEAST points.
    """
    if len(at) < LEAST:
        raise ValueError(f"{len(at)} points: an exponent needs {LEAST}")
    xs, ys = [log(x) for x in at], [log(y) for y in values]
    without = [
        linear_regression(xs[:left] + xs[left + 1 :], ys[:left] + ys[left + 1 :]).slope
        for left in range(len(xs))
    ]
    return Spread(linear_regression(xs, ys).slope, min(without), max(without))


def curve(
    what: str, by: str, unit: str, points: Mapping[float, Sequence[float]], note: str = ""
) -> Curve:
    """Make a curve of samples by x value."""
    at = tuple(sorted(points))
    samples = tuple(tuple(points[x]) for x in at)
    fitted = exponent(at, [median(some) for some in samples])
    return Curve(f"{what} by {by}", what, by, unit, at, samples, fitted, note)
