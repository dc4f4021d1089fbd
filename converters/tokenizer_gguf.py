"""The tokenizer of a checkpoint as a GGUF vocabulary that llama.cpp reads to the same ids.

Owns: reading `tokenizer.model` (SentencePiece) or, where a repository has only that,
`tokenizer.json`, and the rules by which llama.cpp's "llama" tokenizer merges. Knows nothing of
weights; the number of embedding rows comes in as a number.

llama.cpp joins the neighbouring pair whose *result* has the highest score, the Hugging Face
tokenizer the pair whose *merge* has the lowest rank; with scores that fall by rank both agree.
They are known to differ on one text: U+2581 typed beside a space or another U+2581.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType

from uservlm.converters.errors import TokenizerError
from uservlm.converters.files import is_there, read_json, reading

SPACE = "\u2581"
"""What SentencePiece writes for a space."""
TAB, TAB_BYTE = "\t", "<0x09>"
"""transformers writes the first for the second into tokenizer.json; SentencePiece and we do not."""
ADDED_SCORE = -1000.0
"""For tokens that no merge makes; as llama.cpp's own converter."""
PADDING_SCORE = -10000.0
SPECIAL = ("bos", "eos", "unk", "pad")


@dataclass(frozen=True)
class Piece:
    """One row of the vocabulary."""

    text: str
    """Control and user-defined tokens hold real spaces, ordinary ones `SPACE`."""
    score: float
    type: TokenType


@dataclass(frozen=True)
class Vocabulary:
    """A whole tokenizer; the index of a piece is its id."""

    pieces: tuple[Piece, ...]
    special: dict[str, int]
    """Ids of bos, eos, unk and pad."""

    @property
    def tokens(self) -> int:
        """How many pieces are the tokenizer's own; the others fill up the rows."""
        return sum(
            piece.type is not TokenType.UNUSED or piece.score != PADDING_SCORE
            for piece in self.pieces
        )


def read_vocabulary(folder: Path, rows: int | None = None) -> Vocabulary:
    """Read the tokenizer and fill it up to `rows` with unused pieces; None leaves it as it is.

    Raises:
        TokenizerError: none there, damaged, not of Gemma's kind, or larger than the embedding
            table.
        CheckpointError: a file of it cannot be read.
    """
    model, fast = folder / "tokenizer.model", folder / "tokenizer.json"
    # Read once: Gemma's is 34 MB.
    data = read_json(fast) if is_there(fast) else None
    if is_there(model):
        base = _from_sentencepiece(model)
    elif data is not None:
        with _parsing(fast):
            base = _from_fast(data, fast)
    else:
        raise TokenizerError(
            f"{folder} holds neither tokenizer.model nor tokenizer.json: save the processor too"
        )
    config = folder / "tokenizer_config.json"
    with _parsing(config if data is None else fast):
        pieces = _with_added(base, _added_tokens(folder, data), folder)
        if data is not None:
            _compare(pieces, data, fast)
    with _parsing(config):
        special = _special_ids(folder, {piece.text: token for token, piece in enumerate(pieces)})
    filled = _padded(pieces, len(pieces) if rows is None else rows, folder)
    return Vocabulary(tuple(filled), special)


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    """Take values of another type than a tokenizer's for damage to the file they are in."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise TokenizerError(f"{path} is damaged: {error!r}; fetch it again") from error


def write_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    """Add the tokenizer's keys; nothing is put before or behind a text by itself."""
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece.text for piece in vocabulary.pieces])
    writer.add_token_scores([piece.score for piece in vocabulary.pieces])
    writer.add_token_types([int(piece.type) for piece in vocabulary.pieces])
    writer.add_bos_token_id(vocabulary.special["bos"])
    writer.add_eos_token_id(vocabulary.special["eos"])
    writer.add_unk_token_id(vocabulary.special["unk"])
    writer.add_pad_token_id(vocabulary.special["pad"])
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)


def _from_sentencepiece(path: Path) -> list[Piece]:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    with reading(path):
        content = path.read_bytes()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise TokenizerError(f"{path} is damaged: {error}") from error
    required = (
        ("model_type", model.trainer_spec.model_type, model.trainer_spec.BPE),
        ("byte_fallback", model.trainer_spec.byte_fallback, True),
        ("add_dummy_prefix", model.normalizer_spec.add_dummy_prefix, False),
        ("remove_extra_whitespaces", model.normalizer_spec.remove_extra_whitespaces, False),
        ("precompiled_charsmap", model.normalizer_spec.precompiled_charsmap, b""),
    )
    _require(path, required)
    return [
        _sentencepiece(piece.piece, piece.score, TokenType(piece.type)) for piece in model.pieces
    ]


def _sentencepiece(text: str, score: float, kind: TokenType) -> Piece:
    plain = text.replace(SPACE, " ") if kind is TokenType.USER_DEFINED else text
    return Piece(plain, score, kind)


def _from_fast(data: dict[str, Any], path: Path) -> list[Piece]:
    model = data.get("model", {})
    required = (
        ("model.type", model.get("type"), "BPE"),
        ("model.byte_fallback", model.get("byte_fallback"), True),
        ("model.dropout", model.get("dropout"), None),
        ("model.ignore_merges", model.get("ignore_merges", False), False),
        (
            "normalizer",
            data.get("normalizer"),
            {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        ),
    )
    _require(path, required)
    ranks = _ranks(model["merges"])
    vocab = _with_tab_byte(model["vocab"])
    ordered = sorted(vocab.items(), key=lambda item: int(item[1]))
    if [token for _, token in ordered] != list(range(len(ordered))):
        raise TokenizerError(f"{path}: the ids of model.vocab are not 0 … {len(ordered) - 1}")
    unknown = model.get("unk_token")
    return [
        Piece(text, ranks.get(text, ADDED_SCORE), _fast_type(text, unknown)) for text, _ in ordered
    ]


def _with_tab_byte(vocab: dict[str, int]) -> dict[str, int]:
    if TAB not in vocab or TAB_BYTE in vocab:
        return vocab
    return {TAB_BYTE if text == TAB else text: token for text, token in vocab.items()}


def _ranks(merges: list[Any]) -> dict[str, float]:
    """Score every piece a merge makes 0, -1, -2, … in the order in which they are first made."""
    scores: dict[str, float] = {}
    for merge in merges:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        scores.setdefault(left + right, -float(len(scores)))
    return scores


def _fast_type(text: str, unknown: str | None) -> TokenType:
    if text == unknown:
        return TokenType.UNKNOWN
    byte = len(text) == 6 and text.startswith("<0x") and text.endswith(">")
    return TokenType.BYTE if byte else TokenType.NORMAL


def _require(path: Path, required: tuple[tuple[str, object, object], ...]) -> None:
    for what, value, wanted in required:
        if value != wanted:
            raise TokenizerError(
                f"{path}: {what} is {value!r}, but a Gemma tokenizer has {wanted!r}"
            )


def _added_tokens(folder: Path, fast: dict[str, Any] | None) -> dict[int, tuple[str, bool]]:
    """Give text and whether it is special by id, from whichever file tells it."""
    config, old = (folder / name for name in ("tokenizer_config.json", "added_tokens.json"))
    if fast is not None:
        listed = fast.get("added_tokens") or []
        return {int(token["id"]): (token["content"], bool(token["special"])) for token in listed}
    decoder = read_json(config).get("added_tokens_decoder") if config.is_file() else None
    if decoder:
        return {
            int(key): (token["content"], bool(token["special"])) for key, token in decoder.items()
        }
    plain = read_json(old) if old.is_file() else {}
    return {int(token): (text, text == "<image>") for text, token in plain.items()}


def _with_added(base: list[Piece], added: dict[int, tuple[str, bool]], folder: Path) -> list[Piece]:
    pieces = list(base)
    for token, (text, special) in sorted(added.items()):
        kind = TokenType.CONTROL if special else TokenType.USER_DEFINED
        plain = text.replace(SPACE, " ")
        if token > len(pieces):
            raise TokenizerError(
                f"{folder}: added token {text!r} has id {token}, but id {len(pieces)} has none"
            )
        if token == len(pieces):
            pieces.append(Piece(plain, ADDED_SCORE, kind))
        elif pieces[token].text.replace(SPACE, " ") != plain:
            raise TokenizerError(
                f"{folder}: id {token} is {pieces[token].text!r} and also the added token {text!r}"
            )
        elif pieces[token].type is not TokenType.UNKNOWN:
            pieces[token] = Piece(plain, pieces[token].score, kind)
    return pieces


def _compare(pieces: list[Piece], data: dict[str, Any], path: Path) -> None:
    """Both files must give the same ids: checked where a repository has both."""
    vocab = dict(_with_tab_byte(data.get("model", {}).get("vocab", {})))
    vocab.update({token["content"]: token["id"] for token in data.get("added_tokens") or []})
    stored = {int(token): text.replace(SPACE, " ") for text, token in vocab.items()}
    for token, piece in enumerate(pieces):
        if stored.get(token) != piece.text.replace(SPACE, " "):
            raise TokenizerError(
                f"{path}: id {token} is {stored.get(token)!r}, in tokenizer.model {piece.text!r}"
            )
    if len(stored) > len(pieces):
        raise TokenizerError(f"{path} has {len(stored)} tokens, tokenizer.model {len(pieces)}")


def _special_ids(folder: Path, ids: dict[str, int]) -> dict[str, int]:
    path = folder / "tokenizer_config.json"
    config = read_json(path) if path.is_file() else {}
    special = {}
    for name in SPECIAL:
        token = config.get(f"{name}_token") or f"<{name}>"
        text = token["content"] if isinstance(token, dict) else token
        if text not in ids:
            raise TokenizerError(f"{folder}: the {name} token {text!r} is not in the vocabulary")
        special[name] = ids[text]
    return special


def _padded(pieces: list[Piece], rows: int, folder: Path) -> list[Piece]:
    """Name the embedding rows that no token uses: llama.cpp wants as many tokens as rows."""
    if len(pieces) > rows:
        raise TokenizerError(
            f"{folder}: {len(pieces)} tokens, but the embedding table has {rows} rows"
        )
    padding = [
        Piece(f"[PAD{token}]", PADDING_SCORE, TokenType.UNUSED)
        for token in range(len(pieces), rows)
    ]
    clash = {piece.text for piece in pieces} & {piece.text for piece in padding}
    if clash:
        raise TokenizerError(
            f"{folder}: {sorted(clash)[0]!r} is a token and also the name of a padding row"
        )
    return pieces + padding
