"""Ratios of FLOPs, peers over ours, and what they say about the paper's Table 8.

Owns: the cases, the paper's printed figures, the tables and their sentences, every number in which
comes from the counts. Knows nothing of how they were counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from uservlm.bench.results import Count, RatioTable

QUESTION: Final = 50
INSTRUCTION: Final = 100
"""Tokens on average, as the paper gives them above Table 8."""

COLD, EXACT, RESIDENT = "cold", "exact", "resident"
OURS_TEXT = "question, text only"
BOTH = "instruction + question"
WITHOUT = "question"
CAMERA = "instruction + question, 1280 × 960 px"
TEXT = "instruction + question, text only"
IMAGE_CACHED = "instruction + question, image cached"
ALL_CACHED = "question, image and instruction cached"
"""Cases of ours and of the peers."""

LLAMA, PIXTRAL = "Llama-3.2-Vision 11B", "Pixtral 12B"
LLAVA_16, LLAVA_15 = "LLaVA-1.6 7B", "LLaVA-1.5 7B"
PEERS: Final = (LLAMA, PIXTRAL, LLAVA_16, LLAVA_15)
ONE_TILE: Final = f"{LLAMA}, one tile"
OURS: Final = {"3B": "User-VLM 3B", "10B": "User-VLM 10B"}
UNTUNED: Final = {"3B": "PaliGemma 2 3B", "10B": "PaliGemma 2 10B"}
NOMINAL: Final[Mapping[str, int]] = {
    LLAMA: 11,
    PIXTRAL: 12,
    LLAVA_16: 7,
    LLAVA_15: 7,
    "3B": 3,
    "10B": 10,
}
"""Billions of weights by the models' names."""
FACTOR: Final = 7.5
PRINTED: Final[Mapping[str, tuple[float, ...]]] = {
    "3B": (22.5, 30.0, 17.5, 17.5),
    "10B": (16.5, 9.0, 5.25, 5.25),
}
"""Table 8 of arXiv 2502.10636, in the order of PEERS (static/images/performance.png)."""

Counts = Mapping[tuple[str, str], Count]
"""By model and case."""


@dataclass(frozen=True)
class Cell:
    """A ratio beside the paper's."""

    size: str
    peer: str
    ratio: float
    printed: float


@dataclass(frozen=True)
class Plan:
    """A table of two lines, ours in one case and the peers in one case."""

    key: str
    title: str
    ours: str
    theirs: str
    says: Callable[[Counts], str]
    """What is counted; the verdict comes behind it."""


def tables(counts: Iterable[Count], masked: float) -> tuple[RatioTable, ...]:
    """Give all tables; KeyError where a count that they need is missing.

    Args:
        counts: of OURS, UNTUNED, PEERS and ONE_TILE in their cases; others are not looked at.
        masked: greatest share of a peer's FLOPs that lies in the masked half of causal attention.
    """
    by = {(one.model, one.case): one for one in counts}
    plain = {plan.key: _table(by, plan) for plan in PLANS}
    text = plain.pop("text")
    return (_paper(), text, _everything(by, masked), *plain.values())


def cells(by: Counts, ours: str, theirs: str) -> list[Cell]:
    """Every ratio of the paper's shape between two cases."""
    return [
        Cell(size, peer, by[peer, theirs].total / by[OURS[size], ours].total, printed)
        for size, row in PRINTED.items()
        for peer, printed in zip(PEERS, row, strict=True)
    ]


def verdict(found: Sequence[Cell]) -> str:
    """Say in which cells the paper's figure is reached and in which not."""
    reached = [cell for cell in found if cell.ratio >= cell.printed]
    missed = [cell for cell in found if cell.ratio < cell.printed]
    if not missed:
        return f"The paper's figure is reached in all {len(found)} cells."
    where = "; ".join(
        f"{cell.peer} against {cell.size} is {cell.ratio:.1f}, printed {cell.printed:g}"
        for cell in missed
    )
    if not reached:
        over = [cell.printed / cell.ratio for cell in missed]
        where = f"it prints {min(over):.1f} to {max(over):.1f} times as much"
    dearer = [f"{cell.peer} against {cell.size}" for cell in missed if cell.ratio < 1]
    if dearer:
        where += f". Ours costs more than the peer: {', '.join(dearer)}"
    if not reached:
        return f"The paper's figure is reached in none of the {len(found)} cells: {where}."
    held = ", ".join(f"{cell.peer} against {cell.size} ({cell.ratio:.1f})" for cell in reached)
    return f"The paper's figure is reached for {held}. It is not elsewhere: {where}."


def rule() -> tuple[list[str], list[str]]:
    """Cells that the ratio of nominal sizes times FACTOR gives exactly, and those it does not."""
    fits: list[str] = []
    other: list[str] = []
    for size, row in PRINTED.items():
        for peer, printed in zip(PEERS, row, strict=True):
            by_rule = NOMINAL[peer] / NOMINAL[size] * FACTOR
            if abs(by_rule - printed) < 1e-9:
                fits.append(f"{peer} against {size}")
            else:
                other.append(f"{peer} against {size} ({by_rule:g} by it, {printed:g} printed)")
    return fits, other


def _paper() -> RatioTable:
    fits, other = rule()
    says = (
        f"As printed for a question of {QUESTION} and an instruction of {INSTRUCTION} tokens. "
        f"{len(fits)} of the {len(fits) + len(other)} cells are the ratio of the sizes in the "
        f"models' names times {FACTOR:g}: {', '.join(fits)}. Not so: {', '.join(other)}. "
        f"What {FACTOR:g} stands for is not said; the ratio of the tokens is "
        f"{(QUESTION + INSTRUCTION) / QUESTION:g}."
    )
    lines = tuple((OURS[size], row) for size, row in PRINTED.items())
    return RatioTable("paper", "The paper's Table 8, as printed", says, PEERS, lines)


def _table(by: Counts, plan: Plan) -> RatioTable:
    found = cells(by, plan.ours, plan.theirs)
    lines = tuple(
        (OURS[size], tuple(cell.ratio for cell in found if cell.size == size)) for size in PRINTED
    )
    return RatioTable(plan.key, plan.title, f"{plan.says(by)} {verdict(found)}", PEERS, lines)


def _everything(by: Counts, masked: float) -> RatioTable:
    """The one table with lines for both ways to know a face exactly, and the untuned sibling."""
    lines = []
    for case, label in ((COLD, "a new face"), (EXACT, "face known (exact)")):
        for size, ours in OURS.items():
            own = by[ours, case].total
            others = (*PEERS, UNTUNED[size])
            row = tuple(by[other, BOTH].total / own for other in others)
            lines.append((f"{ours}, {label}", row))
    says = f"{_says_everything(by)} {verdict(cells(by, COLD, BOTH))} {_caveats(by, masked)}"
    columns = (*PEERS, "PaliGemma 2 of the same size")
    return RatioTable("everything", "Everything counted", says, columns, tuple(lines))


def _tokens(by: Counts, case: str) -> str:
    return ", ".join(f"{peer} {by[peer, case].image_tokens}" for peer in PEERS)


def _says_text(by: Counts) -> str:
    return (
        "What the language models compute for words alone, no picture on either side: instruction "
        f"and question ({INSTRUCTION + QUESTION} tokens) over the question ({QUESTION}) of ours."
    )


def _says_everything(by: Counts) -> str:
    own = by[OURS["3B"], COLD]
    spared = max(1 - by[peer, WITHOUT].total / by[peer, BOTH].total for peer in PEERS)
    return (
        "Vision, image tokens and words up to the first token of an answer: the peer with "
        "instruction and question over ours with the question. Everybody is shown one square "
        "picture of 448 px, which each model's own image processor turns into so many image "
        f"tokens: ours {own.image_tokens}, {_tokens(by, BOTH)}. Leaving the instruction out, which "
        f"User-VLM's page names as the reason, spares a peer at most {spared:.0%}."
    )


def _caveats(by: Counts, masked: float) -> str:
    tile, own = by[ONE_TILE, BOTH], by[OURS["3B"], COLD].total
    return (
        f"{LLAMA} as published computes four tiles whatever the picture; this one fills one, for "
        f"which {tile.total / 1e12:.1f} TFLOP would do, {tile.total / own:.1f} times ours. "
        "The whole square of a causal mask is counted, as eager attention computes it; leaving "
        f"the masked half out would spare no peer more than {masked:.0%}."
    )


def _says_camera(by: Counts) -> str:
    return (
        "The same with a picture of 1280 × 960 px, of which ours and LLaVA-1.5 keep no more than "
        f"before. Image tokens: {_tokens(by, CAMERA)}; {LLAMA} fills all its tiles."
    )


def _says_resident(by: Counts) -> str:
    spent = ", ".join(
        f"{by[ours, RESIDENT].total / 1e12:.3g} TFLOP ({size}, "
        f"{by[ours, COLD].total / by[ours, RESIDENT].total:.1f} times less than for a new face)"
        for size, ours in OURS.items()
    )
    return (
        f"Ours computes the question alone, over the image in the KV cache: {spent}. The peer "
        "computes image, instruction and question anew. Ours equals the original here only where "
        "the checkpoint was tuned for it, and FLOPs are not seconds: a short question is bound by "
        "reading the weights."
    )


def _says_cached(by: Counts) -> str:
    return (
        "The peer's picture is in its cache, too, which changes nothing of what a causal model "
        f"answers; it computes {INSTRUCTION + QUESTION} tokens where ours computes {QUESTION}."
    )


def _says_all_cached(by: Counts) -> str:
    return (
        "The instruction does not change either, so a deployer would keep it cached with the "
        f"image: question against question, {QUESTION} tokens each."
    )


PLANS: Final = (
    Plan("text", "Text tokens only", OURS_TEXT, TEXT, _says_text),
    Plan(
        "everything_camera",
        "Everything counted, the camera's whole picture",
        COLD,
        CAMERA,
        _says_camera,
    ),
    Plan(
        "everything_resident",
        "Everything counted, ours with the face resident",
        RESIDENT,
        BOTH,
        _says_resident,
    ),
    Plan(
        "peer_cached",
        "Ours with the face resident, the peer with its image cached",
        RESIDENT,
        IMAGE_CACHED,
        _says_cached,
    ),
    Plan(
        "peer_all_cached",
        "Ours with the face resident, the peer with image and instruction cached",
        RESIDENT,
        ALL_CACHED,
        _says_all_cached,
    ),
)
"""Behind `paper`; `everything` comes second, with lines of its own."""
