"""Whatever strangers send, a server refuses it in one sentence and goes on answering."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from fuzzing import CHAT, EVERY, Attacked, asked_with, judge, responses_in
from fuzzing_http import Raw, raw
from fuzzing_json import chats, odd_json, odd_text
from fuzzing_pictures import data_urls
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.core.result import Ok
from serving import data_url

CASES = 7_500
"""A run of this file, at least."""
KINDS = 7
"""Of cases."""


def few(count: int) -> settings:
    """So many cases; always the same ones, so that a failure comes again."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


pytestmark = pytest.mark.usefixtures("lives")


def test_odd_questions(attacked: Attacked) -> None:
    @few(1500)
    @given(chats())
    def ask(body: bytes) -> None:
        response = attacked.post("chat", CHAT, body)
        if response.headers["content-type"].startswith("text/event-stream"):
            assert response.text.endswith("data: [DONE]\n\n") or '"error"' in response.text

    ask()
    assert {200, 400, 404} <= attacked.heard("chat"), "some were right, and were answered"


def test_odd_pictures(attacked: Attacked) -> None:
    @few(1800)
    @given(data_urls(), st.sampled_from(["encode", "identify", "chat"]))
    def look(url: str, where: str) -> None:
        if where == "chat":
            attacked.post("picture", CHAT, json.dumps(asked_with(url)).encode())
        else:
            body = {"image": url, **({"user": "victim"} if where == "encode" else {})}
            attacked.post("picture", f"/v1/users/{where}", json.dumps(body).encode())

    look()
    assert {200, 400, 409, 413} <= attacked.heard("picture")


def test_odd_consent_and_names_in_bodies(attacked: Attacked, pictures: Path) -> None:
    url = data_url(pictures / "sam.png")
    how = st.just("said yes")
    consent = st.fixed_dictionaries(
        {"how": how | how | odd_text | odd_json},
        optional={
            "keeps": st.sampled_from(["profile", "embedding", "state", "all"]) | odd_json,
            "days": st.floats(-1, 1e6) | odd_json,
            "given": odd_json,
        },
    )

    @few(500)
    @given(consent | consent | odd_json, st.none() | st.just("sam") | odd_text)
    def agree(agreed: Any, name: str | None) -> None:
        body = {"image": url, "user": name, "consent": agreed}
        response = attacked.post("consent", "/v1/users/encode", json.dumps(body).encode())
        if response.status_code == 200:
            kept = response.json()["id"]
            gone = attacked.brain.client.delete(f"/v1/users/{quote(kept, safe='')}")
            assert gone.status_code == 204 or kept in (".", ".."), (kept, gone.text)

    agree()
    assert {200, 400} <= attacked.heard("consent")


def test_odd_names_in_addresses(attacked: Attacked) -> None:
    """Percent-encoded or not as they please; only Grace is kept, and none of them is hers."""
    part = odd_text.map(lambda text: quote(text.encode("utf-8", "surrogatepass"), safe=""))
    part |= st.text(st.sampled_from("%/.:;?&=aé\\0F "), min_size=1, max_size=30)
    part |= st.integers(1, 30_000).map(lambda length: "a" * length)
    method = st.sampled_from(["GET", "DELETE", "POST", "PUT", "HEAD"])

    @few(1200)
    @given(method, st.lists(part, min_size=1, max_size=3).map("/".join))
    def ask(how: str, name: str) -> None:
        name = name.encode().decode("ascii", "ignore")[:60_000] or "a"  # httpx sends no more
        attacked.request("name", how, f"/v1/users/{name}".rstrip("/?") + "x")

    ask()
    assert attacked.brain.client.get("/v1/users/grace").status_code == 200


def test_odd_turns_to_cancel(attacked: Attacked) -> None:
    @few(300)
    @given(odd_text, st.binary(max_size=40))
    def cancel(text: str, body: bytes) -> None:
        name = quote(text.encode("utf-8", "surrogatepass"), safe="")[:9000]
        attacked.post("cancel", f"/v1/cancel/{name}", body)

    cancel()


def test_bytes_that_are_hardly_http(attacked: Attacked) -> None:
    @few(2200)
    @given(raw)
    def send(one: Raw) -> None:
        heard = attacked.send("raw", one.data, one.answered)
        assert not one.answered or responses_in(heard) or b"\r\n\r\n" in heard, (one, heard)

    send()
    assert {200, 400, 403, 404, 405, 421} <= attacked.heard("raw")


CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)
ENDLESS = "/v1/events"
"""Never ends, so it is left out of what waits for the end of a response."""


def test_every_operation_is_as_its_description_says(attacked: Attacked) -> None:
    load_all_checks()
    checks = schemathesis.checks.CHECKS.get_by_names(list(CHECKS))
    schema = schemathesis.openapi.from_url(f"{attacked.brain.url}/openapi.json")
    found = [one for one in schema.get_all_operations() if isinstance(one, Ok)]
    assert len(checks) == len(CHECKS) and len(found) >= 13
    for operation in (one.ok() for one in found):
        if operation.path == ENDLESS:
            continue
        _conforms(attacked, operation.as_strategy(), checks)
        if operation.body:  # any text is right in an address: nothing there can be wrong
            wrong = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
            _conforms(attacked, wrong, checks)


def _conforms(attacked: Attacked, cases: Any, checks: list[Any]) -> None:
    @few(40)
    @given(cases)
    def call(case: schemathesis.Case[Any]) -> None:
        response = case.call(timeout=30)
        judge(response.status_code, response.headers["content-type"][0], response.content)
        case.validate_response(response, checks=checks)
        attacked.count("schema", response.status_code)

    call()


def test_enough_cases_were_run(attacked: Attacked) -> None:
    """The last of this file; where some were left out it says nothing."""
    if len(attacked.cases) < KINDS:
        pytest.skip("not all the others ran")
    count = sum(attacked.cases.values())
    assert count >= CASES, attacked.cases
    assert attacked.questions >= count // EVERY, "real ones, in between"
