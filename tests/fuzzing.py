"""What strangers may send a server, and what must be true of every answer to it."""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from serving import Serving, data_url, serving

CHECKOUT: Final = re.escape(str(Path(__file__).parent.parent))
LEAKS: Final = re.compile(
    CHECKOUT + r"|/tmp|/root|/home|/usr|site-packages|Traceback|File \"|\.py\b|\bself\b"
)
LONGEST: Final = 400
"""Bytes of an error's body; what is wrong needs no more, and what was sent is not repeated."""
EVERY: Final = 40
"""Cases between two real questions."""
MOST_MB: Final = 150
"""A server may grow by, while thousands of odd requests come."""
PATIENCE_S: Final = 20
"""For an answer or an end, on a busy machine."""
CHAT: Final = "/v1/chat/completions"
JSON: Final = {"Content-Type": "application/json"}


@dataclass
class Attacked:
    """A server under attack: every answer is judged, and it must go on answering."""

    brain: Serving
    question: dict[str, Any]
    answer: str
    cases: Counter[str] = field(default_factory=Counter)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    questions: int = 0
    """Real ones that were put in between, and answered."""

    def heard(self, what: str) -> set[int]:
        """Give the statuses that came."""
        return {status for kind, status in self.statuses if kind == what}

    def count(self, what: str, status: int) -> None:
        """Note a case that was judged; after some of them a real question is put."""
        self.cases[what] += 1
        self.statuses[what, status] += 1
        if sum(self.cases.values()) % EVERY == 0:
            self.lives()

    def post(self, what: str, path: str, body: bytes) -> httpx.Response:
        """Send a body as JSON; the answer is judged."""
        response = self.send_json(path, body)
        judge(*_parts(response))
        self.count(what, response.status_code)
        return response

    def send_json(self, path: str, body: bytes) -> httpx.Response:
        """Send a body as JSON."""
        return self.brain.client.post(path, content=body, headers=JSON)

    def request(self, what: str, method: str, path: str) -> httpx.Response:
        """Ask for an address; the answer is judged."""
        response = self.brain.client.request(method, path)
        if method != "HEAD":
            judge(*_parts(response))
        assert response.status_code < 500
        self.count(what, response.status_code)
        return response

    def send(self, what: str, data: bytes, waits: bool) -> bytes:
        """Send bytes on a connection of their own; every whole answer is judged.

        `waits`: for an answer; else the sender closes at once, and hears what comes until then.
        """
        heard = _exchange(self.brain.url, data, waits)
        responses = responses_in(heard)
        for response in responses:
            judge(*response)
        self.count(what, responses[-1][0] if responses else 0)
        return heard

    def lives(self) -> None:
        """Put a real question, and hear the right answer."""
        done = self.brain.client.post(CHAT, json=self.question)
        if (
            done.status_code == 409
        ):  # what was sent before, and not waited for, cancelled everything
            done = self.brain.client.post(CHAT, json=self.question)
        assert done.status_code == 200, done.text
        assert done.json()["choices"][0]["message"]["content"] == self.answer
        self.questions += 1

    def memory_mb(self, what: str = "RssAnon") -> float:
        """Give the memory of the process's own; `VmHWM`: all of it, at its highest so far."""
        with open(f"/proc/{self.brain.process.pid}/status") as lines:
            status = dict(line.split(":", 1) for line in lines)
        return int(status[what].split()[0]) / 1024

    def forget_peak(self) -> float:
        """Let `VmHWM` begin anew; gives what it is now."""
        with open(f"/proc/{self.brain.process.pid}/clear_refs", "w") as file:
            file.write("5")
        return self.memory_mb("VmHWM")


@contextmanager
def attack(bundle: Path, picture: Path, folder: Path) -> Iterator[Attacked]:
    """Begin a server to attack; at the end it answers, has not grown, and its log is clean."""
    with serving(bundle, folder, "--threads", "1") as brain:
        question = asked_with(data_url(picture))
        said = brain.client.post(CHAT, json=question).json()
        attacked = Attacked(brain, question, said["choices"][0]["message"]["content"])
        attacked.lives()
        begin = attacked.memory_mb()
        yield attacked
        attacked.lives()
        end = attacked.memory_mb()
        assert end < begin + MOST_MB, (begin, end)
        log = brain.log.read_text()
        assert "Traceback" not in log and " ERROR " not in log, log[log.find("ERROR") :][:4000]


def judge(status: int, kind: str | None, body: bytes) -> None:
    """Say whether this may be an answer to anything at all."""
    assert status < 300 or 400 <= status < 500, (status, body[:300])
    if status < 400:
        return
    assert kind is not None and kind.partition(";")[0] == "application/json", (status, kind, body)
    said = json.loads(body)
    assert set(said) == {"error"}, said
    assert set(said["error"]) == {"message", "type", "code", "param"}, said
    assert all(isinstance(said["error"][key], str) for key in ("message", "type", "code")), said
    assert said["error"]["message"], said
    assert len(body) <= LONGEST, body[: 2 * LONGEST]
    assert not LEAKS.search(body.decode()), body


def responses_in(heard: bytes) -> list[tuple[int, str | None, bytes]]:
    """Take raw responses apart: status, content type and body of each whole one."""
    found = []
    while heard.startswith(b"HTTP/1."):
        head, _, rest = heard.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        pairs = (one.partition(":") for one in fields)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        status = int(line.split()[1])
        length = len(rest)  # where it does not say so itself
        if rest.startswith(b"HTTP/1."):
            length = 0  # an answer to HEAD
        elif "content-length" in headers:
            length = int(headers["content-length"])
        body, heard = rest[:length], rest[length:]
        assert status < 500, head
        if len(body) == length and (body or status < 400):  # else it was cut, or of HEAD
            found.append((status, headers.get("content-type"), body))
    return found


def _parts(response: httpx.Response) -> tuple[int, str | None, bytes]:
    return response.status_code, response.headers.get("content-type"), response.content


def _exchange(url: str, data: bytes, waits: bool) -> bytes:
    place, heard = urlsplit(url), b""
    with socket.create_connection((place.hostname, place.port), timeout=PATIENCE_S) as sent:
        try:
            sent.sendall(data)
            if not waits:
                sent.shutdown(socket.SHUT_WR)
            while piece := sent.recv(65536):
                heard += piece
        except OSError as error:
            assert not isinstance(error, TimeoutError), "no answer, and no end"
    return heard


def asked_with(url: str) -> dict[str, Any]:
    """A real question about whom a picture shows."""
    shown = {"type": "image_url", "image_url": {"url": url}}
    content = [{"type": "text", "text": "Describe me."}, shown]
    return {"messages": [{"role": "user", "content": content}]}
