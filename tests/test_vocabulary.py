"""The vocabulary: both tokenizers agree, and the prompt is cut as PaliGemma's is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sentencepiece")
transformers = pytest.importorskip("transformers")

from uservlm.models.dialogues import corpus  # noqa: E402
from uservlm.models.people import random_scene  # noqa: E402
from uservlm.models.prompt import TEMPLATE  # noqa: E402
from uservlm.models.vocabulary import (  # noqa: E402
    ODD_TEXTS,
    check_agreement,
    train_vocabulary,
)

SIZE = 1024


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    rng = np.random.default_rng(0)
    return list(corpus(0, [random_scene(rng) for _ in range(100)], TEMPLATE))


@pytest.fixture(scope="module")
def folder(sentences: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("vocabulary")
    train_vocabulary(sentences, folder, SIZE)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder)


def test_prompt_is_image_rows_bos_plain_pieces_newline(tokenizer: Any) -> None:
    ids = tokenizer("<image>" * 64 + "<bos>" + TEMPLATE.format(question="hi"))["input_ids"]
    assert ids[:64] == [SIZE] * 64
    assert ids[64] == 2 and 2 not in ids[65:]
    assert tokenizer.convert_ids_to_tokens(ids[-1]) == "\n"
    assert not set(ids[65:]) & {0, 1, 2, 3, SIZE}
    assert tokenizer.decode(ids[65:]) == TEMPLATE.format(question="hi")


def test_special_ids_are_gemmas(tokenizer: Any) -> None:
    named = tokenizer.convert_tokens_to_ids(["<pad>", "<eos>", "<bos>", "<unk>", "<image>"])
    assert named == [0, 1, 2, 3, SIZE]
    assert len(tokenizer) == SIZE + 1


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts_survive_and_need_no_unknown(tokenizer: Any, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert 3 not in ids


def test_digits_and_runs_of_spaces_are_pieces(tokenizer: Any) -> None:
    assert tokenizer.tokenize("2025") == ["2", "0", "2", "5"]
    assert tokenizer.tokenize("    ") == ["▁▁▁▁"]
    assert tokenizer.tokenize("\n\n") == ["\n", "\n"]


def test_same_sentences_give_the_same_bytes(
    sentences: list[str], folder: Path, tmp_path: Path
) -> None:
    train_vocabulary(sentences, tmp_path, SIZE)
    for file in sorted(folder.iterdir()):
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_disagreement_is_noticed(folder: Path) -> None:
    with pytest.raises(ValueError, match="disagree on '<bos>'"):
        check_agreement(folder, ["hello", "<bos>"])


def test_too_few_sentences_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot train 2048 pieces"):
        train_vocabulary(["too little", "text"], tmp_path, 2048)
