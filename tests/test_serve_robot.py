"""Both doors of one `uservlm serve`, the robot's over real libqi: one queue, one user store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Serving, serving

pytest.importorskip("qi")

import qi_bus
from qi_bus import Client, Directory, wait_for

CALL = "How do I make a video call?"
LONG = {"max_tokens": 1024, "temperature": 2.0, "seed": 5}


@pytest.fixture(scope="module")
def directory() -> Iterator[Directory]:
    with qi_bus.directory() as made:
        yield made


@pytest.fixture(scope="module")
def brain(
    pocket_bundle: Path, directory: Directory, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("brain")
    with serving(pocket_bundle, folder, "--robot", directory.url) as started:
        wait_for(lambda: health(started)["state"] == "open")
        yield started


@pytest.fixture
def robot(brain: Serving, directory: Directory) -> Iterator[Client]:
    client = Client(directory.url)
    yield client
    client.close()


def health(brain: Serving) -> dict[str, str]:
    door: dict[str, str] = brain.client.get("/v1/state").json()["doors"]["qi"]
    return door


def queue(brain: Serving) -> dict[str, int]:
    counts: dict[str, int] = brain.client.get("/v1/state").json()["queue"]
    return counts


def test_who_was_shown_at_one_door_is_known_at_the_other(
    brain: Serving, robot: Client, pictures: Path
) -> None:
    robot.call("prepareAs", "grace", (pictures / "grace.png").read_bytes())
    brain.encode(pictures / "sam.png", user="sam")
    for name in ("grace", "sam"):
        over_http = brain.ask(CALL, user=name).json()["choices"][0]["message"]["content"]
        assert robot.call("ask", CALL, name) == over_http
    state = brain.client.get("/v1/state").json()
    assert [user["id"] for user in state["users"]] == ["grace", "sam"]
    assert {turn["door"] for turn in state["turns"]} == {"http", "qi"}
    robot.call("forget", "grace")
    assert brain.ask(CALL, user="grace").status_code == 404
    assert brain.client.delete("/v1/users/sam").status_code == 204
    assert robot.refusal("ask", CALL, "sam") == "unknown_user: nobody is kept under that id"


def test_both_doors_wait_in_one_queue_and_either_may_end_a_turn(
    tiny_bundle: Path, tmp_path: Path, pictures: Path
) -> None:
    options = ("--context", "4096", "--threads", "1", "--robot")
    with qi_bus.directory() as bus, serving(tiny_bundle, tmp_path, *options, bus.url) as busy:
        wait_for(lambda: health(busy)["state"] == "open")
        robot = Client(bus.url)
        busy.encode(pictures / "grace.png", user="grace")
        asker = threading.Thread(target=busy.ask, args=(CALL,), kwargs={"user": "grace", **LONG})
        asker.start()
        wait_for(lambda: queue(busy)["running"] == 1)
        waiting = robot.begin("ask", CALL, "grace", "from-the-robot")
        wait_for(lambda: queue(busy)["waiting"] == 1)
        assert busy.client.post("/v1/cancel/from-the-robot").status_code == 200
        assert waiting.hasError(5000)
        assert str(waiting.error()).startswith("cancelled: ")
        assert busy.client.post("/v1/cancel").json() == {"cancelled": 1}
        asker.join(5)
        robot.close()
        assert busy.stop() == 0


def test_a_brain_that_crashed_is_back_on_the_bus_when_it_is_started_again(
    pocket_bundle: Path, tmp_path: Path, pictures: Path
) -> None:
    with qi_bus.directory() as bus:
        for _ in range(2):
            with serving(pocket_bundle, tmp_path, "--robot", bus.url) as brain:
                wait_for(lambda brain=brain: health(brain)["state"] == "open")
                robot = Client(bus.url)
                assert robot.call("prepareAs", "sam", (pictures / "sam.png").read_bytes()) == "sam"
                robot.close()
                brain.kill()


def test_a_robot_that_is_not_there_is_waited_for(pocket_bundle: Path, tmp_path: Path) -> None:
    with serving(pocket_bundle, tmp_path, "--robot", "tcp://127.0.0.1:9") as alone:
        wait_for(lambda: "refused" in health(alone)["detail"].lower())
        assert health(alone)["state"] == "connecting"
        assert alone.client.get("/healthz").status_code == 200
        assert alone.stop() == 0
