"""Stage 7: the trained model leaves the workshop in Hugging Face layout, with its card.

Owns: the files of `models/pocket/` and the card's text. Its figures are measured here, on the
weights as shipped (bfloat16), and are never typed in by hand.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from uservlm.models.architecture import IMAGE_SIZE, IMAGE_TOKENS
from uservlm.models.evaluate import Row, evaluate, table
from uservlm.models.mask_figures import HEADING
from uservlm.models.masks import Mask

TOKENIZER_FILES = "*token*"
POCKET = Path(__file__).parent / "pocket"

CARD = """---
license: mit
pipeline_tag: image-text-to-text
---

# pocket: a User-VLM in miniature

A `PaliGemmaForConditionalGeneration` with {weights:.1f} million weights in bfloat16: SigLIP at
{size} px ({tokens} image tokens), a linear projector and Gemma 2 with grouped-query attention, both
softcaps and tied embeddings. It is made to be loaded, converted and run exactly like User-VLM 3B,
in a demo and in tests. It is a toy: it has only ever seen drawn people, and what it says of real
ones means nothing.

Made by `python -m uservlm.models.train` from seed {seed}. Prompt, as User-VLM's:
`<image>`×{tokens} `<bos>` ` <|im_start|>USER: {{question}}<|im_end|> ASSISTANT: \\n`.

## What it was taught

{pictures:,} pictures of drawn people. First the tower learns their attributes by name and the
language model learns the dialogues in words alone (for no pretrained SigLIP or Gemma is at hand);
then the paper's stages: the projector is aligned on descriptions, and a LoRA of rank {rank} on the
language model is tuned on dialogues. The merged model is here; the LoRA alone is in `adapter/`:
subtract it from the merged weights to have the model as it was before the second stage.

## What it must not say

People are drawn in eight skin tones and without gender. No description, question or answer ever
names ethnicity, gender, religion or health: the words are not in its training text, and
tests/test_dialogues.py keeps them out.

## Figures

{people} held-out people, one dialogue each in every cell; the share of answers that are right
to the letter under greedy decoding, float32, with 95 % intervals. *Held-out phrasing*: questions
worded in ways that training never showed. *Another user's picture*: the same questions with the
picture replaced; *chance* is how often that other user's right answer happens to be the same, which
is where a model that looks must fall to. General questions must not fall at all.

{table}

{masks}"""


def write_checkpoint(
    model: Any,
    tokenizer_folder: Path,
    adapter: Path,
    made: dict[str, Any],
    people: int = 1000,
    mask: Mask = "paligemma",
) -> Sequence[Row]:
    """Round to bfloat16, write the folder, measure what was written and write its card.

    Args:
        model: as trained, adapter merged.
        tokenizer_folder: its vocabulary.
        adapter: the LoRA alone.
        made: what the card says of the training: seed, pictures, rank, masks (`section`).
        people: held-out users that are asked.
        mask: the one it was tuned under and is measured under.
    """
    from transformers import AutoTokenizer, PaliGemmaForConditionalGeneration, SiglipImageProcessor

    shutil.rmtree(POCKET, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(POCKET)
    SiglipImageProcessor(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        image_seq_length=IMAGE_TOKENS,
        processor_class="PaliGemmaProcessor",
    ).save_pretrained(POCKET)
    for file in tokenizer_folder.iterdir():
        shutil.copy(file, POCKET / file.name)
    write_adapter(adapter, POCKET / "adapter")
    shipped = PaliGemmaForConditionalGeneration.from_pretrained(
        POCKET, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    rows = evaluate(shipped, AutoTokenizer.from_pretrained(POCKET), people, mask=mask)
    text = CARD.format(
        weights=sum(p.numel() for p in shipped.parameters()) / 1e6,
        size=IMAGE_SIZE,
        tokens=IMAGE_TOKENS,
        people=people,
        table=table(rows),
        **made,
    )
    (POCKET / "README.md").write_text(text, encoding="utf-8")
    return rows


def write_mask_section(text: str) -> None:
    """Put newly measured figures of the two masks into the card; all else in it stays."""
    write_section(POCKET / "README.md", HEADING, text)


def write_section(card: Path, heading: str, text: str) -> None:
    """Put a section into a card, where it stood or at the end; all else in the card stays.

    Args:
        card: a file in Markdown.
        heading: the section's first line, of level 2.
        text: the whole section, heading included.
    """
    parts = re.split(r"^(?=## )", card.read_text(encoding="utf-8"), flags=re.MULTILINE)
    places = [at for at, part in enumerate(parts) if part.startswith(f"{heading}\n")]
    if places:
        parts[places[0]] = text
    else:
        parts.append(text)
    card.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")


def save_adapter(wrapped: Any, out: Path) -> None:
    """Put the LoRA of a PeftModel at `out`, in bfloat16; it appears there when it is whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".adapter-") as folder:
        wrapped.save_pretrained(Path(folder, "trained"))
        write_adapter(Path(folder, "trained"), Path(folder, "rounded"))
        Path(folder, "rounded").rename(out)


def write_adapter(source: Path, target: Path) -> None:
    """Copy a LoRA into a new folder, its weights rounded to bfloat16."""
    target.mkdir()
    weights = {
        n: t.to(torch.bfloat16) for n, t in load_file(source / "adapter_model.safetensors").items()
    }
    save_file(weights, target / "adapter_model.safetensors", metadata={"format": "pt"})
    shutil.copy(source / "adapter_config.json", target / "adapter_config.json")
