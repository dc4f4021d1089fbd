"""A tokenizer of PaliGemma 2's size goes into a GGUF whole and cuts every text to the same ids."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_cpp")
transformers = pytest.importorskip("transformers")
sentencepiece = pytest.importorskip("sentencepiece")

from gguf import TokenType  # noqa: E402
from test_tokenizer import WRITTEN, Llama, random_texts, sentences, write_gguf  # noqa: E402

from uservlm.converters.tokenizer_gguf import Vocabulary, read_vocabulary  # noqa: E402
from uservlm.models import lookalike  # noqa: E402
from uservlm.models.random_checkpoint import read_words  # noqa: E402

ROWS = 257_216
PLAIN = (
    *WRITTEN,
    "\n" * 40 + " " * 70 + "\n\n",
    "<table><tr><td>1</td></tr></table> <h1> <blockquote>x</blockquote>",
    "<unused42> <mask> <2mass> [@BOS@] <unused99>",
    "a▁b",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 한국어 中文字 ไทย ქართული हिन्दी",
)
LOCATED = ("<loc0000><loc1023> cat ; <seg127>", "<loc0001>", "go to <loc9999> <seg128>", "<loc12>")
SPECIAL = (
    "<image><image><bos> x<eos>",
    "<pad><unk>",
    "<image>\n",
    "<start_of_turn>user\nHi<end_of_turn>",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lookalike.write_lookalike(tmp_path_factory.mktemp("size") / "tokenizer")


@pytest.fixture(scope="module")
def from_model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder without tokenizer.json."""
    cut = tmp_path_factory.mktemp("size") / "model"
    shutil.copytree(folder, cut, ignore=shutil.ignore_patterns("tokenizer.json"))
    return cut


@pytest.fixture(scope="module")
def vocabulary(from_model: Path) -> Vocabulary:
    return read_vocabulary(from_model, ROWS)


@pytest.fixture(scope="module")
def words(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def llama(from_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llama]:
    path = tmp_path_factory.mktemp("size") / "vocabulary.gguf"
    loaded = Llama(write_gguf(from_model, path, ROWS))
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def slow(folder: Path) -> Any:
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def test_both_files_give_the_same_pieces(folder: Path, vocabulary: Vocabulary) -> None:
    assert read_vocabulary(folder, ROWS) == vocabulary  # reads both and compares them
    alone = folder.parent / "fast"
    shutil.copytree(folder, alone, ignore=shutil.ignore_patterns("tokenizer.model"))
    fast = read_vocabulary(alone, ROWS)
    assert len(fast.pieces) == ROWS
    assert [(p.text, p.type) for p in fast.pieces] == [(p.text, p.type) for p in vocabulary.pieces]
    assert fast.special == vocabulary.special


def test_the_layout_is_that_of_paligemma(folder: Path, vocabulary: Vocabulary) -> None:
    ids = {piece.text: number for number, piece in enumerate(vocabulary.pieces)}
    assert len(ids) == ROWS
    assert ids["<unused0>"] == 7
    assert ids["\n"] == 108
    assert ids["<0x00>"] == 217
    assert ids["<unused99>"] == lookalike.GEMMA_PIECES - 1
    assert ids["<loc0000>"] == lookalike.GEMMA_PIECES
    assert ids["<seg127>"] == lookalike.PIECES - 1
    assert ids["<image>"] == lookalike.PIECES
    assert vocabulary.pieces[-1].type is TokenType.UNUSED
    assert read_words(folder).count == lookalike.PIECES + 1


def test_every_piece_is_cut_to_itself(vocabulary: Vocabulary, slow: Any, llama: Llama) -> None:
    """One whose merges another piece forestalls would be dead weight, and a trap for rankings."""
    step = 97
    for token in range(0, lookalike.GEMMA_PIECES, step):
        piece = vocabulary.pieces[token]
        if piece.type is TokenType.NORMAL:
            text = piece.text.replace("▁", " ")
            assert slow.encode(text) == [token]
            assert llama.ids(text, special=False) == [token]


def test_plain_text_has_the_same_ids_everywhere(words: Any, slow: Any, llama: Llama) -> None:
    """But U+2581 typed beside a space, and turns, which are control tokens to transformers only."""
    texts = [*PLAIN, *random_texts(400), *sentences(100)]
    left_out = (" ▁", "▁ ", "▁▁", "_of_turn>")
    texts = [text for text in texts if not any(part in text for part in left_out)]
    assert len(texts) > 450
    wanted = words(texts, add_special_tokens=False)["input_ids"]
    for text, ids, others in zip(texts, wanted, slow.encode(texts), strict=True):
        assert llama.ids(text, special=False) == ids, text
        assert others == ids, text


@pytest.mark.parametrize("text", [*LOCATED, *SPECIAL])
def test_added_tokens_have_the_same_ids(words: Any, llama: Llama, text: str) -> None:
    wanted = words([text], add_special_tokens=False)["input_ids"][0]
    assert llama.ids(text, special=True) == wanted
    if text in LOCATED:
        assert llama.ids(text, special=False) == wanted


@pytest.mark.parametrize("text", SPECIAL)
def test_control_tokens_a_user_types_stay_text(
    vocabulary: Vocabulary, llama: Llama, text: str
) -> None:
    ids = llama.ids(text, special=False)
    assert not [i for i in ids if vocabulary.pieces[i].type is TokenType.CONTROL]


def test_a_prompt_has_about_its_real_length(words: Any) -> None:
    """Words of the dialogues are pieces: else every time measured with it would be too long."""
    from uservlm.models.prompt import TEMPLATE

    text = TEMPLATE.replace("{question}", "What should I wear today?")
    assert len(words(text, add_special_tokens=False)["input_ids"]) < 30


def test_locations_may_be_added_tokens_alone(
    from_model: Path, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    """As over Gemma's own tokenizer.model, which ends before them."""
    from sentencepiece import sentencepiece_model_pb2

    folder = shutil.copytree(from_model, tmp_path / "tokenizer")
    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    model.ParseFromString((folder / "tokenizer.model").read_bytes())
    del model.pieces[lookalike.GEMMA_PIECES :]
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    pieces = read_vocabulary(folder, ROWS).pieces
    assert [(p.text, p.type) for p in pieces] == [(p.text, p.type) for p in vocabulary.pieces]
