"""LoRA adapters as peft itself saves them, with random matrices large enough to matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PaliGemmaForConditionalGeneration

ATTENTION = r".*language_model.*\.(q_proj|v_proj|o_proj)"
LANGUAGE = r".*language_model.*_proj"


def load(checkpoint: Path) -> PaliGemmaForConditionalGeneration:
    """Load a checkpoint in float32, with the attention of `reference.py`."""
    return PaliGemmaForConditionalGeneration.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def write_lora(checkpoint: Path, folder: Path, seed: int = 0, **config: Any) -> Path:
    """Save an adapter for a checkpoint into `folder`, whatever it trains drawn anew, and return it.

    Args:
        checkpoint: the model it is made for.
        folder: made if it is not there.
        seed: fixes every number.
        config: of peft's LoraConfig; by default rank 4, all matrices of the language model.
    """
    wanted = {"r": 4, "lora_alpha": 12, "target_modules": LANGUAGE, **config}
    model = get_peft_model(load(checkpoint), LoraConfig(**wanted))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                noise = torch.randn(weight.shape, generator=draw)
                weight.copy_(noise * 0.3 * weight.shape[-1] ** -0.5)
            elif "modules_to_save" in name:
                weight.add_(torch.randn(weight.shape, generator=draw) * 0.05)
    model.save_pretrained(folder)
    return folder


def merged(checkpoint: Path, *adapters: Path) -> PaliGemmaForConditionalGeneration:
    """Merge adapters into a checkpoint, in order, with peft's own `merge_and_unload`."""
    model: Any = load(checkpoint)
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return model
