"""How figures and verdicts of an audit are written for people, and where their marks lie on a bar.

Owns: units, the sentence of a verdict and the geometry of a bar. Knows nothing of HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Final

from uservlm.bench import wording
from uservlm.bench.audit.findings import Figure, Limit, ProbeResult

STEPS: Final = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
"""Where a bar may end, in powers of ten."""
BESIDES: Final = ("changed", "changed_by_light", "p_value")
"""Figures without a limit that a verdict names all the same; the table has every one."""
RAISED: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
KEPT: Final = "kept"
"""By the whole interval."""
TOO_FEW: Final = "too few people to tell"
"""The figure is within its limit, its interval is not: more people may narrow it."""
NOT_KEPT: Final = "not kept"
"""The figure itself is beyond its limit."""
ROOM: Final = 1.15
"""Of a bar, beyond the greatest mark on it."""


@dataclass(frozen=True)
class Bar:
    """Marks along a bar, in per cent of its length."""

    low: float
    high: float
    value: float
    begin: str
    """The number at its left end."""
    end: str
    """The number at its right end."""
    zero: float
    """Where 0 is."""
    limit: float | None
    allowed: tuple[float, float] | None
    """Where the limit lets the whole interval lie: left end and length."""


@dataclass(frozen=True)
class Told:
    """One figure as the page shows it."""

    words: str
    about: str
    """Which of the cases it is about; blank: all of them."""
    value: str
    interval: str
    """Blank: the figure was counted, and is no estimate."""
    limit: str
    """Blank: none."""
    reason: str
    """Of the limit."""
    kept: bool
    """False without a limit too."""
    standing: str
    """What that means, in words."""
    bar: Bar
    says: str
    """The whole row in a sentence, for whoever does not see the bar."""


def tell(figures: Sequence[Figure]) -> tuple[Told, ...]:
    """Write the figures of a probe; those of one unit share a scale, so that bars compare."""
    scales = {unit: _scale([one for one in figures if one.unit == unit])
              for unit in {one.unit for one in figures}}  # fmt: skip
    return tuple(_told(one, *scales[one.unit]) for one in figures)


def verdict(probe: ProbeResult) -> str:
    """Say in one sentence what decides, with its interval, and what lighting alone does."""
    deciding = [one for one in probe.figures if one.limit]
    others = [one for one in probe.figures if not one.limit and one.name in BESIDES]
    parts = [_clause(one) for one in (*deciding, *others)]
    return wording.capital("; ".join(parts)) + "." if parts else "Nothing was measured."


def standing(figure: Figure) -> str:
    """Say whether a limit is kept, and whether more people could tell; nothing without a limit."""
    if figure.limit is None or figure.kept is None:
        return ""
    if figure.kept:
        return KEPT
    over = figure.value > figure.limit.value
    beyond = over if figure.limit.side == "at most" else figure.value < figure.limit.value
    return NOT_KEPT if beyond else TOO_FEW


def written(value: float, unit: str) -> str:
    """Write a value with its unit, a minus as a minus."""
    return _signed(value, unit) + _UNITS[unit]


def nats(value: float) -> str:
    """Write a divergence."""
    return written(value, "nats")


def count(number: int, one: str, many: str) -> str:
    """Write a number with the word that fits it."""
    return f"{wording.short(number)}{wording.SPACE}{one if number == 1 else many}"


_UNITS: Final[Mapping[str, str]] = {
    "share": f"{wording.SPACE}%",
    "chance": f"{wording.SPACE}%",
    "nats": f"{wording.SPACE}nats",
    "ratio": f"{wording.SPACE}times",
    "count": "",
}


def _signed(value: float, unit: str) -> str:
    size = abs(value)
    if unit in ("share", "chance"):
        number = wording.percent(size).removesuffix(_UNITS[unit])
    else:
        number = wording.short(size) if unit == "count" else _powers(wording.number(size))
    return f"−{number}" if value < 0 and number.strip("0.") else number


def _powers(number: str) -> str:
    """Write 4.14e-05 as people do."""
    mantissa, _, power = number.partition("e")
    return f"{mantissa}·10{str(int(power)).translate(RAISED)}" if power else number


def _interval(figure: Figure) -> str:
    """Write the interval; nothing where the figure was counted."""
    low, high = figure.interval.low, figure.interval.high
    if low == high:
        return ""
    return f"{_signed(low, figure.unit)} to {written(high, figure.unit)}"


def _told(figure: Figure, begin: float, end: float) -> Told:
    limit, interval, stands = figure.limit, _interval(figure), standing(figure)
    bound = _bound(limit, figure.unit) if limit else ""
    return Told(
        words=figure.words,
        about=figure.about,
        value=written(figure.value, figure.unit),
        interval=interval,
        limit=bound,
        reason=limit.reason if limit else "",
        kept=bool(figure.kept),
        standing=stands or "to compare with",
        bar=_bar(figure, begin, end),
        says=written(figure.value, figure.unit)
        + (f", 95 % interval {interval}" if interval else "")
        + (f"; limit: {bound}, {stands}" if bound else "; to compare with")
        + (f"; {figure.about}" if figure.about else ""),
    )


def _clause(figure: Figure) -> str:
    value = f"{figure.words}: {written(figure.value, figure.unit)}"
    if figure.limit is None:
        return value
    limit = f"{_bound(figure.limit, figure.unit)}: {standing(figure)}"
    interval = _interval(figure)
    told = f"{value} ({interval}; {limit})" if interval else f"{value} ({limit})"
    return f"{told}: {figure.about}" if figure.about and not figure.kept else told


def _bound(limit: Limit, unit: str) -> str:
    return f"{limit.side} {written(limit.value, unit)}"


def _scale(figures: Sequence[Figure]) -> tuple[float, float]:
    """Ends of a bar on which every mark of these figures has its place."""
    limits = [one.limit.value for one in figures if one.limit]
    marks = [*limits, *(end for one in figures for end in (one.interval.low, one.interval.high,
                                                           one.value))]  # fmt: skip
    greatest = max(marks)
    whole = figures[0].unit in ("share", "chance") and greatest <= 1  # a share ends at 100 %
    end = min(1.0, _round_up(greatest * ROOM)) if whole else _round_up(greatest * ROOM)
    return min(0.0, -_round_up(-min(marks))), end


def _round_up(value: float) -> float:
    """The least of STEPS times a power of ten at or above `value`; 0 where it is not above 0."""
    if value <= 0:
        return 0.0
    power = 10.0 ** floor(log10(value))
    return next(step * power for step in STEPS if step * power >= value * (1 - 1e-9))


def _bar(figure: Figure, begin: float, end: float) -> Bar:
    length = (end - begin) or 1.0

    def place(value: float) -> float:
        return round(100 * (value - begin) / length, 3)

    limit = place(figure.limit.value) if figure.limit else None
    allowed = None
    if figure.limit is not None and limit is not None:
        allowed = (0.0, limit) if figure.limit.side == "at most" else (limit, 100 - limit)
    return Bar(
        place(figure.interval.low), place(figure.interval.high), place(figure.value),
        written(begin, figure.unit), written(end, figure.unit), place(0.0), limit, allowed,
    )  # fmt: skip
