"""A busy day in fast time: hundreds of visits, one after the other and two at once.

Owns: who comes and what they do, drawn by lot, and what must be true of every visit and of the app
after all of them. The app runs in the robot's own Python 2.7, the brain is the pocket model, which
takes its own time whatever the pace; so the robot says "let me think" more often than it would.

USERVLM_VISITS sets the number of visits: a visit takes 0.5 s of a two-core machine, so 500 take
five minutes, and the suite makes do with fewer. Times and memory are printed.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("qi")

from conversing import CALL, FEEL, Truth, agreed, known
from serving import Serving
from stage import ENDS_S, OWN, Stage, brain, play, stage

from uservlm.pepper_app.project.onboard.words import SAYS

VISITS = int(os.environ.get("USERVLM_VISITS", "80"))
PACE, FLICKERS_PACE = 40.0, 3.0
PEOPLE = [f"person {number}" for number in range(40)]
WEAR = "What am I wearing?"
QUESTIONS = (CALL, FEEL, WEAR)
GROWTH = 12 * 2**20
"""Bytes by which the app may be larger after the last visit than after the first tenth."""
SLOW_VISITS = 4
"""While every answer of the robot takes 0.15 s of the world."""
PATIENCE_S = 45.0
"""Of the robot's time, for a question to be put, and for what follows the answer to it."""
EVERY_S = 0.01


class Day:
    """What has happened so far."""

    def __init__(self, robot: Stage, truth: Truth, mind: Serving) -> None:
        self.robot, self.truth, self.brain = robot, truth, mind
        self.lot = random.Random(17)
        self.kept: dict[str, str] = {}
        """The ids of those who said yes."""
        self.slow = False
        """Whether the network is."""
        self.turns: Counter[str] = Counter()

    def visit(self) -> None:
        """Let somebody come, talk, and go."""
        lot, robot = self.lot, self.robot
        who = lot.choice(PEOPLE)
        since = robot.now()
        robot.do("arrive", who=who)
        if lot.random() < 0.8:
            self._wait(lambda: self._eyes("ready", since), "never looked at")
        here = self._talk(who)
        if here and lot.random() < 0.3:
            here = self._talk(who)
        since = robot.now()
        if here:
            robot.do("leave", who=who)
            self._wait(lambda: self._eyes("alone", since), "never alone")

    def _talk(self, who: str) -> bool:
        """Ask something and see what follows; gives whether they are still there."""
        lot, robot = self.lot, self.robot
        question = lot.choice(QUESTIONS)
        truth = self.truth.of(question, who)
        since = robot.now()
        robot.do("ask", text=question)
        act = lot.choices(("hear", "touch", "go", "crowd"), (80, 8, 8, 4))[0]
        if act != "hear":
            self._wait(
                lambda: self._begun(since) or self._outcome(since, False), "no answer begins"
            )
        if act == "touch":
            robot.do("touch", sensor="FrontTactilTouched")
        if act == "go":
            robot.do("leave", who=who)
        if act == "crowd":
            robot.do("arrive", who="somebody else", zone=self.lot.choice((1, 3)))
        cut = act in ("touch", "go")
        outcome = self._wait(lambda: self._outcome(since, cut), "a turn is lost")
        self.turns[outcome] += 1
        said = " ".join(text for text in robot.said(since) if text not in OWN)
        if outcome == "answered":
            assert said == truth, f"{who} heard what is right for somebody else"
        elif outcome == "failed":
            reasons = ("away_still", "broken", "too_long", "unseen")
            wanted = [text for key in reasons for text in SAYS["en"][key]]
            heard = " ".join(robot.said(since))
            assert any(text in heard for text in wanted), f"nothing is said: {heard}"
        if act == "go":
            self._wait(lambda: self._eyes("alone", since), "never alone")
        if act == "crowd":
            robot.do("leave", who="somebody else")
        if act == "hear" and outcome == "answered" and who not in self.kept:
            self._agree(who, since)
        return act != "go"

    def _agree(self, who: str, since: float) -> None:
        """Say yes, no or nothing when that is asked; who is too slow has said nothing."""
        if self.lot.random() < 0.5 or self.slow:
            return
        robot, yes = self.robot, self.lot.random() < 0.4

        def late(since: float, patience: float = PATIENCE_S) -> bool:
            return robot.now() - since > patience

        asked = robot.now()
        self._wait(lambda: self._eyes("asking", since) or late(asked, 15.0), "not asked")
        if not self._eyes("asking", since):
            return  # somebody else is in view, or they were asked before
        robot.presses("yes" if yes else "no")
        told = SAYS["en"]["kept" if yes else "not_kept"][0].split(". ")[-1]
        self._wait(lambda: told in robot.said(asked) or late(asked), "no word about it")
        if yes and told in robot.said(asked):
            [self.kept[who]] = agreed(self.brain) - set(self.kept.values())

    def _outcome(self, since: float, cut: bool) -> str:
        """Give how a turn ended; one that is asked again as its asker comes near is not over."""
        ends = [report["outcome"] for report in self.robot.reports(since)]
        return ends[-1] if ends and (cut or ends[-1] != "stopped") else ""

    def _wait(self, true: Any, what: str) -> Any:
        return self.robot.until(true, what, every=EVERY_S)

    def _begun(self, since: float) -> bool:
        return bool(set(self.robot.said(since)) - OWN)

    def _eyes(self, state: str, since: float) -> bool:
        return self.robot.eyes(since) == state


def memory(url: str) -> int:
    """Give the bytes of the app in memory."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            if b"onboard" in words and url.encode() in words:
                pages = int((place / "statm").read_text().split()[1])
                return pages * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            continue
    raise AssertionError("the app is not there")


def test_hundreds_of_visits_leave_nothing_behind(
    pocket_bundle: Path, tmp_path: Path, python27: list[str]
) -> None:
    begun = time.monotonic()
    with ExitStack() as open_:
        robot = open_.enter_context(
            stage(
                tmp_path,
                pace=PACE,
                python=" ".join(python27),
                listen=["words"],
                recognise="on_sight",
            )
        )
        minds = open_.enter_context(ExitStack())
        mind = minds.enter_context(brain(pocket_bundle, tmp_path, robot))
        robot.state("alone")
        robot.page_loads()
        held = robot.held()
        truth = Truth(mind)
        for who in PEOPLE:
            for question in QUESTIONS:
                truth.of(question, who)
        last = truth.of(CALL, "grace")
        differing = {tuple(truth.of(question, who) for question in QUESTIONS) for who in PEOPLE}
        assert len(differing) > len(PEOPLE) / 3, "drawn people differ"
        day = Day(robot, truth, mind)
        ready = time.monotonic()
        sizes = []
        for number in range(VISITS):
            if number == VISITS // 10:
                sizes.append(memory(robot.url))
            if number == VISITS // 2:
                minds.close()
                mind = minds.enter_context(brain(pocket_bundle, tmp_path, robot))
                day.brain = mind
            if number in (VISITS * 4 // 5, VISITS * 4 // 5 + SLOW_VISITS):
                day.slow = number == VISITS * 4 // 5
                robot.bus.call("VirtualPepper", "misbehave", ["slow-network"] * day.slow)
            day.visit()
        took = time.monotonic() - ready
        sizes.append(memory(robot.url))
        since = robot.now()
        robot.do("arrive", who="grace")
        robot.state("ready", since)
        assert robot.asks(CALL)["said"] == last, "a last visit"
        robot.leaves("grace")
        print(
            f"\n{VISITS} visits, {sum(day.turns.values())} questions {dict(day.turns)}, "
            f"{len(day.kept)} kept: {took:.0f} s ({took / VISITS:.2f} s each, {PACE:g} times the "
            f"robot's pace), {time.monotonic() - begun:.0f} s in all; the app takes "
            f"{sizes[0] / 2**20:.1f} MiB after a tenth, {sizes[-1] / 2**20:.1f} MiB in the end"
        )
        robot.until(lambda: set(known(mind)) == set(day.kept.values()), "kept without a yes")
        assert day.turns["failed"] <= 2 + VISITS // 50
        assert sizes[-1] - sizes[0] < GROWTH
        assert robot.held() == held
        assert robot.stop() < ENDS_S and robot.held() == []
        assert not robot.deeds("ALServiceManager", "SIGKILL")


def test_nobody_is_lost_while_the_lists_flicker(
    pocket_bundle: Path, tmp_path: Path, python27: list[str]
) -> None:
    options = {"pace": FLICKERS_PACE, "python": " ".join(python27), "listen": ["words"]}
    with play(pocket_bundle, tmp_path, "--misbehave", "flicker", **options) as (robot, mind):
        day = Day(robot, Truth(mind), mind)
        for _ in range(6):
            day.visit()
        greetings = [text for text in robot.said() if text in SAYS["en"]["hello"]]
        assert len(greetings) <= len(robot.deeds("people", "arrive")), "somebody came twice"
        robot.until(lambda: set(known(mind)) == set(day.kept.values()), "kept without a yes")
