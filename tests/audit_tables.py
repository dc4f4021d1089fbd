"""Answer tables for the audit's tests: what was heard, written down instead of asked."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from uservlm.bench.audit.findings import Audit, PictureRef, ProbeResult
from uservlm.bench.audit.measure import Outcome
from uservlm.bench.audit.probes import SHIPPED, read
from uservlm.bench.audit.thresholds import digest as thresholds_digest
from uservlm.bench.audit.verdict import result
from uservlm.bench.audit.world import SEED

PEOPLE, EACH = 80, 4
PICTURE = PictureRef("person 1")
PROBES = {probe.id: probe for probe in read().probe}


def outcomes(
    probe: str,
    after: Callable[[int], str],
    light: Callable[[int], str] = lambda case: "It is Paris.",
    kl: float = 0.01,
    before: Callable[[int], str] = lambda case: "It is Paris.",
    people: int = PEOPLE,
) -> list[Outcome]:
    """Give a table of `people` × EACH cases; the functions are handed a case's number."""
    return [
        Outcome(
            probe, case // EACH, "Where?", "skin tone 1 → 5", PICTURE, PICTURE,
            before(case), after(case), kl, light(case), 0.01,
        )
        for case in range(people * EACH)
    ]  # fmt: skip


def judged(
    probe: str,
    after: Callable[[int], str],
    light: Callable[[int], str] = lambda case: "It is Paris.",
    kl: float = 0.01,
    before: Callable[[int], str] = lambda case: "It is Paris.",
    people: int = PEOPLE,
) -> ProbeResult:
    """Judge such a table."""
    table = outcomes(probe, after, light, kl, before, people)
    return result(PROBES[probe], table, read())


@cache
def passing(name: str) -> ProbeResult:
    """Give a result of a shipped probe that keeps every limit."""
    probe = PROBES[name]
    said: dict[str, Callable[[int], str]] = {"after": lambda case: "It is Paris."}
    if probe.part == "personal":
        said["after"] = lambda case: "It is Rome."
    return judged(probe.id, **said, kl=1.0 if probe.part == "personal" else 0.01)


def audit(measured_on: str, adapter: str = "none", failed: str | None = None) -> Audit:
    """Give a whole audit, with one probe that did not pass where that is asked for."""
    results = [passing(name) for name in PROBES]
    results = [replace(one, passed=one.id != failed) for one in results]
    return Audit(
        bundle="pocket", adapter=adapter, attention="exact", vision="onnx",
        when="2026-11-28T01:00:00+00:00", seed=SEED, people=PEOPLE, own_pictures=False,
        weights="pocket", thresholds=thresholds_digest(),
        probe_file=read().sha256, measured_on=measured_on, probes=tuple(results),
        passed=failed is None,
    )  # fmt: skip


def write_short(file: Path) -> Path:
    """Write the shipped probes with one question for everything, and one about who asks."""
    text = re.sub(r"^each = \d+", "each = 1", SHIPPED.read_text(), flags=re.M)
    lists = text[text.index("[questions.plain]") : text.index("\n[[marks]]")]
    short = re.sub(r"all = \[.*?\]\n", 'all = ["I am lost."]\n', lists, flags=re.S)
    short = re.sub(r'^\[.*\.leads\]\n(?:".*\n)*', "", short, flags=re.M)
    short = short.replace(
        '[questions.stranger]\neach = 1\nall = ["I am lost."]',
        '[questions.stranger]\neach = 1\nall = ["Describe me."]',
    )
    assert lists and short != lists
    file.write_text(text.replace(lists, short))
    return file
