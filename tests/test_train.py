"""One command retrains the pocket: every stage runs, resumes, and moves only what it should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from uservlm.models.learning import Schedule
from uservlm.models.mask_figures import HEADING
from uservlm.models.tower import batches
from uservlm.models.train import FIGURES, STAGES, TUNED_WITH
from uservlm.models.workshop import Recipe, Workshop

SHORT = Schedule(steps=2, batch=8, rate=1e-3)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """All stages but the last, a few steps each."""
    plain = Schedule(steps=2, batch=8, rate=1e-3, muon=False)
    recipe = Recipe(
        pictures=24, tower=plain, sharpen=SHORT, polish=SHORT, words=SHORT, captions=SHORT,
        alignment=SHORT, instruction=plain, questions_per_picture=2, held_out=2,
    )  # fmt: skip
    shop = Workshop(tmp_path_factory.mktemp("workshop"), recipe, threads=2)
    torch._dynamo.config.disable = True  # compiling takes longer than two steps save
    try:
        for name, stage in STAGES.items():
            if name != "checkpoint":
                stage(shop)
    finally:
        torch._dynamo.config.disable = False
    return shop


def test_alignment_moves_the_projector_alone(workshop: Workshop) -> None:
    before, after = (load_file(workshop.file(stage)) for stage in ("captions", "alignment"))
    assert set(after) == {n for n in before if n.startswith("model.multi_modal_projector")}
    assert all(not torch.equal(before[name], after[name]) for name in after)


def test_the_lora_moves_the_language_model_alone(workshop: Workshop) -> None:
    adapter = load_file(workshop.folder / "adapter-instruction" / "adapter_model.safetensors")
    assert adapter
    assert all("language_model" in name and "lora_" in name for name in adapter)
    captions, merged = (load_file(workshop.file(stage)) for stage in ("captions", "instruction"))
    assert torch.equal(*(w["model.language_model.embed_tokens.weight"] for w in (captions, merged)))
    query = "model.language_model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(captions[query], merged[query])


def test_both_masks_tune_the_same_weights_to_others(workshop: Workshop) -> None:
    captions, exact, first = (
        load_file(workshop.file(stage)) for stage in ("captions", "instruction", "user-first")
    )
    query = "model.language_model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(captions[query], first[query])
    assert not torch.equal(exact[query], first[query])
    assert torch.allclose(exact[query], first[query], atol=0.05)


def test_the_figures_of_both_masks_become_the_end_of_a_card(workshop: Workshop) -> None:
    text = (workshop.folder / FIGURES).read_text()
    assert text.startswith(HEADING) and "train --steps 2 --batch 8 --pictures 24`" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows[1:]] == [*TUNED_WITH.values()]
    assert all(row.count("%") == 3 for row in rows[1:])


def test_no_training_picture_is_drawn_twice(workshop: Workshop) -> None:
    squares: Path = workshop.folder / "pictures-1.npy"
    stamp = squares.stat().st_mtime_ns
    workshop.squares()
    assert squares.stat().st_mtime_ns == stamp


def test_too_few_pictures_for_a_batch_are_an_error_not_a_wait() -> None:
    squares = np.zeros((3, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="3 pictures do not fill a batch of 4"):
        next(batches(squares, 4, np.random.default_rng(0)))
