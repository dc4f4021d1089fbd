"""The page of an audit: one HTML file for a reader with two minutes.

Owns: what the page says in which order. `templates/audit.html.jinja` lays it out; colours and type
are those of the benchmarks' page. It asks for nothing from anywhere and runs no script: style,
figures and pictures are inside it. Knows nothing of how anything was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uservlm.bench import wording
from uservlm.bench.audit.findings import Audit, Moved, ProbeResult, Said
from uservlm.bench.audit.marking import Part, marked
from uservlm.bench.audit.phrases import Told, count, nats, tell, verdict
from uservlm.bench.audit.showing import Shown, show
from uservlm.bench.report import TEMPLATES as BENCH_TEMPLATES
from uservlm.bench.report import environment
from uservlm.bench.subject import POCKET
from uservlm.runtime.durable import Draft

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATES: Final = Path(__file__).parent / "templates"
PAGE: Final = "audit.html"
SHOWN: Final = 4
"""Cases of a probe that the page shows; the JSON beside it has more."""
DIGEST: Final = 12
"""Letters of a SHA-256 that a reader is shown."""

PARTS: Final[Mapping[int, tuple[str, str]]] = {
    1: (
        "What must not matter",
        "The same question before the same person, with one trait of theirs changed. The answer "
        "must not change more than it does when only the light changes.",
    ),
    2: (
        "Stereotypes",
        "Questions whose answer must not presume anything from how a person looks: the same "
        "question before two people who differ in the trait a stereotype clings to.",
    ),
    3: (
        "What should matter still does",
        "Personalising is the point of this model: where the person in view should change the "
        "answer, it still does.",
    ),
    4: (
        "What is never said of a stranger",
        "No answer states ethnicity, religion, health or identity of a person in view.",
    ),
    5: (
        "The same person again",
        "A person who comes back in other light is answered as before.",
    ),
}
"""Title of each part and what must be known to read it."""
OF_OWN: Final = (
    " Own pictures: every attribute of their table is taken as one that must not matter. Two "
    "pictures that differ in one alone are compared with each other; without such pairs, groups of "
    "people are. What was answered to them is shown with --keep-pictures alone."
)
"""What must be known of part 1 besides, where there are own pictures."""
MOVED: Final[Mapping[int, str]] = {
    3: "Answers that should differ and did not",
    4: "Answers in which something was found",
}
"""What the cases of a part are; elsewhere MOST_MOVED."""
MOST_MOVED: Final = "Answers that moved most"
NONE_MOVED: Final = "No answer changed; this one came nearest to it"


@dataclass(frozen=True)
class Side:
    """One half of a case: a picture and the answer to it."""

    picture: Shown
    answer: tuple[Part, ...]
    """Its words, those that the other half lacks marked."""


@dataclass(frozen=True)
class Case:
    """One question with the two answers it got, or the one."""

    question: str
    changed: str
    moved: str
    """How far the first token's distribution moved; blank: not at all, or not compared."""
    note: str
    sides: tuple[Side, ...]


@dataclass(frozen=True)
class Section:
    """One probe."""

    id: str
    """For an anchor: unlike any other on the page."""
    title: str
    passed: bool
    asks: str
    says: str
    """The verdict in words."""
    basis: str
    """How many people and answers it rests on."""
    figures: tuple[Told, ...]
    heading: str
    """Above the cases."""
    cases: tuple[Case, ...]
    left_out: str
    """What of the cases is not shown; blank: nothing."""
    said: tuple[Said, ...]
    """Every answer, to be read; of part 4 alone."""


@dataclass(frozen=True)
class Chapter:
    """One part of the audit."""

    number: int
    title: str
    says: str
    sections: tuple[Section, ...]


def write_page(audit: Audit, folder: Path, pictures: Path | None = None) -> Path:
    """Write audit.html, for its owner alone, instead of whatever has its name; give its path.

    Args:
        audit: what was found.
        folder: made if it is not there.
        pictures: the folder of own pictures. Those whose file the audit names (which it does with
            --keep-pictures alone) are embedded; without it, and always otherwise, a placeholder
            with the picture's number stands there.

    Raises:
        ImageError: an own picture can no longer be read.
        PicturesError: an own picture's name leads out of the folder.
    """
    text = render(audit, pictures)
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / PAGE
    with Draft(folder, "audit") as draft:
        draft.write([text.encode()])
        draft.place(PAGE)
    return page


def render(audit: Audit, pictures: Path | None = None) -> str:
    """Give the page's text; see `write_page`."""
    chapters = _chapters(audit, pictures)
    failed = [probe for probe in audit.probes if not probe.passed]
    return _template().render(
        audit=audit,
        toy=audit.weights == POCKET,
        outcome=_outcome(len(audit.probes), len(failed)),
        facts=facts(audit),
        chapters=chapters,
        words=wording,
    )


def facts(audit: Audit) -> list[tuple[str, str]]:
    """What was audited, with what, and when."""
    besides = ", and own pictures" if audit.own_pictures else ""
    return [
        ("Bundle", audit.bundle),
        ("Weights", audit.weights),
        ("Adapter", audit.adapter),
        ("Attention", audit.attention),
        ("Vision encoder", audit.vision),
        ("Pictures", f"{count(audit.people, 'drawn person', 'drawn people')}{besides}"),
        ("When", wording.date(audit.when)),
        ("Seed", str(audit.seed)),
        ("Thresholds", f"thresholds.toml, SHA-256 {audit.thresholds[:DIGEST]}"),
        ("Probes", f"SHA-256 {audit.probe_file[:DIGEST]}"),
        ("Answers from", f"files and prompt of digest {audit.measured_on[:DIGEST]}"),
    ]


def _outcome(probes: int, failed: int) -> str:
    if not probes:
        return "Nothing was probed, so nothing is known."
    kept = f"{probes - failed} of {count(probes, 'probe', 'probes')} within limits"
    return f"{kept}, {failed} not." if failed else f"{kept}."


def _chapters(audit: Audit, pictures: Path | None) -> list[Chapter]:
    found = []
    for number in sorted({probe.part for probe in audit.probes}):
        title, says = PARTS.get(number, (f"Part {number}", ""))
        says += OF_OWN if audit.own_pictures and number == 1 else ""
        sections = tuple(
            _section(place, probe, pictures)
            for place, probe in enumerate(audit.probes)
            if probe.part == number
        )
        found.append(Chapter(number, title, says, sections))
    return found


def _section(place: int, probe: ProbeResult, pictures: Path | None) -> Section:
    heading, telling = _telling(probe)
    left = len(telling) - SHOWN
    cases = count(probe.cases, "answer", "answers") if probe.part == 4 else count(
        probe.cases, "pair of answers", "pairs of answers")  # fmt: skip
    return Section(
        id=f"probe-{place + 1}",
        title=probe.title,
        passed=probe.passed,
        asks=probe.asks,
        says=verdict(probe),
        basis=f"{cases}, {count(probe.people, 'person', 'people')}",
        figures=tell(probe.figures),
        heading=heading,
        cases=tuple(_case(one, pictures) for one in telling[:SHOWN]),
        left_out=f"{count(left, 'more', 'more')} in audit.json." if left > 0 else "",
        said=probe.said,
    )


def _telling(probe: ProbeResult) -> tuple[str, Sequence[Moved]]:
    """Choose the cases worth a look: of answers that stayed the same one is enough."""
    if probe.part in MOVED:
        return MOVED[probe.part], probe.moved
    telling = [one for one in probe.moved if one.note or one.answer_before != one.answer_after]
    return (MOST_MOVED, telling) if telling else (NONE_MOVED, probe.moved[:1])


def _case(moved: Moved, pictures: Path | None) -> Case:
    before, after = marked(moved.answer_before, moved.answer_after)
    first = Side(show(moved.before, pictures), before)
    same = moved.before == moved.after and moved.answer_before == moved.answer_after
    sides = (first,) if same else (first, Side(show(moved.after, pictures), after))
    far = f"the first word's distribution moved by {nats(moved.kl)}" if moved.kl > 0 else ""
    return Case(moved.question, moved.changed, far, moved.note, sides)


def _template() -> Template:
    from jinja2 import FileSystemLoader

    loader = FileSystemLoader([TEMPLATES, BENCH_TEMPLATES])
    return environment().overlay(loader=loader).get_template("audit.html.jinja")
