"""A hub on this machine: the few answers that huggingface_hub asks for, over real HTTP.

Owns: one repository served from a folder, a log of what was asked, and ways to go wrong.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "a" * 40
OLDER = "b" * 40


@dataclass
class Repository:
    """What is served, and how."""

    folder: Path
    name: str = "owner/name"
    revisions: dict[str, str] = field(default_factory=lambda: {"main": COMMIT, "v1": OLDER})
    refuse: tuple[int, str] | None = None
    """Status and X-Error-Code of every answer."""
    break_at: int | None = None
    """Bytes of a weight file after which the connection is closed."""
    stall_at: int | None = None
    """Bytes of a weight file after which nothing more comes until `going_on` is set."""
    going_on: threading.Event = field(default_factory=threading.Event)
    stalled: threading.Event = field(default_factory=threading.Event)
    claimed: dict[str, int] = field(default_factory=dict)
    """Sizes told instead of the true ones."""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and Range of each request."""
    endpoint: str = ""

    def listing(self, commit: str) -> bytes:
        """Answer of api/models: names, sizes and object ids of all files."""
        siblings = []
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                name = path.relative_to(self.folder).as_posix()
                size = self.claimed.get(name, path.stat().st_size)
                file: dict[str, object] = {"rfilename": name, "size": size, "blobId": etag(path)}
                if path.suffix == ".safetensors":
                    file["lfs"] = {"sha256": etag(path), "size": size, "pointerSize": 130}
                siblings.append(file)
        return json.dumps({"id": self.name, "sha": commit, "siblings": siblings}).encode()


def etag(path: Path) -> str:
    """SHA-256, by which the hub names large files."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Hub(ThreadingHTTPServer):
    """Serves one repository on a free port."""

    daemon_threads = True

    def __init__(self, repository: Repository) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repository = repository
        repository.endpoint = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub does: what there is, and files whole or from a byte on."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        """Give headers alone."""
        self.answer()

    def do_GET(self) -> None:
        """Give headers and content."""
        self.answer()

    def answer(self) -> None:
        """Find what is asked for."""
        hub = self.server.repository
        path = self.path.partition("?")[0]
        hub.asked.append((self.command, path, self.headers.get("Range", "")))
        parts = path.strip("/").split("/")
        if hub.refuse is not None:
            self.send(hub.refuse[0], {"X-Error-Code": hub.refuse[1]})
        elif parts[:2] == ["api", "models"] and "/".join(parts[2:4]) == hub.name:
            self.tell(self.commit(parts[5] if len(parts) > 5 else "main"))
        elif "/".join(parts[:2]) == hub.name and (hub.folder / "/".join(parts[4:])).is_file():
            self.give(hub.folder / "/".join(parts[4:]), self.commit(parts[3]) or "")
        else:
            self.send(404, {"X-Error-Code": "RepoNotFound"})

    def commit(self, revision: str) -> str | None:
        """Give the commit of a branch, a tag, or itself."""
        known = self.server.repository.revisions
        return known.get(revision, revision if revision in known.values() else None)

    def tell(self, commit: str | None) -> None:
        """Answer api/models."""
        if commit is None:
            self.send(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            self.send(200, {}, self.server.repository.listing(commit))

    def give(self, file: Path, commit: str) -> None:
        """Send a file; weights may break off or stall."""
        hub, whole = self.server.repository, file.read_bytes()
        start = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        headers = {"ETag": f'"{etag(file)}"', "X-Repo-Commit": commit}
        stop = None
        if file.suffix == ".safetensors":
            # The real hub offers Xet storage, which would start an interrupted file anew.
            headers["X-Xet-Hash"] = etag(file)
            headers["X-Xet-Refresh-Route"] = f"{hub.endpoint}/xet-read-token"
            stop = hub.break_at or hub.stall_at
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        self.send(206 if start else 200, headers, whole[start:], stop)

    def send(
        self, status: int, headers: dict[str, str], data: bytes = b"", stop: int | None = None
    ) -> None:
        """Send an answer, of its content only `stop` bytes."""
        hub = self.server.repository
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(data[:stop])
        self.wfile.flush()
        if stop is not None and stop < len(data):
            self.close_connection = True
            if hub.stall_at is not None:
                hub.stalled.set()
                hub.going_on.wait(60)


@contextmanager
def serve(repository: Repository) -> Iterator[Repository]:
    """Serve until the block ends."""
    with Hub(repository) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield repository
        finally:
            repository.going_on.set()
            server.shutdown()
