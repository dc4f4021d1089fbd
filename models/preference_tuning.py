"""The paper's third stage: a LoRA learns which of two answers to prefer, by DPO.

Owns: the loss (Rafailov et al., "Direct Preference Optimization", arXiv 2305.18290, equation 7),
how pairs become a batch, and the loop. Knows nothing of what the pairs say (`preferences.py`) or
where they come from (`preference_sources.py`).

The loop is ours, over `tuning.answer_logits`, and not TRL's DPOTrainer, which the paper used: one
attention mask serves every stage, tested once, and `user-first` (`masks.py`) could not be tuned
otherwise; a trainer that builds its own inputs would be a second opinion on that. TRL would also
bring accelerate and datasets for a loss of one line. The LoRA is PEFT's, and so is the reference:
the same model with the adapter switched off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from uservlm.models.learning import Learner, Schedule
from uservlm.models.masks import Mask
from uservlm.models.preference_keep import Keeper
from uservlm.models.tuning import Batch, Example, answer_logits, collate

if TYPE_CHECKING:
    from transformers import PaliGemmaForConditionalGeneration

CALM = 10
"""Steps between two lines of the log."""


@dataclass(frozen=True)
class Objective:
    """What is minimised: DPO, and where it is not enough, likelihood."""

    beta: float = 0.1
    """How much the policy may leave the reference: the smaller, the farther. TRL's default."""
    likelihood: float = 0.0
    """Weight of the chosen answer's negative log-likelihood, a mean over tokens (RPO, arXiv
    2404.19733; TRL's `rpo_alpha`). DPO alone is content when both answers grow less likely, as long
    as the rejected one does so faster; this keeps the chosen one what greedy decoding says."""


@dataclass(frozen=True)
class Encoded:
    """A pair in token ids; the prompts are the same."""

    chosen: Example
    rejected: Example

    @property
    def longest(self) -> int:
        """Tokens of the longer dialogue."""
        return max(len(one.prompt) + len(one.answer) for one in (self.chosen, self.rejected))


@dataclass(frozen=True)
class Progress:
    """What one step saw, before it moved."""

    loss: float
    """With the likelihood."""
    preferred: float
    """Share of the pairs whose chosen answer gained more on the reference than the rejected one."""


def dpo_loss(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    reference_chosen: torch.Tensor,
    reference_rejected: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """Give −log σ(β · margin) of each pair, float32 [b].

    The margin is how much more the policy gained on the reference in the chosen answer than in the
    rejected one. Without any gain the loss is log 2.

    Args:
        chosen: log-probability of the whole answer under the policy, [b].
        rejected: the same of the other answer, [b].
        reference_chosen: the same under the reference, [b].
        reference_rejected: the same under the reference, [b].
        beta: as in `Objective`.
    """
    margin = (chosen - reference_chosen) - (rejected - reference_rejected)
    return -nn.functional.logsigmoid(beta * margin)


def log_probabilities(
    model: PaliGemmaForConditionalGeneration, batch: Batch, mask: Mask = "paligemma"
) -> torch.Tensor:
    """Log-probability of each answer with its `<eos>`, summed over tokens: float32 [b]."""
    logits, tokens, row = answer_logits(model, batch, mask)
    each = torch.log_softmax(logits, -1).gather(1, tokens[:, None])[:, 0]
    return each.new_zeros(len(batch.ids)).index_add(0, row, each)


def pair_batch(pairs: Sequence[Encoded], images: torch.Tensor) -> Batch:
    """Put b pairs into one batch of 2b: all chosen answers, then all rejected ones.

    Args:
        pairs: b of them.
        images: user embeddings, float32 [b, N, d].
    """
    examples = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    return collate(examples, torch.cat([images, images]))


def tune_preferences(
    wrapped: Any,
    batches: Iterable[Sequence[Batch]],
    schedule: Schedule,
    objective: Objective,
    log: Callable[[str], None] = print,
    mask: Mask = "paligemma",
    keeper: Keeper | None = None,
) -> list[Progress]:
    """Train the LoRA of a PeftModel; give what each step saw.

    Args:
        wrapped: with one adapter, all that is left to train.
        batches: for each step the batches of `pair_batch` whose gradients are averaged; read until
            there are no more, or the schedule ends.
        schedule: its `batch` is not looked at.
        objective: what is minimised.
        log: is told every CALM steps.
        mask: who attends to whom.
        keeper: keeps the run; where it has something to go on with, `batches` begin there and
            only the steps from there on are given.
    """
    learnt = {name: one for name, one in wrapped.named_parameters() if one.requires_grad}
    learner, done = Learner(learnt.items(), schedule), 0
    if keeper is not None:
        keeper.restore(learnt, learner)
        done = keeper.step
    wrapped.train()
    began, seen = time.monotonic(), list[Progress]()
    for step, parts in enumerate(batches, done):
        if step == schedule.steps:
            break
        found = [_add(learner, wrapped, part, objective, mask, 1 / len(parts)) for part in parts]
        learner.step()
        means = (sum(values) / len(parts) for values in zip(*found, strict=True))
        seen.append(Progress(*means))
        if step % CALM == 0:
            log(f"step {step} {time.monotonic() - began:.0f} s: {_mean(seen[-CALM:])}")
        if keeper is not None:
            keeper.offer(step + 1, learnt, learner)
    wrapped.eval()
    return seen


def _add(
    learner: Learner, wrapped: Any, batch: Batch, objective: Objective, mask: Mask, share: float
) -> tuple[float, float]:
    """Add one batch's gradient; give its loss and the share that is preferred."""
    model = wrapped.get_base_model()
    batch = batch.to(model.device)
    with torch.no_grad(), wrapped.disable_adapter():
        old_chosen, old_rejected = log_probabilities(model, batch, mask).chunk(2)
    chosen, rejected = log_probabilities(model, batch, mask).chunk(2)
    losses = dpo_loss(chosen, rejected, old_chosen, old_rejected, objective.beta)
    tokens = (batch.lengths - batch.prompt_lengths)[: len(chosen)].sum()
    loss = losses.mean() - objective.likelihood * chosen.sum() / tokens
    learner.add(loss * share)
    return loss.item(), (losses < torch.log(torch.tensor(2.0))).float().mean().item()


def _mean(seen: Sequence[Progress]) -> str:
    loss = sum(one.loss for one in seen) / len(seen)
    preferred = sum(one.preferred for one in seen) / len(seen)
    return f"loss {loss:.4f}, preferred {preferred:.3f}"
