"""The pocket model's words: a SentencePiece vocabulary in Gemma's manner, in PaliGemma's layout.

Owns: how the vocabulary is trained and written, and the proof that its two forms (SentencePiece's
`tokenizer.model`, which llama.cpp's converter reads, and `tokenizer.json`) give the same ids.
Knows nothing of what the sentences say (`dialogues.py`) or of the prompt's format.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece
import transformers

from uservlm.models.architecture import BOS, EOS, PAD

IMAGE = "<image>"
"""Placeholder of one image row; its id is the first one after the vocabulary, as in PaliGemma."""

LONGEST_SPACE_RUN = 16
"""Runs of 2 to this many spaces are one piece each."""

_ASCII = "".join(map(chr, range(0x21, 0x7F)))
"""Characters that are pieces even if no sentence has them, so that bytes are for the rare only."""

ODD_TEXTS = (
    "",
    " ",
    "naïve café, Straße, 你好",
    "a smile 🙂 and a family 👨‍👩‍👧",
    "in 2025 it cost 1 234.50 euros",
    "two  spaces,   three    four and a tail  ",
    " " * LONGEST_SPACE_RUN + "x",
    "\n",
    "one\ntwo\n\nfour \n end\n",
    "\ttab",
    " <|im_start|>USER: hi<|im_end|> ASSISTANT: \n",
    "<|im_start|>USER: <|im_end|>",
    "control \x07 byte",
)
"""Texts on which the two tokenizers are compared besides the training sentences."""


def train_vocabulary(sentences: Iterable[str], folder: Path | str, size: int = 2048) -> None:
    """Train `size` pieces on `sentences` and write the Hugging Face files into `folder`.

    Writes tokenizer.model and .json, tokenizer_config.json, special_tokens_map.json and
    added_tokens.json, as PaliGemma ships them; the same sentences give the same bytes. `<image>`
    gets the id `size`. No `<bos>` is added by the tokenizer, since PaliGemma's prompt writes it
    behind the image. ValueError if the sentences cannot fill `size` pieces, or if the two
    tokenizers disagree on any of them.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    texts = list(dict.fromkeys(sentences))
    model = folder / "tokenizer.model"
    model.write_bytes(_train(texts, size))
    _write_fast(model, folder)
    check_agreement(folder, [*texts, *ODD_TEXTS])
    image = _load(folder).convert_tokens_to_ids(IMAGE)
    if image != size:
        raise ValueError(f"{IMAGE} has id {image} instead of {size}")


def check_agreement(folder: Path | str, texts: Iterable[str]) -> None:
    """Compare the ids of SentencePiece and of the saved fast tokenizer on plain `texts`.

    ValueError shows the first text they cut differently. Texts must not contain special tokens:
    `<bos>` written out is one id to the fast tokenizer only.
    """
    slow = sentencepiece.SentencePieceProcessor(model_file=str(Path(folder) / "tokenizer.model"))
    fast = _load(folder)
    for text in texts:
        expected, found = slow.encode(text), fast.encode(text, add_special_tokens=True)
        if expected != found:
            raise ValueError(f"tokenizers disagree on {text!r}: {expected} and {found}")


def _train(texts: list[str], size: int) -> bytes:
    """Train on distinct texts, as Gemma does: nothing is normalised, no character is unknown."""
    spaces = ["▁" * length for length in range(2, LONGEST_SPACE_RUN + 1)]
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=written,
            model_type="bpe",
            vocab_size=size,
            byte_fallback=True,
            split_digits=True,
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            normalization_rule_name="identity",
            allow_whitespace_only_pieces=True,
            character_coverage=1.0,
            required_chars=_ASCII,
            pad_id=PAD,
            eos_id=EOS,
            bos_id=BOS,
            unk_id=3,
            pad_piece="<pad>",
            eos_piece="<eos>",
            bos_piece="<bos>",
            unk_piece="<unk>",
            user_defined_symbols=["\n", *spaces],
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(
            f"cannot train {size} pieces on {len(texts)} sentences: {error}"
        ) from error
    return written.getvalue()


def _write_fast(model: Path, folder: Path) -> None:
    tokenizer_class: Any = transformers.GemmaTokenizerFast  # its constructor has no types
    tokenizer = tokenizer_class(
        vocab_file=str(model),
        add_bos_token=False,
        add_eos_token=False,
        additional_special_tokens=[IMAGE],
    )
    tokenizer.save_pretrained(folder)


def _load(folder: Path | str) -> Any:
    loader: Any = transformers.AutoTokenizer  # nor has its loader
    return loader.from_pretrained(folder)
