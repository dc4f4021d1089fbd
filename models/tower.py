"""Stage 1: the vision tower learns to see, from the attributes of drawn people themselves.

The real User-VLM starts from a SigLIP that has seen the web. No pretrained one is at hand, and a
tower that learns through a caption's loss alone learns thin strokes last, so ours is taught each
attribute by name: the mean of its image tokens must tell it through one linear layer. The layers
are thrown away; the tower and nothing else goes on to the next stage.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from uservlm.models.learning import Learner, Schedule
from uservlm.models.people import ATTRIBUTES, COMPANY, Scene

TARGETS: dict[str, tuple[object, ...]] = {**ATTRIBUTES, "company": COMPANY}


def labels_of(scene: Scene) -> list[int]:
    """Index of every target's value, in the order of TARGETS."""
    values = {**{name: getattr(scene.user, name) for name in ATTRIBUTES}, "company": scene.company}
    return [TARGETS[name].index(values[name]) for name in TARGETS]


def to_tensor(squares: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Normalise uint8 [b, s, s, 3] to float32 [b, 3, s, s] in -1 … 1, as the processor does."""
    return torch.from_numpy(np.array(squares)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


class Seer(nn.Module):
    """The tower with one linear reading per attribute on the mean of its tokens."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower
        self.heads = nn.ModuleDict({n: nn.Linear(256, len(v)) for n, v in TARGETS.items()})

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Give one [b, values] logit tensor per target."""
        mean = self.tower(pixel_values=pixels).last_hidden_state.mean(1)
        return [head(mean) for head in self.heads.values()]


def batches(
    squares: npt.NDArray[np.uint8], size: int, rng: np.random.Generator
) -> Iterator[npt.NDArray[np.int64]]:
    """Shuffle for ever, a permutation at a time; each batch sorted for the disk's sake.

    Raises:
        ValueError: there are fewer pictures than one batch holds.
    """
    if len(squares) < size:
        raise ValueError(f"{len(squares)} pictures do not fill a batch of {size}: draw more")
    while True:
        order = rng.permutation(len(squares))
        for start in range(0, len(order) - size + 1, size):
            yield np.sort(order[start : start + size])


def train_tower(
    seer: Seer,
    squares: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    schedule: Schedule,
    seed: int,
    log: Callable[[str], None] = print,
) -> None:
    """Teach `seer` for `schedule.steps`; pictures are mirrored at random and their light varied."""
    rng = np.random.default_rng(seed)
    learner = Learner(seer.named_parameters(), schedule)
    running, began = np.zeros(len(TARGETS)), time.monotonic()
    for step, chosen in zip(
        range(schedule.steps), batches(squares, schedule.batch, rng), strict=False
    ):
        pixels = _vary(to_tensor(squares[chosen]), rng)
        target = torch.from_numpy(labels[chosen])
        with torch.autocast("cpu", torch.bfloat16):
            outputs = seer(pixels)
        losses = [
            nn.functional.cross_entropy(o.float(), target[:, i]) for i, o in enumerate(outputs)
        ]
        learner.learn(torch.stack(losses).sum())
        hits = [(o.argmax(-1) == target[:, i]).float().mean().item() for i, o in enumerate(outputs)]
        running += max(0.05, 1 / (step + 1)) * (np.array(hits) - running)
        if step % 50 == 0:
            shown = " ".join(f"{n}={r:.3f}" for n, r in zip(TARGETS, running, strict=True))
            log(f"step {step} {time.monotonic() - began:.0f} s: {shown}")


def _vary(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    flip = torch.from_numpy(rng.random(len(pixels)) < 0.5)
    pixels = torch.where(flip[:, None, None, None], pixels.flip(3), pixels)
    gain = torch.from_numpy(rng.uniform(0.9, 1.1, (len(pixels), 1, 1, 1)).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(-0.08, 0.08, (len(pixels), 3, 1, 1)).astype(np.float32))
    return (pixels * gain + shift).clamp(-1, 1)
