"""The page on Pepper's tablet in a real browser: what it shows, what it sends, what it lets go of.

The robot's side is a stand-in of ALTabletBinding that keeps what was raised. Time stands still
but where a test moves it. That Chrome 44 has what the page uses is test_tablet_lint.py's to say.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser import browser

from uservlm.pepper_app.project.onboard.settings import Settings
from uservlm.pepper_app.project.onboard.terms import Terms

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FloatRect, Page

HTML = Path(__file__).resolve().parents[1] / "pepper_app/project/html"
SIZES = ((1280, 800), (1707, 1067))
"""Of the tablet, at the scale the app sets and at NAOqi's own."""
LANGUAGES = ("en", "fr")
STATES = ("alone", "looking", "ready", "thinking", "speaking", "asking", "away")
TARGET = 72
ROBOT = "window.raised = []; window.ALTabletBinding = { raiseEvent(it) { raised.push(it); } };"
REFUSING = "window.ALTabletBinding = { raiseEvent() { throw new Error('no'); } };"
ANSWER = "Open the call app, choose a name, then press the camera button."
TURNS = [
    {"id": 1, "who": "robot", "text": "Hello!", "done": True},
    {"id": 2, "who": "person", "text": "How do I make a video call?", "done": True},
    {"id": 3, "who": "robot", "text": ANSWER, "done": True},
]
CHIPS = ["How do I make a video call?", "How do I feel?", "What am I wearing?", "Am I alone?"]
KEPT = {
    "kept": True,
    "since": "2026-11-27",
    "until": "2027-12-01",
    "how": "pressed yes on the robot's tablet, which had asked",
    "keeps": "state",
}
HOSTILE = (
    '<img src=x onerror="window.broken=1"> </script><script>window.broken=1</script> \'"`\\',
    "before\u2028after\u2029end",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 family \ud83d alone",
    "كيف أجري مكالمة فيديو؟ \u202eevil\u202c",
    "x" * 600,
)

CONTRASTS = """() => {
    const light = (text) => {
        const [r, g, b, a] = text.match(/[\\d.]+/g).map(Number);
        const part = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        return [0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b), a === undefined ? 1 : a];
    };
    const behind = (node) => {
        for (; node; node = node.parentElement) {
            const [found, solid] = light(getComputedStyle(node).backgroundColor);
            if (solid === 1) return found;
        }
        return 1;
    };
    const ratio = (color, node) => {
        const [high, low] = [light(color)[0], behind(node)].sort((a, b) => b - a);
        return (high + 0.05) / (low + 0.05);
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !node.checkVisibility({ visibilityProperty: true }))
            continue;
        const color = getComputedStyle(node).color;
        found.push([walker.currentNode.data.slice(0, 30), ratio(color, node)]);
    }
    const input = document.getElementById("field");
    if (input.checkVisibility())
        found.push(["placeholder", ratio(getComputedStyle(input, "::placeholder").color, input)]);
    return found;
}"""
CONTROLS = """() => [...document.querySelectorAll("button, input")]
    .filter((one) => one.checkVisibility({ visibilityProperty: true }))
    .filter((one) => !document.querySelector("#sheet").checkVisibility()
        || !one.matches("#newest, #strip *"))
    .map((one) => {
        const { left, top, right, bottom } = one.getBoundingClientRect();
        const clips = one.tagName === "BUTTON" &&
            (one.scrollWidth > one.clientWidth + 1 || one.scrollHeight > one.clientHeight + 1);
        return { name: one.id || one.textContent, left, top, right, bottom, clips };
    })"""
CUT = """() => [...document.querySelectorAll(
        ".status, #notice, #scroller, .text, #question, #about-text, .fact, .plain, .more" +
        ", .chip-text")]
    .filter((one) => one.checkVisibility() && one.scrollWidth > one.clientWidth + 1)
    .map((one) => one.id || one.className)"""
OUTSIDE = """() => { const strip = document.querySelector("#strip").getBoundingClientRect();
    return [...document.querySelectorAll("#strip button")].filter((one) => one.checkVisibility())
        .map((one) => one.getBoundingClientRect())
        .filter((one) => one.top < strip.top - 1 || one.bottom > strip.bottom + 1).length; }"""
LEFT_BEHIND = """() => {
    const values = [...document.querySelectorAll("*")].flatMap((one) => Object.keys(one)
        .map((key) => String(one[key])).concat(one.value || ""));
    return document.documentElement.outerHTML + values.join(" ");
}"""


@dataclass
class Tablet:
    """The open page, and what it did."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def show(self, state: str = "ready", **other: Any) -> None:
        """Say what the app says, by executing a script as the tablet does."""
        told = {
            "state": state,
            "language": "en",
            "turns": TURNS,
            "suggestions": CHIPS,
            "user": {"kept": False},
            "question": "",
            "notice": "",
            **other,
        }
        self.page.evaluate(f"UserVLM.show({json.dumps(told)})")

    def show_calmly(self, state: str = "ready", **other: Any) -> None:
        """Show, and let as much time pass as a person needs to see it."""
        self.show(state, **other)
        self.wait(1000)

    def wait(self, milliseconds: int) -> None:
        self.page.clock.run_for(milliseconds)

    def raised(self) -> list[dict[str, str]]:
        """Take what the page has raised since the last time."""
        return [json.loads(one) for one in self.page.evaluate("raised.splice(0)")]

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def box(self, selector: str) -> FloatRect:
        box = self.page.locator(selector).first.bounding_box()
        assert box is not None
        return box


@contextmanager
def opened(
    chromium: Browser,
    size: tuple[int, int] = SIZES[0],
    robot: str = ROBOT,
    address: str = (HTML / "index.html").as_uri(),
) -> Iterator[Tablet]:
    page = chromium.new_page(
        viewport={"width": size[0], "height": size[1]}, locale="en-GB", has_touch=True
    )
    tablet = Tablet(page)
    page.on("console", lambda said: tablet.complaints.append(said.text))
    page.on("pageerror", lambda error: tablet.complaints.append(str(error)))
    page.on("request", lambda request: tablet.requests.append(request.url))
    page.add_init_script(robot)
    page.clock.install(time=0)
    page.clock.pause_at(1000)
    try:
        page.goto(address)
        yield tablet
    finally:
        page.close()
    assert tablet.complaints == []
    folder = address.rpartition("/")[0]
    foreign = [url for url in tablet.requests if not url.startswith((folder, "data:"))]
    assert foreign == [], "nothing is fetched but the page's own files"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture
def tablet(chromium: Browser) -> Iterator[Tablet]:
    with opened(chromium) as tablet:
        yield tablet


@pytest.fixture
def shown(tablet: Tablet) -> Tablet:
    """The page in the middle of a conversation, all that was raised before taken."""
    tablet.show_calmly()
    tablet.raised()
    return tablet


# -- saying hello ---------------------------------------------------------------------------------


def test_it_says_hello_at_once_and_again_until_it_is_shown_something(tablet: Tablet) -> None:
    assert tablet.raised() == [{"do": "hello"}]
    tablet.wait(9500)
    assert tablet.raised() == [{"do": "hello"}] * 3
    tablet.show()
    tablet.wait(9500)
    assert tablet.raised() == []


def test_it_works_from_the_robot_s_web_server_too(chromium: Browser) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(HTML))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with opened(chromium, address=f"http://127.0.0.1:{server.server_port}/") as tablet:
            tablet.show_calmly()
            assert ANSWER in tablet.text("#turns")
        server.shutdown()


def test_without_a_robot_it_says_so_kindly_and_goes_on(chromium: Browser) -> None:
    with opened(chromium, robot="") as tablet:
        assert tablet.text("#welcome-title") == "This page lives on Pepper"
        assert tablet.text("#status") == "No robot here"
        tablet.wait(10_000)
        assert tablet.page.locator("#field").is_hidden()


@pytest.mark.parametrize("robot", ["", REFUSING])
def test_what_does_not_reach_the_robot_is_said_and_stays_in_the_field(
    chromium: Browser, robot: str
) -> None:
    with opened(chromium, robot=robot) as tablet:
        tablet.show_calmly()
        tablet.page.fill("#field", "Am I alone?")
        tablet.page.click("#send")
        assert tablet.text("#notice") == "That did not reach me. Please try again."
        assert tablet.page.input_value("#field") == "Am I alone?"
        tablet.page.evaluate(ROBOT)
        tablet.page.click("#send")
        assert tablet.raised() == [{"do": "ask", "text": "Am I alone?"}]
        assert tablet.page.locator("#notice").is_hidden()


# -- what a person does ---------------------------------------------------------------------------


def test_a_question_is_sent_by_button_or_enter_and_the_keyboard_goes(shown: Tablet) -> None:
    shown.page.fill("#field", "  What am I wearing?  ")
    shown.page.click("#send")
    assert shown.raised() == [{"do": "ask", "text": "What am I wearing?"}]
    assert shown.page.input_value("#field") == ""
    shown.wait(1000)
    shown.page.click("#field")
    shown.page.keyboard.type("And now?")
    shown.page.keyboard.press("Enter")
    assert shown.raised() == [{"do": "ask", "text": "And now?"}]
    assert shown.page.evaluate("document.activeElement.tagName") == "BODY"


def test_nothing_empty_is_sent_nor_more_than_500_characters_nor_half_of_one(shown: Tablet) -> None:
    shown.page.fill("#field", " \t ")
    shown.page.click("#send")
    shown.page.keyboard.press("Enter")
    assert shown.raised() == []
    for text, sent in (
        ("b" * 600, "b" * 500),
        ("a" * 499 + "\U0001f600", "a" * 499),
        (" " * 600 + "c", "c"),
        ("d" * 490 + " " * 100 + "e", "d" * 490),
    ):
        shown.show_calmly(suggestions=[text])
        shown.page.click(".chip")
        assert shown.raised() == [{"do": "ask", "text": sent}]


def test_a_suggestion_is_asked_word_for_word(shown: Tablet) -> None:
    for chip in (*CHIPS, *HOSTILE[:2]):
        shown.show_calmly(suggestions=[chip, "Something else?"])
        shown.page.click(".chip >> nth=0")
        assert shown.raised() == [{"do": "ask", "text": chip}]


@pytest.mark.parametrize("state", ["thinking", "speaking"])
def test_the_robot_can_be_stopped_right_after_a_question(shown: Tablet, state: str) -> None:
    shown.page.click(".chip")
    shown.show(state)
    shown.wait(600)
    shown.page.click("#stop")
    assert [told["do"] for told in shown.raised()] == ["ask", "stop"]


def test_a_question_of_the_robot_is_answered_with_yes_or_no(shown: Tablet) -> None:
    shown.show_calmly("asking", question="Shall I remember you?")
    assert shown.text("#question") == "Shall I remember you?"
    shown.page.click("#yes")
    shown.wait(1000)
    shown.page.click("#no")
    assert shown.raised() == [{"do": "yes"}, {"do": "no"}]
    shown.show()
    assert shown.page.locator("#sheet").is_hidden()
    assert shown.page.locator("#question").text_content() == ""


def test_remembering_is_asked_for_with_one_touch(shown: Tablet) -> None:
    assert shown.text("#about-text").startswith("I do not keep anything about you after you leave.")
    shown.page.click("#about-button")
    assert shown.raised() == [{"do": "remember"}]


def test_being_known_is_asked_for_with_one_touch(shown: Tablet) -> None:
    assert shown.page.locator("#know").is_hidden()
    shown.show_calmly(offers=["know", "remember"])
    assert "only if you ask" in shown.text("#about-text")
    shown.page.click("#know")
    assert shown.raised() == [{"do": "know"}]
    assert shown.text("#about-button") == "Remember me"


def test_where_nobody_is_kept_nothing_is_offered(shown: Tablet) -> None:
    shown.show_calmly(offers=[])
    assert shown.text("#about-text").startswith("I recognise nobody here")
    for button in ("#know", "#about-button"):
        assert shown.page.locator(button).is_hidden()


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_a_yes_means_is_read_without_scrolling(chromium: Browser, language: str) -> None:
    terms = Terms(Settings({"days": 364}), language)
    for size in SIZES:
        with opened(chromium, size) as tablet:
            tablet.show("asking", language=language, question=terms.question, terms=terms.written)
            assert tablet.page.locator(".term").all_inner_texts() == terms.written
            inside, whole = tablet.page.evaluate(
                "[document.querySelector('.question-box')].flatMap((one) =>"
                " [one.clientHeight, one.scrollHeight])"
            )
            assert whole <= inside
            tablet.show(language=language)
            assert tablet.page.locator(".term").count() == 0


def test_forgetting_takes_two_touches_and_the_first_is_let_go_after_a_while(shown: Tablet) -> None:
    shown.show_calmly(user=KEPT)
    shown.page.click("#about-button")
    assert shown.text("#about-button") == "Touch again to forget"
    shown.wait(7900)
    assert shown.text("#about-button") == "Touch again to forget"
    shown.wait(200)
    assert shown.text("#about-button") == "Forget me"
    shown.page.click("#about-button")
    shown.wait(700)
    shown.show("speaking", user=KEPT, turns=[*TURNS, {"id": 4, "who": "robot", "text": "Oh"}])
    shown.page.click("#about-button")
    assert shown.raised() == [{"do": "forget"}]
    assert shown.text("#about-button") == "Forget me"


def test_the_first_touch_of_one_person_does_not_count_for_the_next(shown: Tablet) -> None:
    shown.show_calmly(user=KEPT)
    shown.page.click("#about-button")
    shown.show_calmly(user={**KEPT, "since": "2026-01-02"})
    assert shown.text("#about-button") == "Forget me"
    shown.page.click("#about-button")
    assert shown.raised() == []


# -- nervous fingers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "control", "sent"),
    [
        ("ready", ".chip", ["ask"]),
        ("ready", "#send", ["ask"]),
        ("ready", "#about-button", ["remember"]),
        ("speaking", "#stop", ["stop"]),
        ("asking", "#yes", ["yes"]),
        ("asking", "#no", ["no"]),
    ],
)
def test_a_double_tap_is_sent_once(
    shown: Tablet, state: str, control: str, sent: list[str]
) -> None:
    shown.show_calmly(state)
    shown.page.fill("#field", "Am I alone?")
    shown.page.dblclick(control)
    shown.wait(300)
    shown.page.click(control)
    assert [told["do"] for told in shown.raised()] == sent


def test_a_double_tap_does_not_forget(shown: Tablet) -> None:
    shown.show_calmly(user=KEPT)
    shown.page.dblclick("#about-button")
    assert shown.raised() == []
    assert shown.text("#about-button") == "Touch again to forget"


def test_a_double_tap_does_not_hit_what_has_just_come_under_the_finger(shown: Tablet) -> None:
    shown.page.click(".chip")
    shown.show("thinking")
    shown.wait(200)
    shown.page.click("#stop")
    assert [told["do"] for told in shown.raised()] == ["ask"]
    shown.show_calmly("speaking")
    shown.page.click("#stop")
    shown.show("asking", question="Yes?")
    shown.wait(200)
    shown.page.click("#yes")
    shown.show("ready", suggestions=["New?"])
    shown.wait(200)
    shown.page.click(".chip")
    assert [told["do"] for told in shown.raised()] == ["stop"]
    shown.wait(1000)
    shown.show("ready", suggestions=["Newer?"])
    shown.wait(200)
    shown.page.click(".chip")
    assert shown.raised() == []
    shown.show_calmly(user={"kept": False})
    shown.show(user=KEPT)
    shown.wait(200)
    shown.page.click("#about-button")
    assert shown.text("#about-button") == "Forget me"


# -- what is shown --------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_state_has_a_word_and_a_shape_of_its_own(tablet: Tablet, language: str) -> None:
    words, shapes = set(), set()
    for state in STATES:
        tablet.show(state, language=language)
        assert tablet.page.evaluate("document.documentElement.lang") == language
        words.add(tablet.text("#status"))
        seen = tablet.page.locator(".shape g:visible")
        assert seen.count() == 1
        shapes.add(seen.inner_html())
    assert len(words) == len(shapes) == len(STATES)


def test_both_languages_say_the_same_things(tablet: Tablet) -> None:
    def keys(value: Any, path: str = "") -> set[str]:
        if isinstance(value, str):
            assert value.strip(), path
            return {path}
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {one for key, inner in pairs for one in keys(inner, f"{path}/{key}")}

    english, french = (tablet.page.evaluate(f"UserVLM.words('{one}')") for one in LANGUAGES)
    assert keys(english) == keys(french)
    assert tablet.page.evaluate("UserVLM.words('toString').code") == "en"


@pytest.mark.parametrize(
    ("language", "facts"),
    [
        ("en", ["27 November 2026", "1 December 2027", "answer faster", "you touched Yes here"]),
        ("fr", ["27 novembre 2026", "1er décembre 2027", "plus vite", "vous avez touché Oui ici"]),
    ],
)
def test_a_record_reads_in_plain_words_and_its_days_in_the_page_s_language(
    tablet: Tablet, language: str, facts: list[str]
) -> None:
    tablet.show(language=language, user=KEPT)
    for fact in facts:
        assert fact in tablet.text("#about-text")


def test_each_kind_of_record_says_what_is_in_it_and_how_long(tablet: Tablet) -> None:
    kinds = set()
    for keeps in ("profile", "embedding", "state"):
        tablet.show(user={**KEPT, "keeps": keeps, "until": None, "how": "nodded"})
        text = tablet.text("#about-text")
        assert "you ask me to forget you" in text and "“nodded”" in text
        assert re.search("(No picture|Not the picture)", text)
        kinds.add(text)
    assert len(kinds) == 3
    tablet.show(user=None)
    assert tablet.text("#about-text") == "I do not know who is in front of me."
    assert tablet.page.locator("#about-button").is_hidden()


@pytest.mark.parametrize("wrong", ["", "yesterday", "2026-13-01", "<b>2026</b>"])
def test_a_day_that_is_none_is_shown_as_it_came(tablet: Tablet, wrong: str) -> None:
    tablet.show(user={**KEPT, "since": wrong})
    assert tablet.text(".fact >> nth=0") == wrong


def test_a_notice_is_shown_as_long_as_there_is_one(shown: Tablet) -> None:
    assert shown.page.locator("#notice").is_hidden()
    shown.show("away", notice="I cannot think right now.")
    assert shown.text("#notice") == "I cannot think right now."
    shown.show()
    assert shown.page.locator("#notice").is_hidden()


def test_while_it_thinks_the_answer_has_its_place_already(shown: Tablet) -> None:
    shown.show("thinking", turns=TURNS[:2])
    waiting = shown.box(".turn >> nth=2")
    assert shown.page.locator(".turn >> nth=2 >> .dots").is_visible()
    shown.show("speaking", turns=[*TURNS[:2], {**TURNS[2], "text": "Open", "done": False}])
    assert shown.box(".turn >> nth=2") == waiting
    assert shown.page.locator(".turn").count() == 3


def test_an_answer_streams_in_without_moving_anything_and_costs_its_new_words_alone(
    shown: Tablet,
) -> None:
    long = [
        {"id": i, "who": "person" if i % 2 else "robot", "text": f"{i:3} " * 150, "done": True}
        for i in range(19)
    ]
    words = "This is an answer that comes word by word, and takes three lines at the least.".split()

    def stream(count: int) -> str:
        text = " ".join(words[:count])
        coming = {"id": 19, "who": "robot", "text": text, "done": count == len(words)}
        shown.show("speaking", turns=[*long, coming])
        return text

    stream(1)
    fixed = ("#scroller", "#strip", "#about", "#send")
    before = [shown.box(one) for one in fixed]
    shown.page.evaluate(
        """() => {
            window.changes = [];
            const name = (one) => one.type + one.addedNodes.length + one.removedNodes.length;
            new MutationObserver((all) => changes.push(...all.map(name))).observe(document.body,
                { subtree: true, childList: true, characterData: true, attributes: true });
        }"""
    )
    for count in range(2, len(words) + 1):
        text = stream(count)
        assert shown.text(".turn >> nth=19 >> .text") == text
        assert [shown.box(one) for one in fixed] == before
        end = shown.box(".turn >> nth=19")
        assert end["y"] + end["height"] <= before[0]["y"] + before[0]["height"], "in view"
    changes = shown.page.evaluate("changes")
    assert changes.count("characterData00") == len(words) - 1
    assert [one for one in changes if not one.startswith("characterData")] == ["attributes00"]


def test_who_has_scrolled_up_is_left_there_until_they_want_the_newest(shown: Tablet) -> None:
    def many(first: int, last: int) -> list[dict[str, Any]]:
        return [
            {"id": i, "who": "robot", "text": f"{i:3} " * 100, "done": True}
            for i in range(first, last)
        ]

    shown.show(turns=many(0, 20))
    assert shown.page.locator("#newest").is_hidden()
    reading = shown.page.locator("[class~=turn]", has_text=re.compile(r"\b9  "))
    reading.evaluate("(one) => one.scrollIntoView()")
    shown.page.locator("#newest").wait_for()
    before = reading.bounding_box()
    shown.show("speaking", turns=many(4, 24))  # the oldest four are gone
    assert reading.bounding_box() == before
    shown.page.click("#newest")
    shown.page.locator("#newest").wait_for(state="hidden")
    shown.show(turns=many(5, 25))
    last = shown.box(".turn >> nth=19")
    pane = shown.box("#scroller")
    assert last["y"] + last["height"] <= pane["y"] + pane["height"]


def test_the_same_state_again_changes_nothing(shown: Tablet) -> None:
    for state in STATES:
        shown.show(state, user=KEPT, question="Yes?", notice="A notice.")
        before = shown.page.content()
        shown.show(state, user=KEPT, question="Yes?", notice="A notice.")
        assert shown.page.content() == before


# -- nobody stays ---------------------------------------------------------------------------------


def test_when_a_person_leaves_nothing_of_them_stays_in_the_page(shown: Tablet) -> None:
    secret = "SECRET"
    everything = {
        "turns": [{**turn, "text": secret} for turn in TURNS],
        "suggestions": [secret],
        "user": {**KEPT, "how": secret, "since": secret},
        "question": secret,
        "notice": secret,
    }
    for state in STATES[1:]:
        shown.show_calmly(state, **everything)
        shown.page.focus("#field")
        shown.page.keyboard.type(secret)
        if state != "asking":
            shown.page.click("#about-button")
        assert secret in shown.page.evaluate(LEFT_BEHIND)
        written = shown.page.locator("#field").element_handle()
        shown.show("alone", turns=[], user=None, suggestions=CHIPS)
        assert secret not in shown.page.evaluate(LEFT_BEHIND)
        assert not written.evaluate("(one) => one.isConnected"), "with what it can undo"
        shown.show("ready", turns=[])
        shown.page.focus("#field")
        shown.page.keyboard.press("Control+z")
        assert secret not in shown.page.evaluate(LEFT_BEHIND)


def test_alone_it_invites_and_a_suggestion_can_be_touched(shown: Tablet) -> None:
    shown.show_calmly("alone", turns=[], user=None)
    assert shown.text("#welcome-title") == "Come closer and talk to me"
    assert shown.page.locator("#field").is_hidden() and shown.page.locator("#about").is_hidden()
    assert shown.page.locator(".turn").count() == 0
    shown.page.click(".chip")
    assert shown.raised() == [{"do": "ask", "text": CHIPS[0]}]


def test_a_half_written_question_goes_with_the_conversation_and_else_stays(shown: Tablet) -> None:
    shown.page.fill("#field", "half a quest")
    shown.show("speaking")
    shown.show("ready")
    assert shown.page.input_value("#field") == "half a quest"
    shown.show("looking", turns=[])
    assert shown.page.input_value("#field") == ""


# -- whatever comes -------------------------------------------------------------------------------


def test_foreign_text_is_text_wherever_it_comes(tablet: Tablet) -> None:
    for text in HOSTILE:
        tablet.show(
            "asking",
            turns=[{**TURNS[1], "text": text}, {**TURNS[2], "text": text}],
            suggestions=[text],
            user={**KEPT, "how": text, "since": text, "until": text, "keeps": "toString"},
            question=text,
            notice=text,
        )
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        for place in (".text >> nth=1", "#question", "#notice", ".chip-text", ".fact >> nth=0"):
            said = tablet.page.locator(place).text_content() or ""
            assert said.encode("utf-16", "surrogatepass").decode("utf-16", "replace") == whole
        assert tablet.page.evaluate("window.broken") is None
        assert tablet.page.locator("#turns img, #turns script").count() == 0
        assert tablet.page.evaluate("document.documentElement.scrollWidth") == SIZES[0][0]


@pytest.mark.parametrize(
    "junk",
    [
        "null", "undefined", "3", "'a'", "[]", "{}", "{state: 'dancing'}",
        "{state: 'ready', turns: 'a', suggestions: {}, user: 3, question: [], notice: null}",
        "{state: 'ready', turns: [null, 3, {}, {id: {}, who: 'cat', text: 5}], user: {kept: 'a'}}",
        "{state: 'ready', language: 'constructor', suggestions: [null, '', 5, 'Hi?'], user: []}",
        "{state: 'ready', turns: [{id: 1, text: 'a'}, {id: 1, text: 'b'}]}",
    ],
)  # fmt: skip
def test_whatever_it_is_told_the_page_stays(shown: Tablet, junk: str) -> None:
    shown.page.evaluate(f"UserVLM.show({junk})")
    shown.page.evaluate(f"UserVLM.show({junk})")
    assert shown.text("#status") != ""
    shown.show_calmly()
    assert ANSWER in shown.text("#turns") and shown.page.locator(".turn").count() == 3


# -- how it lies on the screen --------------------------------------------------------------------


def scenes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every state, and what is hardest to lay out."""
    long = [{**turn, "text": ("word " * 120).strip()} for turn in TURNS] * 6
    turns = [{**turn, "id": number} for number, turn in enumerate(long)]
    for state in STATES:
        terms = Terms(Settings(), "fr")
        yield state, {"question": terms.question, "terms": terms.written}
        yield state, {"offers": ["know", "remember"]}
        yield state, {"question": "Shall I remember you?", "offers": []}
        yield state, {"turns": [], "user": None}
        yield state, {"turns": turns, "user": KEPT, "notice": "A sentence. " * 30}
        yield state, {"suggestions": CHIPS * 2, "user": {**KEPT, "how": "because " * 40}}
        yield state, {"suggestions": ["word " * 60] * 8, "turns": [], "question": "why " * 150}
        yield state, {"suggestions": [], "question": "x" * 600, "notice": "x" * 300}


def fits(tablet: Tablet, size: tuple[int, int], name: str) -> None:
    width, height = size
    assert tablet.page.evaluate("document.documentElement.scrollWidth") == width, name
    assert tablet.page.evaluate("document.documentElement.scrollHeight") == height, name
    assert tablet.page.evaluate(CUT) == [], name
    assert tablet.page.evaluate(OUTSIDE) == 0, name
    controls = tablet.page.evaluate(CONTROLS)
    large = TARGET * width / 1280 - 0.1
    for one in controls:
        assert one["right"] - one["left"] >= large and one["bottom"] - one["top"] >= large, name
        assert one["left"] >= 0 and one["right"] <= width, (name, one)
        assert one["top"] >= 0 and one["bottom"] <= height, (name, one)
        assert not one["clips"], (name, one)
    for i, one in enumerate(controls):
        for other in controls[i + 1 :]:
            apart = (
                one["right"] <= other["left"]
                or other["right"] <= one["left"]
                or one["bottom"] <= other["top"]
                or other["bottom"] <= one["top"]
            )
            assert apart, (name, one, other)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_in_every_state_it_fits_the_screen_and_every_target_is_large(
    chromium: Browser, size: tuple[int, int], language: str
) -> None:
    with opened(chromium, size) as tablet:
        fits(tablet, size, "waking")
        for number, (state, other) in enumerate(scenes()):
            tablet.show(state, language=language, **other)
            fits(tablet, size, f"{state} {number}")
        tablet.show_calmly(language=language, user=KEPT)
        tablet.page.click("#about-button")
        fits(tablet, size, "about to forget")
        tablet.show(language=language, turns=[{**turn, "text": "word " * 120} for turn in TURNS])
        tablet.page.evaluate("document.getElementById('scroller').scrollTop = 0")
        tablet.page.locator("#newest").wait_for()
        fits(tablet, size, "scrolled up")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_record_is_read_without_scrolling(chromium: Browser, language: str) -> None:
    for size in SIZES:
        with opened(chromium, size) as tablet:
            tablet.show(language=language, user=KEPT)
            inside, whole = tablet.page.evaluate(
                "[document.querySelector('#about-text')].flatMap((one) =>"
                " [one.clientHeight, one.scrollHeight])"
            )
            assert whole <= inside


def test_text_can_be_read_everywhere(chromium: Browser) -> None:
    with opened(chromium) as tablet:
        for state, other in scenes():
            tablet.show(state, **other)
            ratios = tablet.page.evaluate(CONTRASTS)
            assert len(ratios) > 2
            assert [one for one in ratios if one[1] < 4.5] == []
        tablet.show_calmly(user=KEPT, notice="A notice.")
        tablet.page.click("#about-button")
        assert [one for one in tablet.page.evaluate(CONTRASTS) if one[1] < 4.5] == []


@pytest.mark.parametrize("size", SIZES)
def test_the_conversation_is_large_and_both_scales_look_alike(
    chromium: Browser, size: tuple[int, int]
) -> None:
    with opened(chromium, size) as tablet:
        tablet.show()
        font = tablet.page.locator(".turn.robot .text >> nth=0").evaluate(
            "(one) => parseFloat(getComputedStyle(one).fontSize)"
        )
        assert font / size[0] * 1280 == pytest.approx(40, abs=0.1)
        for selector in ("#field", "#strip", "#about", ".turn >> nth=2"):
            box = tablet.box(selector)
            assert box["y"] / size[0] * 1280 + box["height"] / size[0] * 1280 < 800.5


def test_the_keyboard_never_covers_the_field(shown: Tablet) -> None:
    for state in STATES[1:]:
        shown.show(state, notice="A sentence.")
        box = shown.box("#field")
        assert box["y"] + box["height"] < SIZES[0][1] / 2, "where it lies over the page"
        shown.page.set_viewport_size({"width": 1280, "height": 400})  # where it shrinks the page
        fits(shown, (1280, 400), state)
        last, pane = shown.box(".turn >> nth=2"), shown.box("#scroller")
        assert last["y"] + last["height"] <= pane["y"] + pane["height"] + 1
        shown.page.set_viewport_size({"width": 1280, "height": 800})


# -- the files ------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """What the page's one HTML file is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]


def test_the_html_refers_to_its_own_files_alone_and_holds_no_script_nor_style() -> None:
    parser = Elements()
    parser.feed((HTML / "index.html").read_text())
    named = {value for _, name, value in parser.attributes if name in ("src", "href")} - {"data:,"}
    there = {path.name for path in HTML.iterdir()} - {"index.html"}
    assert named == there
    wrong = [one for one in parser.attributes if one[1].startswith("on") or one[1] == "style"]
    newer = [one for one in parser.attributes if one[2] == "module" or one[1] == "loading"]
    assert wrong + newer == []
