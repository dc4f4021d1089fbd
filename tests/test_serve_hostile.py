"""What a stranger may send on purpose: files that burst, bodies too long, odd names of things."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import isqrt
from pathlib import Path
from typing import Any

import httpx
import pytest
from fuzzing import CHAT, JSON, Attacked, asked_with, judge
from fuzzing_pictures import png_of
from PIL import Image
from serving import data_url

from uservlm.runtime.server.limits import Limits

LIMITS = Limits()

pytestmark = pytest.mark.usefixtures("lives")


def error_of(message: str) -> bytes:
    """An error's body in our form."""
    detail = {"message": message, "type": "invalid_request_error", "code": "odd", "param": None}
    return json.dumps({"error": detail}).encode()


@pytest.mark.parametrize("path", ["/v1/events", "/v1/events?a=%ff&a=b", "/v1/events?" + "a" * 5000])
def test_the_stream_that_never_ends_begins(attacked: Attacked, path: str) -> None:
    """With a header a browser sends when it comes back, of whatever it was told."""
    headers = {"Last-Event-ID": "\x7f" * 300}
    with httpx.stream("GET", attacked.brain.url + path, headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert next(response.iter_lines()) == "event: state"


def bomb(part: bytes) -> bytes:
    """Repeated to 400 MB, and packed into a few hundred kilobytes."""
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(part * 2**16) for _ in range(400)), packer.flush()])


SMALL = zlib.compress(bytes((64 * 3 + 1) * 64))
BOMBS = {
    "100 megapixels": (png_of(10_000, 10_000, SMALL), {413}),
    "4 exapixels": (png_of(2**31 - 1, 2**31 - 1, SMALL), {413}),
    "a text of 400 MB": (png_of(64, 64, SMALL, b"zTXt", b"a\0\0" + bomb(bytes(16))), {400}),
    "a long profile": (png_of(64, 64, SMALL, b"iCCP", b"a\0\0" + bomb(bytes(16))), {400}),
    "rows without end": (png_of(64, 64, bomb(bytes(16))), {200, 400}),
}


@pytest.mark.parametrize("what", BOMBS)
@pytest.mark.parametrize("where", ["encode", "identify", "chat"])
def test_a_picture_that_would_burst_is_refused_without_taking_memory(
    attacked: Attacked, what: str, where: str
) -> None:
    data, statuses = BOMBS[what]
    before = attacked.forget_peak()
    if where == "chat":
        response = attacked.post("bomb", CHAT, json.dumps(asked_with(data_url(data))).encode())
    else:
        who = {"user": "victim"} if where == "encode" else {}
        body = json.dumps({"image": data_url(data), **who}).encode()
        response = attacked.post("bomb", f"/v1/users/{where}", body)
    statuses = statuses | {409} if where == "identify" else statuses
    assert response.status_code in statuses, response.text
    assert attacked.memory_mb("VmHWM") < before + 60


def test_many_large_pictures_at_once_take_the_memory_of_one(attacked: Attacked) -> None:
    """As large as the limits allow, in a few kilobytes."""
    side, file = isqrt(LIMITS.pixels), io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "PNG")
    body = json.dumps({"image": data_url(file.getvalue()), "user": "victim"}).encode()
    attacked.post("large", "/v1/users/encode", body)
    before = attacked.forget_peak()
    attacked.post("large", "/v1/users/encode", body)
    attacked.request("large", "GET", "/v1/view/picture")
    one = attacked.memory_mb("VmHWM") - before
    attacked.forget_peak()
    with ThreadPoolExecutor(12) as pool:
        looks = [pool.submit(attacked.send_json, "/v1/users/encode", body) for _ in range(6)]
        shows = [pool.submit(attacked.brain.client.get, "/v1/view/picture") for _ in range(6)]
    assert {one.result().status_code for one in [*looks, *shows]} == {200}
    assert attacked.memory_mb("VmHWM") - before < 3 * one


def test_a_jpeg_cut_short_is_refused(attacked: Attacked, pictures: Path) -> None:
    file = io.BytesIO()
    Image.open(pictures / "grace.png").convert("RGB").save(file, "JPEG")
    for length in (0, 2, 20, 600, len(file.getvalue()) // 2, len(file.getvalue()) - 300):
        url = data_url(file.getvalue()[:length])
        body = json.dumps({"image": url, "user": "victim"}).encode()
        for path, sent in (
            ("/v1/users/encode", body),
            (CHAT, json.dumps(asked_with(url)).encode()),
        ):
            refused = attacked.post("cut", path, sent)
            assert refused.status_code == 400, length
            assert refused.json()["error"]["code"] == "bad_image"


@pytest.mark.parametrize("told", [True, False])
def test_a_body_over_the_limit_is_refused(attacked: Attacked, told: bool) -> None:
    large = b'{"a": "' + b" " * LIMITS.body_bytes

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(large), 2**20):
            yield large[start : start + 2**20]

    before = attacked.forget_peak()
    for path in (CHAT, "/v1/users/encode", "/v1/users/identify"):
        content = large if told else pieces()
        refused = attacked.brain.client.post(path, content=content, headers=JSON)
        assert refused.status_code == 413
        assert refused.json()["error"]["code"] == "request_too_large"
    assert attacked.memory_mb("VmHWM") < before + 4 * LIMITS.body_bytes / 2**20


def test_an_origin_that_is_no_address_is_refused(attacked: Attacked) -> None:
    for origin in (b"http://[::1", b"http://[", b"//[x]", "\u2100".encode()):
        refused = attacked.brain.client.get("/v1/users", headers={b"Origin": origin})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "origin_refused")


def test_what_a_client_calls_its_methods_is_not_kept(attacked: Attacked) -> None:
    """Each would be a metric of its own, for as long as the server runs."""
    for number in range(50):
        attacked.brain.client.request(f"ODD{number}", "/v1/users")
    assert "ODD" not in attacked.brain.client.get("/metrics").text
    assert "ODD" not in attacked.brain.log.read_text()


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "secret" * 900}]},
        {"messages": [{"role": "user", "content": "?"}], "logit_bias": {"secret" * 900: 1}},
        {"messages": [{"role": "user", "content": [{"type": "secret" * 900}]}]},
        {"messages": [{"role": "user", "content": "?"}], "user": "secret" * 900},
        {"messages": [{"role": "user", "content": "secret" * 900}], "user": "grace"},
        {"messages": [{"role": "user", "content": "?"}], "model": "secret" * 900},
        {"messages": [{"role": "user", "content": "?"}], "uservlm": {"attention": "secret" * 900}},
        {"messages": [{"role": "user", "content": "?"}], "stop": "secret" * 900},
        {"messages": "secret" * 900},
    ],
)
def test_a_refusal_never_repeats_what_was_sent(attacked: Attacked, body: dict[str, Any]) -> None:
    refused = attacked.post("echo", CHAT, json.dumps(body).encode())
    assert refused.status_code in (400, 404)
    assert "secret" not in refused.text


@pytest.mark.parametrize(
    "answer",
    [
        (500, "application/json", b'{"error": {}}'),
        (400, "text/plain", b"Invalid HTTP request received."),
        (400, "application/json", b"[]"),
        (400, "application/json", b'{"error": {"message": "no"}}'),
        (400, "application/json", error_of("no such file: /home/robot/bundles/pocket")),
        (400, "application/json", error_of('File "brain.py", line 3, in ask')),
        (400, "application/json", error_of("")),
        (400, "application/json", error_of("x" * 500)),
    ],
)
def test_the_judge_sees_what_is_wrong(answer: tuple[int, str, bytes]) -> None:
    judge(400, "application/json", error_of("what is wrong, and the way out"))
    with pytest.raises(AssertionError):
        judge(*answer)
