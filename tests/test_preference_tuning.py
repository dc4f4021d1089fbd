"""DPO by hand and by command: the loss, what it moves, and an adapter that the export accepts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import MakeCheckpoint  # noqa: E402
from lora import load  # noqa: E402
from peft import PeftModel  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from uservlm.converters.adapters import open_adapter  # noqa: E402
from uservlm.converters.checkpoint import open_checkpoint as open_for_export  # noqa: E402
from uservlm.models.acide import read_preferences  # noqa: E402
from uservlm.models.acide_write import Drawn, write_form  # noqa: E402
from uservlm.models.checkpoint import write_section  # noqa: E402
from uservlm.models.errors import LayoutError  # noqa: E402
from uservlm.models.learning import Learner, Schedule  # noqa: E402
from uservlm.models.prefer import main  # noqa: E402
from uservlm.models.preference_recipes import PAPER  # noqa: E402
from uservlm.models.preference_runs import Task, open_checkpoint, tune_checkpoint  # noqa: E402
from uservlm.models.preference_sources import encode_pair, stored_batches  # noqa: E402
from uservlm.models.preference_tuning import (  # noqa: E402
    dpo_loss,
    log_probabilities,
    pair_batch,
)
from uservlm.models.tuning import collate, encode_example  # noqa: E402

QUESTION, CHOSEN, REJECTED = "Where are the stairs?", "Through the glass door.", "Have a seat."


@pytest.fixture(scope="module")
def checkpoint(make_checkpoint: MakeCheckpoint) -> Path:
    return make_checkpoint("small")


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn people with two pairs each, in the form of user-vlm-dpo."""
    folder = tmp_path_factory.mktemp("dpo") / "pairs"
    write_form(folder, Drawn("dpo", 1, 3, 2, "train"), loose=True)
    return folder


def test_the_loss_is_equation_7() -> None:
    """By hand: margin ((−1) − (−2)) − ((−3) − (−2.5)) = 1.5; −log σ(0.3) = log(1 + e^−0.3)."""
    chosen, rejected = torch.tensor([-1.0, -4.0]), torch.tensor([-3.0, -4.0])
    references = torch.tensor([-2.0, -4.0]), torch.tensor([-2.5, -4.0])
    losses = dpo_loss(chosen, rejected, *references, beta=0.2)
    assert losses.tolist() == pytest.approx([0.5543552, 0.6931472], abs=1e-6)


def test_the_gradient_pulls_the_two_answers_apart_with_the_weight_of_the_paper() -> None:
    """∂/∂log π(y_w) = −β σ(−β · margin), and the opposite for y_l (section 4 of the paper)."""
    sums = [torch.tensor([value], requires_grad=True) for value in (-1.0, -3.0)]
    dpo_loss(*sums, torch.tensor([-2.0]), torch.tensor([-2.5]), beta=0.2).sum().backward()
    weight = 0.2 / (1 + np.exp(0.2 * 1.5))
    assert sums[0].grad.item() == pytest.approx(-weight, abs=1e-6)
    assert sums[1].grad.item() == pytest.approx(weight, abs=1e-6)


@torch.no_grad()
def test_an_answer_s_log_probability_is_summed_over_its_tokens_and_the_end(
    checkpoint: Path, tokenizer: Any
) -> None:
    """Against transformers' own forward, with its own mask and labels."""
    model = load(checkpoint)
    example = encode_example(tokenizer, QUESTION, CHOSEN)
    size = model.config.vision_config.image_size
    pixels = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    features = model.get_image_features(pixels) * model.config.text_config.hidden_size**0.5
    found = log_probabilities(model, collate([example], features))
    tokens = (size // 14) ** 2
    ids = torch.tensor(
        [[model.config.image_token_index] * tokens + [*example.prompt, *example.answer]]
    )
    kinds = torch.zeros_like(ids)
    kinds[:, -len(example.answer) :] = 1
    seen = {"input_ids": ids, "pixel_values": pixels, "token_type_ids": kinds}
    logits = model(**seen, attention_mask=torch.ones_like(ids), labels=ids).logits[0].float()
    cap = model.config.text_config.final_logit_softcapping
    logits = torch.tanh(logits / cap) * cap
    before = torch.log_softmax(logits[-len(example.answer) - 1 : -1], -1)
    expected = before.gather(1, torch.tensor(example.answer)[:, None]).sum()
    assert example.answer[-1] == model.config.eos_token_id
    assert found.item() == pytest.approx(expected.item(), abs=2e-3)


def test_a_batch_holds_all_chosen_answers_and_then_all_rejected_ones(tokenizer: Any) -> None:
    pairs = [
        encode_pair(tokenizer, QUESTION, CHOSEN, REJECTED),
        encode_pair(tokenizer, QUESTION, REJECTED, CHOSEN),
    ]
    images = torch.arange(2.0)[:, None, None].expand(2, 16, 4)
    batch = pair_batch(pairs, images)
    assert torch.equal(batch.ids[0], batch.ids[3]) and torch.equal(batch.ids[1], batch.ids[2])
    assert batch.images is not None
    assert batch.images[:, 0, 0].tolist() == [0, 1, 0, 1]


def test_adding_halves_steps_as_one_whole() -> None:
    schedule = Schedule(steps=2, batch=1, rate=0.1, muon=False)
    ends = []
    for shares in ((1.0,), (0.5, 0.5)):
        weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        learner = Learner([("weight", weight)], schedule)
        for _ in range(2):
            for share in shares:
                learner.add((weight**2).sum() * share)
            learner.step()
        ends.append(weight.detach())
    assert torch.equal(*ends)


def test_the_paper_s_rate_warms_up_and_falls_in_a_straight_line() -> None:
    schedule = replace(PAPER.schedule, steps=100)
    rates = [schedule.rate_at(step) for step in range(100)]
    assert rates[9] == pytest.approx(2e-6)
    assert rates[0] == pytest.approx(2e-7)
    assert rates[55] == pytest.approx(1e-6)
    assert rates[99] == pytest.approx(2e-6 / 90)


def test_a_folder_of_pairs_becomes_an_adapter_that_the_export_accepts(
    checkpoint: Path,
    tokenizer: Any,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command's own path, only faster than the paper's rate, for six pairs are few."""
    out = tmp_path / "made" / "fair"
    given = ["--model", checkpoint, "--dataset", folder, "--out", out, "--rate", "3e-3"]
    assert main([*map(str, given), "--dtype", "float32", "--threads", "1"]) == 0
    assert "6 pairs, 6 steps" in capsys.readouterr().out
    assert [path.name for path in out.parent.iterdir()] == ["fair"]
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (32, 16, 0.0)
    assert config["base_model_name_or_path"] == str(checkpoint)
    opened = open_adapter(out, open_for_export(checkpoint).shape)
    assert {name.rpartition(".self_attn.")[2] for name in opened.targets} == {
        f"{side}_proj.weight" for side in "qkv"
    }
    assert all(name.startswith("language_model.") for name in opened.targets)
    assert mean_loss(checkpoint, out, tokenizer, folder) < 0.9 * log(2)


@torch.no_grad()
def mean_loss(checkpoint: Path, adapter: Path, tokenizer: Any, folder: Path) -> float:
    """The loss over all pairs of the folder; without any learning it is log 2."""
    wrapped: Any = PeftModel.from_pretrained(load(checkpoint), adapter)
    model, losses = wrapped.get_base_model(), []
    for (batch,) in stored_batches(model, tokenizer, read_preferences(folder), 1, 1):
        sums = log_probabilities(model, batch).chunk(2)
        with wrapped.disable_adapter():
            references = log_probabilities(model, batch).chunk(2)
        losses.append(dpo_loss(*sums, *references, beta=0.1).item())
    return sum(losses) / len(losses)


def test_a_step_of_several_batches_and_half_precision(
    checkpoint: Path, folder: Path, tmp_path: Path
) -> None:
    recipe = replace(PAPER, accumulate=2, schedule=replace(PAPER.schedule, batch=2))
    seen = tune_checkpoint(Task(checkpoint, folder, tmp_path / "fair"), recipe)
    assert len(seen) == 2
    assert seen[0].loss == pytest.approx(log(2), abs=1e-6)  # nothing was learnt before it


def test_what_cannot_be_followed_is_one_line_and_leaves_nothing(
    checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    for arguments, said in (
        (("--model", checkpoint), "needs all of --model, --dataset and --out"),
        (("--model", folder, "--dataset", folder, "--out", tmp_path / "new"), "no config.json"),
        (("--model", checkpoint, "--dataset", folder, "--out", tmp_path / "there"), "is there"),
    ):
        assert main([*map(str, arguments), "--threads", "1"]) == 2
        shown = capsys.readouterr().err
        assert said in shown and len(shown.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_set_without_preferences_and_a_checkpoint_with_a_hole_are_refused(
    checkpoint: Path, tmp_path: Path
) -> None:
    write_form(tmp_path / "asked", Drawn("instruct", 1, 2, 1, "train"), loose=True)
    with pytest.raises(LayoutError, match="holds asked, no preferences"):
        tune_checkpoint(Task(checkpoint, tmp_path / "asked", tmp_path / "fair"), PAPER)
    ignore = shutil.ignore_patterns("*.safetensors")
    pickled = Path(shutil.copytree(checkpoint, tmp_path / "pickled", ignore=ignore))
    (pickled / "pytorch_model.bin").touch()
    with pytest.raises(LayoutError, match="pickled weights are not opened"):
        tune_checkpoint(Task(pickled, tmp_path / "asked", tmp_path / "fair"), PAPER)
    holed = Path(shutil.copytree(checkpoint, tmp_path / "holed"))
    (shard,) = holed.glob("*.safetensors")
    tensors = load_file(shard)
    gone = next(name for name in tensors if "multi_modal_projector" in name)
    del tensors[gone]
    save_file(tensors, shard, metadata={"format": "pt"})
    with pytest.raises(LayoutError, match="multi_modal_projector"):
        open_checkpoint(holed, torch.float32)


def test_a_section_of_a_card_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("# pocket\n\n## Figures\n\n1\n\n## Fair\n\nold\n\n## Masks\n\n2\n")
    write_section(card, "## Fair", "## Fair\n\nnew\n")
    expected = "# pocket\n\n## Figures\n\n1\n\n## Fair\n\nnew\n\n## Masks\n\n2\n"
    assert card.read_text() == expected
    write_section(card, "## More", "## More\n\n3\n")
    assert card.read_text() == f"{expected}\n## More\n\n3\n"
