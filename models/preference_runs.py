"""Following a recipe of the third stage, from pairs to an adapter in its place.

Owns: the way of the pocket and of a checkpoint of one's own. Recipes are `preference_recipes.py`'s,
the loop `preference_tuning.py`'s, what survives a kill `preference_keep.py`'s.

An adapter appears in its place when it is whole, and what it takes the place of stays until then.
An error leaves nothing behind, but a run of which something is kept stays in `.NAME.partial`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uservlm.converters.output import disk_errors, locked, place
from uservlm.models.acide import Preference, check, read_preferences
from uservlm.models.checkpoint import POCKET, save_adapter
from uservlm.models.errors import LayoutError
from uservlm.models.evaluate import user_embeddings
from uservlm.models.preference_keep import FILE, OFTEN, Keeper, folder_digest
from uservlm.models.preference_recipes import Recipe
from uservlm.models.preference_sources import Crowd, Lesson, drawn_batches, stored_batches
from uservlm.models.preference_tuning import Progress, tune_preferences
from uservlm.models.shipped import shipped

if TYPE_CHECKING:
    from transformers import PaliGemmaForConditionalGeneration

SHUFFLED = 1000
"""Records among which the next one is drawn."""
MADE = "adapter"
"""In the work folder: what goes into place."""


@dataclass(frozen=True)
class Task:
    """A checkpoint, the pairs it is to learn from, and where the adapter goes."""

    checkpoint: Path
    """In Hugging Face layout."""
    pairs: Path
    """A folder in the form of user-vlm-dpo."""
    out: Path
    """Must not be there yet."""
    split: str | None = None
    """Of the pairs; None takes all."""
    dtype: str = "bfloat16"
    """Of the checkpoint's weights, as torch names it; the LoRA is float32 whatever this is."""
    device: str = "cpu"
    minutes: float = OFTEN
    """Between two times that the run is kept."""

    def identity(self, recipe: Recipe) -> Mapping[str, str]:
        """Give what the result depends on, by names that a user knows."""
        return {
            "checkpoint": folder_digest(self.checkpoint),
            "dataset": folder_digest(self.pairs),
            "--split": str(self.split),
            "--dtype": self.dtype,
            "recipe (--rate, --batch, --accumulate, --beta, --likelihood, --mask)": repr(recipe),
        }


def tune_pocket(recipe: Recipe, lesson: Lesson, out: Path) -> list[Progress]:
    """Tune the shipped pocket on drawn people and put the adapter in the place of `out`.

    Raises:
        OutputError: the disk refuses, or another run is writing `out`.
    """
    from transformers import AutoTokenizer

    with _placed(out) as folder:
        model, tokenizer = shipped(), AutoTokenizer.from_pretrained(POCKET)
        del model.name_or_path  # this machine's; peft would write it into the adapter
        crowd = Crowd(recipe.seed, user_embeddings(model, recipe.people, recipe.seed))
        rng = np.random.default_rng([recipe.seed, 7])
        batches = drawn_batches(crowd, tokenizer, lesson, recipe.schedule.batch, rng)
        wrapped = wrap(model, recipe)
        schedule, objective = recipe.schedule, recipe.objective
        seen = tune_preferences(wrapped, batches, schedule, objective, say, recipe.mask)
        save_adapter(wrapped, folder / MADE)
    return seen


def tune_checkpoint(task: Task, recipe: Recipe) -> list[Progress]:
    """Tune a checkpoint on a folder's pairs, once through; give what the steps of this run saw.

    Where an earlier run of the same task was killed, this one goes on where that was kept last.
    That `out` can be written is found out first, and that all pairs can be read before anything is
    loaded.

    Args:
        task: what is tuned on what.
        recipe: its steps are as many as the folder gives.

    Raises:
        FileExistsError: `out` is there.
        OutputError: it cannot be, or another run is writing it.
        DataError: the folder holds no pairs, one of them cannot be used, or the checkpoint is none.
        KeptError: what is kept beside `out` is of another run.
    """
    from transformers import AutoTokenizer

    if task.out.exists():
        raise FileExistsError(f"{task.out} is there already: name another folder for the adapter")
    _refuse_none(task.checkpoint)
    with _placed(task.out) as folder:
        recipe = _measured(task, recipe)
        keeper = Keeper(folder, task.identity(recipe), task.minutes, say)
        model: Any = open_checkpoint(task.checkpoint, getattr(torch, task.dtype))
        model.to(task.device)
        tokenizer = AutoTokenizer.from_pretrained(task.checkpoint)
        wrapped, batch = wrap(model, recipe), recipe.schedule.batch
        done = keeper.step * batch * recipe.accumulate
        records = _shuffled(read_preferences(task.pairs, task.split), recipe.seed)
        rest = islice(records, done, None)
        batches = stored_batches(model, tokenizer, rest, batch, recipe.accumulate)
        schedule, objective = recipe.schedule, recipe.objective
        seen = tune_preferences(wrapped, batches, schedule, objective, say, recipe.mask, keeper)
        save_adapter(wrapped, folder / MADE)
    return seen


def open_checkpoint(folder: Path, dtype: torch.dtype) -> PaliGemmaForConditionalGeneration:
    """Load a checkpoint; LayoutError for a missing weight, which transformers would draw anew."""
    from transformers import PaliGemmaForConditionalGeneration

    _refuse_none(folder)
    model, found = PaliGemmaForConditionalGeneration.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation="eager",
        output_loading_info=True,
        use_safetensors=True,
    )
    missing = sorted(set(found["missing_keys"]) - {"lm_head.weight"})
    if missing:
        raise LayoutError(
            f"{folder}: transformers finds no {missing[0]} ({len(missing)} are missing): "
            "load it with the transformers that saved it, and save it again with 4.57"
        )
    return model  # type: ignore[no-any-return]


def wrap(model: PaliGemmaForConditionalGeneration, recipe: Recipe) -> Any:
    """Put a new LoRA on the model: a PeftModel, equal for equal recipes."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(recipe.seed)
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=recipe.targets,
    )
    return get_peft_model(model, config)


def say(text: str) -> None:
    """Print at once, be it into a file."""
    print(text, flush=True)


@contextmanager
def _placed(out: Path) -> Iterator[Path]:
    """Give a folder beside `out`; what is made in it as MADE takes the place of `out` at the end.

    After an error or Ctrl-C the folder stays where it keeps a run, and goes where it does not.
    """
    out = out.resolve()
    with locked(out) as folder, disk_errors(out):
        keeps = False
        try:
            shutil.rmtree(folder / MADE, ignore_errors=True)
            yield folder
            place(folder / MADE, out)
        except BaseException:
            keeps = (folder / FILE).exists()
            raise
        finally:
            if not keeps:
                shutil.rmtree(folder)


def _refuse_none(checkpoint: Path) -> None:
    if not (checkpoint / "config.json").is_file():
        raise LayoutError(
            f"{checkpoint} holds no config.json: it is no checkpoint of Hugging Face's"
        )
    if not any(checkpoint.glob("*.safetensors")):
        raise LayoutError(f"{checkpoint} holds no .safetensors, and pickled weights are not opened")


def _measured(task: Task, recipe: Recipe) -> Recipe:
    """Check all pairs, and give the recipe as many steps as there are."""
    counts = check(task.pairs, task.split)
    if counts.kind != "preferences":
        raise LayoutError(f"{task.pairs} holds {counts.kind}, no preferences: chosen and rejected")
    steps = ceil(counts.rows / (recipe.schedule.batch * recipe.accumulate))
    say(f"{counts.rows} pairs, {steps} steps")
    return replace(recipe, schedule=replace(recipe.schedule, steps=steps))


def _shuffled(records: Iterator[Preference], seed: int) -> Iterator[Preference]:
    """Give them in another order: the next one is drawn among SHUFFLED."""
    rng, waiting = np.random.default_rng(seed), list[Preference]()
    for record in records:
        waiting.append(record)
        if len(waiting) == SHUFFLED:
            yield waiting.pop(int(rng.integers(SHUFFLED)))
    yield from (waiting[index] for index in rng.permutation(len(waiting)))
