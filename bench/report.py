"""The page that shows a run: report.html, with its figures beside it as SVG and PNG.

Owns: what the page says in which order. `templates/report.html.jinja` lays it out. The page asks
for nothing from anywhere: style and figures are inside it, and it runs no script.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uservlm.bench import peer_gemma3, peer_openvino, wording
from uservlm.bench.figures import Chart, charts
from uservlm.bench.findings import sentences, weights
from uservlm.bench.plotting import inline
from uservlm.bench.plotting import write as write_figure
from uservlm.bench.results import Measured, Missing, Results
from uservlm.bench.tables import Group, Matrix, counted, fitted, groups, matrices, slowdowns

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES: Final = Path(__file__).parent / "templates"
PAGE: Final = "report.html"
FIGURES: Final = "figures"
"""Folder beside the page."""
HEADINGS: Final[Mapping[str, tuple[str, str]]] = {
    "latency": (
        "Latency",
        "Both sides run in processes of their own and take turns. A figure is a median, beside it "
        "the least and the greatest sample; a ratio is of medians, its spread that of neighbours.",
    ),
    "flops": (
        "Operations",
        "Counted on meta tensors by running each model's own code, not by a formula; a "
        "multiplication with its addition counts as two.",
    ),
    "limits": (
        "What this machine allows",
        "Measured in the same run: what no program can exceed here, and how near we come.",
    ),
    "memory": (
        "Memory and disk",
        "Peaks are of the whole process, pages of mapped files included.",
    ),
    "load": ("With one core busy", "The same questions while another process keeps one core busy."),
    "growth": (
        "Cost as it grows",
        "Both axes are logarithmic: a straight line is a power, its slope the exponent. The spread "
        "of an exponent comes from leaving one point out at a time.",
    ),
    "fidelity": (
        "Fidelity",
        "How often the fast way to attend answers as the exact way does, and how far the bundle "
        "strays from the model it was made from.",
    ),
}
"""Title of each section and what must be known to read it, in the order of the page."""
BETTER: Final = (
    "How many times better ours is, measured in turns; below 1 the peer is better. Grey: the "
    "spread holds 1, so that neither is. The last line of a cell has the medians, the peer's and "
    "ours: of these turns, so they may differ from the bars above, where ours was timed alone."
)
BESIDE: Final = "Each side alone and beside a process that only computes, one turn after the other."


ABOUT: Final[Mapping[str, str]] = {
    "cold": "vision, then image and question in one prefill: the peers' own work",
    "exact": "the user embedding is kept: image and question in one prefill",
    "resident": "the image's KV cells are kept: the question alone",
    "restored": "those cells come from disk, encrypted, the file being in the page cache",
    "transformers-bf16": "as User-VLM's own example does it, everything anew for each question",
    "transformers-f32": "the same in float32",
    "llama.cpp": "the bundle's own language.gguf, as many positions of text: what our Python adds "
    "to. llama.cpp's own defaults, in the build that we use",
    "llama.cpp, image cached": "the same behind as many cells as a picture takes",
    "gemma3-llama.cpp": peer_gemma3.WORDS,
    "gemma3-llama.cpp, image cached": "the same, its picture's cells kept, which is exact for it",
    "openvino": peer_openvino.WORDS,
}
"""What each side does for an answer."""


@dataclass(frozen=True)
class Figure:
    """A figure as it stands in the page."""

    name: str
    says: str
    drawing: str
    """SVG."""


@dataclass(frozen=True)
class Section:
    """One section; what it does not have is empty."""

    key: str
    title: str
    says: str
    figures: tuple[Figure, ...]
    groups: tuple[Group, ...] = ()
    matrices: tuple[Matrix, ...] = ()
    compares: str = ""
    """What the ratios of the matrices are."""
    about: tuple[tuple[str, str], ...] = ()
    """Who takes part, and what they do."""


def write(results: Results, folder: Path) -> Path:
    """Write report.html and figures/*.svg, *.png and give the page's path."""
    beside = folder / FIGURES
    beside.mkdir(parents=True, exist_ok=True)
    drawn = {chart: write_figure(chart.draw(), beside, chart.name) for chart in charts(results)}
    page = folder / PAGE
    page.write_text(render(results, drawn), encoding="utf-8")
    return page


def render(results: Results, drawn: Mapping[Chart, str]) -> str:
    """Give the page's text.

    Args:
        results: what was found.
        drawn: SVG text of each figure.
    """
    found = [name for name in HEADINGS if getattr(results, name) is not None]
    return (
        environment()
        .get_template("report.html.jinja")
        .render(
            results=results,
            proves=weights(results.subject.weights),
            facts=facts(results),
            said=sentences(results),
            sections=[_section(results, name, drawn) for name in found],
            counts=[counted(one) for one in results.flops.counts] if results.flops else [],
            curves=[fitted(one) for one in results.growth or ()],
            missing=[(wording.side(one.what), one.why) for one in _missing(results)],
            words=wording,
        )
    )


def facts(results: Results) -> list[tuple[str, str]]:
    """What was measured, on what and when."""
    machine, subject = results.machine, results.subject
    size = sum(subject.bundle_bytes.values())
    threads = f"{machine.cores} cores for this process, {machine.threads} threads"
    return [
        ("Subject", f"{subject.name}: {subject.shape}, {subject.image_tokens} image tokens"),
        ("Weights", subject.weights),
        ("Precision", f"language {subject.language}, vision {subject.vision}; "
                      f"{wording.quantity(size, 'bytes')} on disk"),
        ("Machine", f"{machine.processor}; {threads}; "
                    f"{wording.quantity(machine.memory_bytes, 'bytes')} of memory"),
        ("Instructions", ", ".join(machine.instructions) or "none of those that decide speed here"),
        ("System", f"{machine.kernel}; " + ", ".join(
            f"{name} {version}" for name, version in machine.packages.items())),
        ("When", f"{wording.date(results.when)}, took {wording.duration(results.took_s)}, "
                 f"{results.repeat} samples of each unless said otherwise"),
        ("Commit", results.commit),
    ]  # fmt: skip


def environment() -> Environment:
    """Give what turns the files of `templates/` into pages."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _section(results: Results, name: str, drawn: Mapping[Chart, str]) -> Section:
    heading, says = HEADINGS[name]
    figures = tuple(
        Figure(chart.name, chart.says, inline(svg, chart.name, f"{chart.title}. {chart.says}"))
        for chart, svg in drawn.items()
        if chart.section == name
    )
    measured = getattr(results, name)
    if not isinstance(measured, Measured):
        return Section(name, heading, says, figures)
    lay = slowdowns if name == "load" else matrices
    compares = BESIDE if name == "load" else BETTER
    about = _about(measured) if name == "latency" else ()
    return Section(
        name, heading, says, figures, groups(measured.rows), lay(measured.duels), compares, about
    )


def _about(measured: Measured) -> tuple[tuple[str, str], ...]:
    sides = dict.fromkeys(row.side for row in measured.rows)
    return tuple((wording.side(side), ABOUT[side]) for side in sides if side in ABOUT)


def _missing(results: Results) -> list[Missing]:
    sections = [getattr(results, name) for name in HEADINGS]
    return [one for section in sections for one in getattr(section, "missing", ())]
