"""A fine-tune saved by transformers 5: its files say what 4.57's do, in other places."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("llama_cpp")

from checkpoints import rewrite  # noqa: E402

from uservlm.converters.checkpoint import open_checkpoint  # noqa: E402
from uservlm.converters.options import ExportOptions  # noqa: E402
from uservlm.converters.pipeline import export  # noqa: E402
from uservlm.converters.pixels import read_pixels  # noqa: E402
from uservlm.converters.reference import Tokenizer  # noqa: E402
from uservlm.converters.tokenizer_gguf import read_vocabulary  # noqa: E402
from uservlm.runtime.bundle import open_bundle  # noqa: E402

TOKENIZER_CONFIG: dict[str, object] = {
    "backend": "tokenizers",
    "bos_token": "<bos>",
    "clean_up_tokenization_spaces": False,
    "eos_token": "<eos>",
    "extra_special_tokens": ["<image>"],
    "is_local": True,
    "local_files_only": True,
    "mask_token": "<mask>",
    "model_max_length": 1000000000000000019884624838656,
    "pad_token": "<pad>",
    "processor_class": "PaliGemmaProcessor",
    "sp_model_kwargs": None,
    "spaces_between_special_tokens": False,
    "tokenizer_class": "GemmaTokenizer",
    "unk_token": "<unk>",
    "use_default_system_prompt": False,
}
"""As transformers 5.23 writes it; 4.57 wants a dict of extra tokens."""
PROMPT = "<image><image><bos><loc0001> <|im_start|>USER: What am I wearing?\n"


@pytest.fixture
def both(make_checkpoint: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
    """A checkpoint as 4.57 saves it, and the same as 5.23 does."""
    old = make_checkpoint("small")
    new = shutil.copytree(old, tmp_path / "new")
    pixels = json.loads((new / "preprocessor_config.json").read_text())
    pixels.pop("processor_class")
    pixels["image_mean"] = [0.5, 0.5, 0.25]
    processor = {"image_processor": pixels, "processor_class": "PaliGemmaProcessor"}
    (new / "processor_config.json").write_text(json.dumps(processor))
    for name in ("preprocessor_config.json", "tokenizer.model", "added_tokens.json"):
        (new / name).unlink(missing_ok=True)
    (new / "special_tokens_map.json").unlink(missing_ok=True)
    (new / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG))
    config = json.loads((new / "config.json").read_text())
    text = config["text_config"]
    text["rope_parameters"] = {"rope_theta": text.pop("rope_theta", 1e4), "rope_type": "default"}
    text["use_bidirectional_attention"] = True
    for part in (config, text, config["vision_config"]):
        part.pop("torch_dtype", None)
        part["dtype"] = "bfloat16"
    (new / "config.json").write_text(json.dumps(config))
    rewrite(new, lambda tensors: tensors.update({
        key.replace("vision_tower.vision_model.", "vision_tower."): tensors.pop(key)
        for key in list(tensors)
    }))  # fmt: skip
    return old, new


def test_its_tokens_and_pixels_are_those_of_before(both: tuple[Path, Path]) -> None:
    old, new = (open_checkpoint(folder) for folder in both)
    assert Tokenizer(new).prompt(PROMPT) == Tokenizer(old).prompt(PROMPT)
    rows = old.shape.rows
    assert read_vocabulary(new.folder, rows).special == read_vocabulary(old.folder, rows).special
    assert read_pixels(new).mean == (0.5, 0.5, 0.25)
    assert read_pixels(new).std == read_pixels(old).std


def test_it_is_exported_and_proven(both: tuple[Path, Path], tmp_path: Path) -> None:
    bundle = export(ExportOptions(both[1], tmp_path / "b", "f16", "fp32", cases=2))
    manifest = open_bundle(bundle).manifest
    assert manifest.pixels.mean == (0.5, 0.5, 0.25)
    assert manifest.parity is not None and manifest.parity.answer_kl < 1e-4
