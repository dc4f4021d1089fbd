"""The robot comes, goes, refuses and comes back; the door is there whenever the robot is."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("qi")

import qi_bus
from qi_bus import Client, wait_for
from qi_locked_robot import LockedRobot
from serving import serving

from uservlm.pepper_app.qi_door import Login, QiDoor, open_qi_door, read_password
from uservlm.pepper_app.qi_session import open_session
from uservlm.pepper_app.robot import PASSWORD_VARIABLE, Robot, facing, robot_at
from uservlm.pepper_app.service import RobotError
from uservlm.runtime import UserVLM
from uservlm.runtime.errors import RequestError, StoreError
from uservlm.runtime.server.brain import Brain

SOON = 0.05
"""Seconds to the second try, in tests."""
NOBODY = "tcp://127.0.0.1:9"


@pytest.fixture(scope="module")
def vlm(pocket_bundle: Path) -> Iterator[UserVLM]:
    with UserVLM.load(pocket_bundle, threads=1) as loaded:
        yield loaded


@pytest.fixture
def brain(vlm: UserVLM) -> Iterator[Brain]:
    made = Brain(vlm)
    yield made
    made.close()


def opened(brain: Brain, url: str, login: Login | None = None) -> QiDoor:
    return QiDoor(brain, partial(open_session, robot_at(url, login)), SOON)


def state(brain: Brain) -> str:
    return brain.doors["qi"]["state"]


def detail(brain: Brain) -> str:
    return brain.doors["qi"]["detail"]


def answers(url: str) -> bool:
    client = Client(url)
    try:
        return client.call("ping") is True
    finally:
        client.close()


def test_the_service_is_back_when_the_robot_is(
    brain: Brain, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "uservlm.qi")
    with qi_bus.directory() as robot:
        door = opened(brain, robot.url)
        wait_for(lambda: state(brain) == "open")
        for _ in range(2):
            client = Client(robot.url)
            robot.kill()
            wait_for(lambda: state(brain) == "lost")
            client.close()
            time.sleep(3 * SOON)
            robot.start()
            wait_for(lambda: state(brain) == "open")
            assert answers(robot.url)
        door.close()
    assert state(brain) == "off"
    said = [record.message for record in caplog.records]
    assert len(said) <= 10, "said once, not at each try"


def test_turns_that_nobody_hears_any_more_are_ended(brain: Brain) -> None:
    gate = threading.Event()

    def wait() -> Generator[int, None, None]:
        yield 0
        gate.wait(30)

    with qi_bus.directory() as robot:
        door = opened(brain, robot.url)
        wait_for(lambda: state(brain) == "open")
        client = Client(robot.url)
        brain.vlm._worker.submit(wait)
        client.begin("askAbout", "Who am I?", 64, 64, 0, bytes(64 * 64))
        wait_for(lambda: brain.register.under_way)
        robot.kill()
        wait_for(lambda: not brain.register.under_way)
        gate.set()
        client.close()
        door.close()


def test_a_robot_that_is_not_there_is_waited_for(brain: Brain) -> None:
    with qi_bus.directory() as robot:
        robot.kill()
        door = opened(brain, robot.url)
        wait_for(lambda: "refused" in detail(brain))
        assert state(brain) == "connecting"
        robot.start()
        wait_for(lambda: state(brain) == "open")
        assert answers(robot.url)
        door.close()


def test_an_entry_that_somebody_removes_is_made_again(brain: Brain) -> None:
    with qi_bus.directory() as robot:
        door = opened(brain, robot.url)
        wait_for(lambda: state(brain) == "open")
        first, other = detail(brain), Client(robot.url)
        number = next(
            one["serviceId"] for one in other.session.services() if one["name"] == "UserVLM"
        )
        other.session.service("ServiceDirectory").unregisterService(number)
        wait_for(lambda: state(brain) == "open" and detail(brain) != first)
        assert answers(robot.url)
        other.close()
        door.close()


def test_two_brains_take_turns(vlm: UserVLM, brain: Brain) -> None:
    second = Brain(vlm)
    with qi_bus.directory() as robot:
        door = opened(brain, robot.url)
        wait_for(lambda: state(brain) == "open")
        waiting = opened(second, robot.url)
        wait_for(lambda: "has a service UserVLM already" in detail(second))
        assert state(second) == "connecting" and answers(robot.url)
        door.close()
        wait_for(lambda: state(second) == "open")
        assert answers(robot.url)
        waiting.close()
    second.close()


@pytest.mark.parametrize("url", [NOBODY, "tcp://10.255.255.1", "tcp://nobody.invalid", "mute"])
def test_closing_takes_no_time_while_nobody_is_there(brain: Brain, url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        where = f"tcp://127.0.0.1:{mute.getsockname()[1]}" if url == "mute" else url
        door = opened(brain, where)
        wait_for(lambda: state(brain) == "connecting")
        time.sleep(0.2)
        begun = time.monotonic()
        door.close()
        assert time.monotonic() - begun < 2 and state(brain) == "off"


def test_closing_a_door_that_a_robot_does_not_let_go_of(brain: Brain) -> None:
    with qi_bus.directory() as robot:
        door = opened(brain, robot.url)
        wait_for(lambda: state(brain) == "open")
        assert robot.process is not None
        robot.process.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        door.close()
        assert time.monotonic() - begun < 2.2
        robot.process.send_signal(signal.SIGCONT)


def test_a_caller_who_dies_takes_nobody_along(brain: Brain) -> None:
    dying = "import qi_bus, os; c = qi_bus.Client({!r}); c.begin('ask', 'x', ''); os._exit(0)"
    with qi_bus.directory() as robot:
        door = opened(brain, robot.url)
        wait_for(lambda: state(brain) == "open")
        for _ in range(3):
            path = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
            subprocess.run([sys.executable, "-c", dying.format(robot.url)], env=path, check=True)
        assert answers(robot.url)
        door.close()


def test_without_libqi_the_door_says_so_and_stays_shut(
    brain: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "qi", None)
    door = opened(brain, NOBODY)
    wait_for(lambda: state(brain) == "unavailable")
    assert "uservlm[pepper]" in detail(brain)
    door.close()
    assert state(brain) == "unavailable"


def test_importing_the_door_does_not_import_libqi() -> None:
    code = "import sys, uservlm.pepper_app.qi_door; assert 'qi' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_serve_opens_the_door_and_ends_well(
    pocket_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    """libqi threads that outlive the interpreter abort it."""
    with (
        qi_bus.directory() as robot,
        serving(pocket_bundle, tmp_path, "--robot", robot.url) as served,
    ):
        wait_for(lambda: "qi door open: UserVLM at tcp://127.0.0.1:" in served.log.read_text())
        client = Client(robot.url)
        assert client.call("askAbout", "Describe me.", (pictures / "grace.png").read_bytes())
        assert served.stop() == 0
        assert "UserVLM" not in [one["name"] for one in client.session.services()]
        client.close()
        assert "[W] " not in served.log.read_text(), "libqi's own log"


def test_a_refused_login_is_said_and_its_password_is_not(
    brain: Brain, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    robot, login = LockedRobot(tmp_path), Login("nao", "open sesame")
    door = opened(brain, robot.url, login)
    wait_for(lambda: "refuses the password of nao" in detail(brain))
    door.close()
    assert b"open sesame" in robot.asked[0] and b"nao" in robot.asked[0]
    assert "sesame" not in caplog.text + repr(login) + repr(robot_at(robot.url, login))


@pytest.mark.parametrize(
    "url", ["", "pepper", "http://pepper", "tcp://", "tcp://a:b", "tcp://nao:secret@pepper:x"]
)
def test_an_address_that_is_none_is_refused_at_once(brain: Brain, url: str) -> None:
    with pytest.raises(RequestError) as refused:
        open_qi_door(brain, url)
    assert "secret" not in str(refused.value)
    assert state(brain) == "off"


def test_ports_and_logins_follow_the_scheme() -> None:
    login = Login("nao", "secret")
    assert robot_at("tcp://pepper.local", login) == Robot("tcp", "pepper.local", 9559)
    assert robot_at("tcps://pepper", login).url == "tcps://pepper:9503"
    for missing in (None, Login("nao", None)):
        with pytest.raises(RequestError, match=PASSWORD_VARIABLE):
            robot_at("tcps://pepper", missing)


def test_the_password_comes_from_a_private_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    assert read_password(None) is None
    monkeypatch.setenv(PASSWORD_VARIABLE, "from outside")
    assert read_password(None) == "from outside"
    file = tmp_path / "password"
    file.write_text("von drüben\n")
    file.chmod(0o600)
    assert read_password(str(file)) == "von drüben"
    file.chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        read_password(str(file))
    file.chmod(0o600)
    file.write_text("\n")
    for path in (file, tmp_path, tmp_path / "none"):
        with pytest.raises(StoreError):
            read_password(str(path))


def test_we_listen_where_the_robot_sees_us(brain: Brain) -> None:
    assert facing(Robot("tcp", "127.0.0.1", 9559)) == "127.0.0.1"
    with qi_bus.directory() as robot:
        door = opened(brain, robot.url)
        wait_for(lambda: state(brain) == "open")
        assert detail(brain).startswith("UserVLM at tcp://127.0.0.1:")
        door.close()
    with pytest.raises(RobotError, match=r"no way to nobody\.invalid"):
        facing(Robot("tcp", "nobody.invalid", 9559))
