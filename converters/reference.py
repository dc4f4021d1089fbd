"""The original: a checkpoint run by transformers in float32, for parity and for tests.

Owns: building transformers' own PaliGemma from our matched tensors, and asking it the questions
the runtime is asked. Knows nothing of bundles.

Three traps it takes care of: transformers' other attention paths drop Gemma 2's softcap without a
word, so attention is eager; without token_type_ids newer versions run a causal mask; and since 4.52
PaliGemma's head leaves out `final_logit_softcapping`, which is put back here as config.json says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from uservlm.converters import names
from uservlm.converters.checkpoint import Checkpoint
from uservlm.converters.errors import CheckpointError
from uservlm.converters.vision_onnx import Features, Pixels

if TYPE_CHECKING:
    import torch
    from transformers import Cache, PaliGemmaForConditionalGeneration

Logits = npt.NDArray[np.float32]
"""float32 [rows of the embedding table], before the softmax."""


class Reference:
    """A checkpoint in transformers, on the CPU, in float32."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Build the model and its tokenizer; takes 4 bytes of memory per weight.

        Raises:
            CheckpointError: transformers expects other tensors than we matched.
        """
        from transformers import AutoTokenizer, PaliGemmaForConditionalGeneration
        from transformers.modeling_utils import no_init_weights

        config = checkpoint.config.__class__.from_dict(checkpoint.config.to_dict())
        config._attn_implementation = "eager"
        with no_init_weights():
            self.model = PaliGemmaForConditionalGeneration(config).eval().requires_grad_(False)
        _load(self.model, checkpoint)
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder)
        self.cap = float(config.text_config.final_logit_softcapping or 0)
        self.image_tokens = checkpoint.shape.image_tokens

    def prompt_ids(self, prompt: str) -> list[int]:
        """Cut the text that follows `<bos>` (template and question, newline included) into ids."""
        return list(self.tokenizer(prompt, add_special_tokens=False)["input_ids"])

    def text(self, ids: list[int]) -> str:
        """Join ids to text, without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def embed(self, pixels: Pixels) -> Features:
        """Give the user embedding: float32 [N, d], the projector's output, not divided by √d."""
        import torch

        with torch.inference_mode():
            hidden = self.model.model.vision_tower(torch.from_numpy(pixels)).last_hidden_state
            features: Features = self.model.model.multi_modal_projector(hidden)[0].numpy()
        return features

    def exact_logits(self, pixels: Pixels, prompt_ids: list[int]) -> Logits:
        """Give the first answer token's logits, image and prompt in one bidirectional block.

        Args:
            pixels: float32 [1, 3, S, S].
            prompt_ids: what follows `<bos>`.
        """
        return self._prefill(pixels, prompt_ids)[0]

    def greedy(self, pixels: Pixels, prompt_ids: list[int], limit: int) -> list[int]:
        """Give the most likely answer, token by token, at most `limit` tokens, without `<eos>`."""
        import torch

        logits, cache = self._prefill(pixels, prompt_ids)
        answer: list[int] = []
        while len(answer) < limit:
            token = int(logits.argmax())
            if token == self.tokenizer.eos_token_id:
                break
            answer.append(token)
            with torch.inference_mode():
                out = self.model(
                    input_ids=torch.tensor([[token]]), past_key_values=cache, use_cache=True
                )
            logits = self._capped(out.logits)
        return answer

    def block_masked_logits(
        self, pixels: Pixels, head_ids: list[int], question_ids: list[int]
    ) -> Logits:
        """Give the first answer token's logits under resident attention (DESIGN section 5).

        Image, `<bos>` and head form one block in which all see all; the question's tokens see that
        block and each other. Only image and head do not see the question.

        Args:
            pixels: float32 [1, 3, S, S].
            head_ids: what follows `<bos>` and does not depend on the question.
            question_ids: the rest of the prompt, at least one token.
        """
        import torch

        first = self.image_tokens + 1 + len(head_ids)
        total = first + len(question_ids)
        mask = torch.zeros(1, 1, total, total)
        mask[:, :, :first, first:] = torch.finfo(torch.float32).min
        with torch.inference_mode():
            out = self.model(
                input_ids=self._ids([*head_ids, *question_ids]),
                pixel_values=torch.from_numpy(pixels),
                attention_mask=mask,
                token_type_ids=torch.zeros(1, total, dtype=torch.long),
            )
        return self._capped(out.logits)

    def _prefill(self, pixels: Pixels, prompt_ids: list[int]) -> tuple[Logits, Cache]:
        import torch

        ids = self._ids(prompt_ids)
        with torch.inference_mode():
            out = self.model(
                input_ids=ids,
                pixel_values=torch.from_numpy(pixels),
                attention_mask=torch.ones_like(ids),
                token_type_ids=torch.zeros_like(ids),
                use_cache=True,
            )
        return self._capped(out.logits), out.past_key_values

    def _ids(self, prompt_ids: list[int]) -> torch.Tensor:
        import torch

        image = self.model.config.image_token_index
        return torch.tensor(
            [[image] * self.image_tokens + [self.tokenizer.bos_token_id, *prompt_ids]]
        )

    def _capped(self, logits: torch.Tensor) -> Logits:
        last: Logits = logits[0, -1].numpy()
        return self.cap * np.tanh(last / self.cap) if self.cap else last


def _load(model: PaliGemmaForConditionalGeneration, checkpoint: Checkpoint) -> None:
    """Load every matched tensor and nothing else; the head is the embedding table."""
    state = {f"model.{name}": checkpoint.read(name) for name in checkpoint.places}
    missing, unexpected = model.load_state_dict(state, strict=False, assign=True)
    if set(missing) - {names.HEAD} or unexpected:
        raise CheckpointError(f"transformers misses {missing} and does not know {unexpected}")
    model.lm_head.weight = model.get_input_embeddings().weight
