"""How turns and the server end: clients that go, cancelling, SIGTERM, a power cut."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from serving import Serving, events, serving

LONG = {"max_tokens": 1024, "temperature": 2.0, "seed": 5}
"""Random weights drawn from this hot speak until they are stopped."""
ENOUGH = ("--context", "4096", "--threads", "1")
QUESTION = "What should I wear today?"


@pytest.fixture(scope="module")
def picture(pictures: Path) -> Path:
    return pictures / "grace.png"


@pytest.fixture(scope="module")
def brain(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tiny_bundle, tmp_path_factory.mktemp("brain"), *ENOUGH) as started:
        yield started


def body(user: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": QUESTION}], "user": user, **LONG, **more}


def under_way(brain: Serving) -> int:
    queue = brain.client.get("/v1/state").json()["queue"]
    return int(queue["waiting"] + queue["running"])


def wait_for(condition: Any, seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_clients_that_vanish_free_their_turns(brain: Serving, picture: Path) -> None:
    """The answer would take most of a second; the others behind it as long again."""
    brain.encode(picture, user="grace")
    asked = body("grace", stream=True)
    with ExitStack() as vanishing:
        for _ in range(4):
            client = vanishing.enter_context(httpx.Client(base_url=brain.url))
            request = client.build_request("POST", "/v1/chat/completions", json=asked)
            sent = threading.Thread(target=_send, args=(client, request))
            sent.start()
        wait_for(lambda: under_way(brain) == 4)
    wait_for(lambda: under_way(brain) == 0, 1)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_while_it_waits_leaves_the_queue(
    brain: Serving, picture: Path, stream: bool
) -> None:
    brain.encode(picture, user="grace")
    before = [
        threading.Thread(target=lambda: brain.ask(QUESTION, user="grace", **LONG)) for _ in range(4)
    ]
    for one in before:
        one.start()
    wait_for(lambda: under_way(brain) == 4)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{brain.url}/v1/chat/completions",
            json=body("grace", stream=stream, uservlm={"turn": "impatient"}),
            timeout=httpx.Timeout(5, read=0.1),
        )

    def turns() -> dict[str, str]:
        state = brain.client.get("/v1/state").json()
        return {turn["id"]: turn["state"] for turn in state["turns"]}

    wait_for(lambda: turns()["impatient"] == "cancelled", 1)
    assert under_way(brain) > 0, "those before it go on"
    brain.client.post("/v1/cancel")
    for one in before:
        one.join(5)


def test_cancelling_a_stream_says_so_and_is_not_asked_again(brain: Serving, picture: Path) -> None:
    brain.encode(picture, user="grace")
    client = openai.OpenAI(base_url=f"{brain.url}/v1", api_key="none")
    stream = client.chat.completions.create(
        model="square",
        messages=[{"role": "user", "content": QUESTION}],
        user="grace",
        stream=True,
        temperature=2.0,
        seed=5,
        max_tokens=1024,
        extra_body={"uservlm": {"turn": "mine"}},
    )
    assert next(stream).id == "mine"
    assert brain.client.post("/v1/cancel/mine").json() == {"id": "mine", "cancelled": True}
    with pytest.raises(openai.APIError, match="cancelled"):
        for _ in stream:
            pass
    wait_for(lambda: under_way(brain) == 0)
    assert brain.client.post("/v1/cancel/mine").status_code == 404


def test_cancelling_everything_reaches_who_waits_and_who_wants_it_whole(
    brain: Serving, picture: Path
) -> None:
    brain.encode(picture, user="grace")
    heard: list[httpx.Response] = []
    askers = [
        threading.Thread(target=lambda: heard.append(brain.ask(QUESTION, user="grace", **LONG)))
        for _ in range(3)
    ]
    for asker in askers:
        asker.start()
    wait_for(lambda: under_way(brain) == 3)
    assert brain.client.post("/v1/cancel").json() == {"cancelled": 3}
    for asker in askers:
        asker.join(5)
    assert [one.status_code for one in heard] == [409] * 3
    assert {one.json()["error"]["code"] for one in heard} == {"cancelled"}
    assert {one.headers["x-should-retry"] for one in heard} == {"false"}


def test_two_turns_cannot_have_one_id(brain: Serving, picture: Path) -> None:
    brain.encode(picture, user="grace")
    first = threading.Thread(
        target=lambda: brain.ask(QUESTION, user="grace", uservlm={"turn": "one"}, **LONG)
    )
    first.start()
    wait_for(lambda: under_way(brain) == 1)
    second = brain.ask(QUESTION, user="grace", uservlm={"turn": "one"})
    assert (second.status_code, second.json()["error"]["code"]) == (409, "turn_taken")
    brain.client.post("/v1/cancel")
    first.join(5)


def test_forgetting_somebody_ends_their_turn_and_takes_what_the_page_remembers(
    brain: Serving, picture: Path
) -> None:
    brain.encode(picture, user="ada")
    heard: list[httpx.Response] = []
    asker = threading.Thread(target=lambda: heard.append(brain.ask(QUESTION, user="ada", **LONG)))
    asker.start()
    wait_for(lambda: under_way(brain) == 1)
    assert brain.client.delete("/v1/users/ada").status_code == 204
    asker.join(5)
    assert heard[0].status_code == 409
    assert brain.ask(QUESTION, user="ada").json()["error"]["code"] == "unknown_user"
    state = json.dumps(brain.client.get("/v1/state").json())
    assert '"ada"' not in state
    assert brain.client.get("/v1/view/picture").status_code == 404


def test_a_first_word_that_comes_too_late_is_a_408(brain: Serving, picture: Path) -> None:
    brain.encode(picture, user="grace")
    before = threading.Thread(target=lambda: brain.ask(QUESTION, user="grace", **LONG))
    before.start()
    wait_for(lambda: under_way(brain) == 1)
    late = brain.ask(QUESTION, user="grace", uservlm={"deadline_s": 0.02})
    assert (late.status_code, late.json()["error"]["code"]) == (408, "deadline_exceeded")
    brain.client.post("/v1/cancel")
    before.join(5)


def test_sigterm_ends_it_in_time_and_who_agreed_is_still_known(
    tiny_bundle: Path, tmp_path: Path, picture: Path
) -> None:
    with serving(tiny_bundle, tmp_path, *ENOUGH) as brain:
        brain.encode(picture, user="ada", consent={"how": "said yes", "keeps": "state"})
        brain.encode(picture, user="guest")
        askers = [threading.Thread(target=lambda: _ignore(brain, body("guest"))) for _ in range(10)]
        with httpx.stream("GET", f"{brain.url}/v1/events", timeout=20) as response:
            watched = events(response)
            assert next(watched)[0] == "state"
            for asker in askers:
                asker.start()
            wait_for(lambda: under_way(brain) == 10)
            begun = time.monotonic()
            assert brain.stop() == 0
            assert time.monotonic() - begun < 10
            for _ in watched:
                pass  # the stream of a page ends too
        for asker in askers:
            asker.join()
    with serving(tiny_bundle, tmp_path, *ENOUGH) as again:
        users = again.client.get("/v1/users").json()["data"]
        assert [user["id"] for user in users] == ["ada"]
        assert again.ask(QUESTION, user="ada", max_tokens=2).status_code == 200


def _send(client: httpx.Client, request: httpx.Request) -> None:
    """Read an answer until somebody closes the client underneath."""
    try:
        client.send(request)
    except (httpx.TransportError, OSError):
        return


def _ignore(brain: Serving, asked: dict[str, Any]) -> None:
    """What becomes of an asker while the server goes is another test's business."""
    try:
        httpx.post(f"{brain.url}/v1/chat/completions", json=asked, timeout=20)
    except httpx.TransportError:
        return


def test_while_it_stops_it_takes_nothing_new_and_finishes_what_runs(
    tiny_bundle: Path, tmp_path: Path, picture: Path
) -> None:
    with serving(tiny_bundle, tmp_path, *ENOUGH) as brain:
        brain.encode(picture, user="ada")
        asked = body("ada", stream=True, max_tokens=600)
        with httpx.stream("POST", f"{brain.url}/v1/chat/completions", json=asked) as response:
            lines = response.iter_lines()
            assert next(lines)
            brain.process.terminate()
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert brain.process.wait(10) == 0


def test_ctrl_c_ends_it_as_every_command(tiny_bundle: Path, tmp_path: Path) -> None:
    with serving(tiny_bundle, tmp_path) as brain:
        brain.process.send_signal(signal.SIGINT)
        assert brain.process.wait(10) == 130
        assert "Traceback" not in brain.log.read_text()


def test_a_taken_port_is_said_in_one_sentence(tiny_bundle: Path, tmp_path: Path) -> None:
    with serving(tiny_bundle, tmp_path) as brain:
        port = brain.url.rpartition(":")[2]
        command = [sys.executable, "-m", "uservlm.runtime", "serve", str(tiny_bundle)]
        second = subprocess.run(
            [*command, "--port", port], capture_output=True, text=True, timeout=60, check=False
        )
    assert second.returncode == 2
    assert second.stderr.startswith("uservlm: cannot listen on 127.0.0.1 port")
    assert len(second.stderr.splitlines()) == 1
