"""Does one brain bear many who ask at once? `python bench/serve_load.py BUNDLE [--clients 50]`.

Owns: the order of a load test, and what is printed. What a client does stands in
`serve_load_clients.py`, what is right in `serve_load_judge.py`, how turns and the server end in
`serve_load_ends.py`.

A real `uservlm serve` is shown drawn people; the engine itself says beforehand what is right for
each. Then clients, in a process of their own, ask at once: with and without streaming, about a kept
user and with a picture, and wait as a 429 tells them, while `/healthz` is asked twenty times a
second. Afterwards clients vanish in the middle of answers, and the server is told to stop under
load and started again. The exit code is 1 when anybody heard anything but their own right answer or
a 429, when turns stayed behind their clients, or when the stop lost somebody. Times other than
those of the ends are shown and not judged.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx
from PIL import Image
from rich.console import Console
from rich.table import Table

from uservlm.bench.arguments import count
from uservlm.bench.serve_load_clients import Job
from uservlm.bench.serve_load_ends import Rambling, come_back, longest, stop, vanish
from uservlm.bench.serve_load_health import Health
from uservlm.bench.serve_load_judge import Answers, Outcome, faults_of, percentiles, tell
from uservlm.bench.serve_load_server import Server, ServerError, started
from uservlm.bench.soak_people import QUESTIONS, WEIGHTS, Pictures, draw_pictures
from uservlm.runtime import UserVLM

HEALTH_GOAL_MS: Final = 100
"""Aimed at for the 99th percentile of `/healthz`."""
WARM_UP_S: Final = 3.0
STOP_AFTER_S: Final = 2.0
"""Of load, before SIGTERM."""
CLIENTS: Final = "uservlm.bench.serve_load_clients"


@dataclass(frozen=True)
class Load:
    """What is asked for."""

    bundle: Path
    clients: int = 50
    seconds: float = 60.0
    people: int = 12
    seed: int = 0


@dataclass(frozen=True)
class Cast:
    """Who takes part, and what is right."""

    urls: dict[str, str]
    """Person -> picture, as a data URL."""
    answers: Answers
    rambling: Rambling

    @property
    def agreed(self) -> dict[str, bool]:
        """Every other person agrees to be kept across restarts."""
        return {person: number % 2 == 0 for number, person in enumerate(self.urls)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Load as the arguments say; 0 when every promise was kept."""
    given = _parser().parse_args(arguments)
    with TemporaryDirectory(prefix="uservlm-load-") as folder:
        try:
            line, faults = run(Load(**vars(given)), Path(folder))
        except ServerError as error:
            print(f"serve_load: {error}", file=sys.stderr)
            return 2
    Console().print(_table(line))
    for fault in faults[:20]:
        print(f"broken: {fault}")
    print(json.dumps(line, ensure_ascii=False, separators=(",", ":")))
    return 0 if line["kept"] else 1


def run(load: Load, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Do it all; gives what is printed, and what was broken.

    Raises:
        ServerError: the server does not start.
    """
    busy = os.getloadavg()[0]
    cast = prepare(load)
    faults: list[str] = []
    with started(load.bundle, folder) as server:
        show(server, cast)
        asked, outcomes = under_load(server, load, cast)
        faults += faults_of(outcomes, cast.answers)
        person = next(iter(cast.urls))
        left, broken = vanish(server.url, person, cast.rambling)
        faults += broken
        clients = _clients(server, load, cast, STOP_AFTER_S + 60)
        ended, broken = stop(server, STOP_AFTER_S)
        faults += broken
        last = _outcomes(clients)
        faults += faults_of(last, cast.answers, stopping=True)
    back, broken = come_back(load.bundle, folder, cast.agreed, cast.answers)
    faults += broken
    return {
        "bench": "serve_load",
        "clients": load.clients,
        "seconds": load.seconds,
        "people": load.people,
        "busy_before": round(busy, 2),
        **asked,
        "vanished": left,
        "sigterm": {**ended, "answers_meanwhile": tell(last)["answers"], **back},
        "faults": len(faults),
        "kept": not faults,
    }, faults


def prepare(load: Load) -> Cast:
    """Draw the people, and let the engine say what is right."""
    pictures: Pictures = draw_pictures(load.people)
    with UserVLM.load(load.bundle, verify=False) as vlm:
        answers = {
            person: {question: vlm.ask(question, image=picture).text for question in QUESTIONS}
            for person, picture in pictures.items()
        }
        rambling = longest(vlm, QUESTIONS[0], next(iter(pictures.values())))
    return Cast({person: _url(Image.fromarray(p)) for person, p in pictures.items()}, answers,
                rambling)  # fmt: skip


def show(server: Server, cast: Cast) -> None:
    """Show everybody to the server, and let each be asked about once."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for person, url in cast.urls.items():
            consent = {"how": "drawn", "keeps": "state"} if cast.agreed[person] else None
            body = {"image": url, "user": person, "consent": consent}
            client.post("/v1/users/encode", json=body).raise_for_status()


def under_load(server: Server, load: Load, cast: Cast) -> tuple[dict[str, Any], list[Outcome]]:
    """Let everybody ask at once, after a warm-up; gives figures and outcomes."""
    warm_up = _outcomes(_clients(server, load, cast, WARM_UP_S))
    health = Health(server.url)
    before, begun = server.taken(), time.perf_counter()
    outcomes = _outcomes(_clients(server, load, cast, load.seconds))
    after, took = server.taken(), time.perf_counter() - begun
    seconds = health.end()
    return {
        **tell(outcomes),
        "answers_per_s": round(sum(one.status == 200 for one in outcomes) / took, 1),
        "healthz_ms": percentiles(seconds),
        "health_goal_met": percentiles(seconds).get("p99", 0.0) < HEALTH_GOAL_MS,
        "process": {"begin": asdict(before), "end": asdict(after)},
        "growth_mb": round(after.anon_mb - before.anon_mb, 1),
        "cores": round((after.cpu_s - before.cpu_s) / took, 2),
    }, [*warm_up, *outcomes]


def _clients(server: Server, load: Load, cast: Cast, seconds: float) -> subprocess.Popen[str]:
    """Begin to ask."""
    questions = dict(zip(QUESTIONS, WEIGHTS, strict=True))
    job = Job(server.url, load.clients, seconds, str(load.seed), cast.urls, questions)
    process = subprocess.Popen(
        [sys.executable, "-m", CLIENTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    with process.stdin as stdin:
        stdin.write(json.dumps(asdict(job)))
    return process


def _outcomes(clients: subprocess.Popen[str]) -> list[Outcome]:
    """Wait for the clients; gives what they heard.

    Raises:
        ServerError: they did not come to their end.
    """
    assert clients.stdout is not None
    with clients, clients.stdout as stdout:
        found = [Outcome(**json.loads(line)) for line in stdout]
    if clients.returncode != 0:
        raise ServerError(f"the clients ended with {clients.returncode}")
    return found


def _url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _table(line: dict[str, Any]) -> Table:
    table = Table(title=f"{line['clients']} clients for {line['seconds']:g} s")
    for head in ("", "count", "p50", "p95", "p99", "max"):
        table.add_column(head, justify="right" if head else "left")
    for name in ("healthz_ms", "ttft_ms", "answer_ms", "patience_ms"):
        found = line[name]
        row = [f"{found[at]:.1f}" if at in found else "" for at in ("p50", "p95", "p99", "max")]
        table.add_row(name.replace("_ms", ", ms"), str(found["count"]), *row)
    table.caption = (
        f"{line['answers']} answers, {line['refused_429']} times 429, {line['faults']} faults; "
        f"memory {line['growth_mb']:+.1f} MB, {line['cores']} cores"
    )
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Let many ask one server at once.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of a bundle")
    parser.add_argument("--clients", type=count, default=50, help="default: %(default)s")
    parser.add_argument("--seconds", type=count, default=60, help="default: %(default)s")
    parser.add_argument("--people", type=count, default=12, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    sys.exit(main())
