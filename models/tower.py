"""Stage 1: the vision tower learns to see, from the attributes of drawn people themselves.

The real User-VLM starts from a SigLIP that has seen the web. No pretrained one is at hand, and a
tower that learns through a caption's loss alone learns thin strokes last, so ours is taught each
attribute by name: the mean of its image tokens must tell it through one linear layer. The layers
are thrown away; the tower and nothing else goes on to the next stage.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from uservlm.models.architecture import pocket_config
from uservlm.models.people import ATTRIBUTES, COMPANY, Scene

TARGETS: dict[str, tuple[object, ...]] = {**ATTRIBUTES, "company": COMPANY}


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a stage learns."""

    steps: int
    batch: int
    rate: float
    """Peak of the learning rate: linear warm-up over 3 %, then cosine to a fiftieth."""
    seconds: float | None = None
    """Stop the clockwork early: the schedule is stretched to fit this wall time when set."""

    def rate_at(self, done: float) -> float:
        """Learning rate when the share `done` of the stage is over."""
        warm = min(1.0, done / 0.03)
        return self.rate * warm * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * min(done, 1.0)))))


def labels_of(scene: Scene) -> list[int]:
    """Index of every target's value, in the order of TARGETS."""
    values = {**{name: getattr(scene.user, name) for name in ATTRIBUTES}, "company": scene.company}
    return [TARGETS[name].index(values[name]) for name in TARGETS]


def to_tensor(squares: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Normalise uint8 [b, s, s, 3] to float32 [b, 3, s, s] in -1 … 1, as the processor does."""
    return torch.from_numpy(squares).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


class Seer(nn.Module):
    """The tower with one linear reading per attribute on the mean of its tokens."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import SiglipVisionModel

        self.tower = SiglipVisionModel._from_config(
            pocket_config().vision_config, attn_implementation="eager"
        )
        self.heads = nn.ModuleDict({n: nn.Linear(256, len(v)) for n, v in TARGETS.items()})

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Give one [b, values] logit tensor per target."""
        mean = self.tower(pixel_values=pixels).last_hidden_state.mean(1)
        return [head(mean) for head in self.heads.values()]


def batches(
    squares: npt.NDArray[np.uint8], size: int, rng: np.random.Generator
) -> Iterator[npt.NDArray[np.int64]]:
    """Shuffle for ever, a permutation at a time; each batch sorted for the disk's sake."""
    while True:
        order = rng.permutation(len(squares))
        for start in range(0, len(order) - size + 1, size):
            yield np.sort(order[start : start + size])


def train_tower(
    squares: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    schedule: Schedule,
    seed: int,
    log: Any = print,
) -> Seer:
    """Learn for `schedule.steps`; pictures are mirrored at random and their light varied."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    seer = Seer()
    optimiser = torch.optim.AdamW(
        seer.parameters(), lr=schedule.rate, weight_decay=0.05, betas=(0.9, 0.98)
    )
    running, began = np.zeros(len(TARGETS)), time.monotonic()
    for step, chosen in zip(
        range(schedule.steps), batches(squares, schedule.batch, rng), strict=False
    ):
        spent = time.monotonic() - began
        done = spent / schedule.seconds if schedule.seconds else step / schedule.steps
        if done >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate_at(done)
        pixels = _vary(to_tensor(squares[chosen]), rng)
        target = torch.from_numpy(labels[chosen])
        with torch.autocast("cpu", torch.bfloat16):
            outputs = seer(pixels)
        losses = [
            nn.functional.cross_entropy(o.float(), target[:, i]) for i, o in enumerate(outputs)
        ]
        optimiser.zero_grad(set_to_none=True)
        torch.stack(losses).sum().backward()
        nn.utils.clip_grad_norm_(seer.parameters(), 1.0)
        optimiser.step()
        hits = [(o.argmax(-1) == target[:, i]).float().mean().item() for i, o in enumerate(outputs)]
        running += 0.05 * (np.array(hits) - running)
        if step % 50 == 0:
            shown = " ".join(f"{n}={r:.3f}" for n, r in zip(TARGETS, running, strict=True))
            log(f"step {step} {spent:.0f}s {done:.2f} {shown}")
    return seer


def _vary(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    flip = torch.from_numpy(rng.random(len(pixels)) < 0.5)
    pixels = torch.where(flip[:, None, None, None], pixels.flip(3), pixels)
    gain = torch.from_numpy(rng.uniform(0.9, 1.1, (len(pixels), 1, 1, 1)).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(-0.08, 0.08, (len(pixels), 3, 1, 1)).astype(np.float32))
    return (pixels * gain + shift).clamp(-1, 1)
