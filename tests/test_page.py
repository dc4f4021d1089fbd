"""The operator's page in a real browser, before a real brain: ask, watch, forget, restart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from browser import Scheme, Seen, browser, open_page
from serving import Serving, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CALL = "How do I make a video call?"
FOR_GRACE = (
    "Let us go step by step: open the call app, choose a name, then press the camera button."
)
WIDTHS = (390, 800, 1280)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def brain(pocket_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("brain")
    with serving(pocket_bundle, folder, "--attention", "resident") as started:
        yield started


@pytest.fixture
def page(chromium: Browser, brain: Serving) -> Iterator[Page]:
    with open_page(chromium, brain.url, 1280, "light") as (page, seen):
        page.get_by_text("live", exact=True).wait_for()
        yield page
        nothing_foreign(seen, brain)


def nothing_foreign(seen: Seen, brain: Serving) -> None:
    assert not seen.complaints
    assert {url for url in seen.requests if not url.startswith((brain.url, "blob:"))} == set()


def show(page: Page, picture: Path) -> None:
    page.locator("#file").set_input_files(picture)
    page.get_by_text(re.compile("Kept in memory as guest-")).wait_for()


def test_a_picture_is_shown_a_question_asked_by_keyboard_and_the_answer_seen_streaming(
    page: Page, pictures: Path
) -> None:
    show(page, pictures / "grace.png")
    page.locator("#picture").wait_for()
    assert page.locator("#who").inner_text().startswith("guest-")
    page.evaluate(
        """() => {
            window.seen = [];
            new MutationObserver(() => {
                const answer = document.querySelector(".turn .answer");
                if (answer) window.seen.push(answer.textContent);
            }).observe(document.getElementById("turns"), { subtree: true, childList: true });
        }"""
    )
    assert page.evaluate("document.activeElement.id") == "question", "ready to type"
    page.keyboard.type(CALL)
    page.keyboard.press("Enter")
    page.locator(".turn .answer").get_by_text(FOR_GRACE).wait_for()
    seen = [text for text in dict.fromkeys(page.evaluate("window.seen")) if text]
    assert len(seen) > 5 and all(FOR_GRACE.startswith(text) for text in seen)
    assert page.locator("#question").input_value() == ""
    page.locator("#waterfall").wait_for()
    stages = page.locator("#waterfall tbody tr").all_inner_texts()
    assert [stage.split("\t")[0] for stage in stages] == [
        "hear", "wait", "look", "vision", "prefill", "first word", "last word",
    ]  # fmt: skip
    assert re.search(r"prefill\s+\d.*\sm?s", "\n".join(stages))
    assert re.search(r"^\d.*\sm?s$", page.locator("#total").inner_text())
    assert "72 of 88 positions were in the cache" in page.locator("#reused").inner_text()


def test_forgetting_is_asked_once_and_then_done(page: Page, brain: Serving, pictures: Path) -> None:
    brain.encode(pictures / "sam.png", user="sam", consent={"how": "said yes", "days": 30})
    row = page.locator('[data-user="sam"]')
    row.get_by_text("“said yes”").wait_for()
    row.locator(".tag.resident").wait_for()  # prepared behind the call
    assert row.locator(".tag b").all_inner_texts() == ["resident", "memory", "disk"]
    assert all(re.search(r"\d\s[kM]B$", tag) for tag in row.locator(".tag").all_inner_texts())
    row.get_by_role("button", name="Forget sam").click()
    row.get_by_role("button", name="Keep").click()
    row.get_by_role("button", name="Forget sam").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Erase"
    page.keyboard.press("Enter")
    page.get_by_text("sam is forgotten").wait_for()
    row.wait_for(state="detached")
    assert page.locator("#nobody").is_visible(), "he was in view"
    assert "sam" not in [user["id"] for user in brain.client.get("/v1/users").json()["data"]]


def test_what_is_chosen_stays_chosen_whatever_happens(
    page: Page, brain: Serving, pictures: Path
) -> None:
    """The focus, an open question, an older turn's times, whom the form asks about."""
    brain.client.delete("/v1/users")
    brain.encode(pictures / "sam.png", user="sam")
    for _ in range(2):
        assert brain.ask(CALL, user="sam").status_code == 200
    page.locator(".turn .times:visible").nth(1).click()
    page.locator("#follow").wait_for()
    older = page.locator(".turn.shown").get_attribute("data-turn")
    page.locator("#user").select_option("user:sam")
    page.get_by_role("button", name="Forget sam").click()
    brain.encode(pictures / "grace.png", user="grace")
    assert brain.ask(CALL, user="grace").status_code == 200
    page.locator(".turn .asked").get_by_text("grace").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Erase"
    assert page.locator(".turn.shown").get_attribute("data-turn") == older
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "Forget"
    page.locator("#follow").click()
    assert page.locator(".turn.shown .asked").inner_text() == "grace"
    brain.client.delete("/v1/users/sam")
    page.locator('[data-user="sam"]').wait_for(state="detached")
    page.locator("#question").fill(CALL)
    page.locator("#send").click()
    page.get_by_text("Show a picture first").wait_for()  # and nobody else is asked about


def test_what_went_wrong_is_said_beside_the_form(chromium: Browser, brain: Serving) -> None:
    with open_page(chromium, brain.url, 1280, "light") as (page, _):  # Chromium complains of a 400
        page.get_by_text("live", exact=True).wait_for()
        brain.client.delete("/v1/users")
        page.get_by_text("Nobody is kept.").wait_for()
        page.locator("#question").fill(CALL)
        page.locator("#send").click()
        page.get_by_text("Show a picture first").wait_for()
        damaged = {"name": "x.png", "mimeType": "image/png", "buffer": b"x"}
        page.locator("#file").set_input_files(damaged)  # type: ignore[arg-type]
        page.get_by_text("The picture cannot be read").wait_for()


def test_the_brain_is_killed_and_comes_back_and_so_does_the_page(
    chromium: Browser, pocket_bundle: Path, tmp_path: Path, pictures: Path
) -> None:
    with serving(pocket_bundle, tmp_path) as brain:
        brain.encode(pictures / "grace.png", user="grace")
        port = int(brain.url.rpartition(":")[2])
        with open_page(chromium, brain.url, 1280, "light") as (page, _):
            page.locator('[data-user="grace"]').wait_for()
            page.locator("#question").fill("half a quest")
            brain.kill()
            page.locator("#connection", has_text="The brain is away").wait_for()
            assert page.locator("#state-text").inner_text() == "away"
            with serving(pocket_bundle, tmp_path, port=port) as again:
                page.get_by_text("live", exact=True).wait_for()
                page.locator('[data-user="grace"]').wait_for(state="detached")
                assert page.locator("#question").input_value() == "half a quest"
                again.encode(pictures / "grace.png", user="grace")
                page.locator("#question").fill(CALL)
                page.locator("#send").click()
                page.locator(".turn .answer").get_by_text(FOR_GRACE).wait_for()


def test_a_running_answer_can_be_stopped(
    chromium: Browser, tiny_bundle: Path, tmp_path: Path, pictures: Path
) -> None:
    long = {"max_tokens": 1024, "temperature": 2.0, "seed": 5}
    with (
        serving(tiny_bundle, tmp_path, "--context", "4096", "--threads", "1") as brain,
        open_page(chromium, brain.url, 1280, "light") as (page, _),
    ):
        brain.encode(pictures / "grace.png", user="grace")
        page.get_by_text("live", exact=True).wait_for()
        askers = [
            Thread(target=brain.ask, args=("What?",), kwargs={"user": "grace", **long})
            for _ in range(4)
        ]
        for asker in askers:
            asker.start()
        page.locator(".turn .stop:visible").first.click()
        page.get_by_text("stopped", exact=True).first.wait_for()
        brain.client.post("/v1/cancel")
        for asker in askers:
            asker.join(5)


def test_the_token_is_asked_for_or_taken_from_the_address(
    chromium: Browser, pocket_bundle: Path, tmp_path: Path
) -> None:
    secret = "a-token-of-some-length"
    (tmp_path / "token").write_text(secret)
    (tmp_path / "token").chmod(0o600)
    with serving(pocket_bundle, tmp_path, "--token-file", str(tmp_path / "token")) as brain:
        with open_page(chromium, brain.url, 800, "light") as (page, _):
            page.get_by_text("This server asks for its token").wait_for()
            assert page.locator("#main").is_hidden()
            page.keyboard.type("wrong")
            page.keyboard.press("Enter")
            page.get_by_text("That is not the token").wait_for()
            page.keyboard.type(secret)
            page.keyboard.press("Enter")
            page.get_by_text("live", exact=True).wait_for()
            assert page.locator("#main").is_visible()
        with open_page(chromium, f"{brain.url}/#token={secret}", 800, "light") as (page, seen):
            page.get_by_text("live", exact=True).wait_for()
            assert secret not in page.url and not seen.complaints
        with open_page(chromium, f"{brain.url}/#token=…", 800, "light") as (page, _):
            page.get_by_text("That is not the token").wait_for()  # though no header can hold it


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_every_window_and_every_target_is_large_enough(
    chromium: Browser, brain: Serving, pictures: Path, width: int, scheme: Scheme
) -> None:
    brain.encode(pictures / "grace.png", user="a-name-that-is-rather-long-" + "x" * 40)
    assert brain.ask(CALL, user="a-name-that-is-rather-long-" + "x" * 40).status_code == 200
    with open_page(chromium, brain.url, width, scheme) as (page, seen):
        page.locator(".turn .times").first.wait_for()
        page.locator("#picture").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if width == 390:
            heights = page.evaluate(
                "[...document.querySelectorAll('button, select, input')]"
                ".filter((one) => one.checkVisibility() && one.type !== 'file')"
                ".map((one) => one.getBoundingClientRect().height)"
            )
            assert min(heights) >= 44
        nothing_foreign(seen, brain)
