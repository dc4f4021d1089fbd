"""What an audit found: the figures of every probe, its verdict, and the answers that moved most.

Owns: these words and their JSON. Knows nothing of how they are measured or judged, nor of a page.
A picture is kept as what draws it again, or as the number of an own picture: never as pixels.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias

import dacite

from uservlm.models.people import Scene
from uservlm.runtime.agreement import Interval
from uservlm.runtime.errors import RequestError
from uservlm.runtime.vision_figures import VisionKind

FORMAT: Final = 2
"""Of the JSON."""

Side: TypeAlias = Literal["at most", "at least"]
Unit: TypeAlias = Literal["share", "nats", "ratio", "count", "chance"]
""""chance" is a probability: how likely so much is by chance."""


@dataclass(frozen=True)
class Limit:
    """What a figure must keep to, and why just that."""

    side: Side
    """"at most": the upper end of the interval counts; "at least": the lower one."""
    value: float
    reason: str
    """One or two sentences for a reader, from thresholds.toml."""


@dataclass(frozen=True)
class Figure:
    """One figure of a probe."""

    name: str
    """For programs: changed, changed_by_light, excess, kl_ratio, …"""
    words: str
    """For readers: what the figure says of the cases, without its value."""
    unit: Unit
    value: float
    interval: Interval
    """95 %; of resampled people, not of questions, since answers to one person are alike."""
    limit: Limit | None = None
    """None: shown for comparison, such as what lighting does; it decides nothing."""
    about: str = ""
    """Which of the cases it is about, in words, such as one question; blank: all of them."""

    @property
    def kept(self) -> bool | None:
        """Whether the limit is kept by the whole interval; None without a limit."""
        if self.limit is None:
            return None
        if self.limit.side == "at most":
            return self.interval.high <= self.limit.value
        return self.interval.low >= self.limit.value


@dataclass(frozen=True)
class PictureRef:
    """Which picture an answer was given to."""

    title: str
    """For readers, such as "person 3" or "picture 17": never a file's name."""
    scene: Scene | None = None
    """Of a drawn person: `models.drawing.render` makes the picture again."""
    index: int | None = None
    """Of an own picture: its line in the CSV, from 0."""
    file: str | None = None
    """Of an own picture: its name in the folder, with --keep-pictures alone; None otherwise."""


@dataclass(frozen=True)
class Moved:
    """One question whose answer moved between two pictures."""

    question: str
    changed: str
    """What differs between the pictures, in words: "skin tone 1 → 5"."""
    before: PictureRef
    after: PictureRef
    answer_before: str
    answer_after: str
    kl: float
    """KL(before ‖ after) of the first answer token, in nats."""
    note: str = ""
    """What was found in the answers, such as a mark of presumption; blank: nothing in particular.
    For a statement about a stranger both pictures and answers are the same one."""


@dataclass(frozen=True)
class Said:
    """One answer to one question."""

    question: str
    answer: str
    people: int
    """How many drawn people were told so."""


@dataclass(frozen=True)
class ProbeResult:
    """What one probe found."""

    id: str
    """As in probes.toml, such as "skin_tone"."""
    part: int
    """1 counterfactuals, 2 stereotypes, 3 personalisation, 4 statements, 5 consistency."""
    title: str
    asks: str
    """What the probe asks, in one or two sentences."""
    figures: tuple[Figure, ...]
    """Those with a limit decide; the others are there to compare with."""
    people: int
    """Different people in the pictures."""
    cases: int
    """Pairs of answers that were compared; of part 4, answers."""
    passed: bool
    """Every limit is kept."""
    moved: tuple[Moved, ...]
    """The cases that moved most, the worst first; of part 3 the ones that stayed the same."""
    said: tuple[Said, ...] = ()
    """Of part 4 every answer to drawn people: a lexicon misses what a reader does not."""


@dataclass(frozen=True)
class Audit:
    """A whole audit."""

    bundle: str
    """The manifest's name."""
    adapter: str
    """One that the bundle keeps apart, or "none"."""
    attention: str
    """exact or resident: how the answers were computed."""
    vision: VisionKind
    """Which encoder saw."""
    when: str
    """UTC, ISO 8601, to the second."""
    seed: int
    people: int
    """That were asked for."""
    own_pictures: bool
    """Whether the pictures were given; otherwise they are drawn people."""
    weights: str
    """Hub id or folder the weights come from, as the manifest says."""
    thresholds: str
    """SHA-256 of thresholds.toml, so that a verdict names the rules it was made by."""
    probe_file: str
    """SHA-256 of the probes that were asked."""
    measured_on: str
    """Digest of the files and the prompt the answers came from; see `runtime.audited`."""
    probes: tuple[ProbeResult, ...]
    passed: bool
    """Every probe passed."""
    format: int = FORMAT


def to_json(audit: Audit) -> str:
    """Serialise, indented, keys in the order of the fields."""
    return json.dumps(asdict(audit), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> Audit:
    """Parse strictly.

    Raises:
        RequestError: not an audit, or of another format.
    """
    try:
        data: Any = json.loads(text)
        found = data.get("format") if isinstance(data, dict) else None
        if found != FORMAT:
            raise RequestError(f"an audit of format {found!r}: this reads {FORMAT}; audit again")
        return dacite.from_dict(Audit, data, dacite.Config(strict=True, cast=[tuple, float]))
    except (ValueError, TypeError, dacite.DaciteError) as error:
        raise RequestError(f"this is no audit: {error}; run `uservlm audit` again") from error
