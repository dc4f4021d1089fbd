"""One engine process of the soak: a seeded script of turns, each judged as it ends.

Owns: what a turn of the soak does and what may come of it. Knows nothing of kills and damage, which
its parent does (`soak.py`), nor how an answer is judged (`soak_asking.py`).
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from uservlm.bench.soak_asking import ANSWER, NEW, Asking, Came, Put, say
from uservlm.bench.soak_people import (
    QUESTIONS,
    agreed,
    answers_of,
    from_json,
    load_pictures,
    to_json,
)
from uservlm.bench.soak_store import Kept
from uservlm.runtime import UserVLM
from uservlm.runtime.profiles import KEEPS

EVERY = 10
"""Turns from one look at the memory to the next."""


class Script(Asking):
    """The kinds of turns, drawn by lot."""

    def run(self, turns: int) -> None:
        """Do turns until there were enough."""
        self.opened()
        kinds: dict[Callable[[], None], int] = {
            self.asks: 40, self.leaves: 10, self.stops_early: 12, self.at_once: 14,
            self.prepares: 8, self.forgets: 6, self.agrees_anew: 4, self.hurries: 4, self.errs: 2,
        }  # fmt: skip
        looked = 0
        while self.turns < turns:
            self.draw.choices(list(kinds), list(kinds.values()))[0]()
            if self.turns - looked >= EVERY:
                looked = self.turns
                say(memory={"turns": self.turns, **memory()})
            self.tell()

    def asks(self) -> None:
        """Ask by name, or with the picture in view."""
        put = self.put(by_name=self.draw.random() < 0.8)
        self.known(put.name)
        self.judge(put, self.come(put))

    def leaves(self) -> None:
        """Leave in the middle of an answer; the next one must be as if nothing had been."""
        put = self.put(pieces=self.draw.randint(0, 6))
        self.known(put.name)
        self.judge(put, self.come(put))
        again = self.put(name=put.name)
        self.judge(again, self.come(again))

    def stops_early(self) -> None:
        """Cancel from another thread, most of the time before the first word."""
        put = self.put(by_name=self.draw.random() < 0.7, may={ANSWER, "CancelledError"})
        self.known(put.name)
        whole, wait = self.draw.random() < 0.5, self.draw.random() ** 2 * 0.06
        stream = self.stream(put)
        end = self.vlm.cancel if whole else stream.cancel

        def stop() -> None:
            time.sleep(wait)
            end()

        thread = threading.Thread(target=stop)
        thread.start()
        came = self.read(put, stream)
        thread.join()
        self.judge(put, came)
        again = self.put(name=put.name)
        self.judge(again, self.come(again))

    def at_once(self) -> None:
        """Several ask at the same time; somebody may cancel everything, or be forgotten."""
        many = self.draw.random() < 0.05
        most = min(5, len(self.pictures))
        names = self.draw.sample(sorted(self.pictures), self.draw.randint(1, most))
        for name in names:
            self.known(name)
        what = self.draw.choice(["nothing", "nothing", "cancel", "forget"])
        may = {ANSWER} | ({"BusyError"} if many else set())
        may |= {"CancelledError"} if what == "cancel" else set()
        gone = names[0] if what == "forget" else None
        lost = may | {"EmbeddingError", *NEW}
        puts = [
            self.put(name=name, may=lost if name == gone else may)
            for name in names * (8 if many else 1)
        ]
        wait = self.draw.random() * 0.1
        came: list[Came | None] = [None] * len(puts)

        def ask(index: int) -> None:
            came[index] = self.come(puts[index])

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(puts))]
        for thread in threads:
            thread.start()
        if what != "nothing":
            time.sleep(wait)
        if what == "cancel":
            self.vlm.cancel()
        if gone is not None:
            self.forget(gone)
        for thread in threads:
            thread.join()
        for put, one in zip(puts, came, strict=True):
            self.judge(put, one or Came("a thread that died", "", None))

    def prepares(self) -> None:
        """Prepare somebody while they talk, perhaps give it up, then ask."""
        put = self.put(by_name=False)
        prepared = self.vlm.prepare(self.pictures[put.name], attention=put.attention)
        if self.draw.random() < 0.3:
            time.sleep(self.draw.random() * 0.03)
            prepared.cancel()
        elif self.draw.random() < 0.5:
            prepared.wait(60)
        self.counts["prepared"] += 1
        self.judge(put, self.come(put))

    def forgets(self) -> None:
        """Forget somebody, who is then nobody; and remember them again, or not yet."""
        put = self.put(may={"UnknownUserError"})
        self.known(put.name)
        self.forget(put.name)
        self.judge(put, self.come(put))
        if self.draw.random() < 0.7:
            self.known(put.name)
            again = self.put(name=put.name)
            self.judge(again, self.come(again))

    def agrees_anew(self) -> None:
        """Somebody changes what they agree to."""
        put = self.put()
        self.known(put.name)
        if agreed(put.name) is not None:
            self.keep(put.name, self.draw.choice(KEEPS))
        self.judge(put, self.come(put))

    def hurries(self) -> None:
        """Give little time."""
        put = self.put(deadline_s=self.draw.choice([0, 0.002, 0.02]), may={ANSWER, "DeadlineError"})
        self.known(put.name)
        self.judge(put, self.come(put))

    def errs(self) -> None:
        """Ask what cannot be answered."""
        name = self.draw.choice(sorted(self.pictures))
        for put in (
            Put("nobody", QUESTIONS[0], "auto", may=frozenset({"UnknownUserError"})),
            Put(name, " ", "auto", by_name=False, may=frozenset({"QuestionError"})),
        ):
            self.judge(put, self.come(put))


def memory() -> dict[str, int]:
    """Look at this process: kB of its own memory and of all at its highest, open files, threads."""
    status = Path("/proc/self/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in status)
    return {
        "anon_kb": int(values["RssAnon"].split()[0]),
        "peak_kb": int(values["VmHWM"].split()[0]),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": int(values["Threads"]),
    }


def main() -> None:
    """Do what the job on standard input says."""
    faulthandler.enable()
    job = json.loads(sys.stdin.read())
    pictures = load_pictures(Path(job["pictures"]))
    if "answer" in job:
        with UserVLM.load(job["bundle"], threads=1, verify=False) as vlm:
            print(to_json(answers_of(vlm, pictures[job["answer"]])))
        return
    answers = {name: from_json(line) for name, line in job["answers"].items()}
    ledger = {name: Kept(*kept) for name, kept in job["ledger"].items()}
    say(loading=True)
    with UserVLM.load(
        job["bundle"], users=job["users"], memory_mb=job["memory_mb"], threads=1, verify=False
    ) as vlm:
        Script(vlm, pictures, answers, ledger, job["seed"]).run(job["turns"])
        say(closing=True)


if __name__ == "__main__":
    main()
