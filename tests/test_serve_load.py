"""`bench/serve_load.py`: many ask one server at once, each hears their own; and faults are seen."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from uservlm.bench.serve_load_health import Health
from uservlm.bench.serve_load_judge import Outcome, fault_of, faults_of, percentiles, tell
from uservlm.bench.serve_load_server import ServerError
from uservlm.converters.export import ROOT
from uservlm.runtime.server.serving import listen

ANSWERS = {
    "ada": {"Describe me.": "You are Ada.", "How do I feel?": "Happy."},
    "bob": {"Describe me.": "You are Bob.", "How do I feel?": "Happy."},
}
RIGHT = Outcome("ada", "Describe me.", True, True, 200, "You are Ada.", True, answer_s=0.1)
MOST_MB = 50
"""What this load sends comes to more than twice as much."""


@pytest.fixture(scope="module")
def line(pocket_bundle: Path) -> dict[str, Any]:
    """The last line of a short load, with more clients than places in the queue."""
    command = [sys.executable, str(ROOT / "bench" / "serve_load.py"), str(pocket_bundle)]
    command += ["--clients", "20", "--seconds", "8", "--people", "6"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_under_load_everybody_hears_their_own_answer_or_is_told_to_wait(
    line: dict[str, Any],
) -> None:
    assert line["kept"] and line["faults"] == 0 and line["other"] == {}
    assert line["answers"] > 20 and line["refused_429"] > 0
    ways = ["picture, stream", "picture, whole", "user, stream", "user, whole"]
    assert sorted(line["answers_by"]) == ways
    assert line["healthz_ms"]["count"] > 50


def test_under_load_memory_stays_bounded(line: dict[str, Any]) -> None:
    assert line["growth_mb"] < MOST_MB
    begin, end = line["process"]["begin"], line["process"]["end"]
    assert end["files"] <= begin["files"] + 20, "no more than this moment's connections"


def test_clients_that_vanish_in_the_middle_free_their_turns(line: dict[str, Any]) -> None:
    assert line["vanished"]["turns_met"][0] >= 8
    assert line["vanished"]["gone_ms"]["count"] == line["vanished"]["times"]


def test_after_sigterm_under_load_those_who_agreed_are_known_again(line: dict[str, Any]) -> None:
    ended = line["sigterm"]
    assert ended["code"] == 0
    assert ended["kept"] == ended["of"] == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"text": "You are Bob."}, "mixed up with bob"),
        ({"text": "You are a cat."}, "instead of"),
        ({"text": "You are Ada. You are"}, "instead of"),
        ({"text": ""}, "instead of"),
        ({"whole": False}, "broken off"),
        ({"whole": False, "code": "cancelled"}, "broken off"),
        ({"status": 429, "again_s": 1}, None),
        ({"status": 429}, "without Retry-After"),
        ({"status": 429, "again_s": 0}, "without Retry-After"),
        ({"status": 500, "code": "internal"}, "status 500"),
        ({"status": 503, "code": "draining"}, "status 503"),
        ({"status": 0, "code": "ReadError"}, "status 0"),
        ({"status": 404, "code": "unknown_user"}, "status 404"),
    ],
)
def test_the_judge_sees_what_is_wrong(change: dict[str, Any], said: str | None) -> None:
    fault = fault_of(replace(RIGHT, **change), ANSWERS)
    assert fault is None if said is None else fault is not None and said in fault


@pytest.mark.parametrize(
    ("change", "fine"),
    [
        ({"status": 503, "code": "draining"}, True),
        ({"status": 0, "code": "ConnectError"}, True),
        ({"status": 409, "code": "cancelled"}, True),
        ({"whole": False, "code": "cancelled"}, True),
        ({"whole": False}, False),
        ({"text": "You are Bob."}, False),
        ({"status": 500, "code": "internal"}, False),
    ],
)
def test_a_server_that_stops_may_refuse_but_not_answer_wrongly(
    change: dict[str, Any], fine: bool
) -> None:
    assert (fault_of(replace(RIGHT, **change), ANSWERS, stopping=True) is None) == fine


def test_an_answer_that_suits_several_is_nobodys_fault() -> None:
    same = replace(RIGHT, question="How do I feel?", text="Happy.")
    assert fault_of(same, ANSWERS) is None
    assert len(faults_of([same, replace(same, text="Sad."), RIGHT], ANSWERS)) == 1


def test_outcomes_are_counted_and_only_answers_are_timed() -> None:
    refused = replace(RIGHT, status=429, again_s=1, whole=False, answer_s=9.0)
    told: Any = tell([RIGHT, replace(RIGHT, stream=False), refused, replace(RIGHT, status=500)])
    assert (told["answers"], told["refused_429"], told["other"]) == (2, 1, {"500": 1})
    assert told["answers_by"] == {"user, stream": 1, "user, whole": 1}
    assert told["answer_ms"] == {"count": 2, "p50": 100, "p95": 100, "p99": 100, "max": 100}
    assert percentiles([]) == {"count": 0}


class _Unwell(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(500)

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_that_says_it_is_unwell_ends_the_measurement() -> None:
    with HTTPServer(("127.0.0.1", 0), _Unwell) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        health = Health(f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(ServerError, match="500"):
            health.end()
        server.shutdown()


def test_a_connection_sends_small_pieces_at_once() -> None:
    """Without it each token of a stream waits for the client's delayed ACK, some 40 ms."""
    with listen("127.0.0.1", 0) as listening:
        with socket.create_connection(listening.getsockname()):
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
