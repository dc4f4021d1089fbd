"""The tablet as people meet it: the app's own page in a real browser, on the virtual robot.

Owns: the wire between the two. What the app has the tablet execute is evaluated in the page in its
order, and what the page raises reaches the app, all over real libqi; the page is the installed
package's, and its time runs as fast as the robot's. How the page looks in each of its states is
test_tablet_page.py's to say. USERVLM_SCREENSHOTS=FOLDER has pictures of the main moments written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("qi")

from browser import browser
from serving import Serving
from stage import Stage, brain, stage

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PACE = 5.0
DESCRIBE = "Describe me."
CALL = "How do I make a video call?"
CHIPS = [CALL, DESCRIBE, "What am I wearing?", "Am I alone?"]
TABLET = """(() => {
    const pace = %s, now = performance.now.bind(performance);
    performance.now = () => now() * pace;
    for (const name of ["setTimeout", "setInterval"]) {
        const real = window[name].bind(window);
        window[name] = (act, wait, ...more) => real(act, wait / pace, ...more);
    }
    window.ALTabletBinding = { raiseEvent(it) { window.robotHears(it); } };
})()"""
EVERYTHING = """() => document.documentElement.outerHTML + [...document.querySelectorAll("*")]
    .flatMap((one) => Object.keys(one).map((key) => String(one[key])).concat(one.value || ""))
    .join(" ")"""
SHOTS = os.environ.get("USERVLM_SCREENSHOTS")
HOSTILE = (
    "", "hello", "{", "null", "7", "[]", '"stop"', "{}", '{"do": null}', '{"do": ["stop"]}',
    '{"do": {"a": 1}}', '{"do": "STOP"}', '{"do": "shutdown"}', '{"do": "ask"}',
    '{"do": "ask", "text": null}', '{"do": "ask", "text": 7}', '{"do": "ask", "text": ["a"]}',
    '{"do": "ask", "text": {"a": "b"}}', '{"do": "ask", "text": "  \\n "}',
    '{"do": "ask", "text": "\\ud83d"}', "[" * 100_000, '{"a":' * 100_000, "9" * 100_000,
    '{"do": "ask", "text": "%s"}' % ("x" * 1_000_000),
)  # fmt: skip


class Screen:
    """The page on the tablet, as the robot and a person see it."""

    def __init__(self, page: Page, robot: Stage) -> None:
        self.page, self._robot = page, robot
        self.complaints: list[str] = []
        self.seen: list[tuple[str, str]] = []
        """Each state, with the newest words in it."""
        page.on("console", lambda said: self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.expose_function("robotHears", lambda event: robot.do("tablet", event=event))
        page.add_init_script(TABLET % PACE)
        self._address = (robot.folder / "apps/uservlm/html/index.html").as_uri()
        self.reload()

    def reload(self) -> None:
        """Load the page; what it is told meanwhile is lost, as on a tablet."""
        self.page.goto(self._address)
        self._told = len(self._told_to())

    def look(self) -> None:
        """Let a moment pass, in which the tablet does what the robot wants."""
        for deed in self._told_to()[self._told :]:
            self._told += 1
            if deed["what"] == "load":
                self.reload()
                break
            self.page.evaluate(deed["values"][0])
            turns = self.page.locator(".turn .text").all_inner_texts()
            now = self.page.evaluate("document.body.dataset.state"), turns[-1] if turns else ""
            self.seen.append(now)
        self.page.wait_for_timeout(15)

    def until(self, true: Any, what: str) -> Any:
        def looked() -> Any:
            self.look()
            return true()

        return self._robot.until(looked, what, every=0.0)

    def state(self, wanted: str) -> None:
        self.until(lambda: self.page.locator(f"body[data-state={wanted}]").count(), wanted)

    def says(self, text: str, where: str = "#turns") -> None:
        self.until(lambda: text in self.page.locator(where).inner_text(), f"{text} in {where}")

    def touch(self, what: str) -> None:
        """Touch something, as soon as it can be meant."""
        self.page.wait_for_timeout(900 / PACE)
        self.page.locator(what).click()
        self.look()

    def asks(self, question: str) -> float:
        """Touch a suggestion; gives the robot's time before."""
        since: float = self._robot.now()
        self.touch(f".chip:has-text({json.dumps(question)})")
        return since

    def last(self) -> str:
        return self.page.locator(".turn.robot .text").last.inner_text()

    def everything(self) -> str:
        """Give all that is in the page, shown or not."""
        whole: str = self.page.evaluate(EVERYTHING)
        return whole

    def shot(self, name: str) -> None:
        if SHOTS:
            self.page.wait_for_timeout(400)
            self.page.screenshot(path=Path(SHOTS) / f"tablet_{name}.png")

    def _told_to(self) -> list[dict[str, Any]]:
        deeds = self._robot.deeds("ALTabletService")
        return [deed for deed in deeds if deed["what"] in ("load", "executeJS")]


@pytest.fixture(scope="module")
def acting(
    pocket_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stage, Serving]]:
    folder = tmp_path_factory.mktemp("tablet")
    settings = {"listen": ["words"], "suggestions": CHIPS}
    with stage(folder, pace=PACE, **settings) as robot, brain(pocket_bundle, folder, robot) as mind:
        robot.until(lambda: robot.deeds("ALTabletService", "showWebview"), "no page")
        yield robot, mind


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@contextmanager
def open_screen(robot: Stage, chromium: Browser) -> Iterator[Screen]:
    page = chromium.new_page(viewport={"width": 1280, "height": 800}, has_touch=True)
    made = Screen(page, robot)
    made.state("alone")
    try:
        yield made
        for who in robot.bus.call("VirtualPepper", "people"):
            robot.do("leave", who=who)
        made.state("alone")
    finally:
        page.close()
    assert made.complaints == []
    assert "beginning anew" not in robot.log(), robot.log()


@pytest.fixture
def robot(acting: tuple[Stage, Serving]) -> Stage:
    return acting[0]


@pytest.fixture
def screen(robot: Stage, chromium: Browser) -> Iterator[Screen]:
    with open_screen(robot, chromium) as made:
        yield made


def comes(robot: Stage, screen: Screen, who: str) -> None:
    """Let somebody come, and wait until the robot has looked and greeted."""
    robot.do("arrive", who=who)
    screen.state("ready")
    screen.until(lambda: screen.page.locator(".turn.robot").count(), "no greeting")
    robot.quiet(0.2)


def kept(mind: Serving) -> list[dict[str, Any]]:
    users: list[dict[str, Any]] = mind.client.get("/v1/users").json()["data"]
    return [user for user in users if user.get("consent")]


def test_a_touched_question_is_answered_on_the_screen_as_it_is_spoken(
    robot: Stage, screen: Screen
) -> None:
    assert screen.page.locator("#welcome-title").inner_text() == "Come closer and talk to me"
    screen.shot("alone")
    comes(robot, screen, "grace")
    assert screen.page.locator(".chip").all_inner_texts() == CHIPS
    screen.seen.clear()
    since = screen.asks(DESCRIBE)
    screen.says(DESCRIBE, ".turn.person")
    screen.state("speaking")
    screen.shot("speaking")
    screen.state("asking")
    answers = [text for state, text in screen.seen if state == "speaking"]
    assert answers[-1].count(". ") == 2, "three sentences"
    stages = sorted(set(answers), key=len)
    assert len(stages) >= 3 and all(answers[-1].startswith(text) for text in stages)
    assert [text for text in robot.said(since) if text in answers[-1]] == answers[-1].replace(
        ". ", ".|"
    ).split("|")
    states = [state for state, _ in screen.seen]
    assert states.index("thinking") < states.index("speaking") < states.index("asking")


def test_who_touches_yes_sees_what_is_kept_and_two_touches_end_it(
    robot: Stage, screen: Screen, acting: tuple[Stage, Serving]
) -> None:
    mind = acting[1]
    comes(robot, screen, "grace")
    assert "I do not keep anything about you" in screen.page.locator("#about-text").inner_text()
    screen.asks(CALL)
    screen.state("asking")
    assert (
        "for one year or until you say forget me" in screen.page.locator("#question").inner_text()
    )
    screen.shot("asking")
    robot.quiet(0.7)
    screen.touch("#yes")
    screen.says("I asked, and you touched Yes here.", "#about-text")
    robot.quiet(0.5)
    screen.state("ready")
    [user] = kept(mind)
    about = screen.page.locator("#about-text").inner_text()
    for day in (user["since"], user["expires"]):
        year, month, number = day[:10].split("-")
        assert f"{int(number)} " in about and year in about and month
    screen.shot("kept")
    since = screen.asks(CALL)
    robot.report(since)
    screen.state("ready")
    screen.shot("conversation")
    screen.touch("#about-button")
    assert screen.page.locator("#about-button").inner_text() == "Touch again to forget"
    assert [one["id"] for one in kept(mind)] == [user["id"]], "one touch is none"
    screen.touch("#about-button")
    screen.says("I do not keep anything about you", "#about-text")
    screen.until(lambda: kept(mind) == [], "still kept")
    robot.until(lambda: not robot.bus.call("ALFaceDetection", "getLearnedFacesList"), "a face")
    assert CALL not in screen.page.locator("#turns").inner_text()


def test_stop_on_the_screen_ends_speech_within_half_a_second(robot: Stage, screen: Screen) -> None:
    comes(robot, screen, "grace")
    since = screen.asks(DESCRIBE)
    screen.state("speaking")
    robot.hears("The person", since)
    screen.touch("#stop")
    pressed = robot.until(
        lambda: [
            deed["at"]
            for deed in robot.deeds("ALTabletService", "onJSEvent", since)
            if deed["values"] == ['{"do":"stop"}']
        ],
        "not pressed",
    )[0]
    ended = robot.until(lambda: robot.deeds("ALTextToSpeech", "interrupted", pressed), "it goes on")
    assert ended[0]["at"] - pressed < 0.5, "seconds of the robot's time"
    screen.state("ready")
    robot.quiet(2.0)
    assert not robot.said(ended[0]["at"] + 0.01)
    assert screen.page.locator("#stop").is_hidden()


def test_of_who_was_there_before_nothing_is_left_for_who_comes_next(
    robot: Stage, screen: Screen
) -> None:
    comes(robot, screen, "grace")
    screen.asks("What am I wearing?")
    screen.says("purple")
    answer = screen.last()
    screen.page.fill("#field", "half a question of hers")
    robot.do("leave", who="grace")
    screen.state("alone")
    comes(robot, screen, "sam")
    for hers in (answer, "purple", "half a question"):
        assert hers not in screen.everything()
    screen.asks("What am I wearing?")
    screen.says("green")
    assert screen.page.locator(".turn.person").count() == 1


def test_a_page_that_is_loaded_again_shows_all_of_it_again(robot: Stage, screen: Screen) -> None:
    comes(robot, screen, "sam")
    screen.asks(DESCRIBE)
    screen.state("speaking")
    screen.until(lambda: "." in screen.last(), "nothing said")
    before = screen.page.locator(".turn.person .text").all_inner_texts()
    screen.reload()
    assert screen.page.locator(".turn").count() == 0
    screen.until(lambda: screen.page.locator(".turn.person").count(), "it stays empty")
    assert screen.page.locator(".turn.person .text").all_inner_texts() == before
    screen.state("asking")
    answer = "They look surprised. Nobody else is in view."
    assert answer in screen.page.locator("#turns").inner_text()


def test_whatever_else_is_raised_changes_nothing_and_ends_nothing(
    robot: Stage, screen: Screen
) -> None:
    comes(robot, screen, "sam")
    before, since = robot.tablet(), robot.now()
    for event in HOSTILE[:-1]:
        robot.do("tablet", event=event)
    service = robot.bus.service("ALTabletService")
    for values in ((), (7,), (None,), ([1],), ({"do": "stop"},), ("{}", "{}"), (True,)):
        service.onJSEvent(*values)
        service.onLoadPageError(*values)
    robot.do("tablet", event=HOSTILE[-1])
    screen.page.wait_for_timeout(300)
    screen.look()
    assert robot.tablet() == before and robot.said(since) == []
    assert not robot.deeds("ALServiceManager", "stopped"), robot.log()
    screen.state("ready")
    screen.asks("Am I alone?")
    screen.says("Nobody else is in view")
