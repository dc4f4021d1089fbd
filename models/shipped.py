"""The shipped pocket as it was before its instruction stage: merged weights without the adapter.

Owns: the way back from `models/pocket/` to the files that the earlier stages leave, so that who
wants to tune anew need not train from nothing. The weights were rounded to bfloat16 after merging,
so they come back to about three decimal places, not bit for bit.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from uservlm.models.checkpoint import POCKET, TOKENIZER_FILES
from uservlm.models.workshop import LANGUAGE, PROJECTOR, TOWER, Workshop

if TYPE_CHECKING:
    from transformers import PaliGemmaForConditionalGeneration

PREFIX = "base_model.model."
"""peft's, before the model's own names."""


def shipped() -> PaliGemmaForConditionalGeneration:
    """Give the model as it is in `models/pocket/`, float32, eager attention."""
    from transformers import PaliGemmaForConditionalGeneration

    model: PaliGemmaForConditionalGeneration = PaliGemmaForConditionalGeneration.from_pretrained(
        POCKET, dtype=torch.float32, attn_implementation="eager"
    )
    model.eval()
    return model


def recover_stages(shop: Workshop) -> None:
    """Leave `polish`, `captions` and `alignment` in the work folder as if they had been trained."""
    model = shipped()
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, change in adapter_changes(POCKET / "adapter").items():
            parameters[name].sub_(change)
    (shop.folder / "tokenizer").mkdir(exist_ok=True)
    for file in POCKET.glob(TOKENIZER_FILES):
        shutil.copy(file, shop.folder / "tokenizer" / file.name)
    shop.save("polish", model, TOWER)
    shop.save("captions", model, PROJECTOR, LANGUAGE)
    shop.save("alignment", model, PROJECTOR)


def adapter_changes(folder: Path) -> dict[str, torch.Tensor]:
    """Give what a LoRA adds to each matrix, float32 [out, in], by the matrix's name."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "adapter_model.safetensors")
    scale = config["lora_alpha"] / config["r"]
    changes = {}
    for name, down in tensors.items():
        if name.endswith(".lora_A.weight"):
            up = tensors[name.replace(".lora_A.", ".lora_B.")]
            target = name.removeprefix(PREFIX).replace(".lora_A.", ".")
            changes[target] = scale * (up.float() @ down.float())
    return changes
