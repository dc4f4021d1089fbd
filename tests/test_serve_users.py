"""People over HTTP: kept, shown, prepared, forgotten; and what a page hears of them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from qi_bus import wait_for
from serving import Serving, data_url, events, serving

from uservlm.runtime import Consent, UserVLM
from uservlm.runtime.server.brain import Brain
from uservlm.runtime.server.chat import Served
from uservlm.runtime.server.limits import Limits
from uservlm.runtime.server.pages import LATEST, Pages

CALL = "How do I make a video call?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("brain")


@pytest.fixture(scope="module")
def brain(pocket_bundle: Path, folder: Path) -> Iterator[Serving]:
    with serving(pocket_bundle, folder, "--attention", "resident") as started:
        yield started


@pytest.fixture(autouse=True)
def nobody(brain: Serving) -> None:
    assert brain.client.delete("/v1/users").status_code == 200
    assert brain.client.get("/v1/users").json()["data"] == []


def test_a_guest_is_kept_in_memory_only_and_prepared(
    brain: Serving, pictures: Path, folder: Path
) -> None:
    guest = brain.encode(pictures / "grace.png")
    assert guest["id"].startswith("guest-") and guest["in_memory"]
    assert guest["consent"] is None and guest["bytes"]["disk"] == 0
    written = {path.name for path in (folder / "people").iterdir()}
    assert written <= {"key", "check"}
    done = brain.ask(CALL, user=guest["id"]).json()
    assert done["uservlm"]["resident"] == "stayed", "prepared before the question"
    assert brain.client.get(f"/v1/users/{guest['id']}").json()["resident"]


def test_who_agrees_is_kept_on_disk_as_they_agreed(
    brain: Serving, pictures: Path, folder: Path
) -> None:
    agreed = {"how": "said yes to the robot", "keeps": "embedding", "days": 30}
    ada = brain.encode(pictures / "grace.png", user="ada", consent=agreed)
    assert ada["bytes"]["disk"] > 0 and ada["expires"] is not None
    assert {key: ada["consent"][key] for key in agreed} == agreed
    assert brain.client.delete("/v1/users/ada").status_code == 204
    assert {path.name for path in (folder / "people").iterdir()} <= {"key", "check"}


def test_a_guest_agrees_after_the_look_and_keeps_their_id(
    brain: Serving, pictures: Path, folder: Path
) -> None:
    guest = brain.encode(pictures / "grace.png")
    address = f"/v1/users/{guest['id']}"
    agreed = {"how": "touched yes on the tablet", "keeps": "state", "days": 7}
    kept = brain.client.post(f"{address}/consent", json=agreed).json()
    assert kept["id"] == guest["id"] and kept["bytes"]["disk"] > 0
    assert {key: kept["consent"][key] for key in agreed} == agreed
    wait_for(lambda: brain.client.get(address).json()["bytes"]["disk"] > kept["bytes"]["disk"])
    done = brain.ask(CALL, user=guest["id"]).json()
    assert done["uservlm"]["vision_runs"] == 0, "nobody looked again"
    less = brain.client.post(f"{address}/consent", json={"how": "not so much", "keeps": "profile"})
    assert less.json()["bytes"]["disk"] < kept["bytes"]["disk"] and less.json()["expires"]
    assert brain.client.delete(address).status_code == 204
    assert {path.name for path in (folder / "people").iterdir()} <= {"key", "check"}


@pytest.mark.parametrize(
    ("name", "agreed", "status", "code"),
    [
        ("sam", {}, 400, "invalid_request"),
        ("sam", {"how": " "}, 400, "invalid_request"),
        ("sam", {"how": "yes " * 251}, 400, "invalid_request"),
        ("sam", {"how": "said yes", "keeps": "all"}, 400, "invalid_request"),
        ("sam", {"how": "said yes", "days": 0}, 400, "invalid_request"),
        ("sam", {"how": "said yes", "image": "x"}, 400, "invalid_request"),
        ("nobody", {"how": "said yes"}, 404, "unknown_user"),
        ("%00", {"how": "said yes"}, 400, "bad_request"),
        ("sam/x", {"how": "said yes"}, 404, "unknown_user"),
    ],
)
def test_who_is_unknown_or_agrees_to_something_odd_is_not_kept(
    brain: Serving, pictures: Path, name: str, agreed: dict[str, Any], status: int, code: str
) -> None:
    brain.encode(pictures / "sam.png", user="sam")
    refused = brain.client.post(f"/v1/users/{name}/consent", json=agreed)
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    (sam,) = brain.client.get("/v1/users").json()["data"]
    assert sam["consent"] is None and sam["bytes"]["disk"] == 0


@pytest.mark.parametrize("name", ["a/b", "a/consent", "Zoë Müller", "50% ?#&", "...", "日本"])
def test_a_name_may_hold_what_an_address_cannot(brain: Serving, pictures: Path, name: str) -> None:
    brain.encode(pictures / "sam.png", user=name)
    address = f"/v1/users/{quote(name, safe='')}"
    assert httpx.get(brain.url + address).json()["id"] == name
    assert httpx.delete(brain.url + address).status_code == 204
    assert httpx.get(brain.url + address).status_code == 404


@pytest.mark.parametrize(
    "consent",
    [
        {},
        {"how": " "},
        {"how": "said yes", "keeps": "everything"},
        {"how": "said yes", "days": 0},
        {"how": "said yes", "days": float(10**9)},
    ],
)
def test_an_odd_consent_keeps_nobody(
    brain: Serving, pictures: Path, consent: dict[str, Any]
) -> None:
    body = {"image": data_url(pictures / "sam.png"), "user": "sam", "consent": consent}
    assert brain.client.post("/v1/users/encode", json=body).status_code == 400
    assert brain.client.get("/v1/users/sam").status_code == 404


def test_who_is_in_view_is_not_guessed_without_a_measurement(
    brain: Serving, pictures: Path
) -> None:
    body = {"image": data_url(pictures / "sam.png")}
    refused = brain.client.post("/v1/users/identify", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "identity_not_measured")


def test_a_page_hears_what_happens_in_order(brain: Serving, pictures: Path, tmp_path: Path) -> None:
    with httpx.stream("GET", f"{brain.url}/v1/events", timeout=20) as response:
        heard = events(response)
        name, state = next(heard)
        assert name == "state" and state["model"] == "pocket" and state["users"] == []
        assert state["doors"]["http"]["state"] == "open"
        asker = threading.Thread(target=_show_and_ask, args=(brain, pictures / "grace.png"))
        asker.start()
        seen: list[tuple[str, Any]] = []
        while not seen or seen[-1][0] != "turn" or seen[-1][1]["state"] != "answered":
            seen.append(next(heard))
        asker.join()
    (view,) = [what for name, what in seen if name == "view"]
    assert (view["kind"], view["name"], view["user"]) == ("told", "grace", "grace")
    assert any(what and what[0]["id"] == "grace" for name, what in seen if name == "users")
    turns = [what for name, what in seen if name == "turn"]
    assert [turn["state"] for turn in turns] == ["thinking", "speaking", "answered"]
    text = ""
    for piece in (what for name, what in seen if name == "token"):
        assert piece["at"] == len(text)
        text += piece["text"]
    end = turns[-1]
    assert end["text"] == text and end["door"] == "page"
    names = ["hear", "wait", "look", "vision", "prefill", "first word", "last word"]
    assert [stage["name"] for stage in end["stages"]] == names
    assert end["stages"][0]["seconds"] == 1.5
    last = end["stages"][-1]
    spoken = 1.5 + end["usage"]["ttft_s"] + end["usage"]["decode_s"]
    assert last["start_s"] + last["seconds"] == pytest.approx(spoken)
    picture = brain.client.get("/v1/view/picture")
    assert picture.headers["content-type"] == "image/jpeg"
    (tmp_path / "view.jpg").write_bytes(picture.content)
    assert max(Image.open(tmp_path / "view.jpg").size) <= 640


def _show_and_ask(brain: Serving, picture: Path) -> None:
    brain.encode(picture, user="grace")
    ours = {"door": "page", "heard_s": 1.5}
    assert brain.ask(CALL, user="grace", uservlm=ours).status_code == 200


def test_only_so_many_pages_watch_at_once(brain: Serving) -> None:
    watched = []  # one that is let go of is closed
    with ExitStack() as open_pages:
        for _ in range(16):
            one = open_pages.enter_context(httpx.stream("GET", f"{brain.url}/v1/events"))
            watched.append(events(one))
            assert next(watched[-1])[0] == "state"
        with httpx.stream("GET", f"{brain.url}/v1/events") as refused:
            assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1


def test_prometheus_reads_counts_and_nobodys_name(brain: Serving, pictures: Path) -> None:
    brain.encode(pictures / "grace.png", user="wilhelmina")
    assert brain.ask(CALL, user="wilhelmina").status_code == 200
    assert brain.ask(CALL, user="nobody").status_code == 404
    text = brain.client.get("/metrics").text
    assert "wilhelmina" not in text
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["uservlm_questions_total", ()] >= 1
    assert samples["uservlm_turns_total", (("door", "http"), ("outcome", "answered"))] >= 1
    assert samples["uservlm_resident_memory_bytes", ()] > 10**7


def test_a_page_that_does_not_read_is_let_go_of_and_holds_up_nobody(vlm: UserVLM) -> None:
    async def stall() -> int:
        brain = Brain(vlm)
        watched = Pages(brain, Served("tiny", (), 0)).events()
        assert (await anext(watched)).startswith("event: state")
        for count in range(LATEST + 10):
            brain.hub.tell("token", lambda count=count: {"turn": "x", "at": count, "text": "a"})
        rest = [event async for event in watched]
        brain.close()
        assert len(brain.hub) == 0
        return len(rest)

    assert asyncio.run(stall()) == 0


def test_who_agreed_to_nothing_leaves_when_they_were_not_seen_for_long(
    tiny_bundle: Path, tmp_path: Path, pictures: Path
) -> None:
    with UserVLM.load(tiny_bundle, users=tmp_path / "people", threads=1) as loaded:
        brain = Brain(loaded, Limits(unseen_s=0.2))
        picture = (pictures / "grace.png").read_bytes()
        agreed = Consent(datetime.now(timezone.utc), "said yes", "embedding")
        brain.encode(picture, "ada", agreed)
        guest = brain.encode((pictures / "sam.png").read_bytes())
        assert guest.expires is not None
        brain.sweep()
        assert {user.id for user in brain.users()} == {"ada", guest.id}
        time.sleep(0.25)
        brain.sweep()
        assert {user.id for user in brain.users()} == {"ada"}
        assert brain.scene.view is None
        brain.close()
