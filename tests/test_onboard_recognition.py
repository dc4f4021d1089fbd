"""Nobody is compared with the people who are kept but as the deployer has decided.

The decision itself, the look that follows it (with a brain that counts what it is asked), and two
of its three values with the installed package in Python 2.7, the pocket and real libqi; the third,
which is the default, is `test_onboard_visits.py`'s. What the question for consent says is here too.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from uservlm.pepper_app.project.onboard import touch
from uservlm.pepper_app.project.onboard.clean import speakable
from uservlm.pepper_app.project.onboard.looking import Looking
from uservlm.pepper_app.project.onboard.loop import Loop
from uservlm.pepper_app.project.onboard.png import png
from uservlm.pepper_app.project.onboard.recognition import (
    NEVER,
    ON_SIGHT,
    RECOGNISE,
    WHEN_ASKED,
    Recognition,
)
from uservlm.pepper_app.project.onboard.settings import Settings
from uservlm.pepper_app.project.onboard.terms import Terms, span
from uservlm.pepper_app.project.onboard.visit import Visit
from uservlm.pepper_app.project.onboard.words import COMMANDS
from uservlm.runtime.profiles import KEEPS

CALL = "How do I make a video call?"


def visit(**known: Any) -> Visit:
    made = Visit(1)
    made.seen_alone = True
    vars(made).update(known)
    return made


@pytest.mark.parametrize("when", RECOGNISE)
def test_who_is_compared_is_alone_and_wants_it_unless_the_deployer_wants_it(when: str) -> None:
    for alone, wants, strange in product((False, True), repeat=3):
        one = visit(seen_alone=alone, wants_known=wants, strange=strange)
        wanted = {ON_SIGHT: True, WHEN_ASKED: wants, NEVER: False}[when]
        assert Recognition(when).compares(one) == (wanted and alone and not strange)


def test_nobody_is_recognised_on_sight_unless_that_is_set() -> None:
    assert Settings().recognise == WHEN_ASKED


def test_the_tablet_offers_what_can_be_had() -> None:
    offers = {when: Recognition(when).offers for when in RECOGNISE}
    stranger, asked, kept = visit(), visit(wants_known=True), visit(kept=True)
    assert [offers[WHEN_ASKED](one) for one in (stranger, asked, kept)] == [
        ("know", "remember"),
        ("remember",),
        ("forget",),
    ]
    assert [offers[ON_SIGHT](one) for one in (stranger, kept)] == [("remember",), ("forget",)]
    assert offers[NEVER](stranger) == offers[NEVER](asked) == ()


class Counting:
    """A brain, a camera, NAOqi's faces and debts in one: everything is there, all know grace."""

    there = True

    def __init__(self) -> None:
        self.asked: list[str] = []

    def take(self, done: Callable[..., None]) -> None:
        done(b"a frame", None)

    def who(self, done: Callable[[str], None]) -> None:
        self.asked.append("NAOqi")
        done("")

    def identify(self, _: bytes, done: Callable[..., None]) -> None:
        self.asked.append("brain")
        done("visitor-0123456789ab", None)

    def wake(self, _: str, done: Callable[..., None]) -> None:
        done(None, None)

    def look(self, _: bytes, user: str, done: Callable[..., None]) -> None:
        done(user, None)

    def owes(self, _: str) -> bool:
        return False


@pytest.mark.parametrize(
    ("when", "wants", "asked"),
    [
        (ON_SIGHT, False, ["NAOqi", "brain"]),
        (WHEN_ASKED, False, []),
        (WHEN_ASKED, True, ["NAOqi", "brain"]),
        (NEVER, True, []),
    ],
)
def test_a_look_compares_nobody_who_may_not_be_compared(
    when: str, wants: bool, asked: list[str]
) -> None:
    all_: Any = Counting()
    looking = Looking(Loop(), all_, all_, Recognition(when), lambda *_: None)
    looking.camera = looking.faces = all_
    one = visit(wants_known=wants)
    looking.begin(one)
    assert all_.asked == asked
    assert one.user.startswith("visitor-") and one.kept == bool(asked)


# -- the question ---------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_question_names_what_where_how_long_and_how_it_ends(language: str) -> None:
    numbers, face, forget, days = {
        "en": ("numbers from your picture on my computer", "your face in my memory", 0, "30 days"),
        "fr": ("nombres tirés de votre image sur mon ordi", "votre visage dans ma", 0, "30 jours"),
    }[language]
    for keeps, learns in product(KEEPS, (True, False)):
        given = {"keeps": keeps, "learn_faces": learns, "days": 30}
        terms = Terms(Settings(given), language)
        assert (numbers in terms.question) == (keeps != "profile")
        assert (face in terms.question) == learns
        for text in (terms.question, " ".join(terms.written)):
            assert days in text and COMMANDS[language]["forget"][forget] in text
        assert COMMANDS[language]["yes"][0] in terms.question.split(",")[-1]
        sentences = terms.question.replace(" ?", "?").split(". ")
        assert len(sentences) == 2 and len(terms.question.split()) < 50, "it is listened to"
        assert speakable(terms.question) == terms.question.replace(" ?", "?")
        held = f"{touch.HOLD_S:.0f} second"
        assert held in terms.written[-1]
    whole = [
        len(Terms(Settings({"keeps": keeps, "learn_faces": learns}), language).written)
        for keeps, learns in (("state", True), ("state", False), ("profile", False))
    ]
    assert whole == [5, 4, 3], "a paragraph for each thing, and for nothing else"


def test_whoever_is_recognised_only_when_they_ask_is_told_how() -> None:
    for language in ("en", "fr"):
        asks = COMMANDS[language]["know"][0]
        assert asks in Terms(Settings(), language).says("kept")[0]
        assert asks not in Terms(Settings({"recognise": ON_SIGHT}), language).says("kept")[0]


@pytest.mark.parametrize(
    ("days", "english", "french"),
    [
        (1, "one day", "un jour"),
        (30, "30 days", "30 jours"),
        (365, "one year", "un an"),
        (366, "366 days", "366 jours"),
        (730, "2 years", "2 ans"),
    ],
)
def test_a_time_is_said_in_words(days: int, english: str, french: str) -> None:
    assert (span(days, "en"), span(days, "fr")) == (english, french)


# -- on the robot ---------------------------------------------------------------------------------


def test_on_sight_and_never(pocket_bundle: Path, tmp_path: Path, python27: list[str]) -> None:
    """One robot: first it recognises on sight, then it is told to recognise nobody any more."""
    pytest.importorskip("qi")
    from serving import data_url
    from stage import brain, package, stage

    def faces() -> list[str]:
        found: list[str] = robot.bus.call("ALFaceDetection", "getLearnedFacesList")
        return found

    def kept() -> list[dict[str, Any]]:
        users = mind.client.get("/v1/users").json()["data"]
        return [user for user in users if user["consent"]]

    python, rest = shlex.join(python27), {"listen": ["words"], "days": 30}
    with (
        stage(tmp_path, python=python, pace=8, recognise=ON_SIGHT, asks=False, **rest) as robot,
        brain(pocket_bundle, tmp_path, robot, "--no-identify") as mind,
    ):
        robot.state("alone")
        robot.page_loads()
        robot.until(lambda: "ALFaceDetection UserVLM" in robot.held(), "faces are not looked for")
        robot.arrives("grace")
        asked = robot.asks(CALL)["since"]
        robot.quiet(2.0)
        assert "hall I remember" not in str(robot.said(asked)), "she has not asked for it"
        robot.presses("remember")
        robot.state("asking", asked)
        assert "30 days" in robot.tablet()["question"] and len(robot.tablet()["terms"]) == 5
        robot.presses("yes")
        robot.until(faces, "no face")
        [user] = kept()
        assert user["consent"]["days"] == 30
        robot.leaves("grace")
        robot.hears("We have met before", robot.arrives("grace"))
        robot.leaves("grace")
        seen = {"image": data_url(png(1, 1, b"\0\0\0"))}
        refused = mind.client.post("/v1/users/identify", json=seen)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "identity_off")
        robot.stop()
        file = package(tmp_path / "never.pkg", {**rest, "recognise": NEVER})
        assert robot.bus.call("PackageManager", "install", str(file)) is True
        since = robot.now()
        robot.start()
        robot.until(lambda: not faces() and not kept(), "whoever was kept is not forgotten")
        robot.page_loads()
        robot.arrives("grace")
        robot.asks(CALL)
        robot.quiet(2.0)
        for wish in ("know", "remember", "forget"):
            said = robot.now()
            robot.presses(wish)
            robot.hears("I recognise nobody here", said)
            robot.quiet(0.8)
        assert robot.tablet()["offers"] == [] and robot.tablet()["user"] == {"kept": False}
        heard = " ".join(robot.said(since))
        assert "We have met" not in heard and "hall I remember you" not in heard
        assert not robot.deeds("ALFaceDetection", "subscribe", since), "a face was looked for"
        robot.leaves("grace")
        robot.until(lambda: not mind.client.get("/v1/users").json()["data"], "kept")
