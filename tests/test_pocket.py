"""The shipped pocket model: it looks, it answers right, and 4 bits cost it next to nothing.

Every picture here is of people, and most questions are worded in ways, that training never met.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uservlm.models.checkpoint import POCKET
from uservlm.models.dialogues import Dialogue, sample_dialogue
from uservlm.models.evaluate import HELD_OUT_PEOPLE, evaluate
from uservlm.models.pictures import picture_at, scene_at
from uservlm.models.tower import to_tensor
from uservlm.models.tuning import answer_logits, collate, encode_example, fully_right, project
from uservlm.runtime import UserVLM
from uservlm.runtime.image import PixelSpec, to_pixels

PEOPLE = 240


@pytest.fixture(scope="module")
def model() -> Any:
    """The shipped checkpoint in float32."""
    from transformers import PaliGemmaForConditionalGeneration

    return PaliGemmaForConditionalGeneration.from_pretrained(
        POCKET, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Its vocabulary."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(POCKET)


@pytest.fixture(scope="module")
def vlm(pocket_bundle: Path) -> Iterator[UserVLM]:
    """The bundle as `python converters/export.py` makes it: Q4_K_M and int8 vision."""
    with UserVLM.load(pocket_bundle, attention="exact") as opened:
        yield opened


@pytest.fixture(scope="module")
def dialogues() -> list[Dialogue]:
    """One held-out question of any kind for each held-out user."""
    rng = np.random.default_rng(17)
    return [
        sample_dialogue(scene_at(HELD_OUT_PEOPLE, i), rng, "held_out", noise=0.0)
        for i in range(PEOPLE)
    ]


def test_it_is_small_and_whole(model: Any) -> None:
    assert sum(p.numel() for p in model.parameters()) <= 8_000_000
    assert sum(f.stat().st_size for f in POCKET.rglob("*") if f.is_file()) <= 16_000_000
    text = model.config.text_config
    assert all(size % 256 == 0 for size in (text.hidden_size, text.intermediate_size))


@torch.no_grad()
def float_share(model: Any, tokenizer: Any, dialogues: list[Dialogue]) -> float:
    """Share of fully right answers in float32 transformers."""
    size = model.config.vision_config.image_size
    right = 0.0
    for i, dialogue in enumerate(dialogues):
        pixels = torch.from_numpy(to_pixels(picture_at(HELD_OUT_PEOPLE, i), PixelSpec(size)))
        batch = collate(
            [encode_example(tokenizer, dialogue.question, dialogue.answer)],
            project(model, pixels, 1),
        )
        right += fully_right(*answer_logits(model, batch)).item()
    return right / len(dialogues)


def test_four_bits_and_int8_vision_lose_at_most_two_points(
    model: Any, tokenizer: Any, vlm: UserVLM, dialogues: list[Dialogue]
) -> None:
    answers = [
        vlm.ask(d.question, image=picture_at(HELD_OUT_PEOPLE, i)).text
        for i, d in enumerate(dialogues)
    ]
    bundle = np.mean([a == d.answer for a, d in zip(answers, dialogues, strict=True)])
    floating = float_share(model, tokenizer, dialogues)
    print(f"fully right: bundle {bundle:.3f}, float32 {floating:.3f}, {PEOPLE} dialogues")
    assert floating - bundle <= 0.02


def test_its_card_is_not_wishful(model: Any, tokenizer: Any) -> None:
    """The card's floors, measured again on fewer people; and it must look at the picture."""
    rows = {row.kind: row for row in evaluate(model, tokenizer, people=PEOPLE)}
    for kind, row in rows.items():
        print(kind, row.held_out_phrasing, row.other_picture, row.chance.value)
    assert rows["user_aware"].held_out_phrasing.value >= 0.90
    assert rows["description"].held_out_phrasing.value >= 0.85
    for kind in ("description", "about_user", "user_aware"):
        other, chance = rows[kind].other_picture, rows[kind].chance
        assert other.interval.low <= chance.value + 0.02
    assert rows["general"].other_picture.value >= rows["general"].held_out_phrasing.value - 0.02


def test_training_and_runtime_see_the_same_pixels(model: Any) -> None:
    from uservlm.models.pictures import square_at

    size = model.config.vision_config.image_size
    trained_on = to_tensor(square_at(HELD_OUT_PEOPLE, size, 3)[None]).numpy()
    seen = to_pixels(picture_at(HELD_OUT_PEOPLE, 3), PixelSpec(size))
    assert np.abs(trained_on - seen).max() < 1e-6


@pytest.mark.parametrize("quant", ["q4_0", "q8_0", "f16"])
def test_every_quantisation_answers(quant: str, tmp_path: Path) -> None:
    """q4_k_m is what everything else here runs."""
    from uservlm.converters.pipeline import ExportOptions, export
    from uservlm.models.demo import GRACE
    from uservlm.models.drawing import render

    bundle = export(ExportOptions(POCKET, tmp_path / quant, quant, "int8", cases=4))
    with UserVLM.load(bundle, threads=1) as vlm:
        answer = vlm.ask("What is the capital of France?", image=render(GRACE))
    assert answer.text == "The capital of France is Paris."


def test_two_people_get_two_answers_and_one_fact(vlm: UserVLM) -> None:
    """What `make demo` promises."""
    from uservlm.models.demo import USERS
    from uservlm.models.drawing import render

    grace, sam = (vlm.encode(render(scene)) for scene in USERS.values())
    call, capital = "How do I make a video call?", "What is the capital of France?"
    assert vlm.ask(call, image=grace).text != vlm.ask(call, image=sam).text
    assert vlm.ask(capital, image=grace).text == vlm.ask(capital, image=sam).text


def test_vision_on_the_engines_thread_disturbs_no_answer(pocket_bundle: Path) -> None:
    """onnxruntime and ggml both set up AMX tiles for the thread they run on, and differently."""
    pictures = [picture_at(HELD_OUT_PEOPLE, index) for index in range(4)]
    with UserVLM.load(pocket_bundle, threads=1, attention="resident", verify=False) as vlm:
        elsewhere = [vlm.ask("How do I feel?", image=vlm.encode(one)).text for one in pictures]
    with UserVLM.load(pocket_bundle, threads=1, attention="resident", verify=False) as vlm:
        assert [vlm.ask("How do I feel?", image=one).text for one in pictures] == elsewhere
