"""Train the pocket model again, from a seed: `python -m uservlm.models.train`.

Owns: the order of the stages, their lengths, and the files between them. Each stage leaves one
file in the work folder and is skipped when that file is there (the last one never is), so a stopped
training goes on where it was, and stages that need nothing of each other (tower, words) can run
side by side.

1. `pictures`     draw the training people
2. `tower`        ours: the vision tower learns attributes (stands in for SigLIP's pretraining),
   `sharpen`      and does so again, twice; see docs/decisions/0002 for why there are three rounds
   `polish`
3. `words`        ours: the language model reads and answers text alone (for Gemma's pretraining)
4. `captions`     ours: projector and language model learn to describe what the tower sees
5. `alignment`    the paper's first stage: the projector alone, on descriptions
6. `instruction`  the paper's second stage: a LoRA on the language model, on questions of users
7. `checkpoint`   merge, round to bfloat16, write Hugging Face layout and the adapter beside it
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from uservlm.models.architecture import IMAGE_SIZE, PIECES, pocket_config
from uservlm.models.checkpoint import write_checkpoint
from uservlm.models.dialogues import corpus, describe, sample_dialogue, text_only
from uservlm.models.evaluate import table
from uservlm.models.learning import Schedule
from uservlm.models.people import Scene, random_scene
from uservlm.models.pictures import scene_at, write_squares
from uservlm.models.prompt import TEMPLATE
from uservlm.models.tower import Seer, labels_of, to_tensor, train_tower
from uservlm.models.tuning import Batch, Example, collate, encode_example, project, tune
from uservlm.models.vocabulary import train_vocabulary

if TYPE_CHECKING:
    from transformers import PaliGemmaForConditionalGeneration

LORA_TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""User-VLM's own targets, named so that the tower's layers of the same names stay frozen."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result besides the code."""

    seed: int = 1
    pictures: int = 120_000
    tower: Schedule = Schedule(steps=1500, batch=128, rate=1e-3, muon=False)
    sharpen: Schedule = Schedule(steps=1200, batch=128, rate=1e-3)
    polish: Schedule = Schedule(steps=700, batch=128, rate=7e-4)
    words: Schedule = Schedule(steps=400, batch=128, rate=1.5e-3)
    captions: Schedule = Schedule(steps=250, batch=128, rate=1.5e-3)
    alignment: Schedule = Schedule(steps=60, batch=128, rate=1e-3)
    instruction: Schedule = Schedule(steps=400, batch=128, rate=2e-3, muon=False)
    questions_per_picture: int = 4
    lora_rank: int = 16
    lora_alpha: int = 32


@dataclass(frozen=True)
class Workshop:
    """The work folder and what every stage needs from it."""

    folder: Path
    recipe: Recipe
    threads: int

    def file(self, stage: str) -> Path:
        """Where a stage leaves its weights."""
        return self.folder / f"{stage}.safetensors"

    def squares(self) -> npt.NDArray[np.uint8]:
        """Training pictures, uint8 [pictures, size, size, 3], drawn if they are not there yet."""
        path = self.folder / f"pictures-{self.recipe.seed}.npy"
        return write_squares(path, self.recipe.seed, self.recipe.pictures, IMAGE_SIZE, self.threads)

    def tokenizer(self) -> Any:
        """The vocabulary, trained if it is not there yet."""
        from transformers import AutoTokenizer

        folder = self.folder / "tokenizer"
        if not (folder / "tokenizer.json").exists():
            rng = np.random.default_rng(self.recipe.seed)
            scenes = [random_scene(rng) for _ in range(4000)]
            train_vocabulary(corpus(self.recipe.seed, scenes, TEMPLATE), folder, PIECES)
        return AutoTokenizer.from_pretrained(folder)

    def model(self, *stages: str) -> PaliGemmaForConditionalGeneration:
        """A fresh model with the weights that the named stages left, later ones winning."""
        from transformers import PaliGemmaForConditionalGeneration

        torch.manual_seed(self.recipe.seed)
        model: PaliGemmaForConditionalGeneration = PaliGemmaForConditionalGeneration._from_config(
            pocket_config(), attn_implementation="eager"
        )
        state = model.state_dict()
        for stage in stages:
            for name, tensor in load_file(self.file(stage)).items():
                state[name].copy_(tensor)
        model.train()
        return model

    def save(self, stage: str, model: torch.nn.Module, *parts: str) -> None:
        """Write the parameters whose names start with one of `parts`."""
        kept = {
            n: p.detach().contiguous() for n, p in model.named_parameters() if n.startswith(parts)
        }
        part = self.file(stage).with_suffix(".part")
        save_file(kept, part)
        part.rename(self.file(stage))


TOWER, PROJECTOR, LANGUAGE = (
    "model.vision_tower",
    "model.multi_modal_projector",
    "model.language_model",
)


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


def make_instruction(shop: Workshop) -> None:
    """Stage 6: a LoRA as User-VLM's; vision and projector are frozen."""
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
    tune(base, lambda n: "lora_" in n, next_batch, recipe.instruction, _say)
    wrapped.save_pretrained(shop.folder / "adapter")
    merged = wrapped.merge_and_unload()
    shop.save("instruction", merged, LANGUAGE)


def make_checkpoint(shop: Workshop) -> None:
    """Stage 7: write `models/pocket/` and print the table of its card."""
    recipe = shop.recipe
    model = shop.model("polish", "captions", "alignment", "instruction").eval()
    made = {"seed": recipe.seed, "pictures": recipe.pictures, "rank": recipe.lora_rank}
    rows = write_checkpoint(model, shop.folder / "tokenizer", shop.folder / "adapter", made)
    _say(table(rows))


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
    "checkpoint": make_checkpoint,
}


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Run the stages that are not done yet."""
    parser = argparse.ArgumentParser(description="Train the pocket model from a seed.")
    parser.add_argument(
        "--work", type=Path, default=Path(".cache/pocket"), help="folder for what stages leave"
    )
    parser.add_argument("--only", choices=STAGES, help="run this stage alone")
    parser.add_argument("--threads", type=int, default=2, help="processor cores to use")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    shop = Workshop(options.work, Recipe(), options.threads)
    for name in [options.only] if options.only else STAGES:
        if not shop.file(name).exists():
            _say(f"— {name}")
            STAGES[name](shop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
