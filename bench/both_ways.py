"""A bundle asked the same cases exactly and resident: the scores, their intervals, the record.

Owns: the order of asking and what is kept of it. The scores are `runtime/agreement.py`'s and the
asking is the export's own (`converters/parity.py`), so a figure measured here and one measured at
export mean the same. Knows nothing of where pictures come from, or of a terminal.

Intervals are 95 %: Wilson's for shares and for ROUGE-1, which lies within 0 … 1, and the percentile
bootstrap's for KL. Cases are taken to be independent; several questions about one picture are a
little less than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from uservlm.converters.cases import Case
from uservlm.converters.parity import Pair, agreement, ask, pair
from uservlm.runtime.adapters import NO_ADAPTER
from uservlm.runtime.agreement import Interval, bootstrap, mean, wilson
from uservlm.runtime.bundle import Bundle, open_bundle, replace_manifest
from uservlm.runtime.errors import AttentionError, RequestError
from uservlm.runtime.manifest import Agreement

if TYPE_CHECKING:
    from uservlm.runtime import UserVLM
    from uservlm.runtime.image import Picture


@dataclass(frozen=True)
class Figure:
    """One figure and where it lies."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Fidelity:
    """What was measured."""

    agreement: Agreement
    """What a manifest keeps."""
    figures: dict[str, Figure]
    """first_token_top1, first_token_kl, same_answer and rouge1."""
    pictures: int
    skipped: int
    """Questions that cannot be asked of a resident user; the engine answers them exactly."""


def measure(
    bundle: Bundle,
    pictures: Sequence[Picture],
    cases: Sequence[Case],
    adapter: str | None,
    tokens: int | None = None,
    threads: int | None = None,
    done: Callable[[int], None] = lambda count: None,
) -> Fidelity:
    """Ask every case exactly and resident, and compare.

    Args:
        bundle: opened, its files checked.
        pictures: that the cases number.
        cases: sorted by picture, so that each is looked at once.
        adapter: one that the bundle keeps apart, or None.
        tokens: of each answer that are looked at; None takes the bundle's longest answer.
        threads: None lets the runtime choose.
        done: called with 1 after each answer.

    Raises:
        ImageError: a picture cannot be read.
        RequestError: no question can be asked of a resident user.
    """
    from uservlm.runtime import UserVLM

    limit = tokens or bundle.manifest.prompt.max_new_tokens
    with UserVLM.load(bundle.path, attention="resident", threads=threads, verify=False) as vlm:
        pairs = list(_pairs(vlm, pictures, cases, adapter or NO_ADAPTER, limit, done))
    if not pairs:
        raise RequestError("no question can be asked of a resident user: give others")
    seen = len({case.picture for case in cases})
    return Fidelity(agreement(pairs), summarise(pairs), seen, len(cases) - len(pairs))


def _pairs(
    vlm: UserVLM,
    pictures: Sequence[Picture],
    cases: Sequence[Case],
    adapter: str,
    limit: int,
    done: Callable[[int], None],
) -> Iterator[Pair]:
    """Keep the logits of one case at a time: 100 MB each way at 3B."""
    users = {}
    for case in cases:
        if case.picture not in users:
            users = {case.picture: vlm.encode(pictures[case.picture])}
        one, user = [Case(0, case.question)], [users[case.picture]]
        try:
            (resident,) = ask(vlm, one, user, "resident", done, adapter, limit)
        except AttentionError:  # its words join with the prompt; see `Requests.check`
            done(2)
            continue
        (exact,) = ask(vlm, one, user, "exact", done, adapter, limit)
        yield pair(exact, resident)


def summarise(pairs: Sequence[Pair]) -> dict[str, Figure]:
    """Give every figure with its 95 % interval."""
    first = mean(one.scores.same_first for one in pairs)
    answers = mean(one.scores.same_answer for one in pairs)
    kl = [one.first_token_kl for one in pairs]
    rouge = [one.scores.rouge1 for one in pairs]
    return {
        "first_token_top1": Figure(first, wilson(first, len(pairs))),
        "first_token_kl": Figure(mean(kl), bootstrap(kl)),
        "same_answer": Figure(answers, wilson(answers, len(pairs))),
        "rouge1": Figure(mean(rouge), wilson(mean(rouge), len(pairs))),
    }


def record(bundle: Bundle, measured: Agreement, adapter: str | None) -> None:
    """Write an agreement into the bundle's manifest, whole or not at all.

    Raises:
        BundleError: it is no bundle any more.
    """
    manifest = open_bundle(bundle.path, verify=False).manifest
    if adapter is None:
        whole = replace(manifest, resident=measured)
    else:
        kept = replace(manifest.adapters[adapter], resident=measured)
        whole = replace(manifest, adapters={**manifest.adapters, adapter: kept})
    replace_manifest(bundle.path, whole)
