"""How turns and servers end under load: clients that vanish, and SIGTERM.

Owns: both scenarios, and what of them is a fault. Knows nothing of how many ask (`serve_load.py`).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from uservlm.bench.serve_load_clients import CHAT, body_of
from uservlm.bench.serve_load_judge import Answers, percentiles
from uservlm.bench.serve_load_server import STOPS_S, Server, started
from uservlm.runtime import GenerationOptions, UserVLM
from uservlm.runtime.image import Picture

VANISHING: Final = 16
"""Clients who fill the queue and go."""
TIMES: Final = 5
GONE_S: Final = 1.0
"""In which the turns of clients who went must be gone."""
_LOOK_S: Final = 0.005
_SEEDS: Final = 12


@dataclass(frozen=True)
class Rambling:
    """A question whose answer is long: drawn hot, and with the seed that spoke longest."""

    question: str
    seed: int

    @property
    def options(self) -> dict[str, Any]:
        """Give what makes it long, as the API takes it."""
        return {"temperature": 2.0, "seed": self.seed, "max_tokens": 1024}


def longest(vlm: UserVLM, question: str, picture: Picture) -> Rambling:
    """Find a seed whose answer is long."""

    def length(seed: int) -> int:
        options = GenerationOptions(max_new_tokens=1024, temperature=2.0, seed=seed)
        return vlm.ask(question, image=picture, options=options).usage.answer_tokens

    return Rambling(question, max(range(_SEEDS), key=length))


def vanish(url: str, person: str, rambling: Rambling) -> tuple[dict[str, Any], list[str]]:
    """Let as many as fit the queue begin to listen, and go; gives figures and faults.

    How long the turns would have taken is measured beside, by one of them: what is gone sooner
    was ended, and did not just end.
    """
    with httpx.Client(base_url=url, timeout=60) as http:
        way = (person, rambling.question, True, True)
        request = body_of("", way, **rambling.options)
        began = time.perf_counter()
        http.post(CHAT, content=request, headers={"Content-Type": "application/json"})
        alone_s = time.perf_counter() - began
        gone, faults, met = [], [], []
        for _ in range(TIMES):
            most, seconds = _vanish_once(http, url, request, alone_s)
            met.append(most)
            gone.append(seconds)
        if max(gone) > GONE_S:
            faults.append(f"turns of clients who went were there for {max(gone):.1f} s more")
        if min(met) < VANISHING / 2:
            faults.append(f"only {min(met)} turns were under way when their clients went")
    return {
        "clients": VANISHING,
        "times": TIMES,
        "turns_met": [min(met), max(met)],
        "one_turn_ms": round(alone_s * 1000, 1),
        "gone_ms": percentiles(gone),
    }, faults


def stop(server: Server, after_s: float) -> tuple[dict[str, Any], list[str]]:
    """Send SIGTERM while clients ask; gives figures and faults."""
    time.sleep(after_s)
    seconds, code = server.terminate()
    faults = []
    if code != 0:
        faults.append(f"after SIGTERM the server ended with {code}")
    if seconds > STOPS_S:
        faults.append(f"after SIGTERM the server needed {seconds:.1f} s")
    return {"gone_s": round(seconds, 2), "code": code}, faults


def come_back(
    bundle: Path, folder: Path, agreed: Mapping[str, bool], answers: Answers
) -> tuple[dict[str, Any], list[str]]:
    """Start the server anew on the same people; gives figures and faults.

    Args:
        bundle: as before.
        folder: as before.
        agreed: person -> whether they agreed to be kept.
        answers: the right ones.
    """
    faults = []
    began = time.perf_counter()
    with started(bundle, folder) as server, httpx.Client(base_url=server.url, timeout=60) as http:
        took = time.perf_counter() - began
        found = {user["id"] for user in http.get("/v1/users").json()["data"]}
        wanted = {person for person, yes in agreed.items() if yes}
        if found != wanted:
            faults.append(f"lost {sorted(wanted - found)}, and kept {sorted(found - wanted)}")
        for person in sorted(found & wanted):
            question = next(iter(answers[person]))
            body = {"messages": [{"role": "user", "content": question}], "user": person}
            done = http.post(CHAT, json=body).json()
            said = done["choices"][0]["message"]["content"] if "choices" in done else str(done)
            if said != answers[person][question]:
                faults.append(f"{person} heard {said!r} after the restart")
    return {"kept": len(found & wanted), "of": len(wanted), "listens_s": round(took, 2)}, faults


def _vanish_once(
    http: httpx.Client, url: str, request: bytes, longest_s: float
) -> tuple[int, float]:
    """Give the turns that were under way when their clients went, and when they were gone."""
    with ExitStack() as open_sockets:
        for _ in range(VANISHING):
            open_sockets.enter_context(_asking(url, request))
        _wait(http, VANISHING, until=time.perf_counter() + longest_s)
        met = _under_way(http)
    begun = time.perf_counter()
    while _under_way(http) > 0 and time.perf_counter() < begun + 10 * GONE_S:
        time.sleep(_LOOK_S)
    return met, time.perf_counter() - begun


def _asking(url: str, request: bytes) -> socket.socket:
    """Ask as a client does that can vanish: on a bare socket."""
    place = urlsplit(url)
    assert place.hostname is not None and place.port is not None  # the server printed it
    asking = socket.create_connection((place.hostname, place.port))
    head = f"POST {CHAT} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
    asking.sendall(f"{head}Content-Length: {len(request)}\r\n\r\n".encode() + request)
    return asking


def _wait(http: httpx.Client, turns: int, until: float) -> None:
    while _under_way(http) < turns and time.perf_counter() < until:
        time.sleep(_LOOK_S)


def _under_way(http: httpx.Client) -> int:
    queue = http.get("/v1/state").json()["queue"]
    return int(queue["waiting"] + queue["running"])
