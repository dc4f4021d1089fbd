"""What is left of an export: honest on slow machines, growing when nothing moves, readable."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import pytest
from rich.console import Console

from uservlm.converters.progress import Forecast, Left, Plan, Steps, rounded

PLAN: Plan = [("read", 10), ("write", 100), ("shrink", 60), ("prove", 130)]


class Clock:
    """Time that passes when told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Simulation:
    """A machine that takes `slower` times the planned seconds."""

    def __init__(self, plan: Plan = PLAN, slower: float = 1.0) -> None:
        self.clock = Clock()
        self.plan = dict(plan)
        self.slower = slower
        self.forecast = Forecast(plan, self.clock)

    def seconds(self) -> float:
        return self.expected().seconds

    def expected(self) -> Left:
        found = self.forecast.left()
        assert found is not None
        return found

    def run(self, words: str, ticks: int = 0) -> Iterator[Left]:
        """Run a step in 100 moments, counting `ticks` times, and give what is left at each."""
        self.forecast.begin(words, counts=ticks > 0)
        for moment in range(100):
            yield self.expected()
            self.clock.now += self.plan[words] * self.slower / 100
            if ticks and (moment + 1) * ticks % 100 < ticks:
                self.forecast.count((moment + 1) * ticks // 100 / ticks)
        self.forecast.end()


def finish(simulation: Simulation, words: str, ticks: int = 0) -> None:
    for _ in simulation.run(words, ticks):
        pass


def test_the_plan_is_believed_as_long_as_it_holds() -> None:
    simulation = Simulation()
    assert simulation.seconds() == 300
    for words, ticks in (("read", 0), ("write", 20), ("shrink", 0)):
        before = simulation.seconds()
        finish(simulation, words, ticks)
        assert simulation.seconds() == pytest.approx(before - simulation.plan[words])


@pytest.mark.parametrize("slower", [3, 1, 0.4])
@pytest.mark.parametrize("ticks", [5, 20, 100])
def test_a_counted_step_tells_how_fast_the_machine_is(slower: float, ticks: int) -> None:
    """Once counted, and while the next steps run, the estimate is within a fifth."""
    plan = PLAN[1:]
    simulation = Simulation(plan, slower)
    list(simulation.run("write", ticks))
    assert simulation.seconds() == pytest.approx(190 * slower, rel=0.2)
    for words, after in (("shrink", 130), ("prove", 0)):
        for moment, expected in enumerate(simulation.run(words, ticks)):
            wanted = slower * (simulation.plan[words] * (1 - moment / 100) + after)
            assert expected.seconds == pytest.approx(wanted, rel=0.2, abs=5 * slower)
    assert simulation.forecast.left() is None


def test_half_a_counted_step_is_enough() -> None:
    simulation = Simulation(PLAN, slower=3)
    finish(simulation, "read")
    for moment, expected in enumerate(simulation.run("write", 50)):
        if moment == 50:
            assert expected.seconds == pytest.approx(3 * (50 + 190), rel=0.2)


def test_a_short_step_alone_does_not_turn_the_estimate() -> None:
    """Reading from the page cache is 20 times as fast as planned, and says little of the rest."""
    simulation = Simulation([("read", 1), ("write", 299)], slower=0.05)
    finish(simulation, "read")
    assert simulation.seconds() > 200


@pytest.mark.parametrize("ticks", [0, 20])
@pytest.mark.parametrize("moment", [0, 3, 37, 50, 99])
@pytest.mark.parametrize("plan", [PLAN, PLAN[:2]])
def test_a_stall_makes_the_estimate_grow(ticks: int, moment: int, plan: Plan) -> None:
    simulation = Simulation(plan)
    finish(simulation, "read")
    run = simulation.run("write", ticks)
    for _ in range(moment + 1):
        next(run)
    simulation.clock.now += 30 if ticks else 100
    stalled = []
    for _ in range(50):
        simulation.clock.now += 20
        stalled.append(simulation.expected())
    seconds = [expected.seconds for expected in stalled]
    assert all(later > earlier for earlier, later in zip(seconds, seconds[1:], strict=False))
    assert all(expected.overdue for expected in stalled[4:])
    assert seconds[-1] > 1.5 * seconds[0]


def test_a_step_that_the_plan_misjudged_is_told_by_its_own_pace() -> None:
    """The steps before took what was planned, so their pace says nothing of it."""
    simulation = Simulation([("write", 200), ("prove", 100)])
    finish(simulation, "write")
    simulation.slower = 3
    left = [expected.seconds for expected in simulation.run("prove", 50)]
    assert left[50] == pytest.approx(150, rel=0.2)
    assert left[90] == pytest.approx(30, rel=0.2)


def test_a_running_step_never_has_nothing_left() -> None:
    """The last step, not counted, takes three times as long as planned."""
    simulation = Simulation([("prove", 100)], slower=3)
    said = [str(expected) for expected in simulation.run("prove")]
    assert said[0] == "about 2 min left"
    assert said[33] == "about 10 s left"
    assert said[35] == "longer than expected, about 10 s left"
    assert said[99] == "longer than expected, about 30 s left"
    assert not any(re.search(r"\b0 s", sentence) for sentence in said)


def test_work_after_the_last_count_is_still_work() -> None:
    simulation = Simulation([("write", 100)])
    finish_counting = simulation.run("write", 10)
    for _ in range(90):
        next(finish_counting)
    simulation.forecast.count(1.5)
    assert simulation.seconds() > 0


def test_reused_and_foreign_steps() -> None:
    simulation = Simulation()
    simulation.forecast.skip("write")
    simulation.forecast.skip("no such step")
    assert simulation.seconds() == 200
    simulation.forecast.begin("not in the plan", counts=True)
    simulation.clock.now += 1000
    simulation.forecast.count(0.5)
    assert simulation.seconds() == 200
    assert simulation.forecast.end() == 1000
    assert simulation.seconds() == 200
    assert Forecast([]).left() is None
    assert Forecast([("nothing", 0)]).left() is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "1 s"),
        (4.4, "4 s"),
        (43, "45 s"),
        (57, "55 s"),
        (58, "1 min"),
        (200, "3 min"),
        (3560, "59 min"),
        (3580, "1 h"),
        (4150, "1 h 10 min"),
        (7190, "2 h"),
    ],
)
def test_durations_are_said_as_people_do(seconds: float, said: str) -> None:
    assert rounded(seconds) == said


# The terminal

RUN = """
    import time
    from uservlm.converters.progress import Steps

    steps = Steps()
    steps.plan([("read [it]", 1), ("write", 600), ("prove", 3000)])
    with steps.step("read [it]"):
        time.sleep(0.2)
    with steps.step("write", 1000) as done:
        for _ in range(1000):
            done(1)
            time.sleep(0.001)
        steps.warn("a [very] " + "long " * 40 + "line")
    steps.reuse("prove")
    with steps.step("not in the plan"):
        pass
"""


def test_without_a_terminal_each_step_is_one_plain_line() -> None:
    environment = {**os.environ, "FORCE_COLOR": ""}
    command = [sys.executable, "-c", textwrap.dedent(RUN)]
    said = subprocess.run(command, capture_output=True, text=True, env=environment).stderr
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", said)
    patterns = (
        r"about 1 h left",
        r"read \[it\]: 0\.\d s, about \d+ min left",
        r"warning: a \[very\] (long ){40}line",
        r"write: \d\.\d s, about \d+ (s|min) left",
        r"prove: kept from an earlier run",
        r"not in the plan: 0\.\d s",
    )
    lines = said.splitlines()
    assert len(lines) == len(patterns), said
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line), line


def test_forced_colours_do_not_fill_a_file_with_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    steps = Steps(Console(file=stream, force_terminal=True))
    for _ in range(2):
        with steps.step("write", 100) as done:
            for _ in range(100):
                done(1)
    assert len(stream.getvalue().splitlines()) == 2


def test_on_a_terminal_the_bar_says_what_is_left() -> None:
    """A real one: what a person would see is read from its other end."""
    reader, writer = pty.openpty()
    seen = bytearray()

    def read() -> None:
        while True:
            try:
                seen.extend(os.read(reader, 4096))
            except OSError:  # Linux says EIO when the other end is closed
                return

    thread = threading.Thread(target=read)
    thread.start()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "140", "NO_COLOR": "1"}
    command = [sys.executable, "-c", textwrap.dedent(RUN)]
    done = subprocess.run(command, stderr=writer, env=environment)
    os.close(writer)
    thread.join(timeout=30)
    os.close(reader)
    text = seen.decode()
    assert done.returncode == 0
    assert re.search(r"write +━+.* about \d+ (s|min) left", text), text
    assert "read [it]" in text and "prove: kept from an earlier run" in text
    for words in ("read [it]", "write"):
        last = [line for line in re.split(r"[\r\n]+", text) if words in line][-1]
        assert "left" not in last, "it is done"


def test_a_quiet_one_only_warns() -> None:
    stream = io.StringIO()
    steps = Steps(Console(file=stream), quiet=True)
    steps.plan(PLAN)
    steps.reuse("write")
    with steps.step("read", 3) as done:
        done(1)
    steps.say("nothing")
    steps.warn("something")
    assert stream.getvalue() == "warning: something\n"


def test_a_step_that_fails_is_not_said_to_be_done() -> None:
    stream = io.StringIO()
    steps = Steps(Console(file=stream))
    with pytest.raises(RuntimeError), steps.step("read"):
        raise RuntimeError
    assert stream.getvalue() == ""
