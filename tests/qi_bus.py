"""A robot's bus in tests: a real service directory, and clients, each in a process of its own.

Owns: the processes. libqi may abort when an interpreter ends; here it ends nobody else's. The tests
themselves use libqi only to speak to the door; they close their sessions first.

    python tests/qi_bus.py directory tcp://127.0.0.1:0     prints its address; ends with its stdin
    python tests/qi_bus.py fuzz ADDRESS SEED COUNT         prints one JSON line
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uservlm.pepper_app.qi_session import load_library

if TYPE_CHECKING:
    from hypothesis import strategies as st

_PLACE = tempfile.TemporaryDirectory(prefix="qi-")
os.environ.setdefault("QI_WRITABLE_PATH", _PLACE.name)
"""Where libqi keeps the id of this machine, else in $HOME. Processes with another id are taken for
another machine's, and their loopback addresses for unreachable."""

ANSWER_MS = 20_000
UNSENT = ("Unable to cast", "UnicodeEncodeError")
"""What libqi tells a caller who wants to send what it cannot."""


class Directory:
    """A service directory that can die and come back at the same address."""

    def __init__(self, url: str = "tcp://127.0.0.1:0") -> None:
        self.url = url
        self.process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Be there, at the same address as before."""
        self.process = subprocess.Popen(
            [sys.executable, __file__, "directory", self.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("tcp://"), self.url

    def kill(self) -> None:
        """Be gone, as naoqi is when it crashes."""
        assert self.process is not None
        self.process.kill()
        self.process.communicate()


@contextmanager
def directory() -> Iterator[Directory]:
    """Have a service directory."""
    made = Directory()
    try:
        yield made
    finally:
        made.kill()


class Client:
    """One of the robot's programs: calls the service and hears it."""

    def __init__(self, url: str) -> None:
        qi = load_library()

        self.session = qi.Session()
        self.session.connect(url, _async=True).value(ANSWER_MS)
        self.door = self.session.service("UserVLM", _async=True).value(ANSWER_MS)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call, and wait."""
        return self.begin(method, *arguments).value(ANSWER_MS)

    def begin(self, method: str, *arguments: Any) -> Any:
        """Call, and give the future."""
        return getattr(self.door, method)(*arguments, _async=True)

    def refusal(self, method: str, *arguments: Any) -> str:
        """Call what is refused; gives what the caller is told."""
        future = self.begin(method, *arguments)
        assert future.hasError(ANSWER_MS), f"{method} answered {future.value()!r}"
        return str(future.error())

    def close(self) -> None:
        """Leave."""
        self.session.close(_async=True).wait(1000)


class Ears:
    """Hears signals. libqi keeps their order for the methods of one object, not for functions."""

    def __init__(self, client: Client) -> None:
        self.heard: list[tuple[str, ...]] = []
        for name in ("token", "sentence", "answered", "failed"):
            getattr(client.door, name).connect(getattr(self, name))

    def token(self, *values: str) -> None:
        self.heard.append(("token", *values))

    def sentence(self, *values: str) -> None:
        self.heard.append(("sentence", *values))

    def answered(self, *values: str) -> None:
        self.heard.append(("answered", *values))

    def failed(self, *values: str) -> None:
        self.heard.append(("failed", *values))

    def of(self, turn: str) -> list[tuple[str, ...]]:
        """What was heard of one turn, without its id."""
        return [(name, *rest) for name, of, *rest in self.heard if of == turn]

    def ended(self, turn: str) -> bool:
        """Whether it is over."""
        return any(name in ("answered", "failed") for name, *_ in self.of(turn))


def wait_for(true: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait until something is so."""
    last = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < last, "it did not come to that"
        time.sleep(0.005)


def run(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run this file."""
    return subprocess.run(
        [sys.executable, __file__, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )


def serve_directory(url: str) -> None:
    """Be a service directory until stdin ends."""
    qi = load_library()

    qi.logging.setLevel(qi.logging.FATAL)
    session = qi.Session()
    session.listenStandalone(url)
    print(session.url(), flush=True)
    sys.stdin.read()
    session.close()


def anything() -> st.SearchStrategy[tuple[str, list[Any]]]:
    """A call of any method with arguments of every kind that libqi can send, most nearly right."""
    from hypothesis import strategies as st

    text = st.text(max_size=30) | st.sampled_from(
        ["x" * 2**20, "../../etc", "half \ud800", "b'\\xff'", "\0"]
    )
    raw = st.binary(max_size=40) | st.sampled_from(
        [picture(), picture()[:300], bytes(12), bytearray(12), b"\xff\xd8\xff\xe0" + bytes(50)]
    )
    number = st.integers(-3, 12) | st.sampled_from([2**31 - 1, 2**62, 2**63 - 1, -(2**63), 2**63])
    scalar = st.none() | st.booleans() | number | st.floats() | text | raw
    value = scalar | st.recursive(
        scalar,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(text, inner, max_size=3)
            | st.tuples(inner, inner)
        ),
        max_leaves=4,
    )
    right = {
        "q": st.just("How do I feel?") | text,
        "u": st.sampled_from(["grace", "nobody", ""]) | text,
        "t": st.sampled_from(["turn-1", "", "not an id"]) | text,
        "n": st.integers(1, 3) | number,
        "c": st.sampled_from([0, 9, 11, 13]) | number,
        "h": st.just("said yes") | text,
        "k": st.sampled_from(["profile", "embedding", "state"]) | text,
        "d": st.sampled_from([0, 0.5, 30]) | number | st.floats(),
        "r": raw,
    }
    forms = """ask qu, ask qut, askAbout qr, askAbout qrt, askAbout qnncr, askAbout qnncrt,
        prepare r, prepare nncr, prepareAs ur, prepareAs unncr, prepareUser u, identify r,
        identify nncr, remember uh, remember uhkd, about u, forget u, cancel t, cancelAll, ping"""

    def mostly(this: Any, other: Any) -> Any:
        return st.integers(0, 9).flatmap(lambda lot: this if lot else other)

    def of_form(form: list[str]) -> st.SearchStrategy[tuple[str, list[Any]]]:
        kinds = form[1] if len(form) > 1 else ""
        near: Any = st.tuples(*(mostly(right[kind], value) for kind in kinds)).map(list)
        return st.tuples(st.just(form[0]), mostly(near, st.lists(value, max_size=7)))

    return st.sampled_from([form.split() for form in forms.split(",")]).flatmap(of_form)


def picture() -> bytes:
    """A small PNG of nobody."""
    from PIL import Image

    file = io.BytesIO()
    Image.effect_noise((24, 16), 60).convert("RGB").save(file, "PNG")
    return file.getvalue()


def fuzz(url: str, seed: int, count: int) -> None:
    """Call everything with anything; prints how often, and the errors' texts."""
    import hypothesis

    qi = load_library()

    qi.logging.setLevel(qi.logging.FATAL)
    client = Client(url)
    client.call("prepareAs", "grace", picture())
    told: dict[str, int] = {}
    done = {"calls": 0, "answered": 0, "unsent": 0}

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(anything())
    def call(what: tuple[str, list[Any]]) -> None:
        name, arguments = what
        done["calls"] += 1
        try:
            future = client.begin(name, *arguments)
        except (RuntimeError, OverflowError, ValueError):
            done["unsent"] += 1
            return
        if not future.hasError(ANSWER_MS):
            done["answered"] += 1
        elif future.error().startswith(UNSENT):
            done["unsent"] += 1
        else:
            told[future.error()] = told.get(future.error(), 0) + 1

    call()
    print(json.dumps({**done, "told": told}), flush=True)
    client.close()


if __name__ == "__main__":
    task, *rest = sys.argv[1:]
    if task == "directory":
        serve_directory(rest[0])
    else:
        fuzz(rest[0], int(rest[1]), int(rest[2]))
