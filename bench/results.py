"""What one run of `python bench/run.py` found: the schema of results.json.

Owns: the types, and how samples become a figure with its spread. Knows nothing of how anything is
measured, nor of how it is shown.

Every sample is kept, so that a reader can take another statistic than ours. A figure is a median;
its spread goes from the least to the greatest sample. A ratio is of medians; its spread goes from
the least to the greatest ratio of samples that were taken next to one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final, Literal, TypeAlias

from uservlm.bench.result_file import read, to_json

FORMAT: Final = 1
"""Of results.json; another number is refused."""
FILE: Final = "results.json"
SECTIONS: Final = ("flops", "limits", "latency", "memory", "load", "growth", "fidelity")
"""In the order in which they run; `limits` is measured with whatever is held against it."""

BUSY: Final = 0.5
"""Load average, per core, from which a machine counts as busy."""
Better: TypeAlias = Literal["less", "more"]


@dataclass(frozen=True)
class Spread:
    """A median with the least and the greatest."""

    value: float
    least: float
    greatest: float


@dataclass(frozen=True)
class Row:
    """One quantity of one side in one case, with all its samples."""

    side: str
    """Who: `cold`, `exact`, `resident`, `restored` are ours; a peer's key otherwise."""
    what: str
    """Which quantity, as `ttft`; `wording.WORDS` has its name for people."""
    case: str
    """Under which condition, as `50 tokens`; empty where there is only one."""
    unit: str
    """s, tokens/s, bytes, bytes/s, FLOP/s, J, or empty for a share."""
    samples: tuple[float, ...]
    better: Better = "less"
    bound: float | None = None
    """The best this machine allows by what `limits` measured in the same run, in `unit`."""
    bound_by: str = ""
    """Which limit that is, in words."""
    note: str = ""

    @property
    def key(self) -> str:
        """What names the same quantity in another run."""
        return "/".join(part for part in (self.side, self.what, self.case) if part)

    @property
    def spread(self) -> Spread:
        """Median, least and greatest."""
        return Spread(median(self.samples), min(self.samples), max(self.samples))

    @property
    def share(self) -> float | None:
        """How much of the bound is reached, 1 being all of it; None without a bound."""
        if self.bound is None:
            return None
        value = self.spread.value
        return self.bound / value if self.better == "less" else value / self.bound


@dataclass(frozen=True)
class Duel:
    """Ours and a peer, measured in turns; samples at one index were neighbours in time."""

    ours: str
    peer: str
    what: str
    case: str
    unit: str
    our_samples: tuple[float, ...]
    peer_samples: tuple[float, ...]
    better: Better = "less"

    @property
    def key(self) -> str:
        """What names the same comparison in another run."""
        return "/".join(part for part in (self.peer, self.ours, self.what, self.case) if part)

    @property
    def advantage(self) -> Spread:
        """How many times better ours is; below 1 the peer is."""
        above, below = self.peer_samples, self.our_samples
        if self.better == "more":
            above, below = below, above
        pairs = [one / other for one, other in zip(above, below, strict=True)]
        return Spread(median(above) / median(below), min(pairs), max(pairs))


@dataclass(frozen=True)
class Missing:
    """A peer or a figure that could not be had, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class Measured:
    """A section that consists of rows."""

    rows: tuple[Row, ...]
    duels: tuple[Duel, ...] = ()
    missing: tuple[Missing, ...] = ()


@dataclass(frozen=True)
class Curve:
    """How a cost grows with something: y ≈ a·xᵇ."""

    key: str
    """As `ttft by question length`."""
    what: str
    """The quantity on the y axis, in words."""
    by: str
    """The quantity on the x axis, in words."""
    unit: str
    at: tuple[float, ...]
    """x values, rising, as many as `samples`."""
    samples: tuple[tuple[float, ...], ...]
    exponent: Spread
    """b by least squares on the logarithms of all medians; least and greatest by leaving one x
    value out at a time."""
    note: str = ""


@dataclass(frozen=True)
class Count:
    """FLOPs of one prefill of one model, counted on meta tensors (2 for a multiply and add)."""

    model: str
    """As `LLaVA-1.5 7B`."""
    case: str
    """As `question`, `instruction + question`, `question, image cached`."""
    weights: int
    image_tokens: int
    """Computed in this case: 0 where the image is cached."""
    cached_tokens: int
    """In the KV cache beforehand, attended to but not computed."""
    text_tokens: int
    vision: int
    """FLOPs of the vision encoder and projector."""
    language: int
    """FLOPs of the language model, head for one position included."""
    analytic: int | None = None
    """The sum by the analytic model, where there is one for this shape."""

    @property
    def total(self) -> int:
        """Vision and language."""
        return self.vision + self.language


@dataclass(frozen=True)
class RatioTable:
    """FLOPs of peers over ours."""

    key: str
    """`paper`, `text`, `everything`, `peer_cached`, ..."""
    title: str
    says: str
    """What is counted here and where the paper's figures hold, in plain sentences."""
    columns: tuple[str, ...]
    """Peers."""
    lines: tuple[tuple[str, tuple[float | None, ...]], ...]
    """Ours, with one ratio a column."""


@dataclass(frozen=True)
class Flops:
    """Section `flops`."""

    counts: tuple[Count, ...]
    tables: tuple[RatioTable, ...]
    missing: tuple[Missing, ...] = ()


@dataclass(frozen=True)
class Machine:
    """On what it ran."""

    processor: str
    cores: int
    """This process may use."""
    threads: int
    """That ours computed with."""
    memory_bytes: int
    kernel: str
    instructions: tuple[str, ...]
    """Of those that decide speed here: avx2, avx512_vnni, amx_int8, ..."""
    packages: Mapping[str, str]
    """Version by name, Python's among them."""
    load: float | None = None
    """Processes that wanted to run in the minute before it began (load average)."""

    @property
    def busy(self) -> bool:
        """Whether so much else ran that times mean little."""
        return self.load is not None and self.load > BUSY * self.cores


@dataclass(frozen=True)
class Subject:
    """What was measured."""

    name: str
    """`pocket`, `user-vlm-3b`, or the bundle's own."""
    shape: str
    weights: str
    """`toy`: tuned on drawn people; `random`; `given`: the bundle's own."""
    language: str
    vision: str
    """Precisions."""
    image_tokens: int
    bundle_bytes: Mapping[str, int]
    """By file."""


@dataclass(frozen=True)
class Results:
    """Everything one run found; a section that was not asked for is None."""

    when: str
    """ISO 8601, UTC."""
    commit: str
    """Short hash, `+` behind it where files were changed; `unknown` outside a checkout."""
    took_s: float
    repeat: int
    machine: Machine
    subject: Subject
    flops: Flops | None = None
    limits: Measured | None = None
    latency: Measured | None = None
    memory: Measured | None = None
    load: Measured | None = None
    growth: tuple[Curve, ...] | None = None
    fidelity: Measured | None = None
    format: int = field(default=FORMAT)

    @property
    def measured(self) -> dict[str, Measured]:
        """The sections that consist of rows, by name."""
        found = {name: getattr(self, name) for name in SECTIONS}
        return {name: one for name, one in found.items() if isinstance(one, Measured)}


def save(results: Results, path: Path) -> None:
    """Write results.json."""
    path.write_text(to_json(results), encoding="utf-8")


def load(path: Path) -> Results:
    """Read a results.json.

    Raises:
        ResultsError: it cannot be read, is of another format, or misses something.
    """
    return read(path, Results, FORMAT, "results.json of bench/run.py")
