"""Cancelling, preparing and deadlines, on the engine itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from asking import LONG, PICTURE, QUESTION, WARM, texts

from uservlm.runtime import UserVLM
from uservlm.runtime.errors import (
    BudgetError,
    CancelledError,
    DeadlineError,
    EmbeddingError,
    EngineError,
    ImageError,
)
from uservlm.runtime.interrupt import Stopped
from uservlm.runtime.language import LanguageModel
from uservlm.runtime.prefill import SCRATCH

OTHER = PICTURE[::-1].copy()


@pytest.fixture
def resident(tiny_bundle: Path) -> Iterator[UserVLM]:
    with UserVLM.load(tiny_bundle, threads=1, attention="resident", verify=False) as loaded:
        yield loaded


def interrupt_inside(vlm: UserVLM, monkeypatch: pytest.MonkeyPatch, rows: int) -> list[int]:
    """Raise the flag while llama.cpp computes a block of that many rows, as another thread would.

    The tiny model is too quick to be caught by a real one, so the flag goes up just before.
    """
    caught: list[int] = []
    plain = LanguageModel._decode

    def decode(self: LanguageModel, count: int, *rest: object, **data: object) -> None:
        if count >= rows and not caught:
            caught.append(count)
            vlm.cancel()
        plain(self, count, *rest, **data)  # type: ignore[arg-type]

    monkeypatch.setattr(LanguageModel, "_decode", decode)
    return caught


@pytest.mark.parametrize("attention", ["exact", "resident"])
def test_cancelling_inside_prefill_leaves_everything_as_it_was(
    resident: UserVLM, monkeypatch: pytest.MonkeyPatch, attention: str
) -> None:
    wanted = resident.ask(QUESTION, image=PICTURE, options=WARM)
    with monkeypatch.context() as patch:
        caught = interrupt_inside(resident, patch, 20)
        with pytest.raises(CancelledError):
            resident.ask(QUESTION, image=OTHER, attention=attention, options=WARM)
        assert caught, "it was cancelled while a block was being computed"
    assert resident._language.length(SCRATCH) == 0
    again = resident.ask(QUESTION, image=PICTURE, options=WARM)
    assert again.text == wanted.text and again.usage.resident == "stayed"
    fresh = resident.ask(QUESTION, image=OTHER, attention=attention, options=WARM)
    assert fresh.usage.prefix_reused == 0, "nothing half-made was kept"


def test_cancelling_an_answer_ends_it_and_not_the_next(resident: UserVLM) -> None:
    wanted = resident.ask(QUESTION, image=PICTURE, options=WARM).text
    stream = resident.stream(QUESTION, image=PICTURE, options=LONG)
    next(stream)
    assert resident.cancel() == 1
    with pytest.raises(CancelledError):
        list(stream)
    assert resident.cancel() == 0
    assert resident.ask(QUESTION, image=PICTURE, options=WARM).text == wanted


def test_a_question_that_waits_can_be_cancelled(resident: UserVLM) -> None:
    first = resident.stream(QUESTION, image=PICTURE, options=LONG)
    next(first)
    second, errors = resident.stream(QUESTION, image=PICTURE, options=WARM), []

    def read() -> None:
        try:
            list(second)
        except CancelledError as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    while resident.waiting < 2:
        time.sleep(0.001)
    second.cancel()
    first.close()
    reader.join(10)
    assert len(errors) == 1


def test_a_deadline_is_kept_by_giving_up(resident: UserVLM) -> None:
    first = resident.stream(QUESTION, image=PICTURE, options=LONG)
    next(first)
    with pytest.raises(DeadlineError):
        resident.ask(QUESTION, image=PICTURE, options=WARM, deadline_s=0)
    first.close()
    assert resident.ask(QUESTION, image=PICTURE, options=WARM, deadline_s=60).text


def test_preparing_looks_and_makes_resident(resident: UserVLM) -> None:
    wanted = resident.ask(QUESTION, image=PICTURE, options=WARM).text
    prepared = resident.prepare(OTHER)
    embedding = prepared.wait(60)
    assert prepared.done and prepared.wait() is embedding
    usage = resident.ask(QUESTION, image=OTHER, options=WARM).usage
    assert (usage.vision_runs, usage.resident) == (0, "stayed")
    assert resident.ask(QUESTION, image=PICTURE, options=WARM).text == wanted


def test_preparing_for_exact_only_looks(vlm: UserVLM) -> None:
    before = vlm.counters
    embedding = vlm.prepare(OTHER, attention="exact").wait(60)
    assert vlm.counters.resident_builds == before.resident_builds
    assert vlm.counters.vision_runs == before.vision_runs + 1
    assert vlm.ask(QUESTION, image=embedding, options=WARM).usage.vision_runs == 0


def test_a_wrong_picture_shows_when_it_is_waited_for(resident: UserVLM) -> None:
    prepared = resident.prepare(b"no picture")
    with pytest.raises(ImageError):
        prepared.wait(60)
    assert resident.ask(QUESTION, image=PICTURE, options=WARM).text


def test_what_was_forgotten_answers_no_question(resident: UserVLM) -> None:
    embedding = resident.encode(PICTURE)
    resident.users.keep("Ada", embedding)
    waiting = resident.stream(QUESTION, user="Ada", options=WARM)
    resident.users.forget("Ada")
    with pytest.raises(EmbeddingError, match="forgotten"):
        list(waiting)
    with pytest.raises(EmbeddingError, match="forgotten"):
        resident.ask(QUESTION, image=embedding)
    assert not np.any(embedding.features)


def test_forgetting_one_leaves_the_others_resident(resident: UserVLM) -> None:
    for name, picture in (("Ada", PICTURE), ("Bob", OTHER)):
        resident.users.keep(name, resident.encode(picture))
        resident.ask(QUESTION, user=name, options=WARM)
    wanted = resident.first_logits(QUESTION, user="Bob")
    resident.users.forget("Ada")
    usage = resident.ask(QUESTION, user="Bob", options=WARM).usage
    assert usage.resident == "stayed"
    again = resident.first_logits(QUESTION, user="Bob")
    assert np.abs(again - wanted).max() < 0.01, "other cells, another order of adding up"


def test_llama_cpp_stops_at_the_flag(resident: UserVLM) -> None:
    """The bare mechanism: a raised flag ends a decode, and what was decoded of it is gone."""
    language, flag = resident._language, resident._worker._interrupt
    rows = np.zeros((8, language.width), dtype=np.float32)

    def decode() -> int:
        flag.raise_()
        try:
            language.decode_rows(rows, SCRATCH, causal=False)
        except Stopped:
            return language.length(SCRATCH)
        finally:
            flag.lower()
        return -1

    assert resident._worker.call(decode) == 0


def test_an_answer_goes_on_while_its_reader_sleeps(resident: UserVLM) -> None:
    stream = resident.stream(QUESTION, image=PICTURE, options=WARM)
    first = next(stream)
    while resident.waiting:
        time.sleep(0.001)
    rest = list(stream)
    assert rest[-1].usage is not None and texts([first, *rest])


def test_a_budget_makes_way_for_a_picture_and_keeps_who_is_resident(tiny_bundle: Path) -> None:
    with UserVLM.load(
        tiny_bundle, threads=1, attention="resident", verify=False, memory_mb=600
    ) as vlm:
        wanted = vlm.ask(QUESTION, image=PICTURE, options=WARM).text
        logits = vlm.first_logits(QUESTION, image=PICTURE)
        vlm.ask(QUESTION, image=OTHER, options=WARM)
        again = vlm.ask(QUESTION, image=PICTURE, options=WARM)
        assert (again.text, again.usage.resident) == (wanted, "stayed")
        assert np.abs(vlm.first_logits(QUESTION, image=PICTURE) - logits).max() < 0.01
        assert not vlm._looker.open, "and the encoder's memory was given back"
        with pytest.raises(ImageError):
            vlm.encode(b"no picture")
        assert vlm.ask(QUESTION, image=PICTURE, options=WARM).usage.resident == "stayed"


def test_vision_that_fails_costs_nobody_their_place(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with UserVLM.load(
        tiny_bundle, threads=1, attention="resident", verify=False, memory_mb=600
    ) as vlm:
        wanted = vlm.ask(QUESTION, image=PICTURE, options=WARM).text

        def fail(_: object) -> None:
            raise EngineError("no")

        with monkeypatch.context() as patch:
            patch.setattr(vlm._looker._vision, "encode", fail)
            with pytest.raises(EngineError):
                vlm.ask(QUESTION, image=OTHER, options=WARM)
        again = vlm.ask(QUESTION, image=PICTURE, options=WARM)
        assert (again.text, again.usage.resident) == (wanted, "stayed")


def test_a_budget_too_small_is_refused_with_the_numbers(tiny_bundle: Path) -> None:
    with pytest.raises(BudgetError, match=r"a budget of 20 MB is too small: \d+ MB .*KV cells \d+"):
        UserVLM.load(tiny_bundle, threads=1, verify=False, memory_mb=20)
