"""`uservlm verify`: what it prints, and when it fails.

Owns: the words. Measuring is done by `verify.py` and `verify_against.py`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from uservlm.converters.cases import CASES
from uservlm.converters.parity import check
from uservlm.converters.plan import BUNDLE, heading
from uservlm.converters.progress import Steps
from uservlm.converters.proof import read_proof
from uservlm.converters.proving import verdict
from uservlm.converters.verify import Repeat, check_repeats, questions_in, repeat
from uservlm.runtime.adapters import places_by_name
from uservlm.runtime.bundle import open_bundle
from uservlm.runtime.errors import RequestError
from uservlm.runtime.manifest import ENOUGH, Agreement, Manifest, Parity

CASES_BY_DEFAULT = 4
"""Pairs of picture and question the original is asked when nobody says how many."""


def verify(options: argparse.Namespace) -> None:
    """Prove a bundle again and print the figures.

    Args:
        options: bundle, vision, reference, revision, adapters, kept, cases, record and json.

    Raises:
        BundleError, CheckpointError: see `repeat` and `hold_against`.
        ParityError: the bundle does not answer as it should; the figures are printed before.
    """
    path, steps = Path(options.bundle), Steps(quiet=options.json)
    manifest = open_bundle(path, verify=False).manifest
    if options.reference is None:
        with steps.step(BUNDLE, questions_in(read_proof(path))) as done:
            repeats = repeat(path, done, options.vision)
        _print(options, [asdict(one) for one in repeats], _said_again(repeats))
        check_repeats(repeats)
        return
    from uservlm.converters.sources import Wanted
    from uservlm.converters.verify_against import check_writable, hold_against, record

    cases = CASES_BY_DEFAULT if options.cases is None else options.cases
    _check_cases(cases, options.record, manifest)
    if options.record:
        check_writable(path)
    wanted = Wanted(
        options.reference, options.revision, tuple(options.adapters), places_by_name(options.kept)
    )
    found = hold_against(path, wanted, cases, steps)
    records = [
        {"adapter": name, "parity": asdict(parity), "resident": asdict(resident)}
        for name, (parity, resident) in found.items()
    ]
    _print(options, records, _measured(found))
    for name, (parity, _) in found.items():
        check(parity, f"{heading(name)}the bundle")
    if options.record:
        record(path, found)


def _check_cases(cases: int, record: bool, manifest: Manifest) -> None:
    if not 1 <= cases <= CASES:
        raise RequestError(f"cases is {cases}: give 1 to {CASES}")
    recorded = 0 if manifest.parity is None else manifest.parity.cases
    if record and cases < max(ENOUGH, recorded):
        raise RequestError(
            f"--record with {cases} cases would write figures that decide nothing over those of "
            f"{recorded}: give --cases {max(ENOUGH, recorded)} or more"
        )


def _print(
    options: argparse.Namespace, records: list[dict[str, Any]], lines: Iterator[str]
) -> None:
    print(json.dumps(records, ensure_ascii=False) if options.json else "\n".join(lines))


def _said_again(repeats: list[Repeat]) -> Iterator[str]:
    for one in repeats:
        then, limits = one.recorded, one.recorded.threshold
        yield (
            f"{heading(one.adapter)}{one.cases} cases against what the original said: "
            f"vision cosine {one.vision_cosine:.5f} (then {then.vision_cosine:.5f}, "
            f"needed {limits['vision_cosine']:g}), first token KL {one.first_token_kl:.2g} "
            f"(then {then.first_token_kl:.2g}, at most {limits['answer_kl']:g}) "
            f"and same {one.first_token_top1:.0%}, answers as then {one.same_answers:.0%}"
        )


def _measured(found: Mapping[str, tuple[Parity, Agreement]]) -> Iterator[str]:
    for name, (parity, resident) in found.items():
        yield (
            f"{heading(name)}{parity.cases} cases, {parity.answer_positions} tokens against the "
            f"original: vision cosine {parity.vision_cosine:.5f}, KL {parity.answer_kl:.2g}, "
            f"same token {parity.answer_top1:.0%}, same answer {parity.greedy_agreement:.0%}"
        )
        yield (
            f"{heading(name)}resident against exact: same first token "
            f"{resident.first_token_top1:.0%}, ROUGE-1 {resident.rouge1:.3f}: {verdict(resident)}"
        )
