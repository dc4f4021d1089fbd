"""The page of a run and README's table: made of fixed results, and looked at in a browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bench_results import curve, nothing, results, row, subject
from browser import Scheme, browser, look
from page_look import ENOUGH_CONTRAST, LOOK

from uservlm.bench import findings, report, wording
from uservlm.bench.figures import charts, fitted
from uservlm.bench.plotting import COLOURS, svg
from uservlm.bench.results import Measured, Spread

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ORDER = ("latency", "flops", "limits", "memory", "load", "growth", "fidelity")


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(results(), tmp_path_factory.mktemp("report"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_reader_sees_everything(opened: Browser, page: Path, width: int, scheme: Scheme) -> None:
    """On a phone and on a desk, by day and by night."""
    with look(opened, page, width, scheme) as (window, seen):
        found: dict[str, Any] = window.evaluate(LOOK)
    assert seen.complaints == []
    assert seen.requests == [page.as_uri()]
    assert found["width"] <= found["inner"] == width
    assert all(w > 0 and h > 0 and left >= 0 and right <= width
               for left, right, w, h in found["headings"])  # fmt: skip
    assert len(found["drawings"]) == len(charts(results()))
    assert all(w > 300 and h > 100 for _, _, w, h in found["drawings"])
    assert len(found["drawn"]) > 100 and min(map(min, found["drawn"])) >= 0
    assert min(found["faint"])[0] >= ENOUGH_CONTRAST, min(found["faint"])
    assert (found["dark"] < 0.1) == (scheme == "dark")
    assert len(found["ids"]) == len(set(found["ids"]))


def test_figures_tell_their_finding_in_words(opened: Browser, page: Path) -> None:
    """To whoever does not see them."""
    with look(opened, page, 1280, "light") as (window, _):
        labels = window.locator('svg[role="img"]').evaluate_all("all => all.map(x => x.ariaLabel)")
    assert sorted(labels) == sorted(f"{one.title}. {one.says}" for one in charts(results()))


def test_nothing_is_left_to_a_script_or_to_the_net(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text and "@import" not in text
    assert text.count("http") == text.count("http://www.w3.org/")  # names of SVG's vocabulary


def test_it_begins_with_what_was_measured_and_then_what_was_found(page: Path) -> None:
    """The weights' kind comes before any figure: it is what a sceptic asks first."""
    text = page.read_text(encoding="utf-8")
    head = text[text.index("<body>") : text.index("<main>")]
    order = ["user-vlm-3b", "Xeon", "21 November 2026, 10:34 UTC", "7be3122",
             "never quality", "862", "0.720 times", "and so is faster", "8.21 times",
             "31\xa0min 13\xa0s"]  # fmt: skip
    places = [head.index(one) for one in order]
    assert places == sorted(places)


def test_a_busy_machine_is_told_before_any_figure() -> None:
    busy = replace(results(), machine=replace(results().machine, load=7.5))
    head, _, _ = report.render(busy, {}).partition("<main>")
    assert "load average 7.5" in head
    assert "load average" not in report.render(results(), {})


def test_sections_come_in_order_and_absent_ones_do_not(tmp_path: Path) -> None:
    whole = report.render(results(), {})
    places = [whole.index(f'<section id="{name}"') for name in (*ORDER, "missing")]
    assert places == sorted(places)
    little = replace(nothing(), memory=results().memory)
    text = report.write(little, tmp_path).read_text(encoding="utf-8")
    assert text.count("<section") == 1 and 'id="memory"' in text


def test_nothing_measured_is_still_a_page(opened: Browser, tmp_path: Path) -> None:
    empty = nothing()
    with look(opened, report.write(empty, tmp_path), 390, "light") as (window, seen):
        assert window.inner_text("h1") == "user-vlm-3b"
    assert seen.complaints == []


def test_names_are_text_whatever_they_hold(opened: Browser, tmp_path: Path) -> None:
    """A bundle's name comes from its maker; rows' names end up in figures, too."""
    evil = '<script>document.title = "mine"</script>'
    told = results()
    latency = Measured((row(evil, "ttft", 1.0), row("cold", "ttft", 2.0)))
    growth = (curve(evil, evil, (1, 2, 4), (1, 2, 4), 1.0),)
    told = replace(told, subject=subject(evil), latency=latency, growth=growth)
    with look(opened, report.write(told, tmp_path), 390, "light") as (window, seen):
        assert window.inner_text("h1") == evil
        assert window.title().startswith(evil)
        assert window.locator("script").count() == 0
        assert any(evil[:30] in text for text in window.locator("svg text").all_text_contents())
    assert seen.complaints == []


def test_figures_lie_beside_the_page(page: Path) -> None:
    names = sorted(path.name for path in (page.parent / "figures").iterdir())
    assert names == sorted(
        f"{chart.name}{end}" for chart in charts(results()) for end in (".svg", ".png")
    )


def test_the_same_results_give_the_same_page(page: Path, tmp_path: Path) -> None:
    again = report.write(results(), tmp_path)
    for path in page.parent.rglob("*.*"):
        assert path.read_bytes() == (again.parent / path.relative_to(page.parent)).read_bytes(), (
            path
        )


def test_colours_of_figures_are_the_pages(page: Path) -> None:
    """What is drawn in a colour of the light page follows the page into the dark."""
    text, style = page.read_text(encoding="utf-8"), report.TEMPLATES / "report.css"
    light, dark = style.read_text(encoding="utf-8").split("@media", 1)
    for name, colour in COLOURS.items():
        assert f"--{name}: {colour};" in light and f"--{name}: #" in dark
        assert f"var(--{name})" in text
        assert text.count(colour) == 1, "once in its style, and not in a figure"


def test_bars_have_whiskers_from_least_to_greatest() -> None:
    found = next(chart for chart in charts(results()) if chart.name == "ttft")
    (axes,) = found.draw().axes
    rows = findings.chosen(results(), "ttft")
    assert len(rows) == 8 and len(axes.patches) == 8
    drawn = [tuple(map(float, line.get_xdata())) for line in axes.lines]
    assert drawn == [(one.spread.least, one.spread.greatest) for one in rows]
    assert axes.get_xscale() == "log" and axes.get_xlabel().startswith("s, logarithmic")
    begin = axes.get_xlim()[0]
    ends = [patch.get_x() + patch.get_width() for patch in axes.patches]
    assert ends == pytest.approx([one.spread.value for one in rows])
    assert {patch.get_x() for patch in axes.patches} == {begin}


def test_operations_are_stacked() -> None:
    (axes,) = next(chart for chart in charts(results()) if chart.name == "flops").draw().axes
    first, second = axes.patches[:2]  # of User-VLM 3B, cold
    assert (first.get_width(), second.get_x()) == (0.98, 0.98)
    assert second.get_x() + second.get_width() == pytest.approx(5.62)


def test_a_curve_says_its_exponent() -> None:
    chart = next(chart for chart in charts(results()) if "people" in chart.name)
    assert "exponent 0.01 (−0.03 to 0.06)" in svg(chart.draw())
    assert "near to constant" in chart.says


def test_the_fitted_line_goes_through_a_power_law() -> None:
    xs = (2.0, 4.0, 8.0)
    points = fitted(curve("cost", "size", xs, tuple(3 * x**1.5 for x in xs), 1.5))
    assert points is not None
    assert points.factor == pytest.approx(3)
    assert points.least[0] < points.medians[0] < points.greatest[0]


def test_what_has_no_place_on_a_logarithmic_axis_is_left_out() -> None:
    told = curve("cost", "size", (0.0, 1.0, 2.0, 4.0), (1.0, 2.0, 4.0, 8.0), 1.0)
    points = fitted(told)
    assert points is not None and points.at == (1.0, 2.0, 4.0)
    assert fitted(replace(told, at=(0.0, 0.0, 0.0, 4.0))) is None
    zero = Measured(
        (replace(row("cold", "ttft", 1.0), samples=(0.0, 1.0)), row("exact", "ttft", 1.0))
    )
    chart = next(one for one in charts(replace(results(), latency=zero)) if one.name == "ttft")
    assert len(chart.draw().axes[0].patches) == 1


@pytest.mark.parametrize(
    ("value", "unit", "written"),
    [
        (0.0205, "s", "20.5 ms"), (9.996, "s", "10.0 s"), (0.862, "s", "862 ms"),
        (2.45e9, "bytes", "2.45 GB"), (258e9, "FLOP", "258 GFLOP"), (0, "FLOP", "0 FLOP"),
        (24.94e9, "bytes/s", "24.9 GB/s"), (628, "tokens/s", "628 tokens/s"),
        (0.953, "", "95.3 %"), (0.41, "", "41 %"), (0.99968, "", "99.97 %"), (0, "", "0 %"),
        (1, "", "100 %"), (0.0914, "nats", "0.0914 nats"),
    ],
)  # fmt: skip
def test_figures_have_three_digits_and_a_unit_that_fits(
    value: float, unit: str, written: str
) -> None:
    assert wording.quantity(value, unit).replace(wording.SPACE, " ") == written


def test_counts_keep_every_digit() -> None:
    assert wording.short(1024) == f"1{wording.THIN}024"


def test_a_ratio_whose_spread_holds_one_is_no_difference() -> None:
    assert findings.standing(Spread(1.2, 0.99, 1.4)) == "within the spread"
    assert findings.standing(Spread(1.2, 1.01, 1.4)) == "better"
    assert findings.standing(Spread(0.8, 0.7, 0.99)) == "worse"


def test_importing_draws_in_nothing_heavy(tmp_path: Path) -> None:
    """And matplotlib, when it is drawn with, leaves nothing in the home of whoever runs it."""
    code = (
        "import sys, json; from uservlm.bench import report, compare, readme, results;"
        "before = [n for n in ('matplotlib', 'jinja2', 'torch') if n in sys.modules];"
        "sys.path.insert(0, sys.argv[1]); import bench_results; from pathlib import Path;"
        "report.write(bench_results.results(), Path(sys.argv[2]));"
        "print(json.dumps(before))"
    )
    home, cache = tmp_path / "home", tmp_path / "cache"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MPL")}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path / "out")],
        env=environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == []
    assert list(home.iterdir()) == []


def test_what_was_measured_once_has_no_spread() -> None:
    once = Measured((replace(row("cold", "ttft", 2.0), samples=(2.0,)),))
    (said, *_) = findings.sentences(replace(results(), latency=once))
    assert "comes after 2.00\xa0s when it is new" in said
