"""A brain as users start it, in a process of its own, and what talks to it in tests."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from uservlm.bench.serve_load_server import listens_at

STOPS_S = 10.0
"""From SIGTERM to the end of the process, as the product promises."""


@dataclass
class Serving:
    """A brain under way."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    token: str | None = None
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        self.client = httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def ask(self, question: str, **more: Any) -> httpx.Response:
        """Put a question; `more` goes into the body."""
        content = more.pop("content", question)
        body = {"messages": [{"role": "user", "content": content}], **more}
        return self.client.post("/v1/chat/completions", json=body)

    def encode(self, picture: Path, **more: Any) -> dict[str, Any]:
        """Show somebody; gives the user."""
        body = {"image": data_url(picture), **more}
        shown = self.client.post("/v1/users/encode", json=body)
        assert shown.status_code == 200, shown.text
        user: dict[str, Any] = shown.json()
        return user

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it as a service manager does; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOPS_S)


def data_url(picture: Path | bytes) -> str:
    """Give a picture as the API takes it."""
    data = picture if isinstance(picture, bytes) else picture.read_bytes()
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


@contextmanager
def serving(
    bundle: Path, folder: Path, *options: str, token: str | None = None, port: int = 0
) -> Iterator[Serving]:
    """Start `uservlm serve`; people and the log go to `folder`. It is killed at the end."""
    log = folder / "serve.log"
    command = [sys.executable, "-m", "uservlm.runtime", "serve", str(bundle)]
    command += ["--users", str(folder / "people"), "--port", str(port), *options]
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1", "HOME": str(folder)}
    with log.open("ab") as sink:
        begins = sink.tell()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stderr=sink
        )
    try:
        yield Serving(process, listens_at(process, log, begins), log, token)
    finally:
        process.kill()
        process.wait()


def events(response: httpx.Response) -> Iterator[tuple[str, Any]]:
    """Read server-sent events: their names, and the JSON in them."""
    name = "message"
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: ") and line != "data: [DONE]":
            yield name, json.loads(line[6:])
            name = "message"
