"""A Qwen2.5-VL in its real shape with random weights, as OpenVINO GenAI reads it.

Owns: the shape, the files a tokenizer and a picture processor are read from, and the order of
making; the quantising is left to `optimum-cli`, as its users do it. Runs in the peer's own
environment (`python -m uservlm.bench.openvino_model FOLDER`), where of this project only
`uservlm.bench` can be imported. Nothing is downloaded.

Numbers: config.json of Qwen/Qwen2.5-VL-3B-Instruct and arXiv 2502.13923; ids of the special tokens
as its tokenizer has them. The vocabulary is invented but for those, with as many pieces.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase
from typing import Any, Final

RECIPE: Final = 1
"""Raise it when another model comes out: a folder of another recipe is not taken."""
SPECIAL: Final = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *(f"<|{what}_{end}|>" for what in ("object_ref", "box", "quad") for end in ("start", "end")),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)
"""In the order of their ids, behind the pieces."""
PICTURE: Final = "<|vision_start|><|image_pad|><|vision_end|>"
TEMPLATE: Final = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}" + PICTURE + "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML with the system prompt that the published model has by default."""
PICTURES: Final[Mapping[str, Any]] = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "Qwen2VLImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "max_pixels": 12_845_056,
    "merge_size": 2,
    "min_pixels": 3_136,
    "patch_size": 14,
    "processor_class": "Qwen2_5_VLProcessor",
    "resample": 3,
    "rescale_factor": 1 / 255,
    "temporal_patch_size": 2,
}
"""preprocessor_config.json: a picture is resized to multiples of 28 pixels, so that 448 x 448
become 256 tokens; mean and deviation are CLIP's."""
SPREAD: Final = 0.02
"""Standard deviation of the random weights."""


@dataclass(frozen=True)
class Shape:
    """Numbers of a Qwen2.5-VL."""

    pieces: int
    """Of the tokenizer, special tokens not counted."""
    rows: int
    """Of the embedding table, at least pieces and special tokens."""
    width: int
    feed_forward: int
    layers: int
    heads: int
    """Of 128 dimensions each."""
    kv_heads: int
    vision_width: int
    vision_feed_forward: int
    vision_layers: int
    vision_heads: int
    full_attention: tuple[int, ...]
    """Vision layers that are not confined to windows, counted from 0."""


REAL: Final = Shape(
    pieces=151_643,
    rows=151_936,
    width=2048,
    feed_forward=11_008,
    layers=36,
    heads=16,
    kv_heads=2,
    vision_width=1280,
    vision_feed_forward=3420,
    vision_layers=32,
    vision_heads=16,
    full_attention=(7, 15, 23, 31),
)
"""Qwen2.5-VL-3B: 3.75 G weights."""
MINIATURE: Final = Shape(
    pieces=1000,
    rows=1024,
    width=256,
    feed_forward=512,
    layers=2,
    heads=2,
    kv_heads=1,
    vision_width=160,
    vision_feed_forward=320,
    vision_layers=2,
    vision_heads=2,
    full_attention=(1,),
)
"""To try the way of making in seconds."""


def make(folder: Path, shape: Shape) -> None:
    """Make the model into `folder`, which appears whole or not at all.

    Args:
        folder: not there yet; beside it lies the float checkpoint while it is needed, 7.5 GB.
        shape: of what to make.

    Raises:
        SystemExit: the export failed; its last words went to stderr.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        checkpoint, made = Path(scratch, "checkpoint"), Path(scratch, "made")
        print("random weights", flush=True)
        write_words(checkpoint, shape)
        write_weights(checkpoint, shape)
        print("export to OpenVINO, 4 bits", flush=True)
        _export(checkpoint, made)
        note = {"recipe": RECIPE, "shape": asdict(shape)}
        Path(made, "made.json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
        made.rename(folder)


def write_words(folder: Path, shape: Shape) -> None:
    """Write the files of the tokenizer and of the picture processor."""
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(shape.pieces),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL),
        chat_template=TEMPLATE,
        model_max_length=131_072,
    )
    tokenizer.save_pretrained(folder)
    text = json.dumps(PICTURES, indent=1)
    Path(folder, "preprocessor_config.json").write_text(text + "\n", encoding="utf-8")


def write_weights(folder: Path, shape: Shape) -> None:
    """Write config.json and random weights in bfloat16."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    from transformers.modeling_utils import no_init_weights

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with no_init_weights():
        model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**_config(shape)))
    torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.normal_(std=SPREAD)
            else:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
    model.tie_weights()
    model.save_pretrained(folder)
    del model
    gc.collect()


def _config(shape: Shape) -> dict[str, Any]:
    ids = {text: shape.pieces + place for place, text in enumerate(SPECIAL)}
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "vision_token_id": ids["<|vision_pad|>"],
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "max_position_embeddings": 128_000,
        "max_window_layers": 70,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": 1e-6,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "rope_theta": 1e6,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "vocab_size": shape.rows,
        "vision_config": {
            "depth": shape.vision_layers,
            "fullatt_block_indexes": list(shape.full_attention),
            "hidden_size": shape.vision_width,
            "in_chans": 3,
            "intermediate_size": shape.vision_feed_forward,
            "num_heads": shape.vision_heads,
            "out_hidden_size": shape.width,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
            "tokens_per_second": 2,
            "window_size": 112,
        },
    }


def _tokenizer(pieces: int) -> Any:
    """Byte-level BPE of so many pieces: all bytes, then words of two, three and four letters."""
    from tokenizers import (  # type: ignore[import-untyped]
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
    )

    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = list(islice(_merges(), pieces - len(bytes_)))
    words = [*bytes_, *(head + tail for head, tail in merges)]
    vocabulary = {text: place for place, text in enumerate([*words, *SPECIAL])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def _merges() -> Iterator[tuple[str, str]]:
    for length in (1, 2, 3):
        for head in product(ascii_lowercase, repeat=length):
            yield from (("".join(head), tail) for tail in ascii_lowercase)


def _export(checkpoint: Path, made: Path) -> None:
    """4 bits as optimum-cli gives them when nothing else is asked for."""
    command = [sys.executable, "-m", "optimum.commands.optimum_cli", "export", "openvino"]
    command += ["--model", str(checkpoint), "--task", "image-text-to-text"]
    # Gigabytes go through the folder for temporary files, which may be memory.
    own = {"HF_HUB_OFFLINE": "1", "TMPDIR": str(made.parent)}
    done = subprocess.run(
        [*command, "--weight-format", "int4", str(made)],
        env={**os.environ, **own},
        stdout=sys.stderr,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"optimum-cli ended with code {done.returncode}")


def main() -> None:
    """Make the real shape, or with a second argument `miniature` the small one."""
    make(Path(sys.argv[1]), MINIATURE if "miniature" in sys.argv[2:] else REAL)


if __name__ == "__main__":
    main()
