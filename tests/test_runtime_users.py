"""Who is asked about, how it is attended to, and whose turn it is."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from asking import LONG, PICTURE, QUESTION, WARM, texts

from uservlm.runtime import ShadowPolicy, UserEmbedding, UserVLM
from uservlm.runtime.errors import (
    AttentionError,
    BundleError,
    CancelledError,
    EmbeddingError,
    EngineError,
    ImageError,
    RequestError,
    UnknownUserError,
)
from uservlm.runtime.manifest import MANIFEST_FILE
from uservlm.runtime.prefix import join_tokens
from uservlm.runtime.request import Requests, resolve


def test_one_picture_or_one_user(vlm: UserVLM) -> None:
    for wrong in ({}, {"image": PICTURE, "user": "Ada"}):
        with pytest.raises(RequestError, match="one, and not both"):
            vlm.stream(QUESTION, **wrong)


def test_users_are_kept_by_name(vlm: UserVLM) -> None:
    vlm.users.keep("Ada", vlm.encode(PICTURE))
    assert vlm.users.names == ("Ada",)
    assert vlm.ask(QUESTION, user="Ada", options=WARM) is not None
    vlm.users.forget("Ada")
    for call in (vlm.users.find, vlm.users.forget):
        with pytest.raises(UnknownUserError, match="Ada.*nobody"):
            call("Ada")
    with pytest.raises(UnknownUserError):
        vlm.stream(QUESTION, user="Ada")
    with pytest.raises(RequestError, match="blank"):
        vlm.users.keep(" ", vlm.encode(PICTURE))


def test_one_embedding_under_two_names_survives_one(vlm: UserVLM) -> None:
    for name in ("Ada", "Countess"):
        vlm.users.keep(name, vlm.encode(PICTURE))
    runs = vlm.counters.vision_runs
    vlm.users.forget("Ada")
    vlm.encode(PICTURE)
    assert vlm.counters.vision_runs == runs
    vlm.users.forget("Countess")
    vlm.encode(PICTURE)
    assert vlm.counters.vision_runs == runs + 1, "nothing of a forgotten user is remembered"


def test_anothers_embedding_is_refused(vlm: UserVLM) -> None:
    own = vlm.encode(PICTURE)
    foreign = UserEmbedding(own.features, "0" * 64)
    short = UserEmbedding(own.features[:-1], own.vision)
    for wrong in (foreign, short):
        with pytest.raises(EmbeddingError):
            vlm.stream(QUESTION, image=wrong)
        with pytest.raises(EmbeddingError):
            vlm.users.keep("Ada", wrong)
    with pytest.raises(EmbeddingError):
        UserEmbedding(np.full((2, 3), np.nan, np.float32), own.vision)


def test_an_embedding_cannot_be_changed(vlm: UserVLM) -> None:
    own = vlm.encode(PICTURE)
    with pytest.raises(ValueError, match="read-only"):
        own.features[0, 0] = 1
    assert own.features.dtype == np.float32
    assert own.digest == UserEmbedding(own.features, own.vision).digest


def test_a_picture_that_is_none_costs_no_turn(vlm: UserVLM) -> None:
    with pytest.raises(ImageError):
        vlm.ask(QUESTION, image=b"no picture")
    assert vlm.ask(QUESTION, image=PICTURE, options=WARM).text


def test_attention_is_by_name(vlm: UserVLM) -> None:
    with pytest.raises(AttentionError, match="give auto, exact or resident"):
        vlm.stream(QUESTION, image=PICTURE, attention="fast")  # type: ignore[arg-type]


def test_auto_follows_the_measurement(copy: Path) -> None:
    file = copy / MANIFEST_FILE
    data = json.loads(file.read_text())
    figures = {"cases": 16, "first_token_top1": 0.99, "first_token_kl": 0.1, "rouge1": 0.96}
    for threshold, wanted in ((0.95, "resident"), (0.97, "exact")):
        data["resident"] = {**figures, "threshold": threshold}
        file.write_text(json.dumps(data))
        with UserVLM.load(copy, threads=1) as vlm:
            assert vlm.attention == wanted == resolve("auto", vlm.bundle.manifest)


def test_auto_computes_a_user_first_checkpoint_as_it_was_tuned(copy: Path) -> None:
    file = copy / MANIFEST_FILE
    data = json.loads(file.read_text())
    assert (data["mask"], data["resident"]["cases"]) == ("paligemma", 4), "too few to be faithful"
    file.write_text(json.dumps({**data, "mask": "user-first"}))
    with UserVLM.load(copy, threads=1, shadow=ShadowPolicy(share=1)) as vlm:
        assert vlm.attention == "resident"
        for _ in range(2):
            assert vlm.ask(QUESTION, image=PICTURE, options=WARM).usage.attention == "resident"
    file.write_text(json.dumps({**data, "mask": "narrow"}))
    with pytest.raises(BundleError, match="mask"):
        UserVLM.load(copy, threads=1)


def test_a_question_that_joins_with_the_prompt(vlm: UserVLM) -> None:
    """No such question is known for our template; a tokenizer made for it shows what would be."""
    assert join_tokens(2, (5, 6), (5, 7, 8)).head == 0
    assert join_tokens(2, (5, 6), (5, 6)).head == 0

    class Joining:
        bos, cells, block = 2, 999, 999

        def tokenize(self, text: str) -> list[int]:
            return [len(text), 1]

    requests = Requests(vlm.bundle.manifest, Joining(), "resident")
    assert requests.check("a", None, WARM).attention == "exact"
    stubborn = requests.check("a", "resident", WARM)
    with pytest.raises(AttentionError, match="exact"):
        vlm._prefiller.resident(vlm.encode(PICTURE), stubborn.tokens, 1)


def test_a_second_question_waits_its_turn_and_not_for_the_reader(vlm: UserVLM) -> None:
    wanted = vlm.ask(QUESTION, image=PICTURE, options=WARM).text
    first = vlm.stream(QUESTION, image=PICTURE, options=WARM)
    begun = next(first).text
    second = vlm.ask(QUESTION, image=PICTURE, options=WARM)
    assert second.text == wanted and second.usage.waited_s >= 0
    assert begun + texts(list(first)) == wanted


def test_a_stream_nobody_began_holds_nothing(vlm: UserVLM) -> None:
    waiting = vlm.stream(QUESTION, image=PICTURE, options=WARM)
    assert vlm.ask(QUESTION, image=PICTURE, options=WARM).text
    assert texts(list(waiting))


def test_threads_get_their_own_answers(vlm: UserVLM) -> None:
    """Eight threads at once: every one ends with the answer to its own question."""
    questions = [f"Question {number}?" for number in range(8)]
    wanted = {q: vlm.ask(q, image=PICTURE, options=WARM).text for q in questions}
    found: dict[str, str] = {}

    def put(question: str) -> None:
        found[question] = vlm.ask(question, image=PICTURE, options=WARM).text

    threads = [threading.Thread(target=put, args=(question,)) for question in questions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == wanted
    assert vlm.waiting == 0


def test_a_closed_engine_answers_nothing_and_does_not_crash(tiny_bundle: Path) -> None:
    vlm = UserVLM.load(tiny_bundle, threads=1, verify=False)
    waiting = vlm.stream(QUESTION, image=PICTURE, options=WARM)
    running = vlm.stream(QUESTION, image=PICTURE, options=LONG)
    next(running)
    vlm.close()
    vlm.close()
    for stream in (running, waiting):
        with pytest.raises((CancelledError, EngineError)):
            list(stream)
    assert not vlm._language.open
    for call in (vlm.encode, lambda p: vlm.ask(QUESTION, image=p)):
        with pytest.raises(EngineError, match="closed"):
            call(PICTURE)
