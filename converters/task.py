"""One export under way, as all of its steps see it.

Owns: nothing but what the steps share. Knows nothing of what they make.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from uservlm.converters import names
from uservlm.converters.adapters import LoraAdapter
from uservlm.converters.cases import calibration_cases, calibration_pictures
from uservlm.converters.checkpoint import Checkpoint
from uservlm.converters.describe import Recipe
from uservlm.converters.options import ExportOptions
from uservlm.converters.pixels import read_pixels
from uservlm.converters.plan import SMALL, Effort, effort, pictures
from uservlm.converters.progress import Steps
from uservlm.converters.reference import Asked, Tokenizer
from uservlm.converters.tokenizer_gguf import read_vocabulary
from uservlm.converters.vision_onnx import Features, Pixels
from uservlm.converters.workbench import Finished, Workbench
from uservlm.runtime.image import to_pixels
from uservlm.runtime.manifest import Prompt

JSON = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """What is exported, how, and where its steps leave their files."""

    options: ExportOptions
    checkpoint: Checkpoint
    """With the adapters merged that are to be merged."""
    kept: Mapping[str, LoraAdapter]
    """Adapters kept apart, by name."""
    recipe: Recipe
    bench: Workbench
    steps: Steps

    @property
    def small(self) -> bool:
        """Whether threads would spend longer waiting for each other than computing."""
        return names.weights(self.checkpoint.shape) < SMALL

    @property
    def effort(self) -> Effort:
        """How much is asked to prove the bundle."""
        return effort(self.checkpoint.shape, self.options.cases)

    @property
    def pictures(self) -> int:
        """How many drawn people are looked at: those that the cases and the prompts ask about."""
        return pictures(self.checkpoint.shape, self.options)

    def key(self, **more: Any) -> JSON:
        """Give what every step depends on, and what this one does beside."""
        return {
            "checkpoint": self.recipe.checkpoint,
            "merged": self.recipe.merged,
            "converter": self.recipe.converter,
            "versions": self.recipe.versions,
            **more,
        }

    def step(
        self,
        words: str,
        name: str,
        key: JSON,
        make: Callable[[Path], T],
        *,
        ships: bool = False,
        drops: Sequence[str] = (),
    ) -> Finished[T]:
        """Do a step of the workbench, or say by `words` that an earlier run did it."""
        done = self.bench.step(name, key, make, ships=ships, drops=drops)
        if done.reused:
            self.steps.reuse(words)
        return done

    def asked(self, features: list[Features], count: int) -> list[Asked]:
        """Give the first cases as the original is asked them."""
        return ask_cases(self.checkpoint, Prompt(self.options.template), features, count)

    def pixels(self) -> list[Pixels]:
        """Give the drawn pictures as the checkpoint wants them."""
        return drawn_pixels(self.checkpoint, self.pictures)


def check_readable(checkpoint: Checkpoint) -> None:
    """Read what is small and used late, so that its damage shows before any work is done.

    Raises:
        CheckpointError: see `read_pixels`.
        TokenizerError: see `read_vocabulary` and `Tokenizer`.
    """
    read_pixels(checkpoint)
    read_vocabulary(checkpoint.folder, checkpoint.shape.rows)
    Tokenizer(checkpoint)


def drawn_pixels(checkpoint: Checkpoint, count: int) -> list[Pixels]:
    """Give the first drawn pictures as the checkpoint wants them."""
    spec = read_pixels(checkpoint)
    return [to_pixels(picture, spec) for picture in calibration_pictures()[:count]]


def ask_cases(
    checkpoint: Checkpoint, prompt: Prompt, features: Sequence[Features], count: int
) -> list[Asked]:
    """Give the first cases with the original's user embeddings and its tokenizer's prompts."""
    tokenizer = Tokenizer(checkpoint)
    return [
        Asked(features[case.picture], tokenizer.prompt(prompt.fill(case.question)))
        for case in calibration_cases(count)
    ]


def step_name(adapter: str) -> str:
    """Give a name for a step: adapters may be called what steps may not."""
    return adapter.encode().hex()
