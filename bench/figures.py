"""Which figures a run gives, and what each says in words.

Owns: choosing what is drawn, and the sentence under each figure. `plotting.py` draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import fmean, median
from typing import TYPE_CHECKING, Final

from uservlm.bench.findings import OURS, chosen, main_case
from uservlm.bench.flop_tables import BOTH, COLD, EXACT, IMAGE_CACHED, PEERS, RESIDENT, UNTUNED
from uservlm.bench.flop_tables import OURS as MODELS
from uservlm.bench.plotting import Bar, Points, draw_bars, draw_curve
from uservlm.bench.results import Count, Curve, Results, Row
from uservlm.bench.wording import capital, exponent, percent, quantity, scale, short, side, what

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN: Final = (COLD, EXACT, RESIDENT, BOTH, IMAGE_CACHED)
"""Cases of counted FLOPs in the figure; the table has all."""
KNOWN: Final = (*MODELS.values(), *PEERS, *UNTUNED.values())
"""Models in it; one of a few million weights beside them would be nothing but a name."""
BOUNDED: Final = ("vision", "prefill", "decode")
"""Whose share of its bound is drawn: the parts of which everything else is a sum."""
CONSTANT: Final = 0.1
"""An exponent this near to 0 is called constant, and this near to 1 proportional."""


@dataclass(frozen=True)
class Chart:
    """One figure of a page."""

    name: str
    """Of its files, and in front of its ids."""
    section: str
    title: str
    says: str
    """The finding, in words."""
    draw: Callable[[], Figure]


def charts(results: Results) -> tuple[Chart, ...]:
    """Every figure these results have numbers for, in the order of the page."""
    found = [
        _flops(results),
        _first_token(results),
        _decoding(results),
        _shares(results),
        *(_growth(curve) for curve in results.growth or ()),
    ]
    return tuple(one for one in found if one is not None)


def fitted(curve: Curve) -> Points | None:
    """Give a curve's medians and spreads with the line of its exponent through their middle.

    What is not positive has no place on a logarithmic axis and is left out; None where fewer than
    two points stay.
    """
    kept = [
        (x, samples)
        for x, samples in zip(curve.at, curve.samples, strict=True)
        if x > 0 and samples and min(samples) > 0
    ]
    if len(kept) < 2:
        return None
    medians = tuple(median(samples) for _, samples in kept)
    exponent = curve.exponent.value
    middle = fmean(log(y) for y in medians) - exponent * fmean(log(x) for x, _ in kept)
    return Points(
        tuple(x for x, _ in kept), medians,
        tuple(min(samples) for _, samples in kept), tuple(max(samples) for _, samples in kept),
        exp(middle), exponent,
    )  # fmt: skip


def _flops(results: Results) -> Chart | None:
    found = results.flops.counts if results.flops else ()
    drawn = [count for count in found if count.case in DRAWN]
    counts = sorted((one for one in drawn if one.model in KNOWN), key=_is_peer) or drawn
    if not counts:
        return None
    factor, unit = scale(max(count.total for count in counts), "FLOP")
    bars = [
        Bar(
            _name(count), quantity(count.total, "FLOP"),
            (count.vision / factor, count.language / factor), count.total / factor,
            count.total / factor, not _is_peer(count),
        )
        for count in counts
    ]  # fmt: skip
    heading = "Operations until the first token, counted"
    axis = f"{unit}; faint: vision encoder, full: language model"
    return Chart(
        "flops",
        "flops",
        heading,
        _flops_words(counts),
        lambda: draw_bars(heading, axis, bars, False),
    )


def _flops_words(counts: Sequence[Count]) -> str:
    mine = [count for count in counts if not _is_peer(count)]
    theirs = [count for count in counts if _is_peer(count)]
    parts = [
        f"{_name(count)}: {quantity(count.total, 'FLOP')}"
        for count in (min(mine, key=_total, default=None), max(mine, key=_total, default=None))
        if count is not None
    ]
    if theirs:
        least = min(theirs, key=_total)
        parts.append(f"the peer with least, {_name(least)}: "
                     f"{quantity(least.total, 'FLOP')}")  # fmt: skip
    return capital("; ".join(dict.fromkeys(parts)) + ".")


def _total(count: Count) -> int:
    return count.total


def _name(count: Count) -> str:
    """Name a bar: our ways as elsewhere, of the peers' cases the one that is not whole."""
    case = side(count.case).removeprefix("ours, ") if not _is_peer(count) else count.case
    case = case.removeprefix(BOTH).removeprefix(", ")
    return f"{count.model}: {case}" if case else count.model


def _is_peer(count: Count) -> bool:
    return count.case not in (COLD, EXACT, RESIDENT)


def _first_token(results: Results) -> Chart | None:
    return _compared(results, "ttft", "less is better")


def _decoding(results: Results) -> Chart | None:
    return _compared(results, "decode", "more is better")


def _compared(results: Results, quantity_: str, better: str) -> Chart | None:
    """Draw one quantity of several sides on a logarithmic axis, with its spread."""
    found = [row for row in chosen(results, quantity_) if row.spread.least > 0]
    if not found:
        return None
    factor, unit = scale(max(row.spread.value for row in found), found[0].unit)
    bars = [
        Bar(
            side(row.side), quantity(row.spread.value, row.unit), (row.spread.value / factor,),
            row.spread.least / factor, row.spread.greatest / factor, row.side in OURS,
        )
        for row in found
    ]  # fmt: skip
    case = main_case(results, quantity_)
    heading = capital(what(quantity_)) + (f", {case}" if case else "")
    axis = f"{unit}, logarithmic; {better}; whiskers: least to greatest"
    return Chart(
        quantity_, "latency", heading, _best_words(found),
        lambda: draw_bars(heading, axis, bars, True),
    )  # fmt: skip


def _best_words(found: Sequence[Row]) -> str:
    said = []
    for name, mine in (("Best of ours", True), ("Best peer", False)):
        rows = [row for row in found if (row.side in OURS) == mine]
        if rows:
            pick = min if rows[0].better == "less" else max
            best = pick(rows, key=lambda row: row.spread.value)
            who = side(best.side).removeprefix("ours, ")
            said.append(f"{name}: {who}, {quantity(best.spread.value, best.unit)}.")
    return " ".join(said)


def _shares(results: Results) -> Chart | None:
    """Draw of each bound what is reached: one row for each side and quantity."""
    best: dict[tuple[str, str], Row] = {}
    for measured in results.measured.values():
        for row in measured.rows:
            if row.share is not None and row.what in BOUNDED:
                best.setdefault((row.side, row.what), row)
    found = list(best.values())
    if not found:
        return None
    bars = [
        Bar(
            f"{side(row.side)}: {what(row.what)}", percent(share), (share * 100,),
            *_share_ends(row), row.side in OURS,
        )
        for row in found if (share := row.share) is not None
    ]  # fmt: skip
    heading = "How much of what this machine allows is reached"
    most, least = max(bars, key=_length), min(bars, key=_length)
    words = f"Most: {most.label}, {most.value}. Least: {least.label}, {least.value}."
    return Chart(
        "shares", "limits", heading, words,
        lambda: draw_bars(heading, "% of the bound measured in the same run", bars, False),
    )  # fmt: skip


def _length(bar: Bar) -> float:
    return sum(bar.parts)


def _share_ends(row: Row) -> tuple[float, float]:
    bound, spread = row.bound or 0.0, row.spread
    if row.better == "less":
        return 100 * bound / spread.greatest, 100 * bound / spread.least
    return 100 * spread.least / bound, 100 * spread.greatest / bound


def _growth(curve: Curve) -> Chart | None:
    points = fitted(curve)
    if points is None:
        return None
    factor, unit = scale(max(points.medians), curve.unit)
    scaled = points.over(factor)
    heading = f"{capital(curve.what)} by {curve.by}\nexponent {exponent(curve.exponent)}"
    name = "growth-" + "".join(_letters(curve.key))
    axis = f"{curve.what}, {unit}" if unit else curve.what
    return Chart(
        name, "growth", heading, _growth_words(curve, points),
        lambda: draw_curve(heading, curve.by, axis, scaled),
    )  # fmt: skip


def _growth_words(curve: Curve, points: Points) -> str:
    ends = [quantity(one, curve.unit) for one in (points.medians[0], points.medians[-1])]
    word = "between constant and proportional"
    if abs(curve.exponent.value) < CONSTANT:
        word = "near to constant"
    elif abs(curve.exponent.value - 1) < CONSTANT:
        word = "near to proportional"
    elif curve.exponent.value > 1:
        word = "more than proportional"
    elif curve.exponent.value < 0:
        word = "less where there is more"
    xs = f"{short(points.at[0])} to {short(points.at[-1])}"
    return f"{capital(curve.by)} from {xs}: from {ends[0]} to {ends[1]}; {word}."


def _letters(text: str) -> Iterator[str]:
    for letter in text.lower():
        yield letter if letter.isascii() and letter.isalnum() else "-"
