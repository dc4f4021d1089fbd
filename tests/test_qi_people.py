"""People over real libqi: looked at, asked whether they agree, kept, shown and forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("qi")

import qi_bus
from qi_bus import Client, wait_for

from uservlm.pepper_app.qi_door import open_qi_door
from uservlm.runtime import UserVLM
from uservlm.runtime.server.brain import Brain


@pytest.fixture(scope="module")
def brain(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brain]:
    people = tmp_path_factory.mktemp("people")
    with UserVLM.load(tiny_bundle, users=people, threads=1) as vlm:
        made = Brain(vlm)
        yield made
        made.close()


@pytest.fixture(scope="module")
def client(brain: Brain) -> Iterator[Client]:
    with qi_bus.directory() as directory:
        door = open_qi_door(brain, directory.url)
        wait_for(lambda: brain.doors["qi"]["state"] == "open")
        made = Client(directory.url)
        yield made
        made.close()
        door.close()


def test_a_guest_agrees_and_stays_who_they_are(
    client: Client, brain: Brain, pictures: Path
) -> None:
    user = client.call("prepare", (pictures / "grace.png").read_bytes())
    about = client.call("about", user)
    assert (about["id"], about["consent"], about["expires"] is None) == (user, None, False)
    assert about == json.loads(json.dumps(brain.user(user).record()))
    for more, keeps, days in (((), "embedding", 365), (("state", 7), "state", 7)):
        assert client.call("remember", user, "said yes", *more) is None
        agreed = client.call("about", user)["consent"]
        assert (agreed["how"], agreed["keeps"], agreed["days"]) == ("said yes", keeps, days)
    client.call("remember", user, "touched yes", "profile", 0)
    assert client.call("about", user)["consent"]["days"] == 365
    client.call("forget", user)
    assert client.refusal("about", user) == "unknown_user: nobody is kept under that id"


@pytest.mark.parametrize(
    ("refused", "call"),
    [
        ("unknown_user: ", ("remember", "nobody", "said yes")),
        ("bad_request: how: say", ("remember", "sam", "yes " * 251)),
        ("bad_request: a consent must say how", ("remember", "sam", " ")),
        ("bad_request: keeps: give one of", ("remember", "sam", "said yes", "all", 0)),
        ("bad_request: a consent lasts", ("remember", "sam", "said yes", "state", -1.5)),
        ("bad_request: days: give a number", ("remember", "sam", "said yes", "state", "1")),
        ("bad_request: user: give text", ("about", 7)),
    ],
)
def test_who_agrees_to_something_odd_is_not_kept(
    client: Client, brain: Brain, pictures: Path, refused: str, call: tuple[object, ...]
) -> None:
    client.call("prepareAs", "sam", (pictures / "sam.png").read_bytes())
    assert client.refusal(*call).startswith(refused)  # type: ignore[arg-type]
    assert brain.user("sam").entry.profile is None
