"""Which recogniser lies in a folder: by the names of its files, and what is written into them.

Owns: the layouts of published streaming models, and the sentences for what is missing. Knows
nothing of how one is run (`ears.py`). Opens no model: of an ONNX file it reads the metadata alone.

    tokens.txt, encoder*.onnx, decoder*.onnx, joiner*.onnx    a streaming transducer
    tokens.txt, one other *.onnx                              a streaming CTC model

Where a file is there in int8 too, that one is taken: a small processor can keep up with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeAlias

from uservlm.runtime.errors import RequestError

Kind: TypeAlias = Literal["transducer", "zipformer2_ctc", "nemo_ctc"]

_TOKENS: Final = "tokens.txt"
_PARTS: Final = ("encoder", "decoder", "joiner")
_CTC: Final[dict[Kind, tuple[str, ...]]] = {
    "zipformer2_ctc": ("decode_chunk_len", "query_head_dims"),
    "nemo_ctc": ("chunk_shift", "cache_last_channel_dim1"),
}
"""The metadata by which each kind is known."""
_METADATA_FIELD: Final = 14
"""`metadata_props` of ONNX's ModelProto: pairs of key (1) and value (2)."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types of protocol buffers."""
_LONGEST: Final = 10**6
"""Bytes of one entry of metadata."""


@dataclass(frozen=True)
class SpeechModel:
    """A streaming model, to be opened."""

    kind: Kind
    files: dict[str, str]
    """Paths by what each is: encoder, decoder and joiner, or model; and tokens."""


def find_model(folder: Path) -> SpeechModel:
    """Find out what lies in a folder.

    Raises:
        RequestError: nothing that can be heard with; it says what is missing.
    """
    if not folder.is_dir():
        raise RequestError(f"{folder}: no such folder; give one with a streaming speech model")
    tokens = folder / _TOKENS
    found = sorted(folder.glob("*.onnx"))
    parts = {part: _best(folder, [one for one in found if part in one.name]) for part in _PARTS}
    others = [one for one in found if not any(part in one.name for part in _PARTS)]
    missing = [] if tokens.is_file() else [_TOKENS]
    if any(parts.values()):
        missing += [f"{part}*.onnx" for part in _PARTS if parts[part] is None]
        files = {part: str(path) for part, path in parts.items()}
        kind: Kind = "transducer"
    else:
        model = _best(folder, others)
        if model is None:
            missing.append("encoder*.onnx, decoder*.onnx and joiner*.onnx, or one CTC model")
        elif not missing:
            kind, files = _ctc_kind(model), {"model": str(model)}
    if missing:
        raise RequestError(f"{folder} holds no streaming speech model: no {', no '.join(missing)}")
    return SpeechModel(kind, {**files, "tokens": str(tokens)})


def _best(folder: Path, candidates: list[Path]) -> Path | None:
    """Choose among several of one part.

    Raises:
        RequestError: more than one would do.
    """
    small = [one for one in candidates if "int8" in one.name]
    best = small or candidates
    if len(best) > 1:
        names = ", ".join(one.name for one in best)
        raise RequestError(f"{folder} holds several models: leave one of {names}")
    return best[0] if best else None


def _ctc_kind(model: Path) -> Kind:
    keys = metadata_keys(model)
    for kind, needed in _CTC.items():
        if keys.issuperset(needed):
            return kind
    raise RequestError(
        f"{model} is no streaming CTC model of a known kind: its metadata lacks "
        + ", or ".join(" and ".join(needed) for needed in _CTC.values())
    )


def metadata_keys(model: Path) -> set[str]:
    """Give the keys of an ONNX file's metadata, without reading its weights.

    Raises:
        RequestError: the file cannot be read, or is none of ONNX's.
    """
    try:
        with model.open("rb") as file:
            entries = [entry for field, entry in _fields(file) if field == _METADATA_FIELD]
        return {_key_of(entry) for entry in entries}
    except (OSError, ValueError) as error:
        raise RequestError(f"{model} is no ONNX model: {error}") from error


def _fields(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Give the outermost fields of a message; of long ones nothing but their number.

    Raises:
        ValueError: it is none.
    """
    end = file.seek(0, 2)
    file.seek(0)
    while file.tell() < end:
        field, wire = divmod(_varint(file), 8)
        data = b""
        if wire == _VARINT:
            _varint(file)
        elif wire == _BYTES:
            length = _varint(file)
            if file.tell() + length > end:
                raise ValueError("it ends too early")
            if field == _METADATA_FIELD and length <= _LONGEST:
                data = file.read(length)
            else:
                file.seek(length, 1)
        elif wire in (_FIXED64, _FIXED32):
            file.seek(8 if wire == _FIXED64 else 4, 1)
        else:
            raise ValueError(f"no field has wire type {wire}")
        yield field, data


def _varint(file: BinaryIO) -> int:
    value = shift = 0
    while shift < 64:
        byte = file.read(1)
        if not byte:
            raise ValueError("it ends too early")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
    raise ValueError("a number is too long")


def _key_of(entry: bytes) -> str:
    """Read the first field of a pair, which is its key."""
    if len(entry) < 2 or entry[0] != 8 + _BYTES:
        return ""
    return entry[2 : 2 + entry[1]].decode("utf-8", "replace")
