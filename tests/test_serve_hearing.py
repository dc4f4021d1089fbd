"""Ears over HTTP: sound in, text out, in the same process as the model that answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("sherpa_onnx")

from fuzzing import judge
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import Serving, serving
from tones import silence, tone_model, tones

SOUND = {"Content-Type": "application/octet-stream"}
PAUSE = silence(1.2)
PIECE = 16_000
"""Half a second."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("brain")


@pytest.fixture(scope="module")
def brain(
    pocket_bundle: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    model = tone_model(tmp_path_factory.mktemp("speech"))
    with serving(pocket_bundle, folder, "--hear", str(model)) as started:
        yield started


def send(brain: Serving, session: str, pcm: bytes) -> httpx.Response:
    return brain.client.post(f"/v1/hearing/{session}", content=pcm, headers=SOUND)


def hear(brain: Serving, session: str, pcm: bytes) -> tuple[list[str], str]:
    """Speak; gives what was whole, and what was not at the end."""
    whole, partial = [], ""
    for place in range(0, len(pcm), PIECE):
        response = send(brain, session, pcm[place : place + PIECE])
        assert response.status_code == 200, response.text
        whole += response.json()["heard"]
        partial = response.json()["partial"]
    return whole, partial


def test_what_is_said_is_heard_and_can_be_asked(
    brain: Serving, pictures: Path, folder: Path
) -> None:
    """The recogniser brings an onnxruntime of its own; vision goes on with ours."""
    brain.encode(pictures / "grace.png", user="grace")
    before = brain.ask("how do i make a video call", user="grace").json()
    whole, partial = hear(brain, "robot-1", tones("how do i make a video call"))
    assert whole == [] and partial.startswith("how do i make")
    (question,), partial = hear(brain, "robot-1", PAUSE)
    assert question == "how do i make a video call" and partial == ""
    brain.encode(pictures / "grace.png", user="grace")
    asked = brain.ask(question, user="grace").json()
    assert asked["choices"] == before["choices"]
    assert question not in brain.log.read_text()
    left = [path.name for path in folder.iterdir()]
    assert set(left) <= {"serve.log", "people", ".cache"}, "no sound is written"


def test_sessions_are_apart_and_one_that_is_dropped_begins_anew(brain: Serving) -> None:
    hear(brain, "a", tones("one"))
    hear(brain, "b", tones("two"))
    assert brain.client.delete("/v1/hearing/a").status_code == 204
    assert hear(brain, "a", tones("three") + PAUSE) == (["three"], "")
    assert hear(brain, "b", PAUSE) == (["two"], "")
    assert brain.client.delete("/v1/hearing/never-was").status_code == 204
    assert hear(brain, "b", PAUSE) == ([], "")


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code"),
    [
        ("a", b"\0", SOUND, 400, "bad_sound"),
        ("a", bytes(2**16 + 2), SOUND, 400, "bad_sound"),
        ("a", bytes(4), {"Content-Type": "audio/wav"}, 400, "bad_sound"),
        ("a", bytes(4), {}, 400, "bad_sound"),
        ("a", bytes(17 * 2**20), SOUND, 413, "request_too_large"),
        ("not%20an%20id", bytes(4), SOUND, 400, "invalid_request"),
        ("x" * 65, bytes(4), SOUND, 400, "invalid_request"),
        ("a%0A", bytes(4), SOUND, 400, "invalid_request"),
        ("a/b", bytes(4), SOUND, 404, "not_found"),
        ("a", bytes(4), {**SOUND, "Origin": "http://elsewhere.example"}, 403, "origin_refused"),
    ],
)
def test_what_is_no_sound_is_refused(
    brain: Serving, path: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    refused = brain.client.post(f"/v1/hearing/{path}", content=body, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)


def test_only_so_many_are_listened_to(brain: Serving) -> None:
    for number in range(8):
        send(brain, f"many-{number}", bytes(2))
    refused = send(brain, "one-more", bytes(2))
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "busy")
    for number in range(8):
        brain.client.delete(f"/v1/hearing/many-{number}")
    for name in ("a", "b", "robot-1"):
        brain.client.delete(f"/v1/hearing/{name}")
    assert send(brain, "one-more", bytes(2)).status_code == 200
    brain.client.delete("/v1/hearing/one-more")


def test_any_sound_is_answered(brain: Serving) -> None:
    """Bytes of all kinds, one session or several."""

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(["x", "y", "-"]), st.binary(max_size=5000) | _long())
    def say(session: str, pcm: bytes) -> None:
        response = send(brain, session, pcm)
        judge(response.status_code, response.headers["content-type"], response.content)
        assert response.status_code in (200, 400)

    say()
    for name in ("x", "y", "-"):
        brain.client.delete(f"/v1/hearing/{name}")
    assert hear(brain, "x", tones("still here") + PAUSE) == (["still here"], "")


def _long() -> Any:
    return st.tuples(st.binary(min_size=1, max_size=8), st.integers(1, 9000)).map(
        lambda parts: parts[0] * parts[1]
    )


def test_a_brain_without_ears_says_so(pocket_bundle: Path, tmp_path: Path) -> None:
    with serving(pocket_bundle, tmp_path) as deaf:
        for refused in (send(deaf, "a", bytes(2)), deaf.client.delete("/v1/hearing/a")):
            error = refused.json()["error"]
            assert (refused.status_code, error["code"]) == (404, "no_ears")
            assert "--hear" in error["message"]
