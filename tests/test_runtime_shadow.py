"""Warm turns answered again in idle time, and what `auto` makes of it."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pytest
from asking import PICTURE, QUESTION

from uservlm.runtime import GenerationOptions, UserVLM, engine
from uservlm.runtime.agreement import ShadowPolicy
from uservlm.runtime.manifest import MANIFEST_FILE

SHORT = GenerationOptions(max_new_tokens=4)
ALWAYS = ShadowPolicy(share=1, window=16, enough=16)


@pytest.fixture
def believed(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A random bundle whose manifest says that resident is faithful, which it is not."""
    monkeypatch.setattr(engine, "IDLE_S", 0.0)
    file = copy / MANIFEST_FILE
    data = json.loads(file.read_text())
    figures = {"cases": 16, "first_token_top1": 1.0, "first_token_kl": 0.0, "rouge1": 1.0}
    data["resident"] = {**figures, "threshold": 0.95}
    file.write_text(json.dumps(data))
    return copy


def wait_for(vlm: UserVLM, cases: int) -> None:
    until = time.monotonic() + 30
    while vlm.agreement.figures().cases < cases:
        assert time.monotonic() < until, vlm.agreement.figures()
        time.sleep(0.002)


def test_auto_leaves_resident_where_it_is_not_faithful(
    believed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING, logger="uservlm.shadow"),
        UserVLM.load(believed, threads=1, verify=False, shadow=ALWAYS) as vlm,
    ):
        vlm.ask(QUESTION, image=PICTURE, options=SHORT)
        for case in range(16):
            assert vlm.attention == "resident"
            usage = vlm.ask(f"{QUESTION} And {case}?", image=PICTURE, options=SHORT).usage
            assert usage.attention == "resident"
            wait_for(vlm, case + 1)
        assert vlm.attention == "exact"
        assert vlm.ask(QUESTION, image=PICTURE, options=SHORT).usage.attention == "exact"
        named = vlm.ask(QUESTION, image=PICTURE, attention="resident", options=SHORT)
        assert named.usage.attention == "resident", "who asks by name has decided"
        assert vlm.counters.questions == 19, "an answer for nobody is not counted"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert QUESTION not in caplog.text


def test_nothing_is_answered_again_unless_it_says_something(believed: Path) -> None:
    """Not a cold turn, nor a drawn answer, nor one whose attention was asked for, nor with 0."""
    drawn = GenerationOptions(max_new_tokens=4, temperature=1.0, seed=1)
    with UserVLM.load(believed, threads=1, verify=False, shadow=ALWAYS) as vlm:
        vlm.ask(QUESTION, image=PICTURE, options=SHORT)
        vlm.ask(QUESTION, image=PICTURE, options=drawn)
        for attention in ("resident", "exact"):
            vlm.ask(QUESTION, image=PICTURE, attention=attention, options=SHORT)
        time.sleep(0.1)
        assert vlm.agreement.figures().cases == 0
        vlm.ask(QUESTION, image=PICTURE, options=SHORT)
        wait_for(vlm, 1)
    with UserVLM.load(believed, threads=1, verify=False, shadow=ShadowPolicy(share=0)) as vlm:
        for _ in range(3):
            vlm.ask(QUESTION, image=PICTURE, options=SHORT)
        time.sleep(0.1)
        assert vlm.agreement.figures().cases == 0


def test_a_question_comes_before_a_second_answer(
    believed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no quiet minute there is none, and answers are what they would be without."""
    monkeypatch.setattr(engine, "IDLE_S", 60.0)
    with UserVLM.load(believed, threads=1, verify=False, shadow=ALWAYS) as vlm:
        wanted = vlm.ask(QUESTION, image=PICTURE, options=SHORT).text
        for _ in range(3):
            assert vlm.ask(QUESTION, image=PICTURE, options=SHORT).text == wanted
        assert vlm.agreement.figures().cases == 0
