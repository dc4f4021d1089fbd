"""Section `latency`: how long an answer takes, ours in every way and peers beside us.

Owns: in which order things are timed, so that whatever else the machine does meets everybody: all
ways and question lengths take turns, and each peer takes turns with ours. One peer is loaded at a
time. Bounds are `bounds.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from uservlm.bench import energy
from uservlm.bench.bounds import Bounds
from uservlm.bench.job import (
    QUANTITIES,
    QUESTION_TOKENS,
    Job,
    of,
    row,
    rows_of,
)
from uservlm.bench.peer_environment import PeerError
from uservlm.bench.results import Duel, Measured, Missing, Row
from uservlm.bench.side import Side, SideError
from uservlm.runtime.errors import UserVLMError
from uservlm.runtime.room import RESIDENT_USERS

LENGTHS: Final = (16, 32, QUESTION_TOKENS, 100)
"""Tokens of a question."""
CROWDS: Final = (1, 4, 16)
"""How many people ask in turn."""
WAYS: Final = ("cold", "exact", "resident", "restored")
STARTS: Final = 3
"""Times that a process is started."""
Turn = dict[str, float]


@dataclass(frozen=True)
class Manner:
    """One way in which a peer answers, as ours has several."""

    suffix: str = ""
    """Behind the peer's name."""
    told: Callable[[Job], dict[str, float]] = lambda job: {}
    """What its side is told beside the lengths."""
    against: tuple[str, ...] = ("cold", "exact", "resident")
    """Our ways it is held against."""


@dataclass(frozen=True)
class Peer:
    """Somebody else's runtime."""

    name: str
    """A key of SIDES."""
    open: Callable[[Job], Side]
    """Raises a UserVLMError when it cannot run here."""
    whats: tuple[str, ...] = ("ttft", "decode", "answer")
    manners: tuple[Manner, ...] = (Manner(),)
    rounds: int = 100
    """At most: some take minutes for a turn."""


def measure(
    job: Job, bounds: Bounds, peers: Sequence[Peer], missing: Sequence[Missing]
) -> Measured:
    """Time everything.

    Args:
        job: what is measured.
        bounds: of this machine.
        peers: whom to take turns with.
        missing: who does not fit, and why.
    """
    rows: list[Row] = []
    duels: list[Duel] = []
    absent = list(missing)
    with job.ours() as ours:
        job.say(f"getting to know {max(CROWDS)} drawn people")
        ours("keep", users=max(CROWDS))
        rows += _own_ways(job, ours, bounds)
        rows += _crowds(job, ours)
        for peer in peers:
            job.say(f"loading {peer.name}")
            try:
                with _theirs():
                    other = peer.open(job)
                with other:
                    found = _duel(job, ours, peer, other)
            except PeerError as error:
                absent.append(Missing(peer.name, str(error)))
            else:
                rows += found.rows
                duels += found.duels
        joules = _energy(job, ours)
        rows += joules.rows
    rows.append(_start(job))
    return Measured(tuple(rows), tuple(duels), (*absent, *joules.missing))


@contextmanager
def _theirs() -> Iterator[None]:
    """Mark a failure as the peer's: one of ours ends the run and is nobody's missing row."""
    try:
        yield
    except UserVLMError as error:
        raise PeerError(str(error)) from error


def _own_ways(job: Job, ours: Side, bounds: Bounds) -> list[Row]:
    turns: dict[tuple[str, int], list[Turn]] = {}
    for number in range(job.repeat):
        for length in LENGTHS:
            job.say(f"ours, {length} tokens, {number + 1} of {job.repeat}")
            for way in WAYS:
                tokens = job.answer_tokens if length == QUESTION_TOKENS else 1  # to the first
                turn = _turn(ours, way, tokens, length)
                turns.setdefault((way, length), []).append(turn)
    rows: list[Row] = []
    for (way, length), some in turns.items():
        whats = ["ttft", "prefill", "answer", "decode"] if length == QUESTION_TOKENS else ["ttft"]
        if way == "cold" and length == QUESTION_TOKENS:
            whats.insert(0, "vision")
        for one in rows_of(way, f"{length} tokens", some, whats):
            bound = bounds.of(way, one.what, some[0])
            computed, all_ = some[0]["computed_tokens"], some[0]["prompt_tokens"]
            note = f"{computed:.0f} of {all_:.0f} positions computed"
            made = replace(one, note=note)
            rows.append(replace(made, bound=bound.value, bound_by=bound.by) if bound else made)
    return rows


def _turn(ours: Side, way: str, answer_tokens: int | None, length: int = QUESTION_TOKENS) -> Turn:
    """Have one turn of user 0, after what makes it a turn of that way."""
    asked = {"question_tokens": length, "answer_tokens": answer_tokens}
    if way in ("cold", "exact"):
        return ours("turn", way=way, **asked)
    others = range(1, RESIDENT_USERS + 1) if way == "restored" else (0,)
    for user in others:  # so many that user 0 has to leave, or user 0 themselves
        ours("turn", way="resident", user=user, question_tokens=4, answer_tokens=1)
    found = ours("turn", way="resident", **asked)
    came = "restored" if way == "restored" else "stayed"
    if not found[came]:
        raise SideError(f"user 0 should have {came}, and did not: the figure would mean nothing")
    return found


def _crowds(job: Job, ours: Side) -> list[Row]:
    """Have several people ask in turn, each as often as the rest."""
    rows = []
    for people in CROWDS:
        turns = []
        for _ in range(job.repeat):
            job.say(f"{people} people in turn")
            for user in range(people):
                asked = {"question_tokens": QUESTION_TOKENS, "answer_tokens": 1}
                turns.append(ours("turn", way="resident", user=user, **asked))
        del turns[:people]  # the first round made them so
        if turns:
            again = sum(turn["restored"] for turn in turns)
            note = f"{again:.0f} of {len(turns)} restored from disk"
            rows += rows_of("resident", f"{people} in turn", turns, ["ttft"], note=note)
    return rows


def _duel(job: Job, ours: Side, peer: Peer, other: Side) -> Measured:
    """Take turns with a peer, in each of its ways."""
    ways = dict.fromkeys(way for manner in peer.manners for way in manner.against)
    theirs: dict[str, list[Turn]] = {manner.suffix: [] for manner in peer.manners}
    mine: dict[str, list[Turn]] = {way: [] for way in ways}
    asked = {"question_tokens": QUESTION_TOKENS, "answer_tokens": job.answer_tokens}
    with _theirs():
        other("turn", **{**asked, "answer_tokens": 1})  # what is done once only
    rounds = min(job.repeat, peer.rounds)
    for number in range(rounds):
        job.say(f"{peer.name} and ours, {number + 1} of {rounds}")
        for manner in peer.manners:
            with _theirs():
                theirs[manner.suffix].append(other("turn", **asked, **manner.told(job)))
        for way in ways:
            mine[way].append(_turn(ours, way, job.answer_tokens))
    case, rows, duels = f"{QUESTION_TOKENS} tokens", [], []
    for manner in peer.manners:
        name, turns = peer.name + manner.suffix, theirs[manner.suffix]
        whats = [what for what in QUANTITIES if _has(turns, what)]
        note = f"{turns[0]['prompt_tokens']:.0f} positions of prompt"
        rows += rows_of(name, case, turns, whats, note=note)
        duels += [
            _compare(name, way, what, turns, mine[way])
            for way in manner.against
            for what in peer.whats
        ]
    with _theirs():
        peak = other("memory")["peak_bytes"]
    rows.append(row(peer.name, "peak", "", "bytes", [peak]))
    return Measured(tuple(rows), tuple(duels))


def _has(turns: Sequence[Turn], what: str) -> bool:
    needs = {"vision": "vision_s", "prefill": "prefill_s"}.get(what)
    return needs is None or needs in turns[0]


def _compare(peer: str, way: str, what: str, theirs: Sequence[Turn], mine: Sequence[Turn]) -> Duel:
    quantity, case = QUANTITIES[what], f"{QUESTION_TOKENS} tokens"
    ours, other = tuple(of(mine, what)), tuple(of(theirs, what))
    return Duel(way, peer, what, case, quantity.unit, ours, other, quantity.better)


def _energy(job: Job, ours: Side) -> Measured:
    meter = energy.find_meter()
    if meter is None:
        return Measured((), (), (Missing("energy", energy.WHY_NOT),))
    rows = []
    for way in ("cold", "resident"):
        used = []
        for _ in range(job.repeat):
            before = meter.read()
            _turn(ours, way, job.answer_tokens)
            used.append(meter.joules(before, meter.read()))
        rows.append(row(way, "energy", f"{QUESTION_TOKENS} tokens", "J", used))
    return Measured(tuple(rows))


def _start(job: Job) -> Row:
    """Start processes that answer somebody they know, whose cells are on disk."""
    times = []
    for number in range(STARTS):
        job.say(f"starting a process, {number + 1} of {STARTS}")
        with job.ours("--first") as started:
            times.append(started.ready_s)
    return row("restored", "start", "", "s", times)
