"""Streams, drawing and limits of an answer; an answer leaves nothing behind."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from asking import PICTURE, QUESTION, WARM, texts

from uservlm.runtime import Answer, GenerationOptions, UserVLM
from uservlm.runtime.errors import (
    EngineError,
    QuestionError,
    RequestError,
)
from uservlm.runtime.prefill import SCRATCH
from uservlm.runtime.spelling import spell


@pytest.mark.parametrize("attention", ["exact", "resident"])
def test_ask_is_the_stream_joined(vlm: UserVLM, attention: str) -> None:
    chunks = list(vlm.stream(QUESTION, image=PICTURE, attention=attention, options=WARM))
    answer = vlm.ask(QUESTION, image=PICTURE, attention=attention, options=WARM)
    assert isinstance(answer, Answer)
    assert texts(chunks) == answer.text
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert all(chunk.text for chunk in chunks[:-1]), "only the last chunk may be empty"


def test_usage_adds_up(vlm: UserVLM) -> None:
    usage = vlm.ask(QUESTION, image=PICTURE, options=GenerationOptions(max_new_tokens=5)).usage
    images = vlm.bundle.manifest.architecture.image_tokens
    assert usage.prefix_tokens == images + len(vlm.prefix_tokens(QUESTION))
    assert usage.answer_tokens <= 5
    assert usage.ttft_s >= usage.vision_s + usage.prefill_s > 0
    assert usage.tokens_per_s > 0


def test_time_the_reader_takes_is_not_decoding_time(vlm: UserVLM) -> None:
    stream = vlm.stream(QUESTION, image=PICTURE, options=WARM)
    pause = threading.Event()
    chunks = [chunk for chunk in stream if not pause.wait(0.02)]
    usage, reading_s = chunks[-1].usage, 0.02 * len(chunks)
    assert usage is not None
    assert usage.decode_s <= chunks[-1].elapsed_s < reading_s, "it was done before it was read"


@pytest.mark.parametrize("attention", ["exact", "resident"])
def test_closing_early_leaves_the_engine_clean(vlm: UserVLM, attention: str) -> None:
    wanted = vlm.ask(QUESTION, image=PICTURE, attention=attention, options=WARM).text
    stream = vlm.stream(QUESTION, image=PICTURE, attention=attention, options=WARM)
    next(stream)
    stream.close()
    assert vlm._language.length(SCRATCH) == 0
    for chunk in vlm.stream(QUESTION, image=PICTURE, attention=attention, options=WARM):
        assert chunk
        break
    assert vlm.ask(QUESTION, image=PICTURE, attention=attention, options=WARM).text == wanted


def test_an_error_in_the_reader_leaves_the_engine_clean(vlm: UserVLM) -> None:
    with pytest.raises(ZeroDivisionError):
        for _ in vlm.stream(QUESTION, image=PICTURE, options=WARM):
            raise ZeroDivisionError
    assert vlm.ask(QUESTION, image=PICTURE, options=WARM).text


def test_an_error_in_decoding_leaves_the_engine_clean(
    vlm: UserVLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = vlm.ask(QUESTION, image=PICTURE, options=WARM).text

    def fail(*_: object, **__: object) -> None:
        raise EngineError("no")

    with monkeypatch.context() as patch:
        patch.setattr(vlm._language, "decode_tokens", fail)
        with pytest.raises(EngineError):
            vlm.ask(QUESTION, image=PICTURE, attention="resident", options=WARM)
    assert vlm._language.length(SCRATCH) == 0
    assert vlm.ask(QUESTION, image=PICTURE, options=WARM).text == wanted


class Script:
    """A language model of bytes that says what it is told to."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces, self.drawn = [*pieces, b""], -1

    def ends(self, token: int) -> bool:
        return token == len(self.pieces) - 1

    def piece(self, token: int) -> bytes:
        return self.pieces[token]

    def draw(self) -> int:
        self.drawn += 1
        return self.drawn

    def advance(self, token: int) -> None:
        assert token == self.drawn


def test_characters_are_held_back_until_they_are_whole() -> None:
    robot = "🤖".encode()
    script = Script([b"a", robot[:1], robot[1:3], robot[3:] + "é".encode()[:1], b"\xa9!"])
    pieces = list(spell(script, script, 10))
    assert [piece.text for piece in pieces] == ["a", "", "", "🤖", "é!", ""]
    assert (pieces[-1].finish, pieces[-1].tokens) == ("stop", 5)


def test_an_answer_cut_inside_a_character_says_so() -> None:
    script = Script([b"a", "🤖".encode()[:2], b"b"])
    pieces = list(spell(script, script, 2))
    assert "".join(piece.text for piece in pieces) == "a\ufffd"
    assert pieces[-1].finish == "length"


def test_no_token_is_decoded_that_nobody_reads() -> None:
    script = Script([b"a", b"b", b"c"])
    list(spell(script, script, 2))
    assert script.drawn == 1


def test_same_seed_same_answer_other_seed_another(vlm: UserVLM) -> None:
    def answer(seed: int) -> str:
        options = GenerationOptions(max_new_tokens=16, temperature=1.5, seed=seed)
        return vlm.ask(QUESTION, image=PICTURE, options=options).text

    assert answer(1) == answer(1)
    assert len({answer(seed) for seed in range(4)}) > 1


def test_one_candidate_is_greedy(vlm: UserVLM) -> None:
    greedy = vlm.ask(QUESTION, image=PICTURE, options=GenerationOptions(max_new_tokens=8)).text
    for options in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 0.999}):
        drawn = GenerationOptions(max_new_tokens=8, temperature=2.0, seed=1, **options)
        assert vlm.ask(QUESTION, image=PICTURE, options=drawn).text == greedy


def test_the_first_token_is_drawn_from_the_first_logits(vlm: UserVLM) -> None:
    best = int(vlm.first_logits(QUESTION, image=PICTURE).argmax())
    answer = vlm.ask(QUESTION, image=PICTURE, options=GenerationOptions(max_new_tokens=1))
    assert answer.text == vlm._language.piece(best).decode("utf-8", "replace")


def test_a_penalty_breaks_a_loop(vlm: UserVLM) -> None:
    tokens = GenerationOptions(max_new_tokens=24), GenerationOptions(24, repeat_penalty=9.0)
    plain, varied = (vlm.ask(QUESTION, image=PICTURE, options=options).text for options in tokens)
    assert plain != varied


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": 1.0},
        {"repeat_penalty": 0.0},
        {"seed": -1},
    ],
)
def test_options_out_of_range_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(RequestError, match=next(iter(wrong))):
        GenerationOptions(**wrong)


@pytest.mark.parametrize("question", ["", "  \n"])
def test_blank_questions_are_refused(vlm: UserVLM, question: str) -> None:
    with pytest.raises(QuestionError, match="blank"):
        vlm.stream(question, image=PICTURE)


def test_half_a_surrogate_pair_is_refused(vlm: UserVLM) -> None:
    with pytest.raises(QuestionError, match="Unicode"):
        vlm.stream("caf\udce9", image=PICTURE)


def test_a_question_too_long_says_by_how_much(vlm: UserVLM) -> None:
    with pytest.raises(QuestionError, match=r"prompt of \d+ tokens.* at most \d+ fit"):
        vlm.stream("why " * 2000, image=PICTURE)


def test_the_longest_question_that_fits_is_answered(tiny_bundle: Path) -> None:
    """And its answer ends with the context, as "length"."""
    with UserVLM.load(tiny_bundle, threads=1, context=256, verify=False) as vlm:
        images, cells = vlm.bundle.manifest.architecture.image_tokens, vlm._language.cells
        question = "why"
        while True:
            try:
                vlm.prefix_tokens(question + " why")
            except QuestionError:
                break
            question += " why"
        options = GenerationOptions(max_new_tokens=100, temperature=1.5, seed=3)
        for attention in ("exact", "resident"):
            usage = vlm.ask(question, image=PICTURE, attention=attention, options=options).usage
            assert usage.answer_tokens <= cells - images - len(vlm.prefix_tokens(question))
            assert usage.finish == "length" or usage.answer_tokens < 3


def test_a_context_too_small_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(RequestError, match="context=20"):
        UserVLM.load(tiny_bundle, context=20)
    with pytest.raises(RequestError, match="threads=0"):
        UserVLM.load(tiny_bundle, threads=0)
