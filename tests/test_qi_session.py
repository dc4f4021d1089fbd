"""What libqi does with a declared service, without a brain behind it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

pytest.importorskip("qi")

import qi_bus
from qi_bus import Client, wait_for

from uservlm.pepper_app.qi_session import MESSAGE_BYTES, LibqiSession, open_client, open_session
from uservlm.pepper_app.robot import robot_at
from uservlm.pepper_app.service import Method, Reply, RobotError, Service, Value

TICKS = 1500


class Probe:
    """A service that keeps what it is called with."""

    def __init__(self, session: LibqiSession) -> None:
        self.replies: list[Reply] = []
        self.arguments: tuple[Value, ...] = ()
        self.truth = "so"
        methods = (
            Method("keep", "", "s", self.keep),
            Method("echo", "r", "r", self.echo),
            Method("echo", "ss", "s", self.echo),
            Method("promise", "", "s", self.promise),
        )
        self.service = Service(
            "UserVLM", methods, {"one": "s", "other": "s"}, {"state": ("s", lambda: self.truth)}
        )
        self.offered = session.offer(self.service)

    def keep(self, reply: Reply) -> None:
        self.replies.append(reply)

    def echo(self, reply: Reply, *arguments: Value) -> None:
        self.arguments = arguments
        reply.value(arguments[0])

    def promise(self, reply: Reply) -> None:
        with pytest.raises(TypeError):
            reply.value(object())
        reply.error("code: one sentence")
        reply.value("too late")
        reply.error("too late")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with qi_bus.directory() as made:
        yield made.url


@pytest.fixture
def session(url: str) -> Iterator[LibqiSession]:
    made = open_session(robot_at(url, None), lambda: None, threading.Event())
    yield made
    made.close()


@pytest.fixture
def client(url: str, session: LibqiSession, probe: Probe) -> Iterator[Client]:
    made = Client(url)
    yield made
    made.close()


@pytest.fixture
def probe(session: LibqiSession) -> Probe:
    return Probe(session)


class Ears:
    def __init__(self, client: Client) -> None:
        self.heard: list[int] = []
        client.door.one.connect(self.one)
        client.door.other.connect(self.other)

    def one(self, text: str) -> None:
        self.heard.append(int(text))

    def other(self, text: str) -> None:
        self.heard.append(int(text))


def test_signals_keep_their_order_and_lose_nothing(client: Client, probe: Probe) -> None:
    """Without waiting for each, libqi sends one in a hundred before the one before it."""
    ears = Ears(client)
    for tick in range(TICKS):
        probe.offered.emit(("one", "other")[tick % 3 == 0], str(tick))
    wait_for(lambda: len(ears.heard) == TICKS)
    assert ears.heard == list(range(TICKS))


def test_what_strangers_set_is_put_right(client: Client, probe: Probe) -> None:
    for text in ("a", "b", "so", "c"):
        client.door.state.setValue(text)
    wait_for(lambda: client.door.state.value() == "so")
    probe.truth = "otherwise"
    probe.offered.refresh()
    wait_for(lambda: client.door.state.value() == "otherwise")
    client.door.state.setValue("so")
    wait_for(lambda: client.door.state.value() == "otherwise")


def test_bytes_stay_bytes_and_overloads_are_told_apart(client: Client, probe: Probe) -> None:
    data = bytes(range(256)) * 40
    assert client.call("echo", data) == bytearray(data)
    assert probe.arguments == (data,) and type(probe.arguments[0]) is bytes
    assert client.call("echo", "a", "b") == "a"
    assert probe.arguments == ("a", "b")


def test_the_first_word_counts(client: Client) -> None:
    assert client.refusal("promise") == "code: one sentence"


def test_a_cancel_is_heard_however_early_it_comes(client: Client, probe: Probe) -> None:
    for early in (True, False):
        probe.replies.clear()
        future, heard = client.begin("keep"), threading.Event()
        wait_for(lambda: probe.replies)
        reply = probe.replies[0]
        if early:
            future.cancel()
            wait_for(lambda reply=reply: reply._promise.isCancelRequested())
            reply.when_cancelled(heard.set)
        else:
            reply.when_cancelled(heard.set)
            future.cancel()
        assert heard.wait(5)
        reply.error("code: sentence")
        wait_for(future.isCanceled)


def test_a_name_that_is_taken_is_said(url: str, probe: Probe) -> None:
    other = open_session(robot_at(url, None), lambda: None, threading.Event())
    with pytest.raises(RobotError, match="already"):
        other.offer(probe.service)
    other.close()


def test_who_sends_too_much_is_cut_off_and_nobody_else(url: str, client: Client) -> None:
    greedy = Client(url)
    assert "isconnected" in greedy.refusal("echo", b"\xff" * (MESSAGE_BYTES + 1))
    greedy.close()
    assert client.call("echo", "a", "b") == "a"


def test_a_client_calls_what_is_there_and_is_told_what_is_not(url: str, probe: Probe) -> None:
    closing = threading.Event()
    client = open_client(robot_at(url, None), closing)
    try:
        assert client.call("UserVLM", "echo", "hello", "there") == "hello"
        with pytest.raises(RobotError, match=r"the robot has no UserVLM\.dance$"):
            client.call("UserVLM", "dance")
        with pytest.raises(RobotError, match="ALDance: Cannot find service 'ALDance'"):
            client.call("ALDance", "dance")
        with pytest.raises(RobotError, match=r"UserVLM\.promise: code: one sentence"):
            client.call("UserVLM", "promise")
        with pytest.raises(RobotError, match=r"UserVLM\.keep: no answer within 0\.2 s"):
            client.call("UserVLM", "keep", seconds=0.2)
        closing.set()
        with pytest.raises(RobotError, match="no answer"):
            client.call("UserVLM", "keep", seconds=60.0)
    finally:
        client.close()
