"""Who sees whom: PaliGemma's prefix mask and the user-first one.

Owns: the two masks, as tensors. Knows nothing of what stands at a position.

`paligemma` is what the model was pretrained with: image and question are one block that sees
itself whole. Under `user-first` there are two: image rows, `<bos>` and the prompt's head see each
other and never the question; the question sees them and itself. So nothing of the first block
depends on what is asked, and the runtime's resident attention (DESIGN section 5), which computes
that block once for each user, is exact for a model tuned so. The answer is causal under both.

transformers 4.57 takes a 4-D mask as it is: as `attention_mask` of the whole PaliGemma, image rows
and padding included, or of its language model, as `tuning.py` does. Neither looks at
`token_type_ids` then. The additive zero means seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import torch

Mask: TypeAlias = Literal["paligemma", "user-first"]
MASKS: Final[tuple[Mask, ...]] = ("paligemma", "user-first")


def block_ends(
    mask: Mask, head: torch.Tensor, prefix: torch.Tensor
) -> tuple[torch.Tensor] | tuple[torch.Tensor, torch.Tensor]:
    """Give where each block of the prefix ends, in order: int64 [b] each.

    Args:
        mask: whose blocks.
        head: int64 [b], positions that are the same for every question, the image rows among them.
        prefix: int64 [b], positions before the answer.
    """
    return (prefix,) if mask == "paligemma" else (head, prefix)


def block_mask(ends: Sequence[torch.Tensor], lengths: torch.Tensor, total: int) -> torch.Tensor:
    """Additive float32 [b, 1, total, total]: a block sees itself, and everybody what is before.

    Args:
        ends: of the blocks in order, int64 [b] each; what is behind the last is causal.
        lengths: int64 [b]; positions behind are padding, which nobody sees.
        total: positions of the batch.
    """
    at = torch.arange(total, device=lengths.device)
    block = sum((at >= end[:, None]).long() for end in ends)
    assert isinstance(block, torch.Tensor)  # there is one block at least
    together = (block[:, :, None] == block[:, None, :]) & (block < len(ends))[:, None, :]
    seen = (together | (at[:, None] >= at)) & (at < lengths[:, None])[:, None, :]
    nobody = torch.zeros(len(lengths), 1, total, total, device=lengths.device)
    return nobody.masked_fill_(~seen[:, None], -1e9)
