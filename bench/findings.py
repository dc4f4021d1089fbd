"""What a run found, in words: which case stands for the others, who is faster, what to say first.

Owns: choosing among rows and duels, and the sentences made of them. Knows nothing of how they are
laid out.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, Literal, TypeAlias

from uservlm.bench.job import QUESTION_TOKENS
from uservlm.bench.results import Duel, Results, Row, Spread
from uservlm.bench.wording import around, percent, quantity, side, times

OURS: Final = ("ours", "cold", "exact", "resident", "restored")
"""Our sides, in the order in which they are shown."""
USUAL: Final = f"{QUESTION_TOKENS} tokens"
"""The case that stands for the others where several are as common."""
HELD: Final = "memory_mb="
"""In the case of a peak that was held to a budget."""
CACHED: Final = "cached"
"""In the name of a peer's way that keeps the picture."""
VERDICTS: Final = {
    "worse": " and so is faster",
    "within the spread": ", no difference beyond the spread",
}
"""Behind a ratio, where it is not plain that ours is faster."""
SENTENCES: Final = 3
WEIGHTS: Final = {
    "toy": "Toy weights, tuned on drawn people: what they prove is speed, never quality.",
    "random": "Random weights in the real shape: what they prove is speed, never quality.",
    "given": "The bundle's own weights.",
}
"""What follows from the kind of weights, and what does not."""

Standing: TypeAlias = Literal["better", "worse", "within the spread"]


def weights(kind: str) -> str:
    """Say what the kind of weights proves."""
    return WEIGHTS.get(kind, f"Weights: {kind}.")


def standing(ratio: Spread) -> Standing:
    """Whether a ratio is above or below 1; neither where its spread holds 1."""
    if ratio.least > 1:
        return "better"
    return "worse" if ratio.greatest < 1 else "within the spread"


def rows(results: Results, section: str, *quantities: str) -> list[Row]:
    """Rows of one section, of these quantities where some are named."""
    measured = results.measured.get(section)
    found = measured.rows if measured else ()
    return [row for row in found if not quantities or row.what in quantities]


def main_case(results: Results, quantity_: str) -> str:
    """The case of `latency` that stands for the others: the one most sides have, or USUAL."""
    cases = Counter(row.case for row in rows(results, "latency", quantity_))
    return max(cases, key=lambda case: (cases[case], case == USUAL), default="")


def chosen(results: Results, quantity_: str) -> list[Row]:
    """One row a side of the latency section, all in the main case; ours first.

    A quantity that a side was measured for twice is taken as it was measured first.
    """
    case = main_case(results, quantity_)
    mine: dict[str, Row] = {}
    for row in rows(results, "latency", quantity_):
        if row.case == case:
            mine.setdefault(row.side, row)
    order = [name for name in OURS if name in mine]
    return [mine[name] for name in [*order, *(name for name in mine if name not in OURS)]]


def duels(results: Results, quantity_: str, ours: str) -> list[Duel]:
    """The duels of one of our sides, each peer once: in the main case if it was held there."""
    latency = results.latency
    case = main_case(results, quantity_)
    found: dict[str, Duel] = {}
    for duel in latency.duels if latency else ():
        if (duel.what, duel.ours) == (quantity_, ours) and (
            duel.peer not in found or duel.case == case
        ):
            found[duel.peer] = duel
    return list(found.values())


def peaks(results: Results) -> tuple[Row | None, Row | None]:
    """Our greatest peak of any phase, free to take what it likes, and that held to a budget."""
    found = [row for row in rows(results, "memory", "peak") if row.side in OURS]
    free = [row for row in found if HELD not in row.case]
    held = [row for row in found if HELD in row.case]
    return max(free, key=_value, default=None), max(held, key=_value, default=None)


def sentences(results: Results) -> list[str]:
    """The finding in at most three sentences; what was not measured is not spoken of."""
    said = [
        _first_tokens(results),
        _against(results, "cold", "The same work on both sides, a new face"),
        _against(results, "resident", "Ours with the face resident, the peer as it says"),
        _decoding(results),
        _peak(results),
    ]
    return [one for one in said if one][:SENTENCES]


def with_spread(row: Row) -> str:
    """Write a row's median with its spread, as `862 ms (840 to 905 ms)`."""
    spread = around(row.spread, row.unit)
    return quantity(row.spread.value, row.unit) + (f" ({spread})" if spread else "")


def _first_tokens(results: Results) -> str:
    found = {row.side: row for row in chosen(results, "ttft")}
    case = main_case(results, "ttft")
    asked = f"question of {case}" if case else "question"
    known = {"resident": "when the face is resident", "cold": "when it is new"}
    parts = [f"{with_spread(found[way])} {said}" for way, said in known.items() if way in found]
    if not parts:
        return ""
    return f"The first token of an answer to a {asked} comes after {' and '.join(parts)}."


def _against(results: Results, ours: str, begin: str) -> str:
    """Compare with every peer; one whose image is cached is nothing beside a new face."""
    parts: list[str] = []
    for duel in duels(results, "ttft", ours):
        if ours == "cold" and CACHED in duel.peer:
            continue
        long = "" if parts else " as long as ours to its first token"
        verdict = VERDICTS.get(standing(duel.advantage), "")
        parts.append(f"{side(duel.peer)} takes {times(duel.advantage)}{long}{verdict}")
    return f"{begin}, {'; '.join(parts)}." if parts else ""


def _decoding(results: Results) -> str:
    found = [row for row in chosen(results, "decode") if row.side in OURS]
    row = next((one for one in found if one.bound), found[0] if found else None)
    if row is None:
        return ""
    share = row.share
    bound = f", {percent(share)} of the bound: {row.bound_by}" if share else ""
    return f"Decoding runs at {with_spread(row)}{bound}."


def _peak(results: Results) -> str:
    free, held = peaks(results)
    parts = [f"{with_spread(row)} ({row.case})" for row in (free, held) if row]
    return f"The process peaks at {', '.join(parts)} of memory." if parts else ""


def _value(row: Row) -> float:
    return row.spread.value
