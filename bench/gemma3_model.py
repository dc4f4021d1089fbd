"""Gemma 3 4B in its real shape with random weights, as llama.cpp reads it: text and vision GGUF.

Owns: the shape, the layout of Gemma 3's vocabulary, and the folder in which the files stay. They
hold what llama.cpp's converter writes and `llama-quantize` makes of it: the text in Q4_0 with its
token embeddings, which are the output head too, in Q6_K; vision in float16, as it is published.
`random_blocks.py` draws the values; this knows nothing of llama.cpp's library.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from gguf import (
    GGML_QUANT_VERSION,
    GGMLQuantizationType,
    GGUFType,
    GGUFWriter,
    LlamaFileType,
    RopeScalingType,
    TokenType,
    VisionProjectorType,
)

from uservlm.bench.peer_environment import PeerError, Progress
from uservlm.bench.random_blocks import append
from uservlm.converters.gguf_file import Stored
from uservlm.converters.quantise import bytes_of, kind_of
from uservlm.converters.tokenizer_gguf import (
    ADDED_SCORE,
    PADDING_SCORE,
    Piece,
    Vocabulary,
    write_vocabulary,
)

Kind = GGMLQuantizationType
Pieces = Callable[[], list[tuple[str, str]]]
"""Gives text and type of the tokens before the pictures' own."""

TEXT, VISION, MADE = "text.gguf", "mmproj.gguf", "made.json"
SEED: Final = 3
FORMAT: Final = 1
"""Raised whenever other bytes are written for the same shape and seed."""
PICTURE = ("<start_of_image>", "<end_of_image>")
SOFT_TOKEN = "<image_soft_token>"
SPARE: Final = 1 << 28
"""Bytes left free on the disk."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a Gemma 3 with vision."""

    layers: int = 34
    width: int = 2560
    feed_forward: int = 10240
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 256
    window: int = 1024
    """Of the local layers, five of six."""
    pieces: int = 262_144
    """Tokens before SOFT_TOKEN."""
    rows: int = 262_208
    """Of the token embeddings."""
    vision_layers: int = 27
    vision_width: int = 1152
    vision_feed_forward: int = 4304
    vision_heads: int = 16
    image_size: int = 896
    patch: int = 14
    pool: int = 4
    """Patches along a side that become one token."""

    @property
    def image_tokens(self) -> int:
        """Rows that a picture becomes."""
        return (self.image_size // self.patch // self.pool) ** 2


GEMMA3_4B = Shape()


def make(
    folder: Path,
    shape: Shape = GEMMA3_4B,
    seed: int = SEED,
    say: Progress = lambda _: None,
    pieces: Pieces | None = None,
) -> Path:
    """Write both files into `folder` unless it holds them already, and return it.

    The folder appears whole or not at all; two processes take turns.

    Args:
        folder: replaced if it holds another shape, seed or format.
        shape: sizes.
        seed: of every weight.
        say: told which file is written.
        pieces: Gemma's; by default those of `models/lookalike.py`.

    Raises:
        PeerError: the disk has no room or refuses.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.with_name(f".{folder.name}.lock")):
            if _made(folder) != _recipe(shape, seed):
                _write(folder, shape, seed, say, pieces)
    except OSError as error:
        raise PeerError(f"{folder}: the files of Gemma 3 cannot be written: {error}") from error
    return folder


def _write(folder: Path, shape: Shape, seed: int, say: Progress, pieces: Pieces | None) -> None:
    draft = folder.with_name(f".{folder.name}.part")
    for old in (draft, folder):
        shutil.rmtree(old, ignore_errors=True)
    _need(folder.parent, sum(bytes_of(e.shape, e.kind) for e in (*text(shape), *vision(shape))))
    try:
        draft.mkdir()
        say(f"writing Gemma 3 with random weights into {folder}: text")
        writer = GGUFWriter(draft / TEXT, "gemma3")
        _describe_text(writer, shape)
        write_vocabulary(writer, vocabulary(shape, pieces))
        append(writer, draft / TEXT, list(text(shape)), seed)
        say(f"writing Gemma 3 with random weights into {folder}: vision")
        writer = GGUFWriter(draft / VISION, "clip")
        _describe_vision(writer, shape)
        append(writer, draft / VISION, list(vision(shape)), seed)
        made = json.dumps(_recipe(shape, seed), indent=1)
        (draft / MADE).write_text(made + "\n", encoding="utf-8")
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _recipe(shape: Shape, seed: int) -> dict[str, int]:
    return {"format": FORMAT, "seed": seed, **asdict(shape)}


def _need(folder: Path, size: int) -> None:
    free, wanted = shutil.disk_usage(folder).free, size + SPARE
    if free < wanted:
        raise PeerError(
            f"{folder} has {free / 1e9:.1f} GB left and Gemma 3 needs {wanted / 1e9:.1f}: free some"
        )


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _made(folder: Path) -> object:
    try:
        return json.loads((folder / MADE).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def vocabulary(shape: Shape, pieces: Pieces | None = None) -> Vocabulary:
    """Lay tokens out as Gemma 3 does: Gemma's, the pictures' two, unused ones, the soft token."""
    if pieces is None:
        from uservlm.models import lookalike

        pieces = lookalike.gemma_pieces
    plain = pieces()[:-1]  # the last of Gemma 2's is unused too, and Gemma 3 has it further back
    found = [
        Piece(text, -float(at) if kind == "NORMAL" else ADDED_SCORE, TokenType[kind])
        for at, (text, kind) in enumerate(plain)
    ]
    found += [Piece(text, ADDED_SCORE, TokenType.CONTROL) for text in PICTURE]
    found += [
        Piece(f"<unused{99 + number}>", ADDED_SCORE, TokenType.USER_DEFINED)
        for number in range(shape.pieces - len(found))
    ]
    found.append(Piece(SOFT_TOKEN, ADDED_SCORE, TokenType.CONTROL))
    found += [
        Piece(f"[PAD{at}]", PADDING_SCORE, TokenType.UNUSED) for at in range(len(found), shape.rows)
    ]
    return Vocabulary(tuple(found), {"pad": 0, "eos": 1, "bos": 2, "unk": 3})


def text(shape: Shape) -> Iterator[Stored]:
    """List the text model's tensors, in the order of the file."""
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layer = {
        "attn_norm": (shape.width,),
        "attn_q": (queries, shape.width),
        "attn_q_norm": (shape.head_dim,),
        "attn_k": (keys, shape.width),
        "attn_k_norm": (shape.head_dim,),
        "attn_v": (keys, shape.width),
        "attn_output": (shape.width, queries),
        "post_attention_norm": (shape.width,),
        "ffn_norm": (shape.width,),
        "ffn_gate": (shape.feed_forward, shape.width),
        "ffn_up": (shape.feed_forward, shape.width),
        "ffn_down": (shape.width, shape.feed_forward),
        "post_ffw_norm": (shape.width,),
    }
    named = {"token_embd.weight": (shape.rows, shape.width), "output_norm.weight": (shape.width,)}
    for number in range(shape.layers):
        named |= {f"blk.{number}.{name}.weight": size for name, size in layer.items()}
    for name, size in named.items():
        yield Stored(name, size, kind_of(name, size, shape.layers, "q4_0"))


def vision(shape: Shape) -> Iterator[Stored]:
    """List the tensors of vision and projector; what is looked up or convolved is float32."""
    width, inner = shape.vision_width, shape.vision_feed_forward
    matrices = {
        "attn_q": (width, width),
        "attn_k": (width, width),
        "attn_v": (width, width),
        "attn_out": (width, width),
        "ffn_up": (inner, width),
        "ffn_down": (width, inner),
    }
    patches = (shape.image_size // shape.patch) ** 2
    yield Stored("v.patch_embd.weight", (width, 3, shape.patch, shape.patch), Kind.F32)
    yield Stored("v.patch_embd.bias", (width,), Kind.F32)
    yield Stored("v.position_embd.weight", (patches, width), Kind.F32)
    for number in range(shape.vision_layers):
        for name, size in matrices.items():
            yield Stored(f"v.blk.{number}.{name}.weight", size, Kind.F16)
            yield Stored(f"v.blk.{number}.{name}.bias", size[:1], Kind.F32)
        for name in ("ln1", "ln2"):
            yield Stored(f"v.blk.{number}.{name}.weight", (width,), Kind.F32)
            yield Stored(f"v.blk.{number}.{name}.bias", (width,), Kind.F32)
    yield Stored("v.post_ln.weight", (width,), Kind.F32)
    yield Stored("v.post_ln.bias", (width,), Kind.F32)
    yield Stored("mm.soft_emb_norm.weight", (width,), Kind.F32)
    yield Stored("mm.input_projection.weight", (width, shape.width), Kind.F16)


def _describe_text(writer: GGUFWriter, shape: Shape) -> None:
    writer.add_name("Gemma 3 with random weights")
    writer.add_file_type(LlamaFileType.MOSTLY_Q4_0)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_context_length(131_072)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_sliding_window(shape.window)
    writer.add_rope_freq_base(1e6)  # of the global layers; llama.cpp knows the local ones' 10⁴
    writer.add_rope_scaling_type(RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(8.0)


def _describe_vision(writer: GGUFWriter, shape: Shape) -> None:
    writer.add_type(GGUFType.MMPROJ)
    writer.add_name("SigLIP and Gemma 3's projector with random weights")
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(VisionProjectorType.GEMMA3)
    writer.add_vision_projection_dim(shape.width)
    writer.add_vision_image_size(shape.image_size)
    writer.add_vision_patch_size(shape.patch)
    writer.add_vision_embedding_length(shape.vision_width)
    writer.add_vision_feed_forward_length(shape.vision_feed_forward)
    writer.add_vision_block_count(shape.vision_layers)
    writer.add_vision_head_count(shape.vision_heads)
    writer.add_vision_attention_layernorm_eps(1e-6)
    writer.add_vision_image_mean([0.5] * 3)
    writer.add_vision_image_std([0.5] * 3)
    writer.add_vision_use_gelu(True)
    writer.add_vision_projector_scale_factor(shape.pool)
