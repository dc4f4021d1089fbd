"""Does it hold for days? `python bench/soak.py [BUNDLE] [--turns 2000] [--users 20]`.

Owns: the engine processes of a soak, one after another on one users' folder: when they are killed,
what is damaged between them, what is counted and which promises that keeps. What a turn is stands
in `soak_child.py`, how it is judged in `soak_asking.py`, what is right in `soak_people.py`, what
must be on disk in `soak_store.py`.

The promises: no process dies or hangs by itself; no answer is another than a fresh process gives,
least of all somebody else's; whoever was not damaged is known again, and who was is new; nothing
of anybody lies on disk without consent; a process that works for long neither grows by more than
2 %, nor holds more files or threads. The exit code is 1 when one is broken.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from uservlm.bench.soak_people import draw_pictures, names, save_pictures
from uservlm.bench.soak_process import Guard, budget_for, child, errors
from uservlm.bench.soak_store import Folder, Ledger, written
from uservlm.runtime.errors import StoreError

POCKET: Final = Path(__file__).resolve().parents[1] / "bundles" / "pocket"
LONG: Final = 0.42
"""Share of the turns that one process does, to see whether it grows."""
WARM_UP: Final = 200
"""Turns before its memory counts."""
GROWTH: Final = 0.02
JUDGED: Final = 600
"""Turns after the warm-up for growth to be judged; fewer are only shown."""
SHORT: Final = (10, 70)
"""Turns of the other processes."""
MOST_DAMAGED: Final = 3
"""Times something is damaged between two processes, at most."""
COUNTED: Final = (
    "answer", "left", "CancelledError", "before the first word", "DeadlineError", "BusyError",
    "forgotten", "new again", "builds", "restores", "refused", "ties", "mismatches", "wrong user",
    "turns", "processes", "kills",
)  # fmt: skip
"""What is printed, in this order."""


@dataclass
class Soak:
    """What happened so far."""

    folder: Folder
    draw: random.Random
    memory_mb: int | None = None
    """The budget of each process."""
    counts: Counter[str] = field(default_factory=Counter)
    damage: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    memory: list[dict[str, int]] = field(default_factory=list)
    """Of the process that works for long."""
    ledger: Ledger = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    """Whose files were being changed when the last process died."""


@dataclass(frozen=True)
class Job:
    """What one process has to do, and when it is killed."""

    turns: int
    moment: str = "never"
    """never, loading, turn or closing."""
    at: int = 0
    """Turns before it is killed."""
    wait_s: float = 0.0
    """From that moment to the kill."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak as the arguments say; 0 when every promise was kept."""
    given = _parser().parse_args(arguments)
    begun = time.monotonic()
    with _workplace(given.folder) as place:
        people = _prepare(given.bundle, given.users, place)
        folder = Folder(place / "users", names(given.users))
        budget = budget_for(given.bundle, given.residents)
        soak = Soak(folder, random.Random(given.seed), budget)
        for job in _plan(given.turns, soak.draw):
            seed = f"{given.seed}-{soak.counts['processes']}"
            if not _one(soak, job, given.bundle, place, people, seed):
                break
        left = sorted(path.name for path in (place / "elsewhere").rglob("*") if path.is_file())
        if left:
            soak.faults.append(f"files were written beside the store: {left}")
    line = result(soak, (time.monotonic() - begun) / 60)
    Console().print(_table(line))
    for fault in soak.faults[:20]:
        print(f"broken: {fault}")
    print(json.dumps(line, ensure_ascii=False, separators=(",", ":")))
    return 0 if line["kept"] else 1


def result(soak: Soak, minutes: float) -> dict[str, Any]:
    """Judge a soak: what is printed as its last line.

    Args:
        soak: finished.
        minutes: that it took.
    """
    memory, faults = growth(soak.memory), soak.faults
    if memory["judged"] and memory["growth"] > GROWTH:
        faults.append(f"memory grew by {memory['growth']:.1%} in {memory['turns']} turns")
    for what in ("files", "threads"):
        if memory[what] > 0:
            faults.append(f"{memory[what]} more {what} after {memory['turns']} turns")
    return {
        "bench": "soak",
        "users": len(soak.folder.names),
        "memory_mb": soak.memory_mb,
        **{_key(name): soak.counts[name] for name in COUNTED},
        "damaged": dict(sorted(soak.damage.items())),
        "memory": memory,
        "minutes": round(minutes, 1),
        "faults": len(faults),
        "kept": not faults,
    }


def growth(samples: Sequence[dict[str, int]]) -> dict[str, Any]:
    """Compare a process after its warm-up with its end: ten looks each, and the median size."""
    warm = [one for one in samples if one["turns"] >= WARM_UP]
    if len(warm) < 20:
        return {"judged": False, "turns": 0, "growth": 0.0, "files": 0, "threads": 0}
    first, last = warm[:10], warm[-10:]
    begin, end = (median(one["anon_kb"] for one in few) for few in (first, last))
    more = {
        what: min(one[what] for one in last) - max(one[what] for one in first)
        for what in ("files", "threads")
    }
    turns = warm[-1]["turns"] - warm[0]["turns"]
    return {
        "judged": turns >= JUDGED,
        "turns": turns,
        "mb": [round(begin / 1024, 1), round(end / 1024, 1)],
        "peak_mb": round(last[-1]["peak_kb"] * 1024 / 1e6, 1),
        "growth": round(end / begin - 1, 4),
        **more,
    }


def _prepare(bundle: Path, users: int, place: Path) -> dict[str, str]:
    """Draw the people, and let a fresh process for each say what is right; gives name -> JSON."""
    save_pictures(draw_pictures(users), place / "pictures.npz")
    (place / "elsewhere").mkdir()
    right = {}
    for name in names(users):
        with child({"answer": name}, bundle, place) as process:
            right[name] = process.stdout.read()
        if process.returncode:
            raise RuntimeError(f"a fresh process could not answer:\n{errors(place)}")
    return right


def _plan(turns: int, draw: random.Random) -> Iterator[Job]:
    """One process that works for long, and short ones around it, most of them killed."""
    long, left = int(turns * LONG), turns - int(turns * LONG)
    yield Job(min(left, SHORT[1]), "turn", SHORT[1] // 2)
    yield Job(long)
    left -= SHORT[1] // 2
    while left > 0:
        count = min(left, draw.randint(*SHORT))
        moment = draw.choice(["turn"] * 7 + ["loading", "closing", "never"])
        wait = draw.random() * {"loading": 3.0, "closing": 0.05}.get(moment, 0.1)
        at = draw.randint(1, count)
        yield Job(count + SHORT[1] * (moment == "turn"), moment, at, wait)
        left -= {"turn": at, "loading": 0}.get(moment, count)


def _one(soak: Soak, job: Job, bundle: Path, place: Path, right: dict[str, str], seed: str) -> bool:
    """Let one process work, see it end, and damage the store; False when that opens no more."""
    ledger = {name: astuple(kept) for name, kept in soak.ledger.items()}
    work = {"answers": right, "ledger": ledger, "turns": job.turns, "seed": seed}
    work |= {"users": str(soak.folder.path), "memory_mb": soak.memory_mb}
    with child(work, bundle, place) as process:
        killed = _watch(soak, job, process)
    soak.counts["processes"] += 1
    if process.returncode not in ({0, -signal.SIGKILL} if killed else {0}):
        soak.faults.append(f"a process ended with {process.returncode}:\n{errors(place)}")
    elif process.returncode:
        soak.counts["kills"] += 1
    if not soak.folder.path.is_dir():
        return True  # killed before it had made the store
    try:
        soak.ledger, faults = soak.folder.check(soak.ledger, soak.unsure)
    except StoreError as error:
        soak.faults.append(str(error))
        return False
    soak.faults += faults
    damaged, ways = soak.folder.damage(soak.ledger, soak.draw, MOST_DAMAGED)
    soak.unsure |= soak.ledger.keys() - damaged.keys()  # until the next process has opened it
    soak.ledger = damaged
    soak.damage.update(ways)
    return True


def _watch(soak: Soak, job: Job, process: Any) -> bool:
    """Read what a process says until it ends; gives whether it was killed."""
    said, killed, long = 0, False, job.turns > SHORT[1] * 2
    guard = Guard(process)
    for text in process.stdout:
        guard.heard()
        if not text.endswith("\n"):
            break  # it died while it spoke
        event = json.loads(text)
        if "opened" in event:
            soak.unsure = set()
        said = _note(soak, event, said)
        if "memory" in event and long:
            soak.memory.append(event["memory"])
        reached = job.moment in event or (job.moment == "turn" and said >= job.at)
        if reached and not killed and job.moment != "never":
            time.sleep(job.wait_s)
            process.kill()
            killed = True
    guard.end()
    process.wait()
    return killed


def _note(soak: Soak, event: dict[str, Any], said: int) -> int:
    """Take an event into the books; gives the turns of this process."""
    if "begin" in event:
        soak.unsure.add(event["user"])
    if "end" in event:
        soak.unsure.discard(event["user"])
        if event["keeps"] is None:
            soak.ledger.pop(event["user"], None)
        else:
            soak.ledger[event["user"]] = written(event["keeps"])
    if "turns" not in event:
        return said
    soak.counts.update(event["counts"])
    soak.counts["turns"] += event["turns"] - said
    soak.faults += event["faults"]
    for file, reason in event["refused"]:
        soak.counts["refused"] += 1
        if file not in soak.folder.damaged:
            soak.faults.append(f"{file} was refused ({reason}), and nobody damaged it")
    return int(event["turns"])


@contextmanager
def _workplace(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True)
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="soak-") as made:
        yield Path(made)


def _key(name: str) -> str:
    return name.removesuffix("Error").lower().replace(" ", "_")


def _table(line: dict[str, Any]) -> Table:
    shown = Table(title=f"soak: {line['turns']} turns, {line['users']} users", show_header=False)
    for name, value in line.items():
        if name not in ("bench", "turns", "users"):
            shown.add_row(name.replace("_", " "), str(value))
    return shown


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Use an engine for long, and badly.")
    parser.add_argument("bundle", type=Path, nargs="?", default=POCKET)
    for name, usual in (("--turns", 2000), ("--users", 20)):
        parser.add_argument(name, type=int, default=usual)
    parser.add_argument("--residents", type=int, default=4, help="that the memory budget pays for")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="new; kept afterwards (default: none is kept)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
