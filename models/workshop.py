"""Where the pocket is trained: the recipe, the work folder, and how stages pass weights on.

Owns: everything that decides the result besides the code, and the names of the files. Knows nothing
of what a stage does (`train.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from uservlm.models.architecture import IMAGE_SIZE, PIECES, pocket_config
from uservlm.models.dialogues import corpus
from uservlm.models.learning import Schedule
from uservlm.models.masks import Mask
from uservlm.models.people import random_scene
from uservlm.models.pictures import write_squares
from uservlm.models.prompt import TEMPLATE
from uservlm.models.vocabulary import train_vocabulary

if TYPE_CHECKING:
    from transformers import PaliGemmaForConditionalGeneration

TOWER, PROJECTOR, LANGUAGE = (
    "model.vision_tower",
    "model.multi_modal_projector",
    "model.language_model",
)


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
    mask: Mask = "paligemma"
    """Of the two instruction stages, the one whose weights are shipped."""
    held_out: int = 500
    """People that both are compared on."""
    from_shipped: bool = False
    """The stages before them were not trained but recovered from `models/pocket/`."""


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
