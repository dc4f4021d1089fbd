"""Section `flops`: what one prefill costs ours and the paper's peers, counted, and three tables.

Owns: which model is counted in which case. `counting.py` counts, `peer_shapes.py` knows the models
and the picture, `analytic.py` checks ours by hand, `flop_tables.py` draws the conclusions.

Ours is User-VLM on PaliGemma 2 at 448 px with the question; peers need an instruction as well, as
they are not tuned to users: the paper's premise. Beginning of sequence and chat templates, a few
tokens each, are left out on all sides. Pictures come first in the prompt, then the instruction,
then the question, so that what may be cached is a prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from uservlm.bench import analytic, counting, flop_tables, peer_shapes
from uservlm.bench.flop_tables import INSTRUCTION, QUESTION
from uservlm.bench.peer_shapes import Subject
from uservlm.bench.results import Count, Flops
from uservlm.models.shapes import Architecture, find

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ENTRIES: Final = {"3B": "paligemma2-3b-448", "10B": "paligemma2-10b-448"}
"""Of the catalog of shapes."""
BUNDLE: Final = "this bundle"
"""Name of a shape that is none of ENTRIES."""

Image = Literal["shown", "embedded", "cached", "none"]
"""Computed whole; behind the vision tower already; in the KV cache; not there."""


@dataclass(frozen=True)
class Case:
    """What is asked of a model and what it may keep from before."""

    name: str
    text: int
    """Tokens computed."""
    image: Image = "shown"
    kept: int = 0
    """Tokens of text in the cache, behind the image."""


BOTH: Final = INSTRUCTION + QUESTION
PEER_CASES: Final = (
    Case(flop_tables.BOTH, BOTH),
    Case(flop_tables.WITHOUT, QUESTION),
    Case(flop_tables.TEXT, BOTH, "none"),
    Case(flop_tables.IMAGE_CACHED, BOTH, "cached"),
    Case(flop_tables.ALL_CACHED, QUESTION, "cached", INSTRUCTION),
)
OUR_CASES: Final = (
    Case(flop_tables.COLD, QUESTION),
    Case(flop_tables.EXACT, QUESTION, "embedded"),
    Case(flop_tables.RESIDENT, QUESTION, "cached"),
    Case(flop_tables.OURS_TEXT, QUESTION, "none"),
)


@dataclass(frozen=True)
class Shown:
    """A model that was shown a picture."""

    model: PreTrainedModel
    weights: int
    seen: counting.Seen
    positions: int
    """Of the language model, that the picture takes."""

    @property
    def image_tokens(self) -> int:
        """Positions, or the features read beside them."""
        return max(self.positions, self.seen.features)


def measure(subject_shape: Architecture | None, progress: Callable[[str], None]) -> Flops:
    """Count everything and draw up the tables.

    Args:
        subject_shape: shape of the bundle that is measured, counted beside the published ones;
            its `rows` must be given. None, or one of the published: nothing more is counted.
        progress: told what is counted next.

    Raises:
        ShapeError: `subject_shape` lacks `rows`.
    """
    counts: list[Count] = []
    masked = 0.0
    for peer in peer_shapes.peers():
        progress(peer.name)
        found, share = count_peer(peer)
        counts += found
        masked = max(masked, share)
    for size, entry in ENTRIES.items():
        ours, untuned = flop_tables.OURS[size], flop_tables.UNTUNED[size]
        progress(ours)
        asked = [*((ours, case) for case in OUR_CASES), (untuned, Case(flop_tables.BOTH, BOTH))]
        counts += count_paligemma(find(entry).architecture, asked)
    if subject_shape not in (None, *(find(entry).architecture for entry in ENTRIES.values())):
        assert subject_shape is not None
        progress(BUNDLE)
        counts += count_paligemma(subject_shape, [(BUNDLE, case) for case in OUR_CASES])
    return Flops(tuple(counts), flop_tables.tables(counts, masked))


def count_peer(peer: Subject) -> tuple[list[Count], float]:
    """Count a peer in all cases; the share of its FLOPs in the masked half of attention, too."""
    shown = show(peer, peer_shapes.SQUARE)
    counts = [count(peer.name, shown, case)[0] for case in PEER_CASES]
    whole, attention = count(peer.name, shown, PEER_CASES[0])
    seen, positions = _look(peer, shown.model, peer_shapes.CAMERA)
    camera = Shown(shown.model, shown.weights, seen, positions)
    counts.append(count(peer.name, camera, Case(flop_tables.CAMERA, BOTH))[0])
    if peer.name == flop_tables.LLAMA:
        tile = show(peer_shapes.one_tile(peer), peer_shapes.SQUARE)
        counts.append(count(flop_tables.ONE_TILE, tile, PEER_CASES[0])[0])
    return counts, attention / 2 / whole.total


def count_paligemma(shape: Architecture, asked: Iterable[tuple[str, Case]]) -> Iterator[Count]:
    """Count PaliGemma 2 in a shape, under each name in a case, beside the analytic figure."""
    side = (shape.image_size, shape.image_size)
    shown = show(peer_shapes.paligemma(shape), side)
    for name, case in asked:
        yield count(name, shown, case, by_hand(shape, case))[0]


def by_hand(shape: Architecture, case: Case) -> int:
    """FLOPs of PaliGemma 2 in a case by the analytic model."""
    image = shape.image_tokens if case.image in ("shown", "embedded") else 0
    cached = case.kept + (shape.image_tokens if case.image == "cached" else 0)
    seeing = analytic.vision(shape) if case.image == "shown" else 0
    return seeing + analytic.language(shape, image + case.text, cached)


def show(subject: Subject, size: tuple[int, int]) -> Shown:
    """Build a model and show it a picture of that width and height."""
    model = counting.build(subject.config)
    seen, positions = _look(subject, model, size)
    return Shown(model, counting.weights(model), seen, positions)


def count(name: str, shown: Shown, case: Case, analytic: int | None = None) -> tuple[Count, int]:
    """Count one case; how much of it is attention in the language model comes second."""
    computed = shown.positions if case.image in ("shown", "embedded") else 0
    cached = case.kept + (shown.positions if case.image == "cached" else 0)
    beside = None if case.image == "none" else shown.seen.beside
    language = counting.read(shown.model, computed + case.text, cached, beside)
    vision = shown.seen.cost if case.image == "shown" else counting.NOTHING
    found = Count(
        model=name,
        case=case.name,
        weights=shown.weights,
        image_tokens=shown.image_tokens if computed else 0,
        cached_tokens=case.kept + (shown.image_tokens if case.image == "cached" else 0),
        text_tokens=case.text,
        vision=vision.total,
        language=language.total,
        analytic=analytic,
    )
    return found, language.attention


def _look(
    subject: Subject, model: PreTrainedModel, size: tuple[int, int]
) -> tuple[counting.Seen, int]:
    picture = peer_shapes.picture(subject, size)
    seen = counting.look(model, picture)
    return seen, peer_shapes.positions(subject, seen.features, picture)
