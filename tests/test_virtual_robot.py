"""The virtual Pepper as a whole: its misbehaviours, restart, scenario and command."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("qi")

from virtual_pepper import Client, client, pepper, wait_for, wait_until_back

from uservlm.pepper_app.frames import RGB
from uservlm.pepper_app.service import RobotError
from uservlm.pepper_app.virtual_naoqi import Setting
from uservlm.pepper_app.virtual_robot import VirtualPepper
from uservlm.pepper_app.virtual_scenario import read
from uservlm.pepper_app.virtual_world import MISBEHAVIOURS

SCENARIO = """
[[step]]
at = 0.5
do = "say"
text = "hello"
[[step]]
at = 0.1
do = "arrive"
who = "grace"
zone = 2
[[step]]
at = 2
do = "leave"
who = "sam"
[[step]]
at = 4.0
do = "end"
"""


def test_each_misbehaviour_is_seen_and_goes_away_again() -> None:
    with pepper("--pace", "10") as made, client(made.url) as bus:
        assert set(bus.call("VirtualPepper", "misbehaviours")) == set(MISBEHAVIOURS)
        _invalid_signature(bus)
        _none_frames(bus)
        _flicker(bus)
        _slow_network(bus)
        _first_page(bus)
        assert "no misbehaviour" in bus.refusal("VirtualPepper", "misbehave", ["sulk"])


def _invalid_signature(bus: Client) -> None:
    bus.call("VirtualPepper", "misbehave", ["invalid-signature"])
    assert "Invalid signature" in bus.refusal("ALMemory", "subscriber", "Any")
    bus.call("ALMemory", "insertData", "Any", 1)
    assert bus.call("ALMemory", "getListData", ["Any"]) == [1], "polling still works"
    bus.call("VirtualPepper", "misbehave", [])
    assert bus.call("ALMemory", "subscriber", "Any")


def _none_frames(bus: Client) -> None:
    handle = bus.call("ALVideoDevice", "subscribeCamera", "test", 0, 0, RGB, 5)

    def frames() -> int:
        return sum(
            bus.call("ALVideoDevice", "getImageRemote", handle) is not None for _ in range(4)
        )

    assert frames() == 4
    bus.call("VirtualPepper", "misbehave", ["none-frames"])
    assert frames() == 2
    bus.call("VirtualPepper", "misbehave", [])


def _flicker(bus: Client) -> None:
    bus.call("ALPeoplePerception", "subscribe", "test")
    bus.do("arrive", who="sam")
    ears = bus.event("PeoplePerception/PeopleList")
    wait_for(lambda: len(ears.heard) > 3)
    assert [] not in ears.heard
    bus.call("VirtualPepper", "misbehave", ["flicker"])
    wait_for(lambda: ears.heard.count([]) > 1)
    assert bus.call("VirtualPepper", "people") == ["sam"], "nobody has left"
    bus.call("VirtualPepper", "misbehave", [])
    bus.call("ALPeoplePerception", "unsubscribe", "test")


def _slow_network(bus: Client) -> None:
    def took() -> float:
        begun = time.monotonic()
        bus.call("ALSystem", "robotName")
        return time.monotonic() - begun

    assert min(took() for _ in range(3)) < 0.1
    bus.call("VirtualPepper", "misbehave", ["slow-network"])
    assert took() >= 0.15
    bus.call("VirtualPepper", "misbehave", [])
    assert min(took() for _ in range(3)) < 0.1


def _first_page(bus: Client) -> None:
    errors = bus.signal("ALTabletService", "onLoadPageError")
    finished = bus.signal("ALTabletService", "onPageFinished")
    bus.call("VirtualPepper", "misbehave", ["tablet-first-page"])
    for _ in range(2):
        bus.call("ALTabletService", "showWebview", "http://198.18.0.1/apps/x/")
        wait_for(lambda: errors.heard)
    wait_for(lambda: finished.heard)
    assert len(errors.heard) == 1 and errors.heard[0][0] == -6


def test_services_appear_late() -> None:
    with pepper("--misbehave", "late-services") as made, client(made.url) as bus:
        assert bus.call("ALMemory", "getDataListName") is not None
        with pytest.raises(RuntimeError, match="ALTextToSpeech"):
            bus.service("ALTextToSpeech")
        wait_for(lambda: bus.values("VirtualPepper", "up"))
        bus.call("ALTextToSpeech", "say", "")


def test_naoqi_goes_and_comes_back_at_the_same_address_without_what_it_knew() -> None:
    with pepper("--pace", "10") as made:
        with client(made.url) as bus:
            bus.call("ALMemory", "insertData", "Mine", 1)
            bus.do("arrive", who="grace")
            pending = bus.begin("ALTextToSpeech", "say", "word " * 500)
            bus.do("restart", seconds=1.0)
            assert pending.hasError(20_000), "who waits hears that it is gone"
            wait_for(lambda: not bus.session.isConnected())
        wait_until_back(made.url)
        with client(made.url) as bus:
            assert "no such key" in bus.refusal("ALMemory", "getData", "Mine")
            assert bus.values("people", "arrive") == [["grace", 1, 1001]], "deeds are remembered"
            wait_for(lambda: len(bus.values("VirtualPepper", "up")) == 2)
            bus.call("ALTextToSpeech", "say", "back")


def test_a_scenario_is_played_in_its_order_and_the_transcript_tells_it(tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(SCENARIO, "utf-8")
    done = command("--scenario", str(file), "--pace", "20", "--listen", "tcp://127.0.0.1:0")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line[:1] == " "]
    told = [line for line in lines if line.startswith(("people", "VirtualPepper  "))]
    assert [" ".join(line.split()) for line in told[1:]] == [
        "people arrive grace 2 1001",
        "people says hello",
        "VirtualPepper refused sam is not there",
    ]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ('at = 1\ndo = "dance"', "no step 'dance'"),
        ('at = 1\ndo = "arrive"', "arrive needs who"),
        ('at = 1\ndo = "leave"\nwho = 3', "who is a str"),
        ('at = 1\ndo = "leave"\nwho = "x"\nwhy = "y"', "not why"),
        ('at = -1\ndo = "end"', "at is seconds"),
        ('do = "end"', "at is seconds"),
    ],
)
def test_a_wrong_step_is_named(tmp_path: Path, wrong: str, says: str) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(f'[[step]]\nat = 0\ndo = "end"\n[[step]]\n{wrong}\n', "utf-8")
    with pytest.raises(RobotError, match=f"step 2: .*{says}"):
        read(file)


def test_pictures_come_from_a_folder(tmp_path: Path) -> None:
    Image.new("RGB", (640, 480), (10, 200, 30)).save(tmp_path / "Ann.png")
    with pepper("--pictures", str(tmp_path)) as made, client(made.url) as bus:
        handle = bus.call("ALVideoDevice", "subscribeCamera", "test", 0, 1, RGB, 5)
        bus.do("arrive", who="ann")
        data = bus.call("ALVideoDevice", "getImageRemote", handle)[6]
        pixels = np.frombuffer(bytes(data), np.uint8).reshape(240, 320, 3)
        assert (pixels == (10, 200, 30)).all()
        bus.do("leave", who="ann")
        bus.do("arrive", who="bob")
        assert "no picture of bob" in bus.refusal("ALVideoDevice", "getImageRemote", handle)


def test_the_command_says_what_is_wrong() -> None:
    for options, says in (
        (["--pictures", "/nowhere"], "no folder /nowhere"),
        (["--misbehave", "sulk"], "no misbehaviour sulk"),
        (["--scenario", "/nowhere.toml"], "/nowhere.toml"),
    ):
        done = command("--listen", "tcp://127.0.0.1:0", *options)
        assert done.returncode == 2 and says in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    with pepper() as made:
        done = command("--listen", made.url)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr


def command(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "uservlm.pepper_app.virtual", *options],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_whoever_calls_with_anything_is_told_in_a_sentence_and_nothing_breaks() -> None:
    with pepper("--pace", "50", "--quiet") as made:
        done = subprocess.run(
            [
                sys.executable,
                str(Path(__file__).with_name("virtual_fuzz.py")),
                made.url,
                "1",
                "3000",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["methods"] > 150
        ours = [text for text in found["told"] if ".py" in text or "Traceback" in text]
        assert not ours, ours
        with client(made.url) as bus:
            bus.call("ALTextToSpeech", "stopAll")
            bus.call("ALTextToSpeech", "say", "Time goes on.")


def test_from_python_it_is_a_context_manager(tmp_path: Path) -> None:
    lines: list[str] = []
    setting = Setting(tmp_path, listen="tcp://127.0.0.1:0", pace=20, misbehave=("flicker",))
    with VirtualPepper(setting, lines.append) as robot:
        with client(robot.url) as bus:
            speaking = bus.begin("ALTextToSpeech", "say", "one two three four five six")
            robot.do("talk_over", text="stop")
            assert not speaking.hasError(5000)
            with pytest.raises(RobotError, match="is not there"):
                robot.do("leave", who="grace")
        told = [(deed.who, deed.what) for deed in robot.recorded()]
        assert told.index(("ALTextToSpeech", "says")) < told.index(("people", "says"))
        assert told.index(("people", "says")) < told.index(("ALTextToSpeech", "spoke"))
        assert len(lines) == len(told)
    with pytest.raises(RuntimeError):
        Client(robot.url)


def test_what_nobody_has_given_back_is_named() -> None:
    with pepper("--pace", "20") as made, client(made.url) as bus:
        assert bus.call("VirtualPepper", "held") == []
        handle = bus.call("ALVideoDevice", "subscribeCamera", "cam", 0, 1, RGB, 5)
        extractors = ("ALPeoplePerception", "ALEngagementZones", "ALFaceDetection")
        others = ("ALSpeechRecognition", "ALDialog")
        for service in (*extractors, *others):
            bus.call(service, "subscribe", "app")
        bus.call("ALMemory", "subscribeToEvent", "Any", "app", "onAny")
        bus.call("ALDialog", "loadTopicContent", "topic: ~small()\n")
        held = [f"{service} app" for service in extractors]
        assert bus.call("VirtualPepper", "held") == [
            "ALMemory Any app",
            *held,
            f"ALVideoDevice {handle}",
            "ALSpeechRecognition app",
            "ALDialog app",
            "ALDialog topic small",
        ]
        for service in (*extractors, *others):
            bus.call(service, "unsubscribe", "app")
        bus.call("ALMemory", "unsubscribeToEvent", "Any", "app")
        bus.call("ALDialog", "unloadTopic", "small")
        bus.call("ALVideoDevice", "unsubscribe", handle)
        assert bus.call("VirtualPepper", "held") == []


def test_naoqi_restarts_by_itself_when_it_misbehaves(tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text('[[step]]\nat = 70\ndo = "end"\n', "utf-8")
    options = ("--scenario", str(file), "--pace", "50", "--listen", "tcp://127.0.0.1:0")
    for more, restarts in ((("--misbehave", "restarts"), True), ((), False)):
        told = command(*options, *more).stdout
        assert (told.count("naoqi gone") > 0) is restarts
        assert (told.count(" up ") > 1) is restarts


def test_an_address_open_to_the_network_is_said_to_be_so(tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text('[[step]]\nat = 0\ndo = "end"\n', "utf-8")
    for address, opens in (("tcp://0.0.0.0:0", True), ("tcp://127.0.0.1:0", False)):
        done = command("--scenario", str(file), "--listen", address)
        assert done.returncode == 0 and ("open to the network" in done.stderr) is opens
