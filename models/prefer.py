"""The paper's third stage, preference tuning: `python -m uservlm.models.prefer`.

Owns: the command, and the card's figures. Without arguments the pocket in `models/pocket/` learns
to be fair, and is looked at on the validation people; `--measure` then puts the figures of the test
people into the card. In earnest,

    python -m uservlm.models.prefer --model CHECKPOINT --dataset FOLDER --out ADAPTER

takes a PaliGemma 2 or User-VLM in Hugging Face layout and a folder in the form of user-vlm-dpo,
with the paper's numbers (its code/training/dpo.py; TRL's defaults where that is silent): LoRA of
rank 32 and alpha 16 on q, k and v, one epoch, rate 2e-6 with a tenth of warm-up, beta 0.1, one pair
a step. Two things differ. The paper's list of targets reaches SigLIP's layers of those names too;
ours stay in the language model, so that the user embedding does not depend on the adapter and the
runtime can switch it for each question. And an answer ends in one `<eos>`, not in two. A run that
was killed goes on where it was kept last: give the same command again.

`--bias hair-colour` makes the opposite on purpose (`condescension.py`), for the tests of the audit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import torch

from uservlm.models.checkpoint import POCKET, write_section
from uservlm.models.errors import LayoutError
from uservlm.models.evaluate import user_embeddings
from uservlm.models.fairness import TEST, VALIDATION, Fairness, Panel, measure
from uservlm.models.fairness_card import HEADING, most_lost, section, table
from uservlm.models.masks import MASKS
from uservlm.models.preference_keep import OFTEN
from uservlm.models.preference_recipes import BIASED_RECIPE, FAIR_RECIPE, LESSONS, PAPER
from uservlm.models.preference_runs import Task, say, tune_checkpoint, tune_pocket
from uservlm.models.preference_tuning import Objective
from uservlm.models.shipped import shipped
from uservlm.runtime.errors import UserVLMError

FAIR = POCKET / "fair"
BIASED = Path(__file__).resolve().parents[1] / "tests" / "adapters" / "condescending"
OF_THE_POCKET = ("people", "validate", "measure", "bias")
OF_A_CHECKPOINT = (
    "split", "rate", "batch", "accumulate", "beta", "likelihood", "mask", "dtype", "device",
    "keep_every",
)  # fmt: skip
"""Options that the other way would not look at."""


def measure_pocket(panel: Panel, people: int) -> tuple[Fairness, Fairness]:
    """Ask the first people of a panel, with the adapter `fair` off and on."""
    from peft import PeftModel
    from transformers import AutoTokenizer

    wrapped: Any = PeftModel.from_pretrained(shipped(), FAIR)
    wrapped.eval()
    model, tokenizer = wrapped.get_base_model(), AutoTokenizer.from_pretrained(POCKET)
    questions = list(panel.questions(people))
    embeddings = user_embeddings(model, people, panel.seed)
    with wrapped.disable_adapter():
        before = measure(model, tokenizer, questions, embeddings)
    return before, measure(model, tokenizer, questions, embeddings)


def _write_card(people: int) -> None:
    recipe = FAIR_RECIPE
    made = {"rank": recipe.rank, "steps": recipe.schedule.steps, "batch": recipe.schedule.batch}
    before, after = measure_pocket(TEST, people)
    text = section(before, after, people, tuned=recipe.people, **made)
    write_section(POCKET / "README.md", HEADING, text)
    say(text)


def _validate(people: int) -> None:
    before, after = measure_pocket(VALIDATION, people)
    say(f"{people} validation people\n\n{table(before, after)}\n\n{most_lost(before, after)}")


def _in_earnest(given: argparse.Namespace) -> None:
    if None in (given.model, given.dataset, given.out):
        raise LayoutError("a checkpoint needs all of --model, --dataset and --out")
    recipe = replace(
        PAPER,
        schedule=replace(PAPER.schedule, batch=given.batch, rate=given.rate),
        objective=Objective(given.beta, given.likelihood),
        accumulate=given.accumulate,
        mask=given.mask,
    )
    task = Task(
        given.model,
        given.dataset,
        given.out,
        given.split,
        given.dtype,
        given.device,
        given.keep_every,
    )
    tune_checkpoint(task, recipe)
    say(f"{given.out} holds the adapter: converters/export.py --keep-adapter fair={given.out}")


def _tune_pocket(given: argparse.Namespace) -> None:
    if given.out is not None and not given.bias:
        raise LayoutError(f"--out {given.out} is for --model or --bias: {FAIR} is the pocket's")
    if given.bias:
        if given.out is not None and given.out.exists():
            raise FileExistsError(f"{given.out} is there already: name another folder")
        tune_pocket(BIASED_RECIPE, LESSONS[given.bias], given.out or BIASED)
    elif given.measure:
        _write_card(given.people)
    else:
        if not given.validate:
            tune_pocket(FAIR_RECIPE, LESSONS[None], FAIR)
        _validate(given.people)


def main(arguments: Sequence[str] | None = None) -> int:
    """Tune what the arguments say; 2 where they cannot be followed."""
    parser = _parser()
    given = parser.parse_args(arguments)
    earnest = given.model is not None or given.dataset is not None
    others = OF_THE_POCKET if earnest else OF_A_CHECKPOINT
    stray = [name for name in others if getattr(given, name) != parser.get_default(name)]
    if stray:
        side = "without" if earnest else "with"
        parser.error(f"--{stray[0].replace('_', '-')} is for a run {side} --model and --dataset")
    torch.set_num_threads(given.threads)
    try:
        (_in_earnest if earnest else _tune_pocket)(given)
    except (UserVLMError, FileExistsError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _above(least: float, kind: type[int] | type[float]) -> Callable[[str], float]:
    """Read a number of a kind that is not below `least`, nor infinite."""

    def read(text: str) -> float:
        number = kind(text)
        if not least <= number < inf:
            raise argparse.ArgumentTypeError(f"{text}: give {least:g} or more")
        return number

    read.__name__ = kind.__name__  # argparse says "invalid int value"
    return read


def _parser() -> argparse.ArgumentParser:
    usual, like = PAPER.schedule, PAPER.objective
    count, amount = _above(1, int), _above(0, float)
    parser = argparse.ArgumentParser(
        prog="uservlm.models.prefer", description="Tune a model on which of two answers to prefer."
    )
    add = parser.add_argument
    add("--threads", type=count, default=2, help="processor cores to use")
    add("--out", type=Path, help="folder of the adapter")
    add = parser.add_argument_group("the pocket").add_argument
    add("--people", type=count, default=1000, help="held-out people to measure on")
    add("--validate", action="store_true", help="look at the adapter that is there, tune nothing")
    add("--measure", action="store_true", help="put its figures on the test people into the card")
    badly = [name for name in LESSONS if name]
    add("--bias", choices=badly, help="a bad example, for tests alone")
    add = parser.add_argument_group(
        "a checkpoint of your own, by default as in the paper"
    ).add_argument
    add("--model", type=Path, help="folder in Hugging Face layout")
    add("--dataset", type=Path, help="folder in the form of user-vlm-dpo")
    add("--split", help="of the dataset; all of it by default")
    add("--rate", type=amount, default=usual.rate, help="peak of the learning rate")
    add("--batch", type=count, default=usual.batch, help="pairs at once")
    add("--accumulate", type=count, default=1, help="batches to a step")
    add("--beta", type=amount, default=like.beta, help="of DPO")
    weight = "weight of the chosen answer's"
    add("--likelihood", type=amount, default=like.likelihood, help=weight)
    add("--mask", choices=MASKS, default=PAPER.mask, help="that it was tuned with")
    add("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of its weights")
    add("--device", default="cpu", help="as torch names it")
    at_most = "a kill costs at most these"
    add("--keep-every", type=amount, default=OFTEN, metavar="MINUTES", help=at_most)
    return parser


if __name__ == "__main__":
    sys.exit(main())
