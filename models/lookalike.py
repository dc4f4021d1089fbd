"""A tokenizer with the size, layout and files of PaliGemma 2's, over an invented vocabulary.

Owns: which pieces there are and the files they stand in. What it shares with the real one is what a
converter can stumble over: 257152 pieces, every type of them at its id, half a million merges,
byte fallback, digits that never merge. Words of the dialogues are pieces, so that a prompt has
about its real length; the rest are invented words in several scripts. Knows nothing of weights.
"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

IMAGE = "<image>"
GEMMA_PIECES = 256_000
PIECES = 257_152
"""Gemma's, 1024 locations and 128 segments; `<image>` is the next id."""
LONGEST_RUN = 31
"""Of newlines or spaces in one piece."""
_TAGS = "table caption thead tbody tfoot tr th td"
_BLOCKS = "h1 h2 h3 h4 h5 h6 blockquote"
_INLINE = "strong em b i u s sub sup code"
_SPACE = "\u2581"
_LETTERS = 20_751
_LONGEST_PIECE = 16
_CONTROL = ("<pad>", "<eos>", "<bos>")
_UNKNOWN = "<unk>"
LOCATED = (*(f"<loc{i:04d}>" for i in range(1024)), *(f"<seg{i:03d}>" for i in range(128)))
_RANGES = (
    (0x21, 0x7F), (0xA1, 0x250), (0x300, 0x370), (0x370, 0x500), (0x531, 0x588), (0x5D0, 0x5EB),
    (0x620, 0x653), (0x904, 0x94E), (0x985, 0x9BA), (0xE01, 0xE4F), (0x10D0, 0x10F7),
    (0x1E00, 0x1F00), (0x2010, 0x2060), (0x20A0, 0x20B0), (0x2190, 0x2300), (0x2500, 0x2580),
    (0x3001, 0x3100), (0xFF01, 0xFF60), (0xAC00, 0xB800), (0x4E00, 0x9FA6),
)  # fmt: skip
_SCRIPTS = (
    ("бвгдзклмнпрстч", "аеиоуыя"),
    ("βγδκλμνπρσ", "αεηιοω"),
    ("בגדהחטכלמנ", "ואי"),
    ("بتجحدرسشعف", "اوي"),
    ("कगचजतदनपबम", "ािीुे"),
    ("かきくけこさしす", "たちつてと"),
    ("가나다라마바사", "아자차카타"),
    ("一二人大中国学生", "日本月水火木金土"),
)
"""Consonants and vowels, or what may stand for them, from which words of a script are made."""


def write_lookalike(folder: Path) -> Path:
    """Write the tokenizer's files into `folder` and return it; the same bytes every time.

    tokenizer.model holds the locations and segments, as PaliGemma's seems to: big_vision writes
    them into the model, and it is 20 kB larger than Gemma's. tokenizer.json and its companions are
    made from it by transformers, as the real ones were, and hold `<image>`.

    Args:
        folder: made if it is not there.
    """
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "tokenizer.model"
    model.write_bytes(_proto(gemma_pieces()))
    tokenizer_class: Any = transformers.GemmaTokenizerFast  # its constructor has no types
    tokenizer = tokenizer_class(vocab_file=str(model), add_bos_token=False, add_eos_token=False)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]})
    tokenizer.save_pretrained(folder)
    added = json.dumps({IMAGE: PIECES}, indent=2)
    (folder / "added_tokens.json").write_text(added + "\n", encoding="utf-8")
    return folder


def gemma_pieces() -> list[tuple[str, str]]:
    """Give text and type (CONTROL, UNKNOWN, USER_DEFINED, BYTE or NORMAL) of Gemma's 256000 ids."""
    tags = [
        f"<{slash}{tag}>"
        for group in (_TAGS, _BLOCKS, _INLINE)
        for slash in ("", "/")
        for tag in group.split()
    ]
    defined = [
        *("<mask>", "<2mass>", "[@BOS@]"),
        *(f"<unused{number}>" for number in range(99)),
        *("<start_of_turn>", "<end_of_turn>"),
        *("\n" * length for length in range(1, LONGEST_RUN + 1)),
        *(_SPACE * length for length in range(2, LONGEST_RUN + 1)),
        *tags,
    ]
    pieces = [(text, "CONTROL") for text in _CONTROL]
    pieces.append((_UNKNOWN, "UNKNOWN"))
    pieces += [(text, "USER_DEFINED") for text in defined]
    pieces += [(f"<0x{byte:02X}>", "BYTE") for byte in range(256)]
    letters = _letters()
    merged = _merged(GEMMA_PIECES - len(pieces) - len(letters) - 1, letters)
    pieces += [(text, "NORMAL") for text in (*merged, *letters)]
    return [*pieces, ("<unused99>", "USER_DEFINED")]


def _proto(pieces: list[tuple[str, str]]) -> bytes:
    """SentencePiece's ModelProto: a normal piece scores lower than all before it."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    score = 0.0
    for text, kind in [*pieces, *((text, "USER_DEFINED") for text in LOCATED)]:
        normal = kind == "NORMAL"
        model.pieces.add(piece=text, score=score if normal else 0.0, type=_kind(model, kind))
        score -= normal
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type = trainer.BPE
    trainer.vocab_size = len(model.pieces)
    trainer.byte_fallback = True
    trainer.split_digits = True
    trainer.allow_whitespace_only_pieces = True
    trainer.pad_id, trainer.eos_id, trainer.bos_id, trainer.unk_id = 0, 1, 2, 3
    trainer.pad_piece, trainer.eos_piece, trainer.bos_piece = _CONTROL
    trainer.unk_piece = _UNKNOWN
    normalizer.name = "identity"
    normalizer.precompiled_charsmap = b""
    normalizer.add_dummy_prefix = False
    normalizer.remove_extra_whitespaces = False
    data: bytes = model.SerializeToString()
    return data


def _kind(model: Any, name: str) -> int:
    kind: int = model.SentencePiece.Type.Value(name)
    return kind


def _letters() -> list[str]:
    """Single characters; Unicode 3.2 decides which exist, so that no Python decides otherwise."""
    category = unicodedata.ucd_3_2_0.category
    emoji = [chr(point) for point in range(0x1F600, 0x1F640)]
    kept = (
        chr(p) for low, high in _RANGES for p in range(low, high) if category(chr(p))[0] in "LMNPS"
    )
    found = list(dict.fromkeys([_SPACE, *emoji, *kept]))
    if len(found) < _LETTERS:
        raise ValueError(f"{len(found)} letters instead of {_LETTERS}")
    return found[:_LETTERS]


def _merged(count: int, letters: list[str]) -> list[str]:
    """Grow pieces one merge at a time, from the dialogues' words and then from invented ones.

    A piece is taken when the pieces before it cut its own text into exactly two: merging by score
    then always makes it, for any tokenizer.
    """
    ranks: dict[str, int] = {}
    allowed = set(letters)
    for word, merges in _candidates():
        if not allowed.issuperset(word):
            continue
        parts = list(word)
        for _ in range(merges):
            _merge(parts, ranks)
            joined = next(_new(parts, ranks), None)
            if joined is None:
                break
            ranks[joined] = len(ranks)
            if len(ranks) == count:
                return list(ranks)
    raise AssertionError("words never end")


def _new(parts: list[str], ranks: dict[str, int]) -> Iterator[str]:
    for left, right in zip(parts, parts[1:], strict=False):
        alone = [*left, *right]
        if len(alone) <= _LONGEST_PIECE:
            _merge(alone, ranks)
            if len(alone) == 2:
                yield left + right


def _merge(parts: list[str], ranks: dict[str, int]) -> None:
    """Merge the pair whose result has the lowest rank, leftmost first, until none has one."""
    get, worst = ranks.get, len(ranks)
    found = [get(left + right, worst) for left, right in zip(parts, parts[1:], strict=False)]
    while found and (best := min(found)) < worst:
        at = found.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
        del found[at]
        if at:
            found[at - 1] = get(parts[at - 1] + parts[at], worst)
        if at < len(found):
            found[at] = get(parts[at] + parts[at + 1], worst)


def _candidates() -> Iterator[tuple[str, int]]:
    """Words, and how many merges each may give: known ones one at a time, so that all begin."""
    known = _dialogue_words()
    for _ in range(_LONGEST_PIECE):
        yield from ((word, 1) for word in known)
    rng = random.Random(0)
    while True:
        yield _invented(rng), 3


def _dialogue_words() -> list[str]:
    """Words and runs of punctuation in the prompts and answers, the most frequent first."""
    import numpy as np

    from uservlm.models.dialogues import corpus
    from uservlm.models.people import random_scene
    from uservlm.models.prompt import TEMPLATE

    rng = np.random.default_rng(0)
    counts: Counter[str] = Counter()
    for text in corpus(0, [random_scene(rng) for _ in range(40)], TEMPLATE):
        counts.update(re.findall(r" ?[^\W\d_]+|[^\w\s]+", text))
    return [word.replace(" ", _SPACE) for word, _ in counts.most_common()]


def _invented(rng: random.Random) -> str:
    consonants, vowels = "bcdfghjklmnprstvwzéçñß", "aeiouyaeioäöüè"
    ends: tuple[str, ...] = ("", "", "n", "r", "s", "t", "l", "m")
    if rng.random() < 0.25:
        consonants, vowels = rng.choice(_SCRIPTS)
        ends = ("",)
    word = "".join(
        rng.choice(consonants) + rng.choice(vowels) + rng.choice(ends)
        for _ in range(rng.randint(1, 4))
    )
    form = rng.random()
    return _SPACE + word if form < 0.6 else _SPACE + word.capitalize() if form < 0.75 else word
