"""Drawing: bars and curves with matplotlib, as SVG for a page, as SVG and PNG for a file.

Owns: sizes, colours, scales and what becomes of matplotlib's SVG in a page. Knows nothing of
results: it gets numbers and words. A figure is narrow, so that its text can be read on a phone.

Each colour of the light page is drawn as itself; `inline` exchanges it for a CSS variable of that
name, so that one drawing serves light and dark.
"""

from __future__ import annotations

import io
import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from uservlm.bench.wording import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Final = {
    "ink": "#1b2130",
    "muted": "#586173",
    "rule": "#d8dde6",
    "card": "#fefefe",
    "ours": "#0b6b73",
    "ours-soft": "#8cc5c4",
    "peer": "#8a7f70",
    "peer-soft": "#cfc7ba",
}
"""By the name of its CSS variable; templates/report.css has them again, and dark ones."""
WIDTH: Final = 400.0
"""Points, of every figure."""
LINE: Final = 16.0
"""Points, of one line of a title."""
PITCH: Final = 31.0
"""Points from one bar to the next: a line of words above each."""
EDGE: Final = 12.0
"""Points left and right of bars."""
FOOT: Final = 40.0
"""Points below the axes, for their numbers and words."""
TITLE_LETTERS: Final = 52
AXIS_LETTERS: Final = 34
"""Along the height of a curve."""
LINE_LETTERS: Final = 55
"""Of label and value together, above a bar."""
LEAST_RANGE: Final = 10.0
"""Of a curve's y axis: greatest over least."""
DOTS: Final = 240
"""Of a PNG, per inch of 72 points."""
STYLE: Final[Any] = {  # matplotlib's own type of it changes from version to version
    "svg.fonttype": "none",
    "svg.hashsalt": "uservlm",
    "text.parse_math": False,
    "font.size": 11.5,
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["muted"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "axes.edgecolor": COLOURS["rule"],
    "axes.facecolor": COLOURS["card"],
    "figure.facecolor": COLOURS["card"],
    "axes.linewidth": 0.8,
}


@dataclass(frozen=True)
class Bar:
    """One bar with its words, in the unit of the axis."""

    label: str
    value: str
    """As it is written at the bar."""
    parts: tuple[float, ...]
    """Lengths, laid end to end; pale but for the last."""
    least: float
    greatest: float
    """The whisker; none where both are the same."""
    ours: bool


@dataclass(frozen=True)
class Points:
    """A curve: medians with their spread, and a·xᵇ through them."""

    at: tuple[float, ...]
    medians: tuple[float, ...]
    least: tuple[float, ...]
    greatest: tuple[float, ...]
    factor: float
    """a"""
    exponent: float
    """b"""

    def over(self, unit: float) -> Points:
        """Give the same with y in multiples of `unit`."""
        medians, least, greatest = (
            tuple(y / unit for y in values) for values in (self.medians, self.least, self.greatest)
        )
        return Points(self.at, medians, least, greatest, self.factor / unit, self.exponent)


def draw_bars(title: str, axis: str, bars: Sequence[Bar], log: bool) -> Figure:
    """Draw bars one under another, each below its words; `axis` says what and in which unit.

    Lines of `title` end at its line breaks, and where they would be too long.
    """
    with _style():
        figure, axes = _sheet(title, PITCH * len(bars) + 4, EDGE, FOOT)
        least = min(bar.least for bar in bars)
        greatest = max(max(bar.greatest, sum(bar.parts)) for bar in bars)
        begin = least / 2 if log else 0.0
        if log:
            axes.set_xscale("log")
        axes.set_xlim(begin, greatest * (1.25 if log else 1.03))
        axes.set_ylim(len(bars), 0)
        for row, bar in enumerate(bars):
            _bar(axes, row, bar, begin)
        axes.set_xlabel(axis)
        axes.set_yticks([])
        _numbers(axes, "x", greatest / begin if log else None)
    return figure


def draw_curve(title: str, by: str, what: str, points: Points) -> Figure:
    """Draw a curve with both axes logarithmic; `by` and `what` name the axes and their units."""
    with _style():
        figure, axes = _sheet(title, 210, 66, FOOT)
        axes.set_xscale("log")
        axes.set_yscale("log")
        below = [value - low for value, low in zip(points.medians, points.least, strict=True)]
        above = [high - value for value, high in zip(points.medians, points.greatest, strict=True)]
        axes.errorbar(
            points.at, points.medians, (below, above), fmt="o", markersize=5, capsize=3,
            color=COLOURS["ours"], ecolor=COLOURS["ink"], elinewidth=1.0, zorder=3,
        )  # fmt: skip
        ends = (points.at[0], points.at[-1])
        fit = [points.factor * end**points.exponent for end in ends]
        axes.plot(ends, fit, "--", color=COLOURS["muted"], linewidth=1.2, label="fit")
        reach = [*points.least, *points.greatest, *fit]
        axes.set_xlim(ends[0] / 1.3, ends[1] * 1.3)
        low, high = _at_least(min(reach) / 1.4, max(reach) * 1.4)
        axes.set_ylim(low, high)
        axes.set_xlabel(by)
        axes.set_ylabel("\n".join(textwrap.wrap(what, AXIS_LETTERS)))
        axes.set_xticks(points.at, [short(one) for one in points.at])
        axes.minorticks_off()
        axes.grid(axis="x", visible=False)
        _numbers(axes, "y", high / low)
    return figure


def svg(figure: Figure) -> str:
    """Give a drawing as SVG text, the same whenever and wherever it is drawn."""
    with _style():
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def png(figure: Figure) -> bytes:
    """Give a drawing as PNG, in light colours."""
    with _style():
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DOTS)
    return file.getvalue()


def inline(drawn: str, name: str, says: str) -> str:
    """Prepare what `svg` gave for a page.

    Args:
        drawn: a whole SVG file.
        name: goes in front of every id, since a page has several figures.
        says: the finding, for whoever does not see it.
    """
    body = drawn[drawn.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'href="#|url\(#', lambda found: f"{found[0]}{name}-", body)
    for variable, colour in COLOURS.items():
        body = body.replace(colour, f"var(--{variable})")
    size = re.search(r'viewBox="[^"]*"', body)
    opening = f'<svg role="img" aria-label="{escape(says)}" {size[0] if size else ""}'
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return re.sub(r"<svg[^>]*>", lambda _: f"{opening} {spaces}>", body, count=1)


def write(figure: Figure, folder: Path, name: str) -> str:
    """Write NAME.svg and NAME.png and give the SVG's text."""
    drawn = svg(figure)
    (folder / f"{name}.svg").write_text(drawn, encoding="utf-8")
    (folder / f"{name}.png").write_bytes(png(figure))
    return drawn


@contextmanager
def _style() -> Iterator[None]:
    """Have matplotlib draw as a figure is drawn here; its cache lies with ours, not in $HOME."""
    from platformdirs import user_cache_path

    os.environ.setdefault("MPLCONFIGDIR", str(user_cache_path("uservlm") / "matplotlib"))
    import matplotlib

    with matplotlib.rc_context(STYLE):
        yield


def _sheet(title: str, height: float, left: float, foot: float) -> tuple[Figure, Axes]:
    """Give an empty figure under its title, its axes `height` points high."""
    from matplotlib.figure import Figure

    lines = [line for part in title.split("\n") for line in textwrap.wrap(part, TITLE_LETTERS)]
    head = LINE * len(lines) + 14
    whole = head + height + foot
    figure = Figure(figsize=(WIDTH / 72, whole / 72))
    for index, line in enumerate(lines):
        y = 1 - (LINE * (index + 1) - 2) / whole
        figure.text(EDGE / WIDTH, y, line, fontsize=12.5, fontweight="bold")
    axes = figure.add_axes((left / WIDTH, foot / whole, 1 - (left + EDGE) / WIDTH, height / whole))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(color=COLOURS["rule"], linewidth=0.8)
    axes.tick_params(length=0, pad=5)
    return figure, axes


def _at_least(low: float, high: float) -> tuple[float, float]:
    """Widen a logarithmic range to `LEAST_RANGE`: what hardly grows shall look so."""
    widen = max(1.0, (LEAST_RANGE * low / high) ** 0.5)
    return low / widen, high * widen


def _bar(axes: Axes, row: int, bar: Bar, begin: float) -> None:
    middle, side = row + 0.68, "ours" if bar.ours else "peer"
    words, full = axes.get_yaxis_transform(), len(bar.parts) - 1
    axes.text(0, row + 0.4, _cut(bar), transform=words)
    weight = "bold" if bar.ours else "normal"
    axes.text(1, row + 0.4, bar.value, transform=words, ha="right", fontweight=weight)
    reached = begin
    for index, part in enumerate(bar.parts):
        colour = COLOURS[side if index == full else f"{side}-soft"]
        length = part - begin if len(bar.parts) == 1 else part
        axes.barh(middle, length, 0.3, left=reached, color=colour)
        reached += length
    if bar.least != bar.greatest:
        ends = ((bar.least, middle), (bar.greatest, middle))
        axes.plot(*zip(*ends, strict=True), "|-", color=COLOURS["ink"], linewidth=1.1, markersize=6)


def _cut(bar: Bar) -> str:
    """Cut a label that would run into its value."""
    most = LINE_LETTERS - len(bar.value)
    return bar.label if len(bar.label) <= most else f"{bar.label[: most - 1]}…"


def _numbers(axes: Axes, name: str, decades: float | None) -> None:
    """Label an axis with plain numbers; `decades` is greatest over least of a logarithmic one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    axis = axes.xaxis if name == "x" else axes.yaxis
    if decades is None:
        axis.set_major_locator(MaxNLocator(5))
    else:
        steps = (1.0,) if decades > 300 else (1.0, 3.0) if decades > 60 else (1.0, 2.0, 5.0)
        axis.set_major_locator(LogLocator(subs=steps))
        axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
