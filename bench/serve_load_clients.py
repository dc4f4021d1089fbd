"""The clients of the load test, in a process of their own: `python -m uservlm.bench.…` on stdin.

Owns: what a client sends, that it waits as a 429 tells it, and what it heard. Knows nothing of what
is right (`serve_load_judge.py`). The job comes in as JSON; outcomes go out, one a line.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Final, TypeAlias

import httpx

from uservlm.bench.serve_load_judge import NO_STATUS, Outcome

CHAT: Final = "/v1/chat/completions"
PATIENCE_S: Final = 60.0
"""Without a byte, after which a client gives up."""
LATEST_S: Final = 0.5
"""A client comes back up to so much later than it was told, as people do."""
Way: TypeAlias = tuple[str, str, bool, bool]
"""Person, question, stream, by user."""


@dataclass(frozen=True)
class Job:
    """What a process of clients has to do."""

    url: str
    clients: int
    seconds: float
    seed: str
    pictures: Mapping[str, str]
    """Person -> data URL. Each is kept under their name, too."""
    questions: Mapping[str, int]
    """Question -> how often it is asked, beside the others."""


class Client:
    """Asks one question after the other on a connection of its own."""

    def __init__(self, job: Job, bodies: Mapping[Way, bytes], http: httpx.AsyncClient, number: int):
        """Have a seed of its own."""
        self._job, self._bodies, self._http = job, bodies, http
        self._draw = random.Random(f"{job.seed}-{number}")

    async def run(self, until: float) -> list[Outcome]:
        """Ask until then, or until the server is gone."""
        outcomes: list[Outcome] = []
        weights = [self._job.questions[question] for _, question, *_ in self._bodies]
        ways = tuple(self._bodies)
        while time.perf_counter() < until:
            way = self._draw.choices(ways, weights)[0]
            outcomes += await self._until_answered(way, until)
            if outcomes[-1].status == NO_STATUS:
                break
        return outcomes

    async def _until_answered(self, way: Way, until: float) -> list[Outcome]:
        """Ask, and ask again when told to; gives every outcome on the way."""
        first, outcomes = time.perf_counter(), list[Outcome]()
        while True:
            outcomes.append(await self.ask(way, first))
            again = outcomes[-1].again_s
            if again is None or outcomes[-1].status != 429:
                return outcomes
            wait = again + self._draw.random() * LATEST_S
            if time.perf_counter() + wait > until:
                return outcomes
            await asyncio.sleep(wait)

    async def ask(self, way: Way, first: float) -> Outcome:
        """Send one request, and hear it to its end."""
        begun, heard = time.perf_counter(), _Heard()
        try:
            async with self._http.stream("POST", CHAT, content=self._bodies[way]) as response:
                heard.status = response.status_code
                again = response.headers.get("retry-after")
                heard.again_s = int(again) if again else None
                if response.headers["content-type"].startswith("text/event-stream"):
                    async for text in _pieces(response, heard):
                        heard.ttft_s = heard.ttft_s or time.perf_counter() - begun
                        heard.text += text
                else:
                    heard.body(json.loads(await response.aread()))
        except httpx.TransportError as error:
            heard.status, heard.whole, heard.code = NO_STATUS, False, type(error).__name__
        now = time.perf_counter()
        return Outcome(*way, **vars(heard), answer_s=now - begun, patience_s=now - first)


@dataclass
class _Heard:
    """What has come of a response so far."""

    status: int = NO_STATUS
    text: str = ""
    whole: bool = False
    again_s: int | None = None
    ttft_s: float | None = None
    code: str | None = None

    def body(self, body: Any) -> None:
        """Read a response that is no stream."""
        if self.status != 200:
            self.code = body["error"]["code"]
            return
        self.text, self.whole = body["choices"][0]["message"]["content"], True


async def _pieces(response: httpx.Response, heard: _Heard) -> AsyncIterator[str]:
    """Give the pieces of a stream; what ends it goes to `heard`."""
    async for line in response.aiter_lines():
        if line == "data: [DONE]":
            heard.whole = heard.code is None
        elif line.startswith("data: "):
            event = json.loads(line[6:])
            if "error" in event:
                heard.code = event["error"]["code"]
            elif event["choices"] and event["choices"][0]["delta"].get("content"):
                yield event["choices"][0]["delta"]["content"]


def body_of(picture: str, way: Way, **more: Any) -> bytes:
    """Write a request once, so that clients cost little while they ask."""
    person, question, stream, by_user = way
    text = {"type": "text", "text": question}
    shown = {"type": "image_url", "image_url": {"url": picture}}
    content: Any = question if by_user else [text, shown]
    body = {"messages": [{"role": "user", "content": content}], "stream": stream, **more}
    return json.dumps(body | ({"user": person} if by_user else {})).encode()


async def ask_all(job: Job) -> list[Outcome]:
    """Let all clients ask at once."""
    ways = product(job.pictures, job.questions, (True, False), (True, False))
    bodies = {way: body_of(job.pictures[way[0]], way) for way in ways}
    headers = {"Content-Type": "application/json"}
    until = time.perf_counter() + job.seconds

    async def one(number: int) -> list[Outcome]:
        async with httpx.AsyncClient(base_url=job.url, timeout=PATIENCE_S, headers=headers) as http:
            return await Client(job, bodies, http, number).run(until)

    found = await asyncio.gather(*(one(number) for number in range(job.clients)))
    return [outcome for outcomes in found for outcome in outcomes]


def main() -> None:
    """Do what the job on standard input says."""
    job = Job(**json.loads(sys.stdin.read()))
    for outcome in asyncio.run(ask_all(job)):
        print(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    main()
