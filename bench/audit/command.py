"""What `uservlm audit` does: ask, judge, write, record, say.

Owns: the order of these and what is printed. Progress goes to stderr, the verdict to stdout.
Nothing of a face is written but what draws a drawn one again, and own pictures with --keep-pictures
alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from uservlm.bench.audit import measure, verdict, world
from uservlm.bench.audit.findings import Audit, to_json
from uservlm.bench.audit.own_asking import effort, own_results
from uservlm.bench.audit.own_pictures import OwnPictures
from uservlm.bench.audit.own_pictures import read as read_pictures
from uservlm.bench.audit.page import write_page
from uservlm.bench.audit.probes import SHIPPED, Probes
from uservlm.bench.audit.probes import read as read_probes
from uservlm.bench.audit.record import check_people, kept, record
from uservlm.bench.audit.thresholds import digest as thresholds_digest
from uservlm.runtime.adapters import NO_ADAPTER, choose
from uservlm.runtime.agreement import ShadowPolicy
from uservlm.runtime.audited import digest
from uservlm.runtime.bundle import Bundle, open_bundle
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
    """Audit as the options of `runtime/audit_command.py` say; 0 passed, 1 failed.

    Raises:
        UserVLMError: what was asked for cannot be audited.
    """
    plan = _plan(options)
    found = audit(plan, options)
    folder = _write(found, plan, options)
    if options.record:
        record(plan.bundle.path, found)
    if options.json:
        print(_compact(found))
    else:
        Console().print(table(found))
        print(_last_line(found, folder, options.record))
    return 0 if found.passed else 1


def audit(plan: Plan, options: argparse.Namespace) -> Audit:
    """Ask everything and judge it."""
    with _progress(plan) as done, _opened(plan, options) as vlm:
        attention = vlm.attention
        own = own_results(
            vlm, plan.own, plan.probes, plan.adapter, plan.seed, options.keep_pictures, done
        )
        outcomes = measure.measure(vlm, plan.probes, plan.seed, plan.people, plan.adapter, done)
        results = (*verdict.results(plan.probes, outcomes), *own)
    manifest = plan.bundle.manifest
    return Audit(
        bundle=manifest.name,
        adapter=plan.adapter,
        attention=attention,
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


def table(found: Audit) -> Table:
    """Lay the verdicts out for a terminal: each probe with the figures that decide."""
    title = f"{found.bundle}, adapter {found.adapter}: {found.people} people"
    shown = Table(title=title, box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for head in ("part and probe", "figure", "measured", "95 % interval", "limit", "verdict"):
        shown.add_column(head, no_wrap=True)
    for probe in found.probes:
        for number, figure in enumerate(one for one in probe.figures if one.limit is not None):
            assert figure.limit is not None
            shown.add_row(
                "" if number else f"{probe.part} {probe.id}",
                figure.name.replace("_", " "),
                f"{figure.value:.3g}",
                f"{figure.interval.low:.3g} … {figure.interval.high:.3g}",
                f"{_SIGNS[figure.limit.side]} {figure.limit.value:g}",
                "kept" if figure.kept else "BROKEN",
            )
    return shown


def _plan(options: argparse.Namespace) -> Plan:
    check_people(options.people, options.record)
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
        seed=world.SEED if options.seed is None else options.seed,
        own=None
        if options.pictures is None
        else read_pictures(options.pictures, options.attributes),
    )


@contextmanager
def _opened(plan: Plan, options: argparse.Namespace) -> Iterator[UserVLM]:
    """Open the bundle as it is served, but for the second answers in idle time."""
    from uservlm.runtime import UserVLM

    with UserVLM.load(
        plan.bundle.path,
        attention=options.attention,
        adapter=plan.adapter,
        threads=options.threads,
        shadow=ShadowPolicy(share=0),
        verify=False,
    ) as vlm:
        yield vlm


@contextmanager
def _progress(plan: Plan) -> Iterator[Callable[[int], None]]:
    """Show on stderr how much is asked; gives what counts an answer."""
    total = measure.effort(plan.probes, plan.seed, plan.people)
    if plan.own is not None:
        total += effort(plan.own, plan.probes)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        step = progress.add_task("asking", total=total)
        yield lambda count: progress.advance(step, count)


def _write(found: Audit, plan: Plan, options: argparse.Namespace) -> Path:
    """Write JSON and page into one folder and give the page."""
    folder = options.out or Path(f"audit-{plan.bundle.path.resolve().name}-{plan.adapter}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / JSON_FILE).write_text(to_json(found), encoding="utf-8")
        page = write_page(found, folder, options.pictures if options.keep_pictures else None)
        for file in (folder / JSON_FILE, page):  # the folder may have been there, and open to all
            file.chmod(0o600)
        return page
    except OSError as error:
        raise RequestError(f"{folder} cannot be written: {error.strerror}; give --out") from error


def _last_line(found: Audit, written: Path, recorded: bool) -> str:
    failed = [probe.title for probe in found.probes if not probe.passed]
    verdict_ = f"failed: {', '.join(failed)}" if failed else "passed"
    where = "recorded in the manifest" if recorded else "not recorded"
    return f"{verdict_}; {where}; {written}"


def _compact(found: Audit) -> str:
    """Give one line of JSON: what the manifest keeps, with the bundle's name and adapter."""
    line = {"bundle": found.bundle, "adapter": found.adapter, **asdict(kept(found))}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))
