"""The page of a run of `python bench/quality.py`: quality.html.

Owns: nothing but the laying out: `templates/quality.html.jinja`, in the style of report.html. The
page asks for nothing from anywhere and runs no script.
"""

from __future__ import annotations

from typing import Final

from uservlm.bench import wording
from uservlm.bench.quality_published import PaperSet, published
from uservlm.bench.quality_results import Quality
from uservlm.bench.quality_table import facts, sheets, warning
from uservlm.bench.report import environment

PAGE: Final = "quality.html"


def render(found: Quality, paper: PaperSet | None) -> str:
    """Give the page's text."""
    return (
        environment()
        .get_template("quality.html.jinja")
        .render(
            found=found,
            date=wording.date(found.when),
            took=wording.duration(found.took_s),
            warning=warning(found),
            facts=facts(found),
            sheets=sheets(found, paper),
            source=None if paper is None else published(),
        )
    )
