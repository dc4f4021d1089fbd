"""The language model learns words, then the picture, then to answer who asks.

Owns: how dialogues become batches, the loss, and the training loop. Knows nothing of which
sentences are said (`dialogues.py`), how people look (`drawing.py`), who may attend to whom
(`masks.py`) or in which order stages come (`train.py`). The mask is ours rather than transformers'
because one batch holds prefixes of different lengths.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from uservlm.models.architecture import BOS, EOS, PAD
from uservlm.models.learning import Learner, Schedule
from uservlm.models.masks import Mask, block_ends, block_mask
from uservlm.models.prompt import TEMPLATE
from uservlm.runtime.prefix import head_text, join_tokens

if TYPE_CHECKING:
    from transformers import PaliGemmaForConditionalGeneration


@dataclass(frozen=True)
class Example:
    """Token ids of one dialogue; the image rows come before the prompt."""

    prompt: tuple[int, ...]
    """`<bos>`, the filled template."""
    answer: tuple[int, ...]
    """The answer, `<eos>`."""
    head: int
    """How many of the prompt are the same for every question, `<bos>` first."""


@dataclass(frozen=True)
class Batch:
    """Dialogues of one length class, ready for the language model."""

    ids: torch.Tensor
    """int64 [b, t]: prompt, answer, padding."""
    heads: torch.Tensor
    """int64 [b]: of the prompt, what is the same for every question."""
    prompt_lengths: torch.Tensor
    """int64 [b]."""
    lengths: torch.Tensor
    """int64 [b]: prompt and answer."""
    images: torch.Tensor | None
    """float32 [b, N, d]: projected image features, or None for text alone."""

    def to(self, device: torch.device) -> Batch:
        """Give the batch on another device."""
        images = None if self.images is None else self.images.to(device)
        heads, prompts = self.heads.to(device), self.prompt_lengths.to(device)
        return Batch(self.ids.to(device), heads, prompts, self.lengths.to(device), images)


def encode_example(tokenizer: Any, question: str | None, answer: str) -> Example:
    """Tokenise; `question=None` is a caption: nothing but the newline stands before it.

    The head is the runtime's own, so that its resident block is the block that was trained. Where
    the tokens cannot be cut behind it, the runtime attends exactly, and the head is all there is.
    """
    text = "\n" if question is None else TEMPLATE.replace("{question}", question)
    prompt = tokenizer.encode(text, add_special_tokens=False)
    start = "" if question is None else head_text(TEMPLATE)
    head = tokenizer.encode(start, add_special_tokens=False) if start else []
    tokens = join_tokens(BOS, head, prompt)
    said = tokenizer.encode(answer, add_special_tokens=False)
    return Example(tokens.all, (*said, EOS), tokens.head or len(tokens.all))


def collate(examples: list[Example], images: torch.Tensor | None) -> Batch:
    """Pad on the right, to a multiple of 32: a compiled model meets few shapes."""
    whole = [e.prompt + e.answer for e in examples]
    ids = torch.full((len(whole), -(-max(map(len, whole)) // 32) * 32), PAD)
    for row, tokens in enumerate(whole):
        ids[row, : len(tokens)] = torch.tensor(tokens)
    heads = torch.tensor([e.head for e in examples])
    prompts = torch.tensor([len(e.prompt) for e in examples])
    return Batch(ids, heads, prompts, torch.tensor([len(w) for w in whole]), images)


def answer_logits(
    model: PaliGemmaForConditionalGeneration,
    batch: Batch,
    mask: Mask = "paligemma",
    compiled: Callable[..., Any] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits [m, rows] before every answer token, the tokens [m], and the row [m] each belongs to.

    `compiled` stands in for the language model where given: `torch.compile` of it halves a step.
    """
    hidden = hidden_states(model, batch, mask, compiled)
    shift = 0 if batch.images is None else batch.images.shape[1]
    prefix, lengths = batch.prompt_lengths + shift, batch.lengths + shift
    at = torch.arange(hidden.shape[1], device=hidden.device)
    before = (at >= prefix[:, None] - 1) & (at < lengths[:, None] - 1)
    row, column = before.nonzero(as_tuple=True)
    table = model.model.language_model.embed_tokens.weight
    logits = (hidden[row, column] @ table.T).float()
    cap = model.config.text_config.final_logit_softcapping
    if cap is not None:
        logits = torch.tanh(logits / cap) * cap
    return logits, batch.ids[row, column + 1 - shift], row


def hidden_states(
    model: PaliGemmaForConditionalGeneration,
    batch: Batch,
    mask: Mask = "paligemma",
    compiled: Callable[..., Any] | None = None,
) -> torch.Tensor:
    """What the last layer gives, normed: [b, N + t, d]; arguments as for `answer_logits`."""
    language = model.model.language_model
    forward = language if compiled is None else compiled
    rows = language.embed_tokens(batch.ids)
    shift = 0
    if batch.images is not None:
        shift = batch.images.shape[1]
        rows = torch.cat([batch.images / rows.shape[-1] ** 0.5, rows], dim=1)
    prefix, lengths, total = batch.prompt_lengths + shift, batch.lengths + shift, rows.shape[1]
    seen = block_mask(block_ends(mask, batch.heads + shift, prefix), lengths, total)
    return forward(  # type: ignore[no-any-return]
        inputs_embeds=rows,
        attention_mask={"full_attention": seen, "sliding_attention": seen},
        use_cache=False,
    ).last_hidden_state


def project(
    model: PaliGemmaForConditionalGeneration, pixels: torch.Tensor, repeat: int
) -> torch.Tensor:
    """User embeddings [b · repeat, N, d] of pictures; the tower itself is never trained here."""
    with torch.no_grad():
        seen = model.model.vision_tower(pixel_values=pixels).last_hidden_state
    return model.model.multi_modal_projector(seen).repeat_interleave(repeat, dim=0)  # type: ignore[no-any-return]


def tune(
    model: PaliGemmaForConditionalGeneration,
    trained: Callable[[str], bool],
    next_batch: Callable[[], Batch],
    schedule: Schedule,
    log: Callable[[str], None] = print,
    mask: Mask = "paligemma",
) -> None:
    """Train the parameters whose names `trained` accepts, and nothing else, on `next_batch`."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained(name))
    learner = Learner(((n, p) for n, p in model.named_parameters() if p.requires_grad), schedule)
    compiled = torch.compile(model.model.language_model)
    began, loss_mean, right_mean = time.monotonic(), 0.0, 0.0
    for step in range(schedule.steps):
        with torch.autocast("cpu", torch.bfloat16):
            logits, tokens, row = answer_logits(model, next_batch(), mask, compiled)
        loss = nn.functional.cross_entropy(logits, tokens)
        learner.learn(loss)
        keep = min(0.95, step / (step + 1))
        loss_mean = keep * loss_mean + (1 - keep) * loss.item()
        right_mean = keep * right_mean + (1 - keep) * fully_right(logits, tokens, row).mean().item()
        if step % 25 == 0:
            spent = time.monotonic() - began
            log(f"step {step} {spent:.0f} s: loss {loss_mean:.4f}, fully right {right_mean:.3f}")


def fully_right(logits: torch.Tensor, tokens: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
    """Per dialogue, 1.0 where every answer token is the most likely one, else 0.0.

    This is exactly when greedy decoding would give the right answer, so no decoding is needed.
    """
    hit = (logits.argmax(-1) == tokens).float()
    return torch.ones(int(row.max()) + 1).scatter_reduce(0, row, hit, "amin")
