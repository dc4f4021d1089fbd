"""Questions of the soak: how one is put, what may come of it, and what came.

Owns: one engine with the people who are known to it, the judgement of each answer, and the lines on
standard output that tell the parent of it (`soak.py`). Knows nothing of what a turn is
(`soak_child.py`) nor of kills. Only the store is changed one step at a time: a `begin` line without
its `end` tells the parent what was in flight.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from uservlm.bench.soak_people import QUESTIONS, TIE, WEIGHTS, Answers, Pictures, agreed, gap
from uservlm.bench.soak_store import Ledger, written
from uservlm.runtime import UserVLM
from uservlm.runtime.answers import Attention, Chunk
from uservlm.runtime.counters import Counters
from uservlm.runtime.errors import UserVLMError
from uservlm.runtime.profiles import Consent, Keeps
from uservlm.runtime.stream import Stream

ATTENTIONS: tuple[Attention, ...] = ("auto", "auto", "resident", "exact")
ANSWER = "answer"
NEW = frozenset({"UnknownUserError", "PictureNeededError"})


@dataclass(frozen=True)
class Put:
    """A question, and how it is put."""

    name: str
    question: str
    attention: Attention
    by_name: bool = True
    deadline_s: float | None = None
    pieces: int | None = None
    """After how many the reader leaves; None reads all."""
    may: frozenset[str] = frozenset({ANSWER})
    """What may come of it: "answer", or the names of errors."""


@dataclass
class Came:
    """What came of it."""

    how: str
    said: str
    mode: str | None
    """None when the answer did not come to its end."""


class Asking:
    """An engine and the people; what is found wrong is told with the next `tell`."""

    def __init__(
        self,
        vlm: UserVLM,
        pictures: Pictures,
        answers: dict[str, Answers],
        ledger: Ledger,
        seed: str,
    ) -> None:
        """Begin with nobody in memory and on disk what the ledger says."""
        self.vlm, self.pictures, self.answers, self.ledger = vlm, pictures, answers, ledger
        self.draw, self.here, self.turns = random.Random(seed), set[str](), 0
        self.faults, self.counts = list[str](), Counter[str]()
        self._refused, self._done = 0, Counters()

    def put(self, name: str | None = None, may: Iterable[str] = (ANSWER,), **how: Any) -> Put:
        """Draw a question, about somebody given or drawn."""
        question = self.draw.choices(QUESTIONS, WEIGHTS)[0]
        who = name or self.draw.choice(sorted(self.pictures))
        return Put(who, question, self.draw.choice(ATTENTIONS), may=frozenset(may), **how)

    def stream(self, put: Put) -> Stream[Chunk]:
        """Put it to the engine."""
        who: dict[str, Any] = {"user": put.name}
        if not put.by_name:
            who = {"image": self.pictures[put.name]}
        how: dict[str, Any] = {"attention": put.attention, "deadline_s": put.deadline_s}
        return self.vlm.stream(put.question, **who, **how)

    def come(self, put: Put) -> Came:
        """Put it, and read what comes."""
        try:
            stream = self.stream(put)
        except UserVLMError as error:
            return Came(type(error).__name__, "", None)
        return self.read(put, stream)

    def read(self, put: Put, stream: Stream[Chunk]) -> Came:
        """Read until it ends or the reader leaves."""
        said, mode = "", None
        try:
            with stream:
                for count, chunk in enumerate(stream):
                    if count == put.pieces:
                        break
                    said += chunk.text
                    mode = chunk.usage.attention if chunk.usage else None
        except UserVLMError as error:
            return Came(type(error).__name__, said, None)
        return Came(ANSWER, said, mode)

    def judge(self, put: Put, came: Came) -> None:
        """Count what came, and note what may not be."""
        self.turns += 1
        cut = came.mode is None and came.how == ANSWER
        self.counts["left" if cut else came.how] += 1
        self.counts["before the first word"] += came.how == "CancelledError" and not came.said
        if came.how not in put.may:
            self.faults.append(f"turn {self.turns}: {put} came to {came}")
        if put.name not in self.answers or (not came.said and came.mode is None):
            return
        mode = came.mode or (put.attention if put.attention != "auto" else self.vlm.attention)
        right = self.answers[put.name][mode][put.question]
        parted = gap(came.said, right, whole=came.mode is not None)
        if parted is None:
            return
        if parted <= TIE:
            self.counts["ties"] += 1
            return
        others = [
            name for name, one in self.answers.items() if one[mode][put.question].text == came.said
        ]
        self.counts["wrong user" if others else "mismatches"] += 1
        self.faults.append(
            f"turn {self.turns}: {put} came to {came}, right is {right.text!r}, parted at a gap of "
            f"{parted:.4f}; so would answer {others}"
        )

    def known(self, name: str) -> None:
        """See to it that somebody is known; who is not is new, and says so when asked for."""
        kept = self.ledger.get(name)
        if name in self.here or (kept and kept.embedding):
            return
        error = "PictureNeededError" if kept else "UnknownUserError"
        put = self.put(name=name, may={error})
        came = self.come(put)
        if came.how != error:
            self.faults.append(f"{name} is new ({kept}), and a question came to {came}")
        self.counts["new again"] += 1
        self.keep(name, None if kept else agreed(name))

    def keep(self, name: str, keeps: Keeps | None) -> None:
        """Have somebody kept, who agrees to this much now; None: to what they agreed to before."""
        consent = None if keeps is None else Consent(datetime.now(timezone.utc), "drawn", keeps)
        holds = keeps or (self.ledger[name].keeps if name in self.ledger else None)
        with step("keep", name, holds):
            self.vlm.users.keep(name, self.vlm.encode(self.pictures[name]), consent)
        self.here.add(name)
        if holds is not None:
            self.ledger[name] = written(holds)

    def forget(self, name: str) -> None:
        """Have somebody forgotten."""
        with step("forget", name, None):
            self.vlm.users.forget(name)
        self.here.discard(name)
        self.ledger.pop(name, None)
        self.counts["forgotten"] += 1

    def opened(self) -> None:
        """See who is known to an engine that was just opened."""
        found = set(self.vlm.users.names)
        if found != set(self.ledger):
            self.faults.append(f"opened with {sorted(found)} instead of {sorted(self.ledger)}")
        say(opened=len(found))
        self.tell()

    def tell(self) -> None:
        """Tell the parent what was done and found since the last time."""
        refused, done = self.vlm.users.refused, self.vlm.counters
        self.counts["builds"] += done.resident_builds - self._done.resident_builds
        self.counts["restores"] += done.resident_restores - self._done.resident_restores
        say(
            turns=self.turns,
            counts=self.counts,
            faults=self.faults,
            refused=[(one.file, one.reason) for one in refused[self._refused :]],
        )
        self._refused, self._done = len(refused), done
        self.faults, self.counts = [], Counter()


def say(**event: Any) -> None:
    """Tell the parent; one write, so that a line is whole or missing."""
    os.write(1, (json.dumps(event) + "\n").encode())


@contextmanager
def step(what: str, name: str, keeps: Keeps | None) -> Iterator[None]:
    """Tell that the store is changed, before and after."""
    say(begin=what, user=name)
    yield
    say(end=what, user=name, keeps=keeps)
