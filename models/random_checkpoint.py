"""A PaliGemma 2 with random weights, in the files in which Hugging Face keeps the real one.

Owns: the small shapes of the tests (no two mechanisms of which look alike), the folder's other
files and the order in which they appear. `random_tensors.py` draws the values, `shards.py` stores
them; this knows no person and no language. Memory is bounded whatever the size; no torch.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uservlm.converters import names
from uservlm.models import random_tensors, shards
from uservlm.models.random_tensors import NONE, Floats, Outliers
from uservlm.models.shapes import Architecture

TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
SHARD_BYTES = 5 * 10**9
"""What transformers puts into one file."""

SQUARE = Architecture(
    image_size=112,
    vision_width=96,
    vision_feed_forward=160,
    vision_layers=2,
    vision_heads=4,
    width=256,
    feed_forward=512,
    layers=4,
    heads=4,
    kv_heads=2,
    head_dim=64,
    scalar=64,
)
SMALL = replace(SQUARE, image_size=56, layers=3, vision_width=64, vision_feed_forward=96)
SHAPES: dict[str, Architecture] = {
    "square": SQUARE,
    "small": replace(SMALL, width=128, feed_forward=256, kv_heads=1, head_dim=32, scalar=32),
    "narrow_heads": replace(SMALL, heads=8, kv_heads=4, head_dim=48, scalar=48),
    "scaled_queries": replace(SMALL, head_dim=32, scalar=144),
    "uncapped": replace(SMALL, caps=(None, None)),
}
"""narrow_heads has head_dim ≠ width / heads, scaled_queries a query scale of its own as Gemma 2's
27B, uncapped no softcaps, as the PaliGemma 2 paper trains its last stage."""

NAMINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "4.4x": (
        (names.VISION, "vision_tower.vision_model."),
        (names.PROJECTOR, "multi_modal_projector."),
        (names.LANGUAGE, "language_model.model."),
    ),
    "4.52": (
        (names.VISION, "model.vision_tower.vision_model."),
        (names.PROJECTOR, "model.multi_modal_projector."),
        (names.LANGUAGE, "model.language_model."),
    ),
    "5": (
        (names.VISION, "model.vision_tower."),
        (names.PROJECTOR, "model.multi_modal_projector."),
        (names.LANGUAGE, "model.language_model."),
    ),
}
"""What each generation of transformers calls the parts, by canonical prefix. 4.52 to 4.57 name them
so in memory and save the names of 4.4x; libraries that save state dicts themselves do not."""
_VERSIONS = {"4.4x": "4.47.0", "4.52": "4.57.6", "5": "5.4.0"}
_GEMMA2_DEFAULTS: dict[str, Any] = {
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "max_position_embeddings": 8192,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
}
"""Of transformers' Gemma2Config; the real repositories leave out what equals them."""


@dataclass(frozen=True)
class Words:
    """What of a tokenizer the configuration repeats."""

    count: int
    """Tokens, the added ones included."""
    image: int
    """Id of `<image>`."""
    pad: int
    eos: int
    bos: int


def read_words(tokenizer: Path) -> Words:
    """Read tokenizer.json of a folder; KeyError names a token it must know and does not."""
    data = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    ids: dict[str, int] = dict(data["model"]["vocab"])
    ids.update({token["content"]: token["id"] for token in data["added_tokens"]})
    special = (ids[text] for text in ("<image>", "<pad>", "<eos>", "<bos>"))
    return Words(max(ids.values()) + 1, *special)


def write_random_checkpoint(
    folder: Path,
    tokenizer: Path,
    shape: Architecture = SQUARE,
    seed: int = 0,
    dtype: str = "bfloat16",
    naming: str = "4.4x",
    outliers: Outliers = NONE,
    shard_bytes: int = SHARD_BYTES,
    done: Callable[[int], object] = lambda _: None,
) -> Path:
    """Save a checkpoint into `folder` and return it; config.json comes last.

    Args:
        folder: made if it is not there.
        tokenizer: folder whose tokenizer files are copied; it must know `<image>`.
        shape: sizes.
        seed: fixes every weight.
        dtype: bfloat16, float16 or float32, of the stored weights.
        naming: generation of transformers whose names are used, a key of NAMINGS.
        outliers: what to put on top of the noise.
        shard_bytes: most a file may hold.
        done: called with the number of bytes written since the last call, from two threads.

    Raises:
        ValueError: another dtype or naming, or a tokenizer larger than the shape's table.
    """
    words = read_words(tokenizer)
    rows = shape.rows_for(words.count)
    if words.count > rows:
        raise ValueError(f"{tokenizer} has {words.count} tokens, but the shape {rows} rows")
    layout, canonical = plan_weights(shape.shape(rows), dtype, naming, shard_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
    sizes = names.expected(shape.shape(rows))

    def blocks(stored: str) -> Iterator[Floats]:
        name = canonical[stored]
        return random_tensors.draw(name, sizes[name], seed, outliers)

    shards.write(folder, layout, blocks, done)
    _write_json(folder / "preprocessor_config.json", _preprocessor(shape))
    _write_json(folder / "config.json", config(shape, words, dtype, naming))
    return folder


def plan_weights(
    shape: names.Shape, dtype: str, naming: str, shard_bytes: int = SHARD_BYTES
) -> tuple[shards.Layout, dict[str, str]]:
    """Give the weights' files, and every tensor's canonical name by its stored one."""
    if naming not in NAMINGS:
        raise ValueError(f"no naming is called {naming!r}: choose one of {', '.join(NAMINGS)}")
    sizes = names.expected(shape)
    canonical = {_stored(name, naming): name for name in sizes}
    stored = {name: sizes[meant] for name, meant in canonical.items()}
    return shards.plan(stored, dtype, shard_bytes), canonical


def _stored(name: str, naming: str) -> str:
    for prefix, written in NAMINGS[naming]:
        if name.startswith(prefix):
            return written + name[len(prefix) :]
    raise ValueError(f"{name} begins like no part of the model")


def config(shape: Architecture, words: Words, dtype: str, naming: str) -> dict[str, Any]:
    """Give config.json as that generation writes it: sparse, defaults left out."""
    key = "dtype" if naming == "5" else "torch_dtype"
    return {
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "bos_token_id": words.bos,
        "eos_token_id": words.eos,
        "hidden_size": shape.width,
        "image_token_index": words.image,
        "model_type": "paligemma",
        "pad_token_id": words.pad,
        "projection_dim": shape.width,
        "text_config": {**_text_config(shape, words, naming), key: dtype},
        key: dtype,
        "transformers_version": _VERSIONS[naming],
        "vision_config": {
            "hidden_size": shape.vision_width,
            "image_size": shape.image_size,
            "intermediate_size": shape.vision_feed_forward,
            "model_type": "siglip_vision_model",
            "num_attention_heads": shape.vision_heads,
            "num_hidden_layers": shape.vision_layers,
            "num_image_tokens": shape.image_tokens,
            "num_positions": shape.image_tokens,
            "patch_size": shape.patch_size,
            "projection_dim": shape.width,
            key: dtype,
            "vision_use_head": False,
        },
    }


def _text_config(shape: Architecture, words: Words, naming: str) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        "head_dim": shape.head_dim,
        "query_pre_attn_scalar": shape.scalar,
        "max_position_embeddings": shape.context,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": shape.eps,
    }
    sparse = {key: value for key, value in numbers.items() if _GEMMA2_DEFAULTS[key] != value}
    if naming == "5":
        sparse.pop("rope_theta", None)
        sparse["rope_parameters"] = {"rope_theta": shape.rope_theta, "rope_type": "default"}
    return {
        "architectures": ["Gemma2ForCausalLM"],
        "attn_logit_softcapping": shape.caps[0],
        "final_logit_softcapping": shape.caps[1],
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "model_type": "gemma2",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_image_tokens": shape.image_tokens,
        "num_key_value_heads": shape.kv_heads,
        "sliding_window": shape.sliding_window,
        "vocab_size": shape.rows_for(words.count),
        **sparse,
    }


def _preprocessor(shape: Architecture) -> dict[str, Any]:
    side = shape.image_size
    return {
        "do_convert_rgb": None,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_seq_length": shape.image_tokens,
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "PaliGemmaProcessor",
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": side, "width": side},
    }


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
