"""What nobody should send, sent to a service in plain Python, in a process of its own.

After each attack, and while those that last go on, a program with libqi is answered. What the
process needs of memory at most is looked at when all is over.

    python tests/test_qi_wire_fuzz.py ADDRESS      offers the service; ends with its stdin
"""

from __future__ import annotations

import random
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.importorskip("qi")

import qi_bus
from qi_bus import Client, wait_for

from uservlm.pepper_app.qi_session import MESSAGE_BYTES
from uservlm.pepper_app.qi_wire_host import MOST_UNANSWERED
from uservlm.pepper_app.qi_wire_loop import MOST_CONNECTIONS
from uservlm.pepper_app.qi_wire_message import HEADER, Kind, Message
from uservlm.pepper_app.qi_wire_session import open_wire_session
from uservlm.pepper_app.qi_wire_values import decode, encode
from uservlm.pepper_app.robot import robot_at
from uservlm.pepper_app.service import Method, Offered, Reply, Service, Value

MEBI = 2**20
MOST_MEMORY = 450 * MEBI
"""What the process may need: of strangers', 192 MiB are held at most, each piece of it twice."""
PROMPT_S = 3.0
HALF_OPEN = 2000
ECHO, WAIT, SHOUT, TWICE = range(100, 104)
ONE = 104
HELLO = Message(Kind.CALL, 1, 0, 0, 8, encode("{sm}", {"MessageFlags": True}))
MANY = struct.pack("<I", 2**32 - 1)


class Victim:
    """The process."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        host, port, number = self.process.stdout.readline().split()
        self.address, self.number = (host, int(port)), int(number)

    def memory(self) -> int:
        """What it needed at most, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    def call(
        self, action: int, payload: bytes = b"", flags: int = 0, kind: int = 1, number: int = 7
    ) -> Message:
        """Make a call of one of its methods."""
        return Message(kind, number, self.number, 1, action, payload, flags)

    def connect(self, hello: bool = True) -> socket.socket:
        """Connect, and be known."""
        made = socket.create_connection(self.address, timeout=20)
        if hello:
            made.sendall(HELLO.packed())
            assert receive(made).kind == Kind.REPLY
        return made


def receive(stream: socket.socket) -> Message:
    """Take one message."""
    head = exactly(stream, HEADER.size)
    _, number, size, _, kind, flags, service, thing, action = HEADER.unpack(head)
    return Message(kind, number, service, thing, action, exactly(stream, size), flags)


def exactly(stream: socket.socket, count: int) -> bytes:
    taken = bytearray()
    while len(taken) < count:
        piece = stream.recv(count - len(taken))
        if not piece:
            raise ConnectionError("hung up")
        taken += piece
    return bytes(taken)


def hung_up(stream: socket.socket, seconds: float = 20.0) -> bool:
    """Whether the other side hangs up, whatever it says before that."""
    stream.settimeout(seconds)
    try:
        while stream.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


@pytest.fixture(scope="module", autouse=True)
def many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * HALF_OPEN), hard))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with qi_bus.directory() as made:
        yield made.url


@pytest.fixture(scope="module")
def victim(url: str) -> Iterator[Victim]:
    made = Victim(url)
    try:
        yield made
        assert made.memory() < MOST_MEMORY, made.memory() / MEBI
        _, errors = made.process.communicate("", timeout=20)
        assert made.process.returncode == 0 and not errors, errors[-3000:]
    finally:
        made.process.kill()
        made.process.wait()


@pytest.fixture(scope="module")
def friend(url: str, victim: Victim) -> Iterator[Client]:
    """A program that was there before."""
    made = Client(url)
    yield made
    made.close()


@pytest.fixture
def answered(url: str, victim: Victim, friend: Client) -> Iterator[Callable[[], None]]:
    """Whether a call is answered soon; afterwards it is, also to who comes anew."""

    def answered() -> None:
        begun = time.monotonic()
        assert friend.call("echo", b"\xff\0") == bytearray(b"\xff\0")
        assert time.monotonic() - begun < PROMPT_S

    yield answered
    answered()
    new = Client(url)
    assert new.call("echo", b"new") == bytearray(b"new")
    new.close()
    assert victim.process.poll() is None


def real_messages(victim: Victim) -> list[Message]:
    """What programs really send."""
    call, link = victim.call, encode("(IIL)", (1, ONE, 5))
    return [
        HELLO,
        call(2, encode("I", 0)),
        call(0, link),
        call(8, encode("(IILs)", (1, ONE, 6, "(s)"))),
        call(1, link),
        call(5, encode("m", "state")),
        call(6, encode("(mm)", ("state", {"a": [1, 2.5, None]}))),
        call(7),
        call(ECHO, encode("r", bytes(40))),
        call(ECHO, encode("m", (bytes(40),)), 1),
        call(ECHO, encode("(rs)", (bytes(40), "m")), 2),
        call(ECHO, encode("r", bytes(40)), kind=Kind.POST),
        call(WAIT),
        Message(Kind.CANCEL, 8, victim.number, 1, 0, encode("I", 7)),
        Message(Kind.EVENT, 8, victim.number, 1, ONE, encode("(s)", ("forged",))),
        Message(Kind.CAPABILITY, 8, 0, 0, 0, encode("{sm}", {"MessageFlags": True})),
        Message(Kind.REPLY, 7, victim.number, 1, ECHO, b""),
        Message(Kind.ERROR, 7, victim.number, 1, ECHO, encode("m", "forged")),
    ]


def test_random_bytes_are_hung_up_on(victim: Victim, answered: Callable[[], None]) -> None:
    lot = random.Random(1)
    for _ in range(200):
        with victim.connect(hello=False) as stream:
            stream.sendall(lot.randbytes(lot.randrange(28, 3000)))
            assert hung_up(stream)
    for place, value in ((0, 0x43), (12, 1), (14, 0), (14, 9)):  # magic, version, kinds
        with victim.connect() as stream:
            stranger = bytearray(victim.call(7).packed())
            stranger[place] = value
            stream.sendall(stranger)
            assert hung_up(stream, 2)


def test_messages_that_end_early_are_nothing(victim: Victim, answered: Callable[[], None]) -> None:
    for message in real_messages(victim):
        whole = message.packed()
        for end in range(0, len(whole), 5):
            with victim.connect(hello=False) as stream:
                stream.sendall(whole[:end])


def test_changed_messages_are_answered_refused_or_hung_up_on(
    victim: Victim, answered: Callable[[], None]
) -> None:
    lot, real = random.Random(2), real_messages(victim)
    stream, hangs = victim.connect(), 0
    for round_ in range(500):
        try:
            for _ in range(8):
                stream.sendall(changed(lot, lot.choice(real)))
            stream.sendall(victim.call(7, number=99).packed())
            while receive(stream).number != 99:
                pass
        except OSError:
            hangs += 1
            stream.close()
            stream = victim.connect()
        if round_ % 100 == 0:
            answered()
    stream.close()
    assert 20 < hangs < 350, "else it says little about what is read"


def changed(lot: random.Random, message: Message) -> bytes:
    """Change some bytes of a message, but its size, and mostly not what makes it a message."""
    whole = bytearray(message.packed())
    for _ in range(lot.randrange(1, 5)):
        place = lot.randrange(15 if lot.random() < 0.98 else 12, len(whole))
        whole[place] = lot.choice([0, 1, 255, lot.randrange(256)])
    return bytes(whole)


def test_lengths_that_are_lies_cost_nothing(victim: Victim, answered: Callable[[], None]) -> None:
    with victim.connect() as stream:
        for payload, flags in (
            (MANY, 0),
            (encode("s", "[v]") + MANY, 1),
            (encode("s", "[()]") + MANY, 1),
            (encode("s", "{i()}") + MANY, 1),
            (encode("s", "[" * 24 + "v" + "]" * 24) + MANY * 24, 1),
            (encode("s", "(" * 2000), 1),
            (encode("s", "[" * 3000 + "]" * 3000), 1),
            (encode("s", "b" * MEBI), 1),
            (encode("s", "i<" * 2000), 1),
            (encode("s", "m") * 20000, 1),
            (encode("s", "+m") * 20000, 1),
            (encode("s", "o") + bytes(1000), 1),
            (encode("s", "([s]") + MANY, 1),
            (encode("(rs)", (b"", "((((")), 2),
        ):
            stream.sendall(victim.call(ECHO, payload, flags).packed())
            told = receive(stream)
            assert told.kind == Kind.ERROR, (payload[:30], told)
            text = decode("m", told.payload)
            assert text.startswith(("bad_request: ", "internal: ")) and "\n" not in text, text
    with victim.connect() as stream:
        head = bytearray(victim.call(ECHO).packed())
        struct.pack_into("<I", head, 8, MESSAGE_BYTES + 1)
        stream.sendall(head)
        assert hung_up(stream)


def test_what_takes_little_to_send_and_much_to_hold_is_not_held(
    victim: Victim, answered: Callable[[], None]
) -> None:
    """Four bytes for an empty list there, fifty here."""
    count = (MESSAGE_BYTES - 100) // 4
    lists = encode("s", "[[b]]") + struct.pack("<I", count) + bytes(4 * count)
    for _ in range(4):
        with victim.connect() as stream:
            stream.sendall(victim.call(ECHO, lists, 1).packed())
            answered()
            assert "200000 values" in decode("m", receive(stream).payload)


def test_half_a_message_each_from_many_is_let_go_of(
    victim: Victim, answered: Callable[[], None]
) -> None:
    part = victim.call(ECHO, bytes(MESSAGE_BYTES - 4)).packed()[: -4 * MEBI]
    with ExitStack() as opened:
        streams = [opened.enter_context(victim.connect()) for _ in range(10)]
        for stream in streams:
            try:
                stream.sendall(part)
            except OSError:
                pass
            answered()
        gone = [hung_up(stream, 0.3) for stream in streams]
        assert 3 <= sum(gone) < 10, "192 MiB are what may be held"


def test_thousands_who_say_nothing_keep_nobody_out(
    victim: Victim, url: str, answered: Callable[[], None]
) -> None:
    with ExitStack() as opened:
        for number in range(HALF_OPEN):
            stream = socket.create_connection(victim.address, timeout=20)
            opened.enter_context(stream)
            if number % 3 == 0:
                stream.sendall(HELLO.packed()[:20])
            if number % 400 == 0:
                answered()
                new = Client(url)
                assert new.call("echo", b"new") == bytearray(b"new")
                new.close()
        open_files = list(Path(f"/proc/{victim.process.pid}/fd").iterdir())
        assert len(open_files) < MOST_CONNECTIONS + 40


def test_events_come_to_who_listens_for_as_long_as_they_do(
    victim: Victim, answered: Callable[[], None]
) -> None:
    link = encode("(IIL)", (1, ONE, 5))
    with victim.connect() as stream:

        def told(*messages: Message) -> list[int]:
            kinds: list[int] = []
            for message in messages:
                stream.sendall(message.packed())
            while kinds.count(Kind.REPLY) < sum(one.kind == Kind.CALL for one in messages):
                kinds.append(receive(stream).kind)
            stream.sendall(victim.call(7, number=99).packed())
            while (answer := receive(stream)).number != 99:
                kinds.append(answer.kind)
            return kinds

        shout = victim.call(SHOUT, encode("i", 1))
        assert told(shout) == [Kind.REPLY]
        assert told(victim.call(0, link), victim.call(0, link)) == [Kind.REPLY] * 2
        assert told(shout) == [Kind.EVENT, Kind.REPLY]
        assert told(victim.call(1, link), victim.call(1, link)) == [Kind.REPLY] * 2
        assert told(shout) == [Kind.REPLY]
        assert told(victim.call(TWICE)) == [Kind.REPLY], "the first word counts"
        post = victim.call(TWICE, kind=Kind.POST)
        assert told(post) == [], "nobody waits for a post"


def test_calls_that_nobody_answers_are_counted(
    victim: Victim, answered: Callable[[], None]
) -> None:
    with victim.connect() as stream:
        stream.sendall(victim.call(WAIT).packed() * (MOST_UNANSWERED + 50))
        told = [decode("m", receive(stream).payload) for _ in range(50)]
        assert told == ["busy: too many calls are not answered yet"] * 50
        answered()


def test_signals_that_one_listens_to_are_counted(
    victim: Victim, answered: Callable[[], None]
) -> None:
    with victim.connect() as stream:
        for link in range(300):
            stream.sendall(victim.call(0, encode("(IIL)", (1, ONE, link))).packed())
        kinds = [receive(stream).kind for _ in range(300)]
        assert kinds.count(Kind.ERROR) == 300 - 256


def test_who_does_not_read_is_hung_up_on_and_the_others_hear_on(
    victim: Victim, friend: Client, answered: Callable[[], None]
) -> None:
    heard: list[str] = []
    friend.door.one.connect(heard.append)
    with victim.connect() as deaf:
        deaf.sendall(victim.call(0, encode("(IIL)", (1, ONE, 1))).packed())
        assert receive(deaf).kind == Kind.REPLY
        for _ in range(8):
            friend.call("shout", 200)
            answered()
        wait_for(lambda: len(heard) == 1600)
        assert hung_up(deaf)
    with victim.connect() as deaf:  # and who asks, and does not read the answers
        asked = victim.call(2, encode("I", 0)).packed() * 1000
        with pytest.raises(OSError):
            for _ in range(50):
                deaf.sendall(asked)
                answered()


def echo(reply: Reply, *values: Value) -> None:
    """Give raw bytes back, and nothing else."""
    if len(values) == 1 and isinstance(values[0], bytes):
        reply.value(values[0])
    else:
        reply.error("bad_request: give raw bytes")


def shout(made: Offered, reply: Reply, *values: Value) -> None:
    """Emit as often as one is told, within limits."""
    for _ in range(values[0] if values in ((1,), (200,)) else 0):
        made.emit("one", "x" * 20_000)
    reply.value(None)


def offer(url: str) -> None:
    """Be the victim."""
    waiting: list[Reply] = []

    methods = (
        Method("echo", "r", "r", echo),
        Method("wait", "", "s", lambda reply, *_: waiting.append(reply)),
        Method("shout", "i", "v", lambda *told: shout(made, *told)),
        Method("twice", "", "v", lambda reply, *_: (reply.value(None), reply.error("late"))),
    )
    session = open_wire_session(robot_at(url, None), lambda: None, threading.Event())
    state = {"state": ("s", lambda: "so")}
    made = session.offer(Service("UserVLM", methods, {"one": "s"}, state))
    host, _, port = session.listening.partition(" ")[0].removeprefix("tcp://").partition(":")
    print(host, port, made.number, flush=True)
    sys.stdin.read()
    session.close()


if __name__ == "__main__":
    offer(sys.argv[1])
