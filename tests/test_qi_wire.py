"""The qi protocol in plain Python against what else speaks it: libqi 3 and 2.7's, and itself."""

from __future__ import annotations

import json
import math
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

pytest.importorskip("qi")

import qi_bus
from qi_bus import Client, Directory, wait_for
from qi_locked_robot import certificate
from test_qi_wire_values import ALL, TYPED, plain
from virtual_pepper import Pepper, pepper

from uservlm.pepper_app.qi_session import load_library, open_session
from uservlm.pepper_app.qi_wire_client import WireClient, open_wire_client
from uservlm.pepper_app.qi_wire_remote import Remote
from uservlm.pepper_app.qi_wire_session import WireSession, open_wire_session
from uservlm.pepper_app.robot import Login, robot_at
from uservlm.pepper_app.service import Method, Reply, RobotError, Service, Session, Value

IMAGE = "(iiiiiiriffff)"
"""What ALVideoDevice.getImageRemote gives."""
FRAME = (4, 2, 1, 9, 1, 2, bytes(range(8)), 0, 0.5, -0.5, 0.25, -0.25)


class Probe:
    """A service that gives back what it gets, and keeps who waits."""

    def __init__(self) -> None:
        self.waiting: list[Reply] = []
        self.truth = "so"
        self.took: list[Value] = []
        forms = [Method(f"as{number}", "m", form, self.echo) for number, form in enumerate(TYPED)]
        self.service = Service(
            "Probe",
            (
                *forms,
                Method("raw", "r", "r", self.echo),
                Method("frame", "m", IMAGE, self.echo),
                Method("look", "", IMAGE, lambda reply: reply.value(FRAME)),
                Method("any", "m", "m", self.echo),
                Method("wait", "", "s", lambda reply: self.waiting.append(reply)),
                Method("nothing", "", "v", lambda reply: reply.value(None)),
                Method("fail", "", "v", lambda reply: reply.error("code: sentence")),
                Method("several", "s", "s", lambda reply, one: reply.value("text")),
                Method("several", "i", "s", lambda reply, one: reply.value("number")),
                Method("several", "r", "s", lambda reply, one: reply.value("raw")),
            ),
            {"one": "s", "other": "s"},
            {"state": ("s", lambda: self.truth)},
        )

    def echo(self, reply: Reply, value: Value) -> None:
        self.took.append(value)
        reply.value(value)


@pytest.fixture(scope="module")
def directory() -> Iterator[Directory]:
    with qi_bus.directory() as made:
        yield made


@pytest.fixture(scope="module", params=["libqi", "wire"])
def offering(request: pytest.FixtureRequest, directory: Directory) -> Iterator[Session]:
    opened = open_session if request.param == "libqi" else open_wire_session
    session = opened(robot_at(directory.url, None), lambda: None, threading.Event())
    yield session
    session.close()


@pytest.fixture(scope="module")
def probe() -> Probe:
    return Probe()


@pytest.fixture(scope="module")
def offered(offering: Session, probe: Probe) -> Any:
    return offering.offer(probe.service)


@pytest.fixture
def wire(directory: Directory, offered: Any) -> Iterator[WireClient]:
    client = open_wire_client(robot_at(directory.url, None), threading.Event())
    yield client
    client.close()


@pytest.fixture
def ours(directory: Directory) -> Iterator[tuple[WireSession, Probe]]:
    """A service of ours that is offered to libqi's callers, under another name."""
    session = open_wire_session(robot_at(directory.url, None), lambda: None, threading.Event())
    probe = Probe()
    yield session, probe
    session.close()


def test_every_type_arrives_as_it_was_sent(wire: WireClient, offered: Any) -> None:
    for number, (form, value) in enumerate(TYPED.items()):
        assert wire.call("Probe", f"as{number}", value) == value, form
    assert wire.call("Probe", "nothing") is None


@given(plain)
@settings(max_examples=60, deadline=None)
def test_values_without_a_type_arrive_as_they_were_sent(service: Remote, value: Value) -> None:
    assert same(service.call("any", value), value)


@pytest.fixture(scope="module")
def service(directory: Directory, offered: Any) -> Iterator[Remote]:
    client = open_wire_client(robot_at(directory.url, None), threading.Event())
    yield client.service("Probe")
    client.close()


def same(left: Value, right: Value) -> bool:
    """Whether values are alike; an empty dict or list has lost what it could have held."""
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right)
    return bool(left == right)


def test_raw_bytes_and_frames_arrive_byte_by_byte(wire: WireClient, probe: Probe) -> None:
    for data in (b"", ALL, b"plain text", ALL * 4096):
        assert wire.call("Probe", "raw", data) == data
        assert probe.took[-1] == data
    assert wire.call("Probe", "frame", FRAME) == FRAME


def test_overloads_are_told_apart_by_what_is_given(wire: WireClient) -> None:
    for given_, taken in (("x", "text"), (1, "number"), (ALL, "raw")):
        assert wire.call("Probe", "several", given_) == taken


def test_refusals_say_what_there_is_not(wire: WireClient) -> None:
    for told, arguments in {
        r"the robot has no Probe\.dance$": ("Probe", "dance"),
        r"the robot has no Probe\.several that takes 2 values$": ("Probe", "several", 1, 2),
        "^Nobody: Cannot find service 'Nobody'": ("Nobody", "x"),
        r"^Probe\.fail: code: sentence$": ("Probe", "fail"),
        r"^Probe\.several: a object is no plain value": ("Probe", "several", object()),
    }.items():
        with pytest.raises(RobotError, match=told):
            wire.call(*arguments)


def test_signals_arrive_in_order_and_properties_show_the_truth(
    wire: WireClient, offered: Any, probe: Probe
) -> None:
    heard: list[str] = []
    states: list[str] = []
    service = wire.service("Probe")
    service.listen("one", heard.append)
    service.listen("other", heard.append)
    service.listen("state", states.append)
    for tick in range(300):
        offered.emit(("one", "other")[tick % 3 == 0], str(tick))
    wait_for(lambda: len(heard) == 300)
    assert heard == [str(tick) for tick in range(300)]
    assert service.call("property", "state") == probe.truth
    service.call("setProperty", "state", "forged")
    probe.truth += "!"
    offered.refresh()
    wait_for(lambda: states and states[-1] == probe.truth)
    wait_for(lambda: service.call("property", "state") == probe.truth)
    assert service.call("properties") == ["state"]
    with pytest.raises(RobotError, match=r"no Probe\.silence"):
        service.listen("silence", heard.append)


def test_who_waits_no_more_is_heard_of(wire: WireClient, probe: Probe) -> None:
    probe.waiting.clear()
    cancelled = threading.Event()
    with pytest.raises(RobotError, match=r"Probe\.wait: no answer within 0\.3 s"):
        wire.call("Probe", "wait", seconds=0.3)
    probe.waiting[0].when_cancelled(cancelled.set)
    assert cancelled.wait(5)


def test_a_caller_who_is_gone_waits_no_more(
    directory: Directory, ours: tuple[WireSession, Probe]
) -> None:
    session, probe = ours
    session.offer(Service("Ours", probe.service.methods))
    client = open_wire_client(robot_at(directory.url, None), threading.Event())
    threading.Thread(target=pytest.raises, args=(RobotError, client.call, "Ours", "wait")).start()
    wait_for(lambda: probe.waiting)
    cancelled = threading.Event()
    probe.waiting[0].when_cancelled(cancelled.set)
    assert not cancelled.is_set()
    client.close()
    assert cancelled.wait(5)
    probe.waiting[0].value("to nobody")


def test_two_hear_the_same_and_one_who_leaves_hears_no_more(
    directory: Directory, ours: tuple[WireSession, Probe]
) -> None:
    session, probe = ours
    made = session.offer(Service("Ours", (), {"one": "s"}))
    heard: dict[str, list[str]] = {"libqi": [], "wire": []}
    theirs, other = (
        Client.__new__(Client),
        open_wire_client(robot_at(directory.url, None), threading.Event()),
    )
    qi = load_library()
    theirs.session = qi.Session()
    theirs.session.connect(directory.url, _async=True).value(qi_bus.ANSWER_MS)
    proxy = theirs.session.service("Ours")
    link = proxy.one.connect(heard["libqi"].append)
    other.service("Ours").listen("one", heard["wire"].append)
    made.emit("one", "a")
    wait_for(lambda: heard == {"libqi": ["a"], "wire": ["a"]})
    proxy.one.disconnect(link)
    made.emit("one", "b")
    wait_for(lambda: heard["wire"] == ["a", "b"])
    assert heard["libqi"] == ["a"]
    proxy.one("forged")
    made.emit("one", "c")
    wait_for(lambda: heard["wire"][-1] == "c")
    assert heard["wire"] == ["a", "b", "c"], "what a stranger emits is heard by nobody"
    theirs.close()
    other.close()


def test_who_is_being_closed_withdraws_all_the_same(directory: Directory) -> None:
    closing = threading.Event()
    session = open_wire_session(robot_at(directory.url, None), lambda: None, closing)
    names = {"First", "Second", "Third"}
    for name in names:
        session.offer(Service(name))
    closing.set()
    client = open_wire_client(robot_at(directory.url, None), threading.Event())
    told = client.service("ServiceDirectory")
    assert names <= {one["name"] for one in told.call("services")}
    begun, removed = time.monotonic(), []
    told.listen("serviceRemoved", lambda _, name: removed.append(name))
    session._bus.close = lambda: None  # which would withdraw them too
    session.close()
    assert time.monotonic() - begun < 1
    assert not names & {one["name"] for one in told.call("services")}
    wait_for(lambda: set(removed) == names)
    type(session._bus).close(session._bus)
    client.close()


def test_a_robot_that_does_not_take_us_in_holds_up_no_closing() -> None:
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        closing = threading.Event()
        threading.Timer(0.3, closing.set).start()
        begun = time.monotonic()
        with pytest.raises(RobotError, match="no answer"):
            open_wire_client(robot_at(f"tcp://127.0.0.1:{full.getsockname()[1]}", None), closing)
        assert 0.2 < time.monotonic() - begun < 1


@pytest.fixture(scope="module")
def robot() -> Iterator[Pepper]:
    with pepper("--quiet") as made:
        yield made


def test_a_robots_camera_memory_and_events_are_there(robot: Pepper) -> None:
    client = open_wire_client(robot_at(robot.url, None), threading.Event())
    handle = client.call("ALVideoDevice", "subscribeCamera", "wire", 0, 1, 11, 5)
    image = client.call("ALVideoDevice", "getImageRemote", handle)
    width, height, layers, _, _, _, pixels = image[:7]
    assert type(pixels) is bytes and len(pixels) == width * height * layers > 0
    client.call("ALVideoDevice", "unsubscribe", handle)
    heard: list[Value] = []
    subscriber = client.call("ALMemory", "subscriber", "Wire/Said")
    assert isinstance(subscriber, Remote)
    subscriber.listen("signal", heard.append)
    for value in ("text", 4, [1, ["x"]]):
        client.call("ALMemory", "raiseEvent", "Wire/Said", value)
    wait_for(lambda: heard == ["text", 4, [1, ["x"]]])
    assert client.call("ALMemory", "getData", "Wire/Said") == [1, ["x"]]
    client.close()


CALLS_FROM_27 = """
import json, sys, threading, qi
session = qi.Session()
session.connect(sys.argv[1])
probe = session.service("Ours")
heard, done, told = [], threading.Event(), {}
class Ears(object):
    def one(self, text):
        heard.append(text)
        if text == "last":
            done.set()
ears = Ears()
probe.one.connect(ears.one)
told["raw"] = list(probe.raw(bytearray(range(256))))
told["text"] = probe.several(u"gr\\u00fc\\u00dfe")
told["number"] = probe.several(3)
told["frame"] = [list(x) if isinstance(x, bytearray) else x for x in probe.look()]
told["dynamic"] = probe.any({"a": [1, 2.5, None, True, u"x"]})
told["state"] = probe.state.value()
try:
    probe.fail()
except RuntimeError as error:
    told["refused"] = str(error)
future = probe.wait(_async=True)
probe.shout()
done.wait(10)
future.cancel()
told["cancelled"] = future.wait(5000) == qi.FutureState.Canceled
told["heard"] = heard
print(json.dumps(told))
session.close()
"""


def test_a_robots_own_python_calls_us(
    python27: list[str], directory: Directory, ours: tuple[WireSession, Probe]
) -> None:
    session, probe = ours
    said = ["a", "b", "grüße", "last"]

    def shout(reply: Reply) -> None:
        for text in said:
            made.emit("one", text)
        reply.value(None)
        wait_for(lambda: probe.waiting)
        waiting = probe.waiting[0]
        waiting.when_cancelled(lambda: waiting.error("cancelled: too late"))

    declared = probe.service
    made = session.offer(
        Service(
            "Ours",
            (*declared.methods, Method("shout", "", "v", shout)),
            declared.signals,
            declared.properties,
        )
    )
    done = subprocess.run(
        [*python27, "-c", CALLS_FROM_27, directory.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(next(line for line in done.stdout.splitlines() if line[:1] == "{"))
    assert told == {
        "raw": list(range(256)),
        "text": "text",
        "number": "number",
        "frame": [list(x) if isinstance(x, bytes) else x for x in FRAME],
        "dynamic": {"a": [1, 2.5, None, True, "x"]},
        "state": "so",
        "refused": "code: sentence",
        "cancelled": True,
        "heard": said,
    }


class Curtain(threading.Thread):
    """TLS in front of a directory, as NAOqi 2.9 has it; keeps what is said first."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(daemon=True)
        host, _, port = url.removeprefix("tcp://").partition(":")
        self._behind = host, int(port)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate(folder))
        self._front = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcps://127.0.0.1:{self._front.getsockname()[1]}"
        self.said = b""
        self.start()

    def run(self) -> None:
        plain, _ = self._front.accept()
        front = self._context.wrap_socket(plain, server_side=True)
        behind = socket.create_connection(self._behind)
        threading.Thread(target=self._pass_on, args=(behind, front), daemon=True).start()
        self._pass_on(front, behind)

    def _pass_on(self, of: socket.socket, to: socket.socket) -> None:
        try:
            while piece := of.recv(65536):
                if of.family and isinstance(of, ssl.SSLSocket):
                    self.said = self.said or piece
                to.sendall(piece)
        except OSError:
            return
        finally:
            to.close()


def test_a_robot_that_asks_for_a_login_gets_one_over_tls(
    directory: Directory, tmp_path: Path
) -> None:
    curtain = Curtain(directory.url, tmp_path)
    robot = robot_at(curtain.url, Login("nao", "open sesame"))
    session = open_wire_session(robot, lambda: None, threading.Event())
    session.offer(Service("Behind", (Method("echo", "r", "r", Probe().echo),)))
    client = open_wire_client(robot_at(directory.url, None), threading.Event())
    assert client.call("Behind", "echo", ALL * 1000) == ALL * 1000
    client.close()
    session.close()
    assert b"auth_user" in curtain.said and b"open sesame" in curtain.said


def test_a_password_is_sent_over_tls_alone(directory: Directory) -> None:
    assert robot_at(directory.url, Login("nao", "open sesame")).login is None
