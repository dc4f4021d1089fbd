"""Train the pocket model again, from a seed: `python -m uservlm.models.train`.

Owns: the order of the stages. Each leaves one file in the work folder (`workshop.py`) and is
skipped when that file is there (the last two never are), so a stopped training goes on where it
was, and stages that need nothing of each other (tower, words) can run side by side.

1. `pictures`     draw the training people
2. `tower`        ours: the vision tower learns attributes (stands in for SigLIP's pretraining),
   `sharpen`      and does so again, twice; see docs/decisions/0002 for why there are three rounds
   `polish`
3. `words`        ours: the language model reads and answers text alone (for Gemma's pretraining)
4. `captions`     ours: projector and language model learn to describe what the tower sees
5. `alignment`    the paper's first stage: the projector alone, on descriptions
6. `instruction`  the paper's second stage: a LoRA on the language model, on questions of users
   `user-first`   the same from the same weights under the other mask of `masks.py`
7. `figures`      run both exactly and resident, on held-out people
8. `checkpoint`   merge, round to bfloat16, write Hugging Face layout and the adapter beside it

`--mask user-first` ships the second LoRA instead of the first. `--from-shipped` starts at stage 6
from the weights in `models/pocket/` and ends with the figures in its card; `--steps`, `--batch` and
`--pictures` make it shorter.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from uservlm.models.checkpoint import write_checkpoint, write_mask_section
from uservlm.models.dialogues import describe, sample_dialogue, text_only
from uservlm.models.evaluate import both_ways, table
from uservlm.models.learning import Schedule
from uservlm.models.mask_figures import section
from uservlm.models.masks import MASKS, Mask
from uservlm.models.people import Scene
from uservlm.models.pictures import scene_at
from uservlm.models.shipped import recover_stages, shipped
from uservlm.models.tower import Seer, labels_of, to_tensor, train_tower
from uservlm.models.tuning import Batch, Example, collate, encode_example, project, tune
from uservlm.models.workshop import LANGUAGE, PROJECTOR, TOWER, Recipe, Workshop

if TYPE_CHECKING:
    from transformers import PaliGemmaForConditionalGeneration

LORA_TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""User-VLM's own targets, named so that the tower's layers of the same names stay frozen."""
TUNED: dict[Mask, str] = {"paligemma": "instruction", "user-first": "user-first"}
"""The stage that tunes under each mask."""
TUNED_WITH: dict[Mask, str] = {"paligemma": "PaliGemma's mask", "user-first": "user-first mask"}
FIGURES = "figures.md"
"""What the stage of that name leaves: the section of the card."""


def make_pictures(shop: Workshop) -> None:
    """Stage 1."""
    shop.squares()


def make_tower(shop: Workshop) -> None:
    """Stage 2, first round."""
    _see(shop, shop.model(), shop.recipe.tower, "tower")


def make_sharpen(shop: Workshop) -> None:
    """Stage 2, second round: thin strokes need more of it, and Muon gets there sooner."""
    _see(shop, shop.model("tower"), shop.recipe.sharpen, "sharpen")


def make_polish(shop: Workshop) -> None:
    """Stage 2, third round, on the drawings as they are now (docs/decisions/0002)."""
    _see(shop, shop.model("sharpen"), shop.recipe.polish, "polish")


def _see(
    shop: Workshop, model: PaliGemmaForConditionalGeneration, schedule: Schedule, stage: str
) -> None:
    squares = shop.squares()
    labels = np.array([labels_of(scene_at(shop.recipe.seed, i)) for i in range(len(squares))])
    seer = Seer(model.model.vision_tower)
    train_tower(seer, squares, labels, schedule, shop.recipe.seed + schedule.steps, _say)
    shop.save(stage, model, TOWER)


def make_words(shop: Workshop) -> None:
    """Stage 3."""
    model, tokenizer = shop.model(), shop.tokenizer()
    rng = np.random.default_rng([shop.recipe.seed, 3])
    texts = _text_batches(tokenizer, rng, shop.recipe.words.batch)
    tune(model, lambda n: n.startswith(LANGUAGE), lambda: next(texts), shop.recipe.words, _say)
    shop.save("words", model, LANGUAGE)


def make_captions(shop: Workshop) -> None:
    """Stage 4: three steps in ten stay on text, so that the words are not forgotten."""
    model, tokenizer, recipe = shop.model("polish", "words"), shop.tokenizer(), shop.recipe
    rng = np.random.default_rng([recipe.seed, 4])
    caption = partial(_caption, tokenizer)
    picture = _picture_batches(shop, model, rng, recipe.captions.batch, caption)
    texts = _text_batches(tokenizer, rng, recipe.captions.batch)

    def next_batch() -> Batch:
        return picture() if rng.random() < 0.7 else next(texts)

    tune(model, lambda n: n.startswith((PROJECTOR, LANGUAGE)), next_batch, recipe.captions, _say)
    shop.save("captions", model, PROJECTOR, LANGUAGE)


def make_alignment(shop: Workshop) -> None:
    """Stage 5: as in the paper, only the projector moves."""
    model, tokenizer, recipe = shop.model("polish", "captions"), shop.tokenizer(), shop.recipe
    rng = np.random.default_rng([recipe.seed, 5])
    caption = partial(_caption, tokenizer)
    next_batch = _picture_batches(shop, model, rng, recipe.alignment.batch, caption)
    tune(model, lambda n: n.startswith(PROJECTOR), next_batch, recipe.alignment, _say)
    shop.save("alignment", model, PROJECTOR)


def make_instruction(shop: Workshop, mask: Mask = "paligemma") -> None:
    """Stage 6: a LoRA as User-VLM's; vision and projector are frozen.

    Both masks see the same pictures and questions in the same order.
    """
    from peft import LoraConfig, get_peft_model

    tokenizer, recipe = shop.tokenizer(), shop.recipe
    rng = np.random.default_rng([recipe.seed, 6])
    base = shop.model("polish", "captions", "alignment")
    config = LoraConfig(
        r=recipe.lora_rank, lora_alpha=recipe.lora_alpha, target_modules=LORA_TARGETS
    )
    wrapped: Any = get_peft_model(base, config)

    def ask(scene: Scene) -> Example:
        dialogue = sample_dialogue(scene, rng)
        return encode_example(tokenizer, dialogue.question, dialogue.answer)

    next_batch = _picture_batches(
        shop, base, rng, recipe.instruction.batch, ask, recipe.questions_per_picture
    )
    tune(base, lambda n: "lora_" in n, next_batch, recipe.instruction, _say, mask)
    wrapped.save_pretrained(_adapter(shop, mask))
    merged = wrapped.merge_and_unload()
    shop.save(TUNED[mask], merged, LANGUAGE)


def make_figures(shop: Workshop) -> None:
    """Stage 7: what each mask costs the other's run, and what it costs to tune under it."""
    tokenizer, people = shop.tokenizer(), shop.recipe.held_out
    found = {}
    if shop.recipe.from_shipped:
        found["PaliGemma's mask (the shipped weights)"] = both_ways(shipped(), tokenizer, people)
    for mask, words in TUNED_WITH.items():
        found[words] = both_ways(_tuned(shop, mask), tokenizer, people)
    text = section(found, shop.recipe)
    (shop.folder / FIGURES).write_text(text, encoding="utf-8")
    _say(text)


def make_checkpoint(shop: Workshop) -> None:
    """Stage 8: write `models/pocket/` and print the table of its card."""
    recipe = shop.recipe
    made = {
        "seed": recipe.seed,
        "pictures": recipe.pictures,
        "rank": recipe.lora_rank,
        "masks": (shop.folder / FIGURES).read_text(encoding="utf-8"),
    }
    model, adapter = _tuned(shop, recipe.mask), _adapter(shop, recipe.mask)
    rows = write_checkpoint(model, shop.folder / "tokenizer", adapter, made, mask=recipe.mask)
    _say(table(rows))


def _tuned(shop: Workshop, mask: Mask) -> PaliGemmaForConditionalGeneration:
    model = shop.model("polish", "captions", "alignment", TUNED[mask])
    model.eval()
    return model


def _adapter(shop: Workshop, mask: Mask) -> Path:
    return shop.folder / f"adapter-{TUNED[mask]}"


def _caption(tokenizer: Any, scene: Scene) -> Example:
    return encode_example(tokenizer, None, describe(scene))


def _text_batches(
    tokenizer: Any, rng: np.random.Generator, size: int, pool: int = 8
) -> Iterator[Batch]:
    """Text alone for ever; batches of like length, cut from a sorted pool, in random order."""
    while True:
        pairs = [encode_example(tokenizer, *text_only(rng)) for _ in range(size * pool)]
        pairs.sort(key=lambda e: len(e.prompt) + len(e.answer))
        for index in rng.permutation(pool):
            yield collate(pairs[index * size : (index + 1) * size], None)


def _picture_batches(
    shop: Workshop,
    model: PaliGemmaForConditionalGeneration,
    rng: np.random.Generator,
    size: int,
    ask: Callable[[Scene], Example],
    repeat: int = 1,
) -> Callable[[], Batch]:
    """Batches of pictures drawn by lot, `ask` being put to each `repeat` times."""
    squares = shop.squares()

    def next_batch() -> Batch:
        chosen = np.sort(rng.choice(len(squares), size // repeat, replace=False))
        scenes = (scene_at(shop.recipe.seed, int(index)) for index in chosen)
        examples = [ask(scene) for scene in scenes for _ in range(repeat)]
        return collate(examples, project(model, to_tensor(squares[chosen]), repeat))

    return next_batch


STAGES: dict[str, Callable[[Workshop], None]] = {
    "pictures": make_pictures,
    "tower": make_tower,
    "sharpen": make_sharpen,
    "polish": make_polish,
    "words": make_words,
    "captions": make_captions,
    "alignment": make_alignment,
    "instruction": make_instruction,
    "user-first": partial(make_instruction, mask="user-first"),
    "figures": make_figures,
    "checkpoint": make_checkpoint,
}
AGAIN = ("instruction", "user-first", "figures")
"""The stages after those that `--from-shipped` recovers."""


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Run the stages that are not done yet."""
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    shop = Workshop(options.work, _recipe(options), options.threads)
    if options.from_shipped and not shop.file("alignment").exists():
        recover_stages(shop)
    stages = AGAIN if options.from_shipped else tuple(STAGES)
    for name in [options.only] if options.only else stages:
        if not shop.file(name).exists():
            _say(f"— {name}")
            STAGES[name](shop)
    if options.from_shipped and not options.only:
        write_mask_section((shop.folder / FIGURES).read_text(encoding="utf-8"))
    return 0


def _recipe(options: argparse.Namespace) -> Recipe:
    recipe = Recipe(mask=options.mask, pictures=options.pictures, from_shipped=options.from_shipped)
    stage = replace(recipe.instruction, steps=options.steps, batch=options.batch)
    return replace(recipe, instruction=stage)


def _parser() -> argparse.ArgumentParser:
    usual = Recipe()
    parser = argparse.ArgumentParser(description="Train the pocket model from a seed.")
    parser.add_argument(
        "--work", type=Path, default=Path(".cache/pocket"), help="folder for what stages leave"
    )
    parser.add_argument("--only", choices=STAGES, help="run this stage alone")
    parser.add_argument("--threads", type=int, default=2, help="processor cores to use")
    parser.add_argument(
        "--mask", choices=MASKS, default=usual.mask, help="the LoRA that is shipped was tuned so"
    )
    parser.add_argument(
        "--from-shipped", action="store_true", help="tune anew from the weights in models/pocket"
    )
    parser.add_argument(
        "--steps", type=int, default=usual.instruction.steps, help="of the instruction stages"
    )
    parser.add_argument(
        "--batch", type=int, default=usual.instruction.batch, help="dialogues in each of them"
    )
    parser.add_argument(
        "--pictures", type=int, default=usual.pictures, help="training people to draw"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
