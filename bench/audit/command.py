"""What `uservlm audit` does: ask, judge, write, record, say.

Owns: the order of these and what is printed. Progress goes to stderr, the verdict to stdout.
Nothing of a face is written but what draws a drawn one again, and own pictures with --keep-pictures
alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from uservlm.bench.audit import measure, verdict, world
from uservlm.bench.audit.comparable import comparisons
from uservlm.bench.audit.deciding import deciding
from uservlm.bench.audit.findings import Audit, Figure, ProbeResult, to_json
from uservlm.bench.audit.journal import Journal, journal_in
from uservlm.bench.audit.own_asking import effort, own_results
from uservlm.bench.audit.own_pictures import OwnPictures
from uservlm.bench.audit.own_pictures import read as read_pictures
from uservlm.bench.audit.page import write_page
from uservlm.bench.audit.phrases import NOT_KEPT, standing
from uservlm.bench.audit.probes import SHIPPED, Probes
from uservlm.bench.audit.probes import read as read_probes
from uservlm.bench.audit.record import check_people, check_seed, kept, record
from uservlm.bench.audit.thresholds import digest as thresholds_digest
from uservlm.bench.audit.waiting import Work, interrupted, waiting
from uservlm.runtime.adapters import NO_ADAPTER, choose
from uservlm.runtime.agreement import ShadowPolicy
from uservlm.runtime.audited import digest
from uservlm.runtime.bundle import Bundle, open_bundle
from uservlm.runtime.durable import Draft
from uservlm.runtime.errors import RequestError

if TYPE_CHECKING:
    from uservlm.runtime import UserVLM

JSON_FILE: Final = "audit.json"
_SIGNS: Final = {"at most": "≤", "at least": "≥"}


@dataclass(frozen=True)
class Plan:
    """What will be asked, checked before anything is loaded."""

    bundle: Bundle
    adapter: str
    """One that the bundle keeps apart, or NO_ADAPTER."""
    probes: Probes
    people: int
    seed: int
    own: OwnPictures | None


def run(options: argparse.Namespace) -> int:
    """Audit as the options of `runtime/audit_command.py` say; 0 passed, 1 failed, 130 for Ctrl-C.

    Whatever ends it early, what drawn people were answered stays, and the same command goes on.

    Raises:
        UserVLMError: what was asked for cannot be audited.
    """
    plan = _plan(options)
    with journal_in(_folder(plan, options)) as journal:
        try:
            found = audit(plan, options, journal)
            page = _write(found, journal.file.parent, options)
            said = _said(found, page, options)  # what cannot be said is not recorded either
            if options.record:
                record(plan.bundle.path, found)
        except KeyboardInterrupt:
            kept, own = len(journal.people), plan.own is not None
            print(interrupted(plan.people, kept, journal.file, own), file=sys.stderr)
            return 130
        journal.delete()
    print(said)
    return 0 if found.passed else 1


def audit(plan: Plan, options: argparse.Namespace, journal: Journal) -> Audit:
    """Ask everything that an earlier run has not heard, and judge it all."""
    manifest = plan.bundle.manifest
    with _opened(plan, options) as vlm:
        attention, vision = vlm.attention, vlm.vision
        journal.open(
            deciding(
                plan.bundle, plan.adapter, attention, vision, plan.probes, plan.seed, options.verify
            )
        )
        results = _ask(vlm, plan, options, journal)
    return Audit(
        bundle=manifest.name,
        adapter=plan.adapter,
        attention=attention,
        vision=vision,
        when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seed=plan.seed,
        people=plan.people,
        own_pictures=plan.own is not None,
        weights=manifest.source.model,
        thresholds=thresholds_digest(),
        probe_file=plan.probes.sha256,
        measured_on=digest(manifest, plan.adapter),
        probes=results,
        passed=all(one.passed for one in results),
    )


def _ask(
    vlm: UserVLM, plan: Plan, options: argparse.Namespace, journal: Journal
) -> tuple[ProbeResult, ...]:
    """Own pictures come last: what is said about them is kept nowhere until the audit is done."""
    probes, seed, adapter = plan.probes, plan.seed, plan.adapter
    with waiting(_work(plan, journal), journal.file) as shown:
        for person in range(plan.people):
            if person not in journal.people:
                heard = measure.measure(vlm, probes, seed, person, adapter, shown.answered)
                journal.keep(person, heard)
                shown.person_done()
        own = own_results(
            vlm, plan.own, probes, adapter, seed, options.keep_pictures, shown.answered
        )
    outcomes = chain.from_iterable(journal.people[person] for person in range(plan.people))
    return (*verdict.results(probes, outcomes), *own)


def table(found: Audit) -> Table:
    """Lay the verdicts out for a terminal: each probe with the figures that decide."""
    title = escape(f"{found.bundle}, adapter {found.adapter}: {found.people} people")
    shown = Table(title=title, box=SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for head in ("part and probe", "figure", "measured", "95 % interval", "limit"):
        shown.add_column(head, no_wrap=True)
    shown.add_column("verdict", min_width=len(NOT_KEPT))
    for probe in found.probes:
        for number, figure in enumerate(one for one in probe.figures if one.limit is not None):
            assert figure.limit is not None
            shown.add_row(
                "" if number else escape(f"{probe.part} {probe.id}"),
                figure.name.replace("_", " "),
                f"{figure.value:.3g}",
                _interval(figure),
                f"{_SIGNS[figure.limit.side]} {figure.limit.value:g}",
                standing(figure),
            )
    return shown


def _interval(figure: Figure) -> str:
    """Write the interval; nothing where the figure was counted, and is no estimate."""
    low, high = figure.interval.low, figure.interval.high
    return "" if low == high else f"{low:.3g} … {high:.3g}"


def _plan(options: argparse.Namespace) -> Plan:
    seed = world.SEED if options.seed is None else options.seed
    check_people(options.people, options.record)
    check_seed(seed, options.record)
    if options.record and not options.verify:
        raise RequestError(
            "--no-verify leaves open what was audited, so nothing is recorded: add --no-record"
        )
    if (options.pictures is None) != (options.attributes is None):
        raise RequestError("--pictures DIR needs --attributes CSV, and the other way round")
    if options.keep_pictures and options.pictures is None:
        raise RequestError("--keep-pictures is about own pictures: give them with --pictures")
    bundle = open_bundle(options.bundle, verify=options.verify, trust=True)
    return Plan(
        bundle=bundle,
        adapter=choose(options.adapter, None, bundle.manifest) or NO_ADAPTER,
        probes=read_probes(options.probes or SHIPPED),
        people=options.people,
        seed=seed,
        own=_own(options),
    )


def _own(options: argparse.Namespace) -> OwnPictures | None:
    """Read own pictures, and make sure that something can be compared; None without any."""
    if options.pictures is None:
        return None
    own = read_pictures(options.pictures, options.attributes)
    comparisons(own)
    return own


@contextmanager
def _opened(plan: Plan, options: argparse.Namespace) -> Iterator[UserVLM]:
    """Open the bundle as it is served, but for the second answers in idle time."""
    from uservlm.runtime import UserVLM

    with UserVLM.load(
        plan.bundle.path,
        attention=options.attention,
        adapter=plan.adapter,
        threads=options.threads,
        vision=options.vision,
        shadow=ShadowPolicy(share=0),
        verify=False,
    ) as vlm:
        yield vlm


def _work(plan: Plan, journal: Journal) -> Work:
    """Count what is asked, and what of it an earlier run has asked."""
    kept = [person for person in range(plan.people) if person in journal.people]
    drawn = measure.effort(plan.probes, plan.seed, range(plan.people))
    return Work(
        people=plan.people,
        kept=len(kept),
        answers=drawn + (0 if plan.own is None else effort(plan.own, plan.probes)),
        kept_answers=measure.effort(plan.probes, plan.seed, kept),
        own_pictures=0 if plan.own is None else len(plan.own.pictures),
    )


def _folder(plan: Plan, options: argparse.Namespace) -> Path:
    default = Path(f"audit-{plan.bundle.path.resolve().name}-{plan.adapter}")
    return Path(options.out or default)


def _write(found: Audit, folder: Path, options: argparse.Namespace) -> Path:
    """Write JSON and page into the audit's folder and give the page."""
    try:
        with Draft(folder, "audit") as draft:  # 0600: the folder may be open to all
            draft.write([to_json(found).encode()])
            draft.place(JSON_FILE)
        return write_page(found, folder, options.pictures if options.keep_pictures else None)
    except OSError as error:
        raise RequestError(f"{folder} cannot be written: {error.strerror}; give --out") from error


def _said(found: Audit, page: Path, options: argparse.Namespace) -> str:
    """Lay out what stdout is told."""
    if options.json:
        return _compact(found)
    console = Console()
    with console.capture() as laid_out:
        console.print(table(found))
    return laid_out.get() + _last_line(found, page, options.record)


def _last_line(found: Audit, written: Path, recorded: bool) -> str:
    failed = [probe.title for probe in found.probes if not probe.passed]
    verdict_ = f"failed: {', '.join(failed)}" if failed else "passed"
    where = "recorded in the manifest" if recorded else "not recorded"
    return f"{verdict_}; {where}; {written}"


def _compact(found: Audit) -> str:
    """Give one line of JSON: what the manifest keeps, with the bundle's name and adapter."""
    line = {"bundle": found.bundle, "adapter": found.adapter, **asdict(kept(found))}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))
