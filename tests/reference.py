"""What transformers computes in float32 for a checkpoint, with the masks spelled out by hand.

Owns: the numbers the runtime is compared with. Knows nothing of the runtime nor of the converter:
weights come through transformers' own loader, pixels from its own processor, tokens from the
caller. (`uservlm.converters.reference` reads weights through the converter's table of names; a
mistake in that table would be in the bundle and in that reference alike.) Every mask is a 4-D
tensor, so that no default of a transformers version decides what attends to what.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from transformers import PaliGemmaForConditionalGeneration, SiglipImageProcessor

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """A checkpoint in transformers, float32, eager attention."""

    model: PaliGemmaForConditionalGeneration
    processor: SiglipImageProcessor

    @staticmethod
    def load(checkpoint: Path) -> Reference:
        model = PaliGemmaForConditionalGeneration.from_pretrained(
            checkpoint, dtype=torch.float32, attn_implementation="eager"
        )
        return Reference(model.eval(), SiglipImageProcessor.from_pretrained(checkpoint))

    @property
    def image_tokens(self) -> int:
        vision = self.model.config.vision_config
        return int((vision.image_size // vision.patch_size) ** 2)

    def pixels(self, image: Image.Image) -> torch.Tensor:
        return self.processor(images=image.convert("RGB"), return_tensors="pt").pixel_values

    def logits(
        self,
        pixels: torch.Tensor,
        tokens: tuple[int, ...],
        *,
        head: int | None = None,
        causal: bool = False,
        answer: tuple[int, ...] = (),
        image_scale: float = 1.0,
    ) -> Floats:
        """Give the logits behind the last token.

        Args:
            pixels: [1, 3, S, S].
            tokens: `<bos>` and prompt.
            head: tokens that stand in the image's block; None puts all of them there (exact).
            causal: a wrong mask, for negative controls.
            answer: tokens of the answer so far.
            image_scale: a wrong scale of the image features, for negative controls.
        """
        n, t = self.image_tokens, len(tokens)
        blocks = [n + t] if head is None else [n + head, t - head]
        mask = causal_mask(n + t + len(answer)) if causal else block_mask(blocks, len(answer))
        with torch.no_grad():
            features = self.model.model.get_image_features(pixels) * image_scale
            rows = self.model.model.get_input_embeddings()(torch.tensor([[*tokens, *answer]]))
            found = self.model.model.language_model(
                inputs_embeds=torch.cat([features, rows], dim=1),
                attention_mask=mask,
                position_ids=torch.arange(1, mask.shape[-1] + 1)[None],
                use_cache=False,
            )
            return self._capped(self.model.lm_head(found.last_hidden_state[0, -1]))

    def own_logits(self, pixels: torch.Tensor, tokens: tuple[int, ...]) -> Floats:
        """Give the same as exact `logits`, by the model's own forward and mask.

        transformers 4.57 leaves out PaliGemma's final softcap; it is put back.
        """
        ids = torch.tensor([[self.model.config.image_token_id] * self.image_tokens + list(tokens)])
        with torch.no_grad():
            found = self.model(
                input_ids=ids,
                pixel_values=pixels,
                attention_mask=torch.ones_like(ids),
                token_type_ids=torch.zeros_like(ids),
            )
        return self._capped(found.logits[0, -1])

    def _capped(self, logits: torch.Tensor) -> Floats:
        cap = self.model.config.text_config.final_logit_softcapping
        return (torch.tanh(logits / cap) * cap).numpy()

    def greedy(
        self, pixels: torch.Tensor, tokens: tuple[int, ...], longest: int, head: int | None = None
    ) -> list[int]:
        """Give the greedy answer, without the end-of-answer token."""
        answer: list[int] = []
        while len(answer) < longest:
            token = int(self.logits(pixels, tokens, head=head, answer=tuple(answer)).argmax())
            if token == self.model.config.text_config.eos_token_id:
                break
            answer.append(token)
        return answer

    def gaps(
        self,
        pixels: torch.Tensor,
        tokens: tuple[int, ...],
        answer: list[int],
        head: int | None = None,
    ) -> list[float]:
        """Give how far the best logit is above the second at each token of an answer."""
        tops = [
            np.sort(self.logits(pixels, tokens, head=head, answer=tuple(answer[:i])))[-2:]
            for i in range(len(answer))
        ]
        return [float(best - second) for second, best in tops]


def block_mask(blocks: list[int], answer: int) -> torch.Tensor:
    """Let every block see itself and what is before it, and the answer be causal: [1, 1, L, L]."""
    length = sum(blocks) + answer
    seen = torch.ones(length, length, dtype=torch.bool).tril()
    start = 0
    for size in blocks:
        seen[start : start + size, start : start + size] = True
        start += size
    return torch.where(seen, 0.0, torch.finfo(torch.float32).min)[None, None]


def causal_mask(length: int) -> torch.Tensor:
    """Let every position see itself and what is before it."""
    return block_mask([], length)
