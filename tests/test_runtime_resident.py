"""Resident attention against the same blocks in transformers, and what it saves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from reference import Reference

from uservlm.runtime import GenerationOptions, UserVLM
from uservlm.runtime.room import HEAD_ROOM, RESIDENT_USERS

BOUND = 0.02
QUESTIONS = ("What should I wear today?", "Who am I, and how old do I look to you?")
SHORT = GenerationOptions(max_new_tokens=2)


@pytest.fixture(scope="module")
def reference(proven: tuple[Path, Path]) -> Reference:
    torch.set_num_threads(1)
    return Reference.load(proven[0])


@pytest.fixture
def vlm(proven: tuple[Path, Path]) -> Iterator[UserVLM]:
    with UserVLM.load(proven[1], attention="resident", threads=1, verify=False) as loaded:
        yield loaded


def picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((160, 160), Image.Resampling.BICUBIC)


def head_of(vlm: UserVLM) -> int:
    """Tokens that stand in the user's block: `<bos>` and what all questions begin with."""
    one, other = (vlm.prefix_tokens(question) for question in ("Apples?", "12 zebras"))
    return next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)


@pytest.mark.parametrize("question", QUESTIONS)
def test_first_logits_are_those_of_the_two_blocks(
    vlm: UserVLM, reference: Reference, question: str
) -> None:
    """Cold, warm, and warm after another question: the user's block is left as it was."""
    image, tokens = picture(1), vlm.prefix_tokens(question)
    wanted = reference.logits(reference.pixels(image), tokens, head=head_of(vlm))
    for other in ("", "Something else?", "And a third thing, at greater length?"):
        if other:
            vlm.ask(other, image=image, options=SHORT)
        found = vlm.first_logits(question, image=image)
        assert np.abs(found - wanted).max() < BOUND


def test_the_bound_tells_resident_from_exact(vlm: UserVLM, reference: Reference) -> None:
    """Resident is another computation; a bundle says how often its answers differ."""
    image, tokens = picture(1), vlm.prefix_tokens(QUESTIONS[0])
    exact = reference.logits(reference.pixels(image), tokens)
    resident = vlm.first_logits(QUESTIONS[0], image=image)
    assert np.abs(resident - exact).max() > 2 * BOUND
    found = vlm.first_logits(QUESTIONS[0], image=image, attention="exact")
    assert np.abs(found - exact).max() < BOUND


def test_answers_continue_behind_both_blocks(vlm: UserVLM, reference: Reference) -> None:
    image, tokens, head = picture(2), vlm.prefix_tokens(QUESTIONS[1]), head_of(vlm)
    pixels, longest = reference.pixels(image), 8
    answer = vlm.ask(QUESTIONS[1], image=image, options=GenerationOptions(max_new_tokens=longest))
    wanted = reference.greedy(pixels, tokens, longest, head=head)
    gaps = reference.gaps(pixels, tokens, wanted, head=head)
    sure = next((i for i, gap in enumerate(gaps) if gap < 2 * BOUND), len(wanted))
    assert sure > 0, "the very first token is a tie: choose another question"
    pieces = b"".join(vlm._language.piece(token) for token in wanted[:sure])
    assert answer.text.startswith(pieces.decode("utf-8", "replace").rstrip("\ufffd"))


def test_a_warm_question_computes_only_itself(vlm: UserVLM) -> None:
    image, head = picture(3), head_of(vlm)
    images = vlm.bundle.manifest.architecture.image_tokens
    cold = vlm.ask(QUESTIONS[0], image=image, options=SHORT).usage
    warm = vlm.ask(QUESTIONS[1], image=image, options=SHORT).usage
    assert (cold.prefix_reused, cold.prefix_computed) == (0, cold.prefix_tokens)
    assert warm.prefix_reused == images + head
    assert warm.prefix_computed == len(vlm.prefix_tokens(QUESTIONS[1])) - head
    assert warm.vision_runs == 0


def test_changing_between_users_computes_nothing_again(vlm: UserVLM) -> None:
    users = [picture(seed) for seed in range(RESIDENT_USERS)]
    for user in users:
        vlm.ask(QUESTIONS[0], image=user, options=SHORT)
    before = vlm.counters
    logits = [vlm.first_logits(QUESTIONS[0], image=user) for user in users]
    after = vlm.counters
    assert after.resident_builds == before.resident_builds
    assert after.vision_runs == before.vision_runs
    assert np.abs(logits[0] - logits[1]).max() > 2 * BOUND, "each is asked about their own picture"


def test_one_user_too_many_sends_the_longest_unused_away(vlm: UserVLM) -> None:
    users = [picture(seed) for seed in range(RESIDENT_USERS + 1)]
    for user in users:
        vlm.ask(QUESTIONS[0], image=user, options=SHORT)
    assert vlm.ask(QUESTIONS[0], image=users[-1], options=SHORT).usage.prefix_reused > 0
    assert vlm.ask(QUESTIONS[0], image=users[1], options=SHORT).usage.prefix_reused > 0
    assert vlm.ask(QUESTIONS[0], image=users[0], options=SHORT).usage.prefix_reused == 0


def test_users_leave_when_cells_run_out(proven: tuple[Path, Path], reference: Reference) -> None:
    """A context for one user still answers about two, right each time."""
    tokens = reference.image_tokens
    with UserVLM.load(
        proven[1], attention="resident", threads=1, context=tokens + HEAD_ROOM + 130
    ) as vlm:
        for seed in (1, 2, 1):
            image = picture(seed)
            found = vlm.first_logits(QUESTIONS[0], image=image)
            ids = vlm.prefix_tokens(QUESTIONS[0])
            wanted = reference.logits(reference.pixels(image), ids, head=head_of(vlm))
            assert np.abs(found - wanted).max() < BOUND


def test_exact_and_resident_share_the_cache(vlm: UserVLM) -> None:
    """An exact question between two resident ones takes nothing from the user's block."""
    image = picture(1)
    before = vlm.first_logits(QUESTIONS[0], image=image)
    vlm.ask(QUESTIONS[0], image=picture(2), attention="exact", options=SHORT)
    builds = vlm.counters.resident_builds
    assert np.array_equal(vlm.first_logits(QUESTIONS[0], image=image), before)
    assert vlm.counters.resident_builds == builds


def test_forgetting_a_user_empties_their_block(vlm: UserVLM) -> None:
    vlm.users.keep("Ada", vlm.encode(picture(5)))
    vlm.ask(QUESTIONS[0], user="Ada", options=SHORT)
    assert len(vlm._prefiller.residents) == 1
    vlm.users.forget("Ada")
    assert vlm._prefiller.residents == ()
    again = vlm.ask(QUESTIONS[0], image=picture(5), options=SHORT).usage
    assert (again.vision_runs, again.prefix_reused) == (1, 0)


def test_forgetting_somebody_who_is_being_answered(vlm: UserVLM) -> None:
    vlm.users.keep("Ada", vlm.encode(picture(5)))
    stream = vlm.stream(QUESTIONS[0], user="Ada", options=GenerationOptions(max_new_tokens=6))
    next(stream)
    vlm.users.forget("Ada")
    list(stream)
    assert vlm._prefiller.residents == ()
