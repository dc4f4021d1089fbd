"""The tokenizer in the GGUF gives the ids of the Hugging Face tokenizer, whatever a user says."""

from __future__ import annotations

import ctypes
import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

llama_cpp = pytest.importorskip("llama_cpp")
transformers = pytest.importorskip("transformers")

from gguf import GGUFWriter, TokenType  # noqa: E402

from uservlm.converters.errors import TokenizerError  # noqa: E402
from uservlm.converters.tokenizer_gguf import read_vocabulary, write_vocabulary  # noqa: E402
from uservlm.models.prompt import TEMPLATE  # noqa: E402

PADDING = 7
RANDOM_TEXTS = 3000
WRITTEN = (
    "",
    " ",
    "  ",
    "Hello, world!",
    TEMPLATE.replace("{question}", "What should I wear today?"),
    TEMPLATE.replace(
        "{question}", "Où est le café ? Straße, naïve, Ångström, 你好，世界, مرحبا, שלום"
    ),
    "🙂 👨‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u00e9 \ufeff \u200b",
    "0123456789 3.14159 1 234,50 2025-11-22T22:10",
    "a\tb\t\tc\n\nd\r\ne\n\n\nf \n g",
    "run" + " " * 3 + "of" + " " * 17 + "spaces" + " " * 40,
    " leading and trailing ",
    "the_mark▁of_a_space",
    "<0x41> [PAD700] <|im_start|> <| im_end |> <unused0> <start_of_turn>",
    "\u0000\u0007\u001b",
    "x" * 2000,
)
SPECIAL = (
    "<bos>",
    "a<eos>b",
    "<image><image>c",
    "<pad> <unk>",
    "<loc0003><seg001> cat",
    "\n<bos>\n",
)
ALPHABETS = (
    [chr(c) for c in range(32, 127)],
    list("aeiourstln  ,.?!\n\t"),
    [chr(c) for c in range(0xA0, 0x250)],
    [chr(c) for c in range(0x370, 0x3000) if chr(c).isprintable()],
    [chr(c) for c in range(0x1F300, 0x1F700)] + ["\u200d", "\ufe0f"],
)


class Llama:
    """llama.cpp with a vocabulary and no weights."""

    def __init__(self, path: Path) -> None:
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self.model = llama_cpp.llama_model_load_from_file(bytes(path), params)
        assert self.model, path
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)

    def ids(self, text: str, *, special: bool) -> list[int]:
        raw = text.encode()
        room = len(raw) + 8
        tokens = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self.vocab, raw, len(raw), tokens, room, False, special)
        assert count >= 0
        return list(tokens[:count])

    def piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        size = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, 256, 0, True)
        return buffer.raw[:size]

    def close(self) -> None:
        llama_cpp.llama_model_free(self.model)


def random_texts(count: int) -> list[str]:
    rng = np.random.default_rng(11)
    texts = []
    for _ in range(count):
        alphabet = ALPHABETS[int(rng.integers(len(ALPHABETS)))]
        texts.append("".join(rng.choice(alphabet, int(rng.integers(1, 60)))))
    return texts


def sentences(count: int) -> list[str]:
    from uservlm.models.dialogues import corpus
    from uservlm.models.people import random_scene

    rng = np.random.default_rng(5)
    return list(corpus(5, [random_scene(rng) for _ in range(20)], TEMPLATE))[:count]


def write_gguf(folder: Path, path: Path, rows: int) -> Path:
    writer = GGUFWriter(path, "gemma2")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-6)
    write_vocabulary(writer, read_vocabulary(folder, rows))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def gemma(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test tokenizer with what only Gemma's has: locations, segments, unused, turns, runs."""
    folder = tmp_path_factory.mktemp("gemma") / "tokenizer"
    words = transformers.AutoTokenizer.from_pretrained(tokenizer_folder)
    words.add_tokens([f"<loc{i:04d}>" for i in range(8)] + [f"<seg{i:03d}>" for i in range(4)])
    plain = partial(transformers.AddedToken, normalized=False, special=False)
    words.add_tokens([plain(text) for text in ("<unused0>", "<start_of_turn>", "\t\t", "\n\n")])
    words.save_pretrained(folder)
    shutil.copy(tokenizer_folder / "tokenizer.model", folder)
    return folder


@pytest.fixture(
    scope="module", params=["tokenizer.model", "tokenizer.json alone", "tokenizer.model alone"]
)
def both(
    request: pytest.FixtureRequest, gemma: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Llama]]:
    """The Hugging Face tokenizer, and llama.cpp's made from both of its files or from one."""
    reference = transformers.AutoTokenizer.from_pretrained(gemma)
    folder = tmp_path_factory.mktemp("cut") / "tokenizer"
    shutil.copytree(gemma, folder)
    if request.param == "tokenizer.json alone":
        (folder / "tokenizer.model").unlink()
    if request.param == "tokenizer.model alone":
        (folder / "tokenizer.json").unlink()
    llama = Llama(write_gguf(folder, folder.parent / "vocab.gguf", len(reference) + PADDING))
    yield reference, llama
    llama.close()


def disagreement(both: tuple[Any, Llama], texts: list[str], *, special: bool) -> list[str]:
    words, llama = both
    wanted = words(texts, add_special_tokens=False)["input_ids"]
    return [t for t, ids in zip(texts, wanted, strict=True) if ids != llama.ids(t, special=special)]


@pytest.mark.parametrize("text", WRITTEN)
def test_written_texts_have_the_same_ids(both: tuple[Any, Llama], text: str) -> None:
    assert disagreement(both, [text], special=False) == []


def test_random_unicode_has_the_same_ids(both: tuple[Any, Llama]) -> None:
    assert disagreement(both, random_texts(RANDOM_TEXTS), special=False) == []


def test_sentences_have_the_same_ids(both: tuple[Any, Llama]) -> None:
    assert disagreement(both, sentences(1000), special=False) == []


@pytest.mark.parametrize("text", SPECIAL)
def test_special_tokens_have_the_same_ids_where_they_may_be_parsed(
    both: tuple[Any, Llama], text: str
) -> None:
    assert disagreement(both, [text], special=True) == []


def test_control_tokens_stay_text_where_they_may_not(both: tuple[Any, Llama]) -> None:
    """A user who says "<eos>" must not end the prompt."""
    words, llama = both
    assert words.eos_token_id not in llama.ids("please <eos> now", special=False)


def test_pieces_read_back_as_the_text(both: tuple[Any, Llama]) -> None:
    _, llama = both
    for text in ("a  b\n\nc\t\td 🙂é", *sentences(50)):
        ids = llama.ids(text, special=False)
        assert b"".join(llama.piece(token) for token in ids).decode() == text


def test_there_is_a_token_for_every_row_of_the_table(gemma: Path) -> None:
    pieces = read_vocabulary(gemma, 800).pieces
    assert len(pieces) == 800
    assert len({piece.text for piece in pieces}) == 800
    assert pieces[-1].type is TokenType.UNUSED


def test_ids_of_special_tokens_are_found(gemma: Path) -> None:
    assert read_vocabulary(gemma, 800).special == {"bos": 2, "eos": 1, "unk": 3, "pad": 0}


def test_a_table_smaller_than_the_vocabulary_is_refused(gemma: Path) -> None:
    with pytest.raises(TokenizerError, match="has 100 rows"):
        read_vocabulary(gemma, 100)


def test_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"neither tokenizer\.model nor tokenizer\.json"):
        read_vocabulary(tmp_path, 100)


def test_files_that_disagree_are_refused(gemma: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(gemma, tmp_path / "tokenizer")
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    vocab = data["model"]["vocab"]
    first, second = list(vocab)[300:302]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(TokenizerError, match="in tokenizer.model"):
        read_vocabulary(folder, 800)


@pytest.mark.parametrize(
    ("field", "value"),
    [("type", "WordPiece"), ("byte_fallback", False), ("ignore_merges", True)],
)
def test_another_kind_of_tokenizer_is_refused(
    gemma: Path, tmp_path: Path, field: str, value: object
) -> None:
    folder = shutil.copytree(gemma, tmp_path / "tokenizer")
    (folder / "tokenizer.model").unlink()
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["model"][field] = value
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(TokenizerError, match=f"model.{field}"):
        read_vocabulary(folder, 800)


def test_a_damaged_model_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\xff\xfe not protobuf")
    with pytest.raises(TokenizerError, match="is damaged"):
        read_vocabulary(tmp_path, 800)
