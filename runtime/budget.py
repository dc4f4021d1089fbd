"""How much memory a bundle takes at its highest, and whether that fits: pure arithmetic.

Owns: the formulas and what they were checked against. Knows nothing of llama.cpp, onnxruntime or
this process; `room.py` decides the sizes that go in. Everything is counted as the system counts a
process's resident memory (VmHWM), so pages of a mapped file count too, although the system may drop
those when it needs them: `Need.own` is without them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from uservlm.runtime.errors import BudgetError
from uservlm.runtime.manifest import Architecture
from uservlm.runtime.room import Room, rounded
from uservlm.runtime.vision_figures import VisionKind

MB: Final = 1_000_000

KvType: TypeAlias = Literal["f16", "q8_0"]
"""How a KV cell is stored."""
Placement: TypeAlias = Literal["mapped", "repacked", "both"]
"""Where the language model's weights are: pages of the file, a copy in the processor's order, or
the copy beside the pages it was made from."""

_BITS: Final[dict[KvType, int]] = {"f16": 16 * 32, "q8_0": 34 * 8}
"""Of 32 numbers; q8_0 keeps a scale with them."""
_PROCESS: Final = 80 * MB
"""Python, numpy, onnxruntime's and llama.cpp's libraries. ✔ 42 MB without a model, 65 to 80 with
onnxruntime."""
_WORD: Final = 170
"""Bytes that llama.cpp keeps for an entry of the vocabulary. ✔ 42 MiB for 257 216."""
_VISION_HEADS: Final = 16
"""Of SigLIP So400m, the only vision tower of published checkpoints; smaller ones need less."""
_VISION_ROW: Final = 52_000
"""Bytes of activations for an image token beside the attention scores. ✔ See `vision_peak`."""
_GGML_ROW: Final = 34_000
"""Bytes by ggml. ✔ So400m at 224 px: 28 848 of activations; 4 590 are a row of its MLP in Q8_0."""


@dataclass(frozen=True)
class Setting:
    """What decides how much memory a bundle takes, beside the bundle itself."""

    room: Room
    kv: KvType = "f16"
    flash: bool = False
    """llama.cpp's flash attention: no scores in memory."""
    placement: Placement = "mapped"
    table_bytes: int = 0
    """Of the token-embedding table (`Weights.tensors`), which llama.cpp never copies."""
    carried: int | None = None
    """KV cells of residents, carried over while the context makes way for a picture; None: it does
    not make way."""
    vision: VisionKind = "onnx"
    """What computes the features."""


@dataclass(frozen=True)
class Need:
    """Parts of the peak, in bytes."""

    process: int
    """Interpreter, libraries, vocabulary."""
    mapped: int
    """Pages of the language model's file."""
    copied: int
    """Its weights in the process's own memory."""
    kv: int
    """All cells, used or not: llama.cpp clears them at the start."""
    compute: int
    """Activations of the longest micro-batch."""
    vision: int
    """While a picture is encoded: the file's pages and the activations; gone afterwards."""
    carried: int | None = None
    """What of the KV cache stays while a picture is encoded; None: everything stays."""

    @property
    def language(self) -> int:
        """What stays from the first answer on."""
        return self.process + self.mapped + self.copied + self.kv + self.compute

    @property
    def peak(self) -> int:
        """The most at any time."""
        if self.carried is None:
            return self.language + self.vision
        return max(
            self.language + self.carried,
            self.language - self.kv - self.compute + self.carried + self.vision,
        )

    @property
    def own(self) -> int:
        """The peak without the language model's mapped pages, which the system may drop."""
        return self.peak - self.mapped


def need(
    architecture: Architecture, language_bytes: int, vision_bytes: int, setting: Setting
) -> Need:
    """Add up what a bundle takes.

    Args:
        architecture: from the manifest.
        language_bytes: size of `language.gguf`.
        vision_bytes: size of the vision file that `setting.vision` reads.
        setting: what was asked of llama.cpp.
    """
    placement, table, carried = setting.placement, setting.table_bytes, setting.carried
    copied = language_bytes - table
    return Need(
        process=_PROCESS + _WORD * architecture.vocabulary,
        mapped=language_bytes if placement in ("mapped", "both") else table,
        copied=copied if placement in ("repacked", "both") else 0,
        kv=setting.room.sequences * kv_bytes(architecture, setting.room.cells, setting.kv),
        compute=compute_bytes(architecture, setting.room, flash=setting.flash),
        vision=vision_peak(architecture, vision_bytes, setting.vision),
        carried=None if carried is None else carried * cell_bytes(architecture, setting.kv),
    )


def kv_bytes(architecture: Architecture, cells: int, kind: KvType = "f16") -> int:
    """Count the KV cache of one sequence: every layer and cell, cells rounded up."""
    return rounded(cells) * cell_bytes(architecture, kind)


def cell_bytes(architecture: Architecture, kind: KvType = "f16") -> int:
    """Count the keys and values of one cell in every layer."""
    numbers = 2 * architecture.layers * architecture.kv_heads * architecture.head_dim
    return numbers * _BITS[kind] // (32 * 8)


def compute_bytes(architecture: Architecture, room: Room, *, flash: bool = False) -> int:
    """Count llama.cpp's compute buffer: what one row of a micro-batch needs, times its rows.

    A row holds two masks (with and without window) over all cells, where to write its values, and
    at the worst moment either the scores of all heads or three rows of the feed-forward network.
    ✔ llama.cpp's own figure at 3B and for the pocket, 512 to 1536 rows, 1792 to 5376 cells: within
    0.1 %; with flash attention up to 11 % too much.
    """
    a, cells = architecture, rounded(room.cells)
    rows = 4 * (3 * a.width + 2 * a.heads * a.head_dim)
    feed = 4 * 3 * a.feed_forward
    if flash:
        return room.block * (4 * cells + rows + feed)
    fixed = 8 * cells + 16 * a.kv_heads * a.head_dim
    return room.block * (fixed + rows + max(feed, 4 * a.heads * cells))


def vision_peak(architecture: Architecture, file_bytes: int, kind: VisionKind = "onnx") -> int:
    """Count what encoding one picture takes: the mapped file, two copies of the scores, rows.

    The bytes of a row were fitted to one measurement, SigLIP So400m at 448 px in int8 (VmHWM 655 to
    674 MiB of the process, 692 MB counted); no other size or precision was checked. ggml keeps no
    scores.
    """
    tokens = architecture.image_tokens
    if kind == "ggml":
        return file_bytes + _GGML_ROW * tokens
    return file_bytes + 2 * 4 * _VISION_HEADS * tokens**2 + _VISION_ROW * tokens


def check(budget_mb: int, wanted: Need) -> None:
    """Compare a budget with what is needed.

    Raises:
        BudgetError: too small; the message has every part's MB and the way out.
    """
    if wanted.peak <= budget_mb * MB:
        return
    parts = {
        "process": wanted.process,
        "weights from the file": wanted.mapped,
        "weights copied": wanted.copied,
        "KV cells": wanted.kv,
        "compute": wanted.compute,
        "a picture" if wanted.carried is None else "a picture, instead of those": wanted.vision,
    }
    listed = ", ".join(f"{name} {_mb(size)}" for name, size in parts.items() if size)
    raise BudgetError(
        f"a budget of {budget_mb} MB is too small: {_mb(wanted.peak)} MB are needed at the highest "
        f"({listed}); give {_mb(wanted.peak)} or more, fewer context cells, KV cells in q8_0, or a "
        "smaller bundle"
    )


def residents_that_fit(
    budget_mb: int,
    architecture: Architecture,
    language_bytes: int,
    vision_bytes: int,
    setting: Setting,
    user_cells: int,
) -> int:
    """Find how many resident users' cells fit beside the rest; 0 when none do.

    Args:
        budget_mb: for the whole process, in MB of 10⁶ bytes.
        architecture: from the manifest.
        language_bytes: size of `language.gguf`.
        vision_bytes: size of the vision file that `setting.vision` reads.
        setting: with the room of no resident user; sequences are added to it.
        user_cells: what one user's block takes.

    Raises:
        BudgetError: the budget does not hold the bundle without any.
    """
    check(budget_mb, need(architecture, language_bytes, vision_bytes, setting))
    users = 0
    while True:
        more = replace(setting.room, sequences=setting.room.sequences + users + 1)
        carried = None if setting.carried is None else setting.carried + (users + 1) * user_cells
        larger = replace(setting, room=more, carried=carried)
        wanted = need(architecture, language_bytes, vision_bytes, larger)
        if wanted.peak > budget_mb * MB:
            return users
        users += 1


def _mb(size: int) -> int:
    return -(-size // MB)
