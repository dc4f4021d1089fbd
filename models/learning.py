"""How every stage learns: schedule and optimisers, nothing of what is learnt.

Matrices go to Muon, everything else (embeddings, norms, biases) to AdamW. Muon orthogonalises a
matrix's update (K. Jordan et al., "Muon", 2024; in torch since 2.9) and needs fewer steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import cos, pi
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a stage learns."""

    steps: int
    batch: int
    rate: float
    """Peak of the learning rate: linear warm-up, then cosine to a fiftieth."""
    muon: bool = True
    """False gives everything to AdamW: for LoRA's thin factors, and where a stage was found so."""
    warm_up: float = 0.03
    """Share of the steps."""
    linear: bool = False
    """Down to nothing in a straight line instead, as transformers' Trainer does."""
    weight_decay: float = 0.01
    """AdamW's."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's."""

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        if self.linear:
            warm = self.warm_up * self.steps
            up, down = (step + 1) / max(1.0, warm), (self.steps - step) / (self.steps - warm)
            return self.rate * min(up, down)
        done = (step + 1) / self.steps
        cosine = 0.02 + 0.98 * 0.5 * (1 + cos(pi * done))
        return self.rate * min(1.0, done / self.warm_up) * cosine


class Learner:
    """Steps a set of parameters along a schedule."""

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], schedule: Schedule):
        """Sort the parameters."""
        self._schedule, self._step = schedule, 0
        chosen = dict(named)
        self._parameters = list(chosen.values())
        matrices = [
            p
            for n, p in chosen.items()
            if schedule.muon and p.ndim == 2 and "embed" not in n and "head" not in n
        ]
        taken = {id(p) for p in matrices}
        others = [p for p in self._parameters if id(p) not in taken]
        self._optimisers: list[torch.optim.Optimizer] = []
        if others:
            self._optimisers.append(
                torch.optim.AdamW(
                    others,
                    lr=schedule.rate,
                    weight_decay=schedule.weight_decay,
                    betas=schedule.betas,
                )
            )
        if matrices:
            self._optimisers.append(
                torch.optim.Muon(
                    matrices, lr=schedule.rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
                )
            )

    def learn(self, loss: torch.Tensor) -> None:
        """One step down the gradient of `loss`."""
        self.add(loss)
        self.step()

    def add(self, loss: torch.Tensor) -> None:
        """Add the gradient of `loss` to what the next step goes down."""
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self) -> None:
        """One step down all that was added since the last."""
        rate = self._schedule.rate_at(self._step)
        self._step += 1
        nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """Give what the next step depends on besides the parameters; tensors are not copied."""
        optimisers = [optimiser.state_dict() for optimiser in self._optimisers]
        return {"step": self._step, "optimisers": optimisers}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where a learner of the same parameters and schedule gave its `state`."""
        self._step = state["step"]
        for optimiser, found in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(found)
