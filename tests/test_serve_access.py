"""Who may come in, and how large: hosts, origins, tokens, bodies, pictures."""

from __future__ import annotations

import io
import os
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from PIL import Image
from serving import Serving, data_url, serving
from starlette.types import Scope

from uservlm.runtime.errors import StoreError
from uservlm.runtime.server.access import LOOPBACK, Door, host_of, refusal
from uservlm.runtime.server.limits import Limits
from uservlm.runtime.server.tokenfile import read_or_make

LIMITS = Limits()
OPEN = Door(None, LOOPBACK, LIMITS)
SECRET = "a-token-of-some-length"


@pytest.fixture(scope="module")
def brain(pocket_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(pocket_bundle, tmp_path_factory.mktemp("brain")) as started:
        yield started


def scope(path: str = "/v1/users", **headers: str) -> Scope:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": "POST", "path": path, "headers": pairs}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"host": "127.0.0.1:8642"}, None),
        ({"host": "LOCALHOST"}, None),
        ({"host": "[::1]:8642"}, None),
        ({"host": "robot.evil.example:8642"}, "host_refused"),
        ({"host": "[::1"}, "host_refused"),
        ({}, "host_refused"),
        ({"host": "127.0.0.1:1", "origin": "http://127.0.0.1:1"}, None),
        ({"host": "127.0.0.1:1", "origin": "http://127.0.0.1:2"}, "origin_refused"),
        ({"host": "127.0.0.1:1", "origin": "null"}, "origin_refused"),
        ({"host": "127.0.0.1:1", "sec_fetch_site": "cross-site"}, "origin_refused"),
        ({"host": "127.0.0.1:1", "sec_fetch_site": "same-site"}, "origin_refused"),
        ({"host": "127.0.0.1:1", "sec_fetch_site": "same-origin"}, None),
        ({"host": "127.0.0.1:1", "content_length": "99999999999"}, "request_too_large"),
        ({"host": "127.0.0.1:1", "content_length": "-1"}, "request_too_large"),
    ],
)
def test_on_loopback_other_names_and_other_sites_pages_are_refused(
    headers: dict[str, str], code: str | None
) -> None:
    refused = refusal(scope(**headers), OPEN)
    assert (refused and refused.code) == code


@pytest.mark.parametrize(
    ("given", "comes_in"),
    [
        (f"Bearer {SECRET}", True),
        (f"bearer  {SECRET}", True),
        (SECRET, False),
        (f"Basic {SECRET}", False),
        (f"Bearer {SECRET}x", False),
        ("Bearer ", False),
        ("", False),
        ("Bearer \xff", False),
    ],
)
def test_with_a_token_only_the_whole_token_comes_in(given: str, comes_in: bool) -> None:
    asked = scope()
    asked["headers"] = [(b"authorization", given.encode("latin-1")), (b"host", b"any")]
    refused = refusal(asked, Door(SECRET, None, LIMITS))
    assert (refused is None) == comes_in


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/healthz"])
def test_the_empty_page_and_the_sign_of_life_need_no_token(path: str) -> None:
    assert refusal(scope(path), Door(SECRET, None, LIMITS)) is None


def test_a_host_is_read_without_its_port() -> None:
    assert host_of("Pepper.Local:80") == "pepper.local"
    assert host_of("[::1]:80") == "::1"


def test_a_token_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "config" / "token"
    token = read_or_make(path)
    assert len(token) >= 43, "32 random bytes"
    assert read_or_make(path) == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(StoreError, match="open to others"):
        read_or_make(path)


def test_a_file_that_holds_no_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("short\n")
    (tmp_path / "token").chmod(0o600)
    with pytest.raises(StoreError, match="holds no token"):
        read_or_make(tmp_path / "token")
    (tmp_path / "link").symlink_to(tmp_path / "token")
    with pytest.raises(StoreError, match="no plain file"):
        read_or_make(tmp_path / "link")


def test_a_wider_address_asks_for_a_token_and_says_where_it_lies(
    pocket_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(SECRET)
    path.chmod(0o600)
    with serving(
        pocket_bundle, tmp_path, "--host", "0.0.0.0", "--token-file", str(path), token=SECRET
    ) as brain:
        url = brain.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/healthz").status_code == 200
        for path_asked in ("/v1/users", "/v1/state", "/v1/events", "/metrics", "/openapi.json"):
            refused = httpx.get(url + path_asked)
            assert refused.status_code == 401, path_asked
            assert refused.headers["www-authenticate"] == "Bearer"
        known = {"Authorization": f"Bearer {SECRET}"}
        assert httpx.get(f"{url}/v1/users", headers=known).json()["data"] == []
        log = brain.log.read_text()
    assert str(path) in log and SECRET not in log


def test_a_wider_address_without_a_token_file_makes_one(
    pocket_bundle: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config")}
    command = [sys.executable, "-m", "uservlm.runtime", "serve", str(pocket_bundle)]
    command += ["--users", str(tmp_path / "people"), "--port", "0", "--host", "0.0.0.0"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "serving" in line:
            break
    process.kill()
    process.wait()
    token = tmp_path / "config" / "uservlm" / "token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def test_every_response_is_closed_to_other_sites(brain: Serving) -> None:
    for path in ("/", "/healthz", "/v1/users", "/nowhere"):
        headers = brain.client.get(path).headers
        assert "access-control-allow-origin" not in headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
    refused = brain.client.options(
        "/v1/users",
        headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "DELETE"},
    )
    assert refused.status_code == 403


def test_what_is_not_there_is_an_error_of_our_form(brain: Serving) -> None:
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("GET", "/page/../brain.py", 404),
        ("GET", "/page/%2e%2e%2fbrain.py", 404),
        ("PUT", "/v1/users", 405),
        ("GET", "/v1/view/picture", 404),
    ):
        refused = brain.client.request(method, path)
        assert refused.status_code == status, path
        assert set(refused.json()["error"]) == {"message", "type", "code", "param"}


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


def test_a_picture_too_large_is_refused_by_its_header(brain: Serving) -> None:
    """100 megapixels in a few kilobytes: decoded it would be 300 MB."""
    bomb = png(10_000, 10_000)
    assert len(bomb) < 30_000
    for path in ("encode", "identify"):
        refused = brain.client.post(f"/v1/users/{path}", json={"image": data_url(bomb)})
        assert refused.status_code == 413
        assert refused.json()["error"]["code"] == "image_too_large"


def test_a_picture_cut_short_is_refused(brain: Serving, pictures: Path) -> None:
    file = io.BytesIO()
    Image.open(pictures / "grace.png").convert("RGB").save(file, "JPEG")
    whole = file.getvalue()
    for cut in (whole[:20], whole[: len(whole) // 2], b""):
        refused = brain.client.post("/v1/users/encode", json={"image": data_url(cut)})
        assert refused.status_code == 400, len(cut)
        assert refused.json()["error"]["code"] == "bad_image"


def test_a_body_too_large_is_refused_whether_it_says_so_or_not(brain: Serving) -> None:
    large = b" " * (LIMITS.body_bytes + 1)
    told = brain.client.post("/v1/users/encode", content=large)
    assert told.status_code == 413

    def untold() -> Iterator[bytes]:
        for start in range(0, len(large), 2**20):
            yield large[start : start + 2**20]

    headers = {"Content-Type": "application/json"}
    counted = brain.client.post("/v1/users/encode", content=untold(), headers=headers)
    assert counted.status_code == 413
    assert counted.json()["error"]["code"] == "request_too_large"


def test_who_is_refused_holds_no_connection(brain: Serving) -> None:
    address = brain.client.base_url
    with socket.create_connection((address.host, address.port), timeout=LIMITS.body_s / 2) as held:
        held.sendall(
            b"POST /v1/users/encode HTTP/1.1\r\nHost: elsewhere\r\n"
            b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        )
        assert held.recv(1000).split(b"\r\n")[0].endswith(b"421 Misdirected Request")


def test_nothing_of_a_question_or_a_name_reaches_the_log(brain: Serving, pictures: Path) -> None:
    brain.encode(pictures / "grace.png", user="Wilhelmina")
    assert brain.ask("Do you know about the xylophone?", user="Wilhelmina").status_code == 200
    assert brain.client.get("/v1/users/Wilhelmina").status_code == 200
    assert brain.client.delete("/v1/users/Wilhelmina").status_code == 204
    until = time.monotonic() + 5
    while "DELETE /v1/users/{user:path} 204" not in (log := brain.log.read_text()):
        assert time.monotonic() < until
    assert not re.search("wilhelmina|xylophone|base64", log, re.IGNORECASE)


def test_questions_reach_the_log_when_they_are_asked_for(
    pocket_bundle: Path, tmp_path: Path, pictures: Path
) -> None:
    with serving(pocket_bundle, tmp_path, "--log-questions") as brain:
        brain.encode(pictures / "grace.png", user="grace")
        said = brain.ask("Am I alone?", user="grace").json()["choices"][0]["message"]["content"]
        assert f"grace asked 'Am I alone?' and was told {said!r}" in brain.log.read_text()


def test_who_never_ends_a_head_does_not_keep_a_connection(brain: Serving) -> None:
    host, port = brain.url.removeprefix("http://").split(":")
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as open_sockets:
        slow = []
        for said in (b"", whole[:20], whole):
            one = open_sockets.enter_context(socket.create_connection((host, int(port)), 15))
            one.sendall(said)
            slow.append(one)
        answered = b""
        while not answered.endswith(b'{"status":"ok"}'):
            answered += slow[2].recv(4096)
        slow[2].sendall(whole[:20])
        begun = time.monotonic()
        assert [one.recv(4096) for one in slow] == [b""] * 3
        assert time.monotonic() - begun < 14, "not by keep-alive, which is longer"
