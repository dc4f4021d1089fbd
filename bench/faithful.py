"""Section `fidelity`: how far int8, 4 bits and resident attention stray.

Owns: which figures are shown. Those of the bundle against its original were measured by the export
and stand in its manifest; resident against exact is measured here, as `bench/fidelity.py` does it.
"""

from __future__ import annotations

from typing import Final

from uservlm.bench import both_ways
from uservlm.bench.fidelity import FIGURES, find_pictures, spread
from uservlm.bench.job import Job, row
from uservlm.bench.results import Better, Measured, Missing, Row
from uservlm.converters.cases import QUESTIONS
from uservlm.runtime.errors import RequestError

CASES: Final = 64
FEW: Final = 8
"""Of a large model, which takes ten seconds for each."""
INTERVAL: Final = "with its 95 % interval"
PARITY: Final[dict[str, Better]] = {
    "vision_cosine": "more",
    "answer_kl": "less",
    "answer_top1": "more",
    "greedy_agreement": "more",
}
"""Figures of the manifest, and which way is better."""


def measure(job: Job) -> Measured:
    """Ask the same cases exactly and resident."""
    cases = FEW if job.large else CASES
    pictures = find_pictures(None, cases, len(QUESTIONS))
    asked = spread(len(pictures), QUESTIONS, cases)
    job.say(f"{cases} cases, exact and resident")
    try:
        found = both_ways.measure(job.bundle, pictures, asked, None, job.answer_tokens, job.threads)
    except RequestError as error:  # no question can be asked of a resident user of this bundle
        return Measured(_against_original(job), missing=(Missing("resident", str(error)),))
    return Measured((*_against_original(job), *_resident(found)))


def _resident(found: both_ways.Fidelity) -> list[Row]:
    rows = []
    for name, words in FIGURES.items():
        figure = found.figures[name]
        samples = (figure.interval.low, figure.value, figure.interval.high)
        better: Better = "less" if name.endswith("kl") else "more"
        case = f"{found.agreement.cases} cases, {INTERVAL}"
        rows.append(row("resident against exact", words, case, _unit(name), samples, better))
    return rows


def _unit(name: str) -> str:
    return "nats" if name.endswith("kl") else ""


def _against_original(job: Job) -> tuple[Row, ...]:
    parity = job.bundle.manifest.parity
    if parity is None:
        return ()
    case = f"{parity.cases} cases, measured by the export"
    side = "bundle against its original"
    return tuple(
        row(side, name, case, _unit(name), [float(getattr(parity, name))], better)
        for name, better in PARITY.items()
    )
