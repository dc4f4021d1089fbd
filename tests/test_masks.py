"""The user-first mask: the picture's block never hears the question, and the runtime agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from reference import Reference  # noqa: E402
from reference import block_mask as by_hand  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from uservlm.models.checkpoint import POCKET  # noqa: E402
from uservlm.models.learning import Schedule  # noqa: E402
from uservlm.models.masks import MASKS, block_ends, block_mask  # noqa: E402
from uservlm.models.shipped import adapter_changes, recover_stages, shipped  # noqa: E402
from uservlm.models.tuning import (  # noqa: E402
    answer_logits,
    collate,
    encode_example,
    hidden_states,
    project,
    tune,
)
from uservlm.models.workshop import Recipe, Workshop  # noqa: E402

SIZE = 112
IMAGE_TOKENS = 64
QUESTIONS = ("How old do I look?", "What should I wear to the beach today, please?")
ANSWER = "You look happy."


@pytest.fixture(scope="module")
def model() -> Any:
    return shipped()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(POCKET)


@pytest.fixture(scope="module")
def pixels() -> Any:
    return torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)) * 2 - 1


def asked(model: Any, tokenizer: Any, pixels: Any, *questions: str) -> Any:
    examples = [encode_example(tokenizer, question, ANSWER) for question in questions]
    return collate(examples, project(model, pixels, len(questions)))


@torch.no_grad()
def test_the_users_block_depends_on_the_question_under_paligemmas_mask_alone(
    model: Any, tokenizer: Any, pixels: Any
) -> None:
    batch = asked(model, tokenizer, pixels, *QUESTIONS)
    head = IMAGE_TOKENS + int(batch.heads[0])
    assert batch.heads.tolist() == [int(batch.heads[0])] * 2 and batch.heads[0] > 1
    assert not torch.equal(*batch.ids[:, head - IMAGE_TOKENS : head - IMAGE_TOKENS + 3])
    one, other = hidden_states(model, batch, "user-first")[:, :head]
    assert (one - other).abs().max() < 1e-4
    one, other = hidden_states(model, batch, "paligemma")[:, :head]
    assert (one - other).abs().max() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("mask", MASKS)
def test_training_sees_the_logits_that_the_runtime_is_held_to(
    model: Any, tokenizer: Any, pixels: Any, mask: Any
) -> None:
    """`reference.py` is what tests of resident and exact attention compare llama.cpp with."""
    batch = asked(model, tokenizer, pixels, *QUESTIONS)
    logits, tokens, row = answer_logits(model, batch, mask)
    reference = Reference.load(POCKET)
    for index in range(len(QUESTIONS)):
        prompt = tuple(batch.ids[index, : batch.prompt_lengths[index]].tolist())
        answer = tuple(tokens[row == index].tolist())
        head = int(batch.heads[index]) if mask == "user-first" else None
        wanted = reference.logits(pixels, prompt, head=head, answer=answer[:2])
        assert (logits[row == index][2] - torch.from_numpy(wanted)).abs().max() < 1e-3


@torch.no_grad()
@pytest.mark.parametrize("mask", MASKS)
def test_transformers_own_forward_takes_the_mask(
    model: Any, tokenizer: Any, pixels: Any, mask: Any
) -> None:
    """So its Trainer can tune user-first: the batch's `attention_mask` is the 4-D one."""
    batch = asked(model, tokenizer, pixels, QUESTIONS[0])
    logits, _, _ = answer_logits(model, batch, mask)
    ids = batch.ids[:, : batch.lengths[0]]
    prefix, total = IMAGE_TOKENS + batch.prompt_lengths, IMAGE_TOKENS + ids.shape[1]
    ends = block_ends(mask, IMAGE_TOKENS + batch.heads, prefix)
    image = torch.full((1, IMAGE_TOKENS), model.config.image_token_id)
    found = model(
        input_ids=torch.cat([image, ids], dim=1),
        pixel_values=pixels,
        attention_mask=block_mask(ends, torch.tensor([total]), total),
    ).logits[0, prefix[0] - 1 : -1]
    cap = model.config.text_config.final_logit_softcapping
    assert (torch.tanh(found / cap) * cap - logits).abs().max() < 1e-3


def test_the_head_is_the_runtimes(pocket_bundle: Path, tokenizer: Any) -> None:
    from uservlm.runtime import UserVLM

    with UserVLM.load(pocket_bundle, attention="resident", threads=1, verify=False) as vlm:
        for question in QUESTIONS:
            tokens = vlm._requests.tokens(question)
            example = encode_example(tokenizer, question, ANSWER)
            assert (tokens.all, tokens.head) == (example.prompt, example.head)


@pytest.mark.parametrize("mask", MASKS)
def test_a_mask_is_the_one_spelled_out_by_hand(mask: Any) -> None:
    head, prefix, length, total = 3, 5, 8, 10
    ends = block_ends(mask, torch.tensor([head]), torch.tensor([prefix]))
    found = block_mask(ends, torch.tensor([length]), total)[0, 0]
    blocks = [prefix] if mask == "paligemma" else [head, prefix - head]
    wanted = by_hand(blocks, length - prefix)[0, 0]
    assert torch.equal(found[:length, :length] == 0, wanted == 0)
    assert (found[:, length:] < 0).all()


@pytest.mark.parametrize("mask", MASKS)
def test_tuning_learns_under_the_mask_it_is_given(
    model: Any, tokenizer: Any, pixels: Any, mask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.compile", lambda module: module)  # compiling takes far longer
    batch = asked(model, tokenizer, pixels, *QUESTIONS)
    said: list[str] = []
    schedule = Schedule(steps=1, batch=2, rate=1e-9, muon=False)
    tune(model, lambda name: name.endswith("layers.0.mlp.up_proj.weight"), lambda: batch,
         schedule, said.append, mask)  # fmt: skip
    losses = {}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for one in MASKS:
            logits, tokens, _ = answer_logits(model, batch, one)
            losses[one] = f"loss {torch.nn.functional.cross_entropy(logits, tokens):.4f},"
    assert losses[mask] in said[0] and len(set(losses.values())) == 2


def test_a_question_without_a_head_is_one_block(tokenizer: Any) -> None:
    """As in the runtime, which then attends exactly; a caption's picture stands alone."""
    assert encode_example(tokenizer, None, ANSWER).head == 1
    whole = torch.tensor([7])
    first, second = block_ends("user-first", whole, whole)
    assert torch.equal(
        block_mask((first, second), torch.tensor([9]), 9),
        block_mask((whole,), torch.tensor([9]), 9),
    )


def test_the_shipped_weights_come_back_as_they_were_before_the_lora(
    model: Any, tmp_path: Path
) -> None:
    from peft import PeftModel

    shop = Workshop(tmp_path, Recipe(), threads=1)
    recover_stages(shop)
    before, now = load_file(shop.file("captions")), dict(model.named_parameters())
    changes = adapter_changes(POCKET / "adapter")
    assert len(changes) == 7 * model.config.text_config.num_hidden_layers
    tuned = PeftModel.from_pretrained(shop.model("captions"), POCKET / "adapter")
    merged = dict(tuned.merge_and_unload().named_parameters())
    for name in changes:
        assert (merged[name] - before[name]).norm() > 0.01 * before[name].norm()
        assert torch.allclose(merged[name], now[name], atol=1e-6)
    untouched = "model.language_model.embed_tokens.weight"
    assert torch.equal(before[untouched], now[untouched])
