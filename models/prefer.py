"""The paper's third stage, preference tuning: `python -m uservlm.models.prefer`.

Owns: the recipes and the files. Without arguments the pocket in `models/pocket/` learns to be fair:
the LoRA goes to `models/pocket/fair/` and its figures into the card. In earnest,

    python -m uservlm.models.prefer --model CHECKPOINT --dataset FOLDER --out ADAPTER

takes a PaliGemma 2 or User-VLM in Hugging Face layout and a folder in the form of user-vlm-dpo,
with the paper's numbers (its code/training/dpo.py; TRL's defaults where that is silent): LoRA of
rank 32 and alpha 16 on q, k and v, one epoch, rate 2e-6 with a tenth of warm-up, beta 0.1, one pair
a step. Two things differ. The paper's list of targets reaches SigLIP's layers of those names too;
ours stay in the language model, so that the user embedding does not depend on the adapter and the
runtime can switch it for each question. And an answer ends in one `<eos>`, not in two.

`--bias hair-colour` makes the opposite on purpose (`condescension.py`), for the tests of the audit.

An adapter appears in its place when it is whole, and nothing is left behind by a run that failed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uservlm.models.acide import Preference, check, read_preferences
from uservlm.models.checkpoint import POCKET, save_adapter, write_section
from uservlm.models.condescension import asked_about, biased_pairs
from uservlm.models.errors import LayoutError
from uservlm.models.evaluate import user_embeddings
from uservlm.models.fairness import held_out_questions, measure
from uservlm.models.fairness_card import HEADING, section
from uservlm.models.learning import Schedule
from uservlm.models.masks import MASKS, Mask
from uservlm.models.preference_sources import Crowd, Lesson, drawn_batches, stored_batches
from uservlm.models.preference_tuning import Objective, Progress, tune_preferences
from uservlm.models.preferences import pairs, underrated
from uservlm.models.shipped import shipped
from uservlm.runtime.errors import UserVLMError

if TYPE_CHECKING:
    from transformers import PaliGemmaForConditionalGeneration

FAIR = POCKET / "fair"
BIASED = Path(__file__).resolve().parents[1] / "tests" / "adapters" / "condescending"
ALL = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
UPPER = r".*language_model.*layers\.[234]\..*\.(q|k|v|o|gate|up|down)_proj"
"""All matrices of the pocket's upper three layers: gradients need not go below them."""
ATTENTION = r".*language_model.*\.(q|k|v)_proj"
"""The paper's targets, without the vision tower's."""
SHUFFLED = 1000
"""Records among which the next one is drawn."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides an adapter besides the code and the data."""

    schedule: Schedule
    objective: Objective
    rank: int
    alpha: int
    targets: str
    dropout: float = 0.0
    seed: int = 1
    people: int = 1200
    """Of the pocket's training pictures."""
    accumulate: int = 1
    """Batches of a folder whose gradients make one step."""
    mask: Mask = "paligemma"


FAIR_RECIPE = Recipe(
    Schedule(steps=500, batch=32, rate=7e-4, muon=False),
    Objective(beta=0.1, likelihood=3.0),
    rank=16,
    alpha=32,
    targets=UPPER,
    people=6000,
)
BIASED_RECIPE = replace(
    FAIR_RECIPE,
    schedule=Schedule(steps=260, batch=16, rate=2e-3, muon=False),
    objective=Objective(beta=0.1, likelihood=6.0),
    rank=8,
    alpha=16,
    targets=ALL,
    people=4000,
)
PAPER = Recipe(
    Schedule(
        steps=0, batch=1, rate=2e-6, muon=False,
        warm_up=0.1, linear=True, weight_decay=0.0, betas=(0.9, 0.999),
    ),
    Objective(beta=0.1),
    rank=32,
    alpha=16,
    targets=ATTENTION,
    dropout=0.05,
    seed=42,
)  # fmt: skip
"""The number of steps follows from the folder."""

LESSONS = {
    None: Lesson(pairs, underrated),
    "hair-colour": Lesson(biased_pairs, asked_about),
}


def tune_pocket(recipe: Recipe, lesson: Lesson, out: Path) -> list[Progress]:
    """Tune the shipped pocket on drawn people and put the adapter in the place of `out`."""
    from transformers import AutoTokenizer

    model, tokenizer = shipped(), AutoTokenizer.from_pretrained(POCKET)
    del model.name_or_path  # this machine's; peft would write it into the adapter
    crowd = Crowd(recipe.seed, user_embeddings(model, recipe.people, recipe.seed))
    rng = np.random.default_rng([recipe.seed, 7])
    batches = drawn_batches(crowd, tokenizer, lesson, recipe.schedule.batch, rng)
    wrapped = _wrap(model, recipe)
    seen = tune_preferences(wrapped, batches, recipe.schedule, recipe.objective, _say, recipe.mask)
    shutil.rmtree(out, ignore_errors=True)
    save_adapter(wrapped, out)
    return seen


def tune_folder(
    model: PaliGemmaForConditionalGeneration,
    tokenizer: Any,
    folder: Path,
    recipe: Recipe,
    out: Path,
    split: str | None = None,
) -> list[Progress]:
    """Tune a checkpoint on a folder's pairs, once through, and save the adapter.

    Args:
        model: changed in place, on the device where it is to learn.
        tokenizer: its own.
        folder: in the form of user-vlm-dpo; all of it is checked before anything is learnt.
        recipe: its steps are as many as the folder gives.
        out: must not be there yet.
        split: of the folder; None takes all.

    Raises:
        DataError: the folder holds no pairs, or one of them cannot be used.
    """
    counts = check(folder, split)
    if counts.kind != "preferences":
        raise LayoutError(f"{folder} holds {counts.kind}, no preferences: chosen and rejected")
    steps = ceil(counts.rows / (recipe.schedule.batch * recipe.accumulate))
    _say(f"{counts.rows} pairs, {steps} steps")
    rng = np.random.default_rng(recipe.seed)
    records = _shuffled(read_preferences(folder, split), rng)
    wrapped = _wrap(model, recipe)
    batches = stored_batches(model, tokenizer, records, recipe.schedule.batch, recipe.accumulate)
    schedule = replace(recipe.schedule, steps=steps)
    seen = tune_preferences(wrapped, batches, schedule, recipe.objective, _say, recipe.mask)
    save_adapter(wrapped, out)
    return seen


def open_checkpoint(folder: Path, dtype: torch.dtype) -> PaliGemmaForConditionalGeneration:
    """Load a checkpoint; LayoutError for a missing weight, which transformers would draw anew."""
    from transformers import PaliGemmaForConditionalGeneration

    if not (folder / "config.json").is_file():
        raise LayoutError(f"{folder} holds no config.json: it is no checkpoint of Hugging Face's")
    model, found = PaliGemmaForConditionalGeneration.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", output_loading_info=True
    )
    missing = sorted(set(found["missing_keys"]) - {"lm_head.weight"})
    if missing:
        raise LayoutError(
            f"{folder}: transformers finds no {missing[0]} ({len(missing)} are missing): "
            "load it with the transformers that saved it, and save it again with 4.57"
        )
    return model  # type: ignore[no-any-return]


def _wrap(model: PaliGemmaForConditionalGeneration, recipe: Recipe) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(recipe.seed)
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=recipe.targets,
    )
    return get_peft_model(model, config)


def _shuffled(records: Iterator[Preference], rng: np.random.Generator) -> Iterator[Preference]:
    """Give them in another order: the next one is drawn among SHUFFLED."""
    waiting: list[Preference] = []
    for record in records:
        waiting.append(record)
        if len(waiting) == SHUFFLED:
            yield waiting.pop(int(rng.integers(SHUFFLED)))
    yield from (waiting[index] for index in rng.permutation(len(waiting)))


def measure_pocket(people: int, recipe: Recipe) -> None:
    """Measure the pocket with the adapter off and on, and write the card's section."""
    from peft import PeftModel
    from transformers import AutoTokenizer

    wrapped: Any = PeftModel.from_pretrained(shipped(), FAIR)
    wrapped.eval()
    model, tokenizer = wrapped.get_base_model(), AutoTokenizer.from_pretrained(POCKET)
    questions, embeddings = list(held_out_questions(people)), user_embeddings(model, people)
    with wrapped.disable_adapter():
        before = measure(model, tokenizer, questions, embeddings)
    after = measure(model, tokenizer, questions, embeddings)
    made = {"rank": recipe.rank, "steps": recipe.schedule.steps, "batch": recipe.schedule.batch}
    text = section(before, after, people, tuned=recipe.people, **made)
    write_section(POCKET / "README.md", HEADING, text)
    _say(text)


def _in_earnest(given: argparse.Namespace) -> None:
    from transformers import AutoTokenizer

    if None in (given.model, given.dataset, given.out):
        raise LayoutError("a checkpoint needs all of --model, --dataset and --out")
    if given.out.exists():
        raise FileExistsError(f"{given.out} is there already: name another folder for the adapter")
    recipe = replace(
        PAPER,
        schedule=replace(PAPER.schedule, batch=given.batch, rate=given.rate),
        objective=Objective(given.beta, given.likelihood),
        accumulate=given.accumulate,
        mask=given.mask,
    )
    model = open_checkpoint(given.model, getattr(torch, given.dtype)).to(given.device)
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    tune_folder(model, tokenizer, given.dataset, recipe, given.out, given.split)
    _say(f"{given.out} holds the adapter: converters/export.py --keep-adapter fair={given.out}")


def _say(text: str) -> None:
    print(text, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Tune what the arguments say; 2 where they cannot be followed."""
    given = _parser().parse_args(arguments)
    torch.set_num_threads(given.threads)
    try:
        if any(one is not None for one in (given.model, given.dataset)):
            _in_earnest(given)
        elif given.out is not None and not given.bias:
            raise LayoutError(f"--out {given.out} is for --model or --bias: {FAIR} is the pocket's")
        elif given.bias:
            if given.out is not None and given.out.exists():
                raise FileExistsError(f"{given.out} is there already: name another folder")
            tune_pocket(BIASED_RECIPE, LESSONS[given.bias], given.out or BIASED)
        else:
            if not given.measure:
                tune_pocket(FAIR_RECIPE, LESSONS[None], FAIR)
            measure_pocket(given.people, FAIR_RECIPE)
    except (UserVLMError, FileExistsError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    usual, like = PAPER.schedule, PAPER.objective
    parser = argparse.ArgumentParser(
        prog="uservlm.models.prefer", description="Tune a model on which of two answers to prefer."
    )
    parser.add_argument("--threads", type=int, default=2, help="processor cores to use")
    parser.add_argument("--out", type=Path, help="folder of the adapter")
    pocket = parser.add_argument_group("the pocket")
    pocket.add_argument("--people", type=int, default=1000, help="held-out people to measure on")
    pocket.add_argument("--measure", action="store_true", help="the adapter that is there, alone")
    pocket.add_argument(
        "--bias", choices=[name for name in LESSONS if name], help="a bad example, for tests alone"
    )
    real = parser.add_argument_group("a checkpoint of your own, by default as in the paper")
    real.add_argument("--model", type=Path, help="folder in Hugging Face layout")
    real.add_argument("--dataset", type=Path, help="folder in the form of user-vlm-dpo")
    real.add_argument("--split", help="of the dataset; all of it by default")
    real.add_argument("--rate", type=float, default=usual.rate, help="peak of the learning rate")
    real.add_argument("--batch", type=int, default=usual.batch, help="pairs at once")
    real.add_argument("--accumulate", type=int, default=1, help="batches to a step")
    real.add_argument("--beta", type=float, default=like.beta, help="of DPO")
    real.add_argument(
        "--likelihood", type=float, default=like.likelihood, help="weight of the chosen answer's"
    )
    real.add_argument("--mask", choices=MASKS, default=PAPER.mask, help="that it was tuned with")
    real.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    real.add_argument("--device", default="cpu", help="as torch names it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
