"""What an export of a shape will take: seconds, and room on the disk.

Owns: the arithmetic and the rates, which were measured on two cores of a server Xeon. A machine is
as much faster or slower as its finished steps turn out to be; `progress.py` corrects for that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from uservlm.converters import names
from uservlm.converters.adapters import LoraAdapter
from uservlm.converters.calibration import calibration_folder
from uservlm.converters.cases import PICTURES
from uservlm.converters.language_gguf import tensors
from uservlm.converters.names import Shape
from uservlm.converters.options import ExportOptions
from uservlm.converters.proof import TOKENS
from uservlm.converters.quantise import bytes_of, kind_of
from uservlm.runtime.adapters import NO_ADAPTER

SMALL = 50_000_000
"""Weights below which one thread computes: on a busy machine two were ten times slower."""
PROMPT = 40
"""Tokens of a question and the text around it, about."""
TOKEN, GRAPH = 40, 1_500_000
"""Bytes that a GGUF's header spends on a token, and a vision graph beside its weights."""
VISION_BYTES: dict[str, float] = {"fp32": 4, "int8": 1, "f32": 4, "q8_0": 34 / 32, "none": 0}
"""Of a weight, by how a vision file is stored."""


READING, LOOKING = "reading the checkpoint", "looking (transformers)"
VISION, LANGUAGE = "vision encoder -> ONNX", "language model -> GGUF"
VISION_GGUF = "vision encoder -> GGUF"
IMPORTANCE, BUNDLE = "importance matrix (transformers)", "asking the bundle"
"""What steps are called while they run."""


@dataclass(frozen=True)
class Effort:
    """How much is asked to prove a bundle."""

    cases: int
    """Pairs of picture and question."""
    tokens: int
    """Of each answer, at most: the whole of a short one, the beginning of a long one."""

    @property
    def pictures(self) -> int:
        """Drawn people that are looked at."""
        return min(self.cases, PICTURES)


SMALL_EFFORT, LARGE_EFFORT = Effort(cases=16, tokens=24), Effort(cases=2, tokens=12)


def effort(shape: Shape, cases: int | None = None) -> Effort:
    """Choose by size, unless the caller says how many cases.

    At full size a case costs the original half a minute and the bundle as much; `uservlm verify
    --cases 32` can be run over night.
    """
    small = names.weights(shape) < SMALL
    chosen = SMALL_EFFORT if small else LARGE_EFFORT
    return replace(chosen, cases=cases or chosen.cases)


def pictures(shape: Shape, options: ExportOptions) -> int:
    """Count the drawn people that are looked at: cases and importance prompts ask about them."""
    return max(effort(shape, options.cases).pictures, min(options.importance, PICTURES))


def language_bytes(shape: Shape, quant: str) -> int:
    """Give the size of `language.gguf` beside its header."""
    return sum(
        bytes_of(entry.shape, kind_of(entry.target, entry.shape, shape.layers, quant))
        for entry in tensors(shape)
    )


def vision_gguf(shape: Shape, options: ExportOptions) -> str:
    """Say how `vision.gguf` is stored: q8_0, f32, or none."""
    if options.vision_gguf is not None:
        return options.vision_gguf
    wanted = options.vision == "none" or names.weights(shape) < SMALL
    return "none" if not wanted else "f32" if options.vision == "fp32" else "q8_0"


def vision_bytes(shape: Shape, vision: str) -> int:
    """Give the size of a vision file beside its graph or header."""
    weights = names.weights(shape, names.VISION) + names.weights(shape, names.PROJECTOR)
    return int(weights * VISION_BYTES[vision])


def bundle_bytes(shape: Shape, quant: str, vision: str, gguf: str = "none") -> int:
    """Give the size of a bundle without adapters, about."""
    seeing = vision_bytes(shape, vision) + vision_bytes(shape, gguf)
    return language_bytes(shape, quant) + seeing + shape.rows * TOKEN + GRAPH


def adapter_bytes(adapter: LoraAdapter, shape: Shape) -> int:
    """Give the size of a kept adapter's file beside its header: A and B in float32."""
    sizes = names.expected(shape)
    return sum(4 * pair.rank * sum(sizes[name]) for name, pair in adapter.pairs.items())


def disk_need(shape: Shape, options: ExportOptions, kept: Iterable[LoraAdapter] = ()) -> int:
    """Give the most that lies on the disk at once while a bundle is made, in bytes.

    Besides the bundle: user embeddings, and the logits that both sides answered with.

    Args:
        shape: of the checkpoint.
        options: say how many adapters are asked, and how much.
        kept: these adapters, opened.
    """
    asked, sides = effort(shape, options.cases), 2 * (1 + len(options.kept))
    logits = sides * asked.cases * asked.tokens * shape.rows * 4
    features = pictures(shape, options) * (shape.image_tokens + TOKENS) * shape.width * 4
    adapters = sum(adapter_bytes(adapter, shape) for adapter in kept)
    bundle = bundle_bytes(shape, options.quant, options.vision, vision_gguf(shape, options))
    return bundle + adapters + logits + features


def original_words(adapter: str) -> str:
    """Name the step that asks the original, with an adapter merged or none."""
    return f"{heading(adapter)}asking the original (transformers)"


def adapter_words(name: str) -> str:
    """Name the step that writes an adapter which is kept apart."""
    return f"adapter {name} -> GGUF"


def heading(adapter: str) -> str:
    """Give what stands before a line that is about the bundle with this adapter on."""
    return "" if adapter == NO_ADAPTER else f"with {adapter}: "


RATES: dict[str, float] = {
    "F32": 4e8, "F16": 4e8, "Q8_0": 1.5e8, "Q4_0": 1.5e8, "Q5_0": 1e8, "Q6_K": 5.5e7, "Q4_K": 2.1e7,
}  # fmt: skip
"""Weights a second that are read and quantised, on both cores."""
IMPORTANCE_RATES: dict[str, float] = {"Q4_0": 5e7, "Q4_K": 1.1e7}
"""The same with an importance matrix, where it makes a difference."""
LOOK, FOLLOW = 2e11, 2.4e11
"""Operations a second of the original in torch, float32: the vision tower, the decoder layers."""
PREFILL, DECODE = 2.7e11, 1e10
"""Of the bundle: operations a second in a prefill, bytes a second in decoding."""
INT8, WRITE = 3e11, 1.2e8
"""Operations a second of the int8 vision encoder, bytes of float32 a second that become it."""
GGML = 1e11
"""Operations a second of vision.gguf."""


def estimate(shape: Shape, options: ExportOptions) -> list[tuple[str, float]]:
    """Give the steps of an export in order, each with the seconds it takes on two cores."""
    asked = effort(shape, options.cases)
    look = pictures(shape, options) * vision_operations(shape) / LOOK + 2
    ask = [(BUNDLE, _asking_seconds(shape, options.quant, asked) * (1 + len(options.kept)))]
    ask += [(words, _original_seconds(shape, asked.cases)) for words in _originals(options)]
    first = [(LOOKING, look)]
    if options.vision != "none":
        first.append((VISION, _vision_seconds(shape, options)))
    if (kind := vision_gguf(shape, options)) != "none":
        first.append((VISION_GGUF, _vision_gguf_seconds(shape, options, kind)))
    if options.importance:
        first.append((IMPORTANCE, _original_seconds(shape, options.importance)))
    return [*first, (LANGUAGE, _language_seconds(shape, options)), *ask]


def vision_operations(shape: Shape) -> float:
    """Count the floating-point operations of one picture: two a weight and token, and attention."""
    weights = names.weights(shape, names.VISION) + names.weights(shape, names.PROJECTOR)
    tokens = shape.image_tokens
    return tokens * (2 * weights + 4 * tokens * shape.vision_width * shape.vision_layers)


def prefill_operations(shape: Shape, tokens: int) -> float:
    """Count the floating-point operations of the language model's layers over so many tokens."""
    weights = names.weights(shape, f"{names.LANGUAGE}layers.")
    return tokens * (2 * weights + 4 * tokens * shape.heads * shape.head_dim * shape.layers)


def _vision_seconds(shape: Shape, options: ExportOptions) -> float:
    stored = vision_bytes(shape, "fp32")
    if options.vision == "fp32":
        return 2 + stored / 1e8
    seen = len(calibration_folder(options.calibration).files) or pictures(shape, options)
    measured = seen * vision_operations(shape) / INT8
    own = seen * vision_operations(shape) / LOOK if options.calibration else 0
    return 2 + stored / WRITE + measured + own


def _vision_gguf_seconds(shape: Shape, options: ExportOptions, kind: str) -> float:
    seen = len(calibration_folder(options.calibration).files) or pictures(shape, options)
    weights = names.weights(shape, names.VISION) + names.weights(shape, names.PROJECTOR)
    written = weights / RATES[kind.upper()]
    return 2 + written + seen * vision_operations(shape) / GGML


def _language_seconds(shape: Shape, options: ExportOptions) -> float:
    rates = {**RATES, **(IMPORTANCE_RATES if options.importance else {})}
    return 2 + sum(
        math.prod(entry.shape)
        / rates[kind_of(entry.target, entry.shape, shape.layers, options.quant).name]
        for entry in tensors(shape)
    )


def _asking_seconds(shape: Shape, quant: str, asked: Effort) -> float:
    """Every case is prefilled exactly; each picture becomes resident once."""
    tokens = shape.image_tokens + PROMPT
    prefills = asked.cases + asked.pictures
    decode = 2 * asked.cases * asked.tokens * language_bytes(shape, quant) / DECODE
    return prefills * prefill_operations(shape, tokens) / PREFILL + decode + 5


def _original_seconds(shape: Shape, cases: int) -> float:
    tokens = shape.image_tokens + PROMPT
    reading = names.weights(shape, names.LANGUAGE) * 2 / 1e9
    return cases * prefill_operations(shape, tokens) / FOLLOW + reading + 1


def _originals(options: ExportOptions) -> list[str]:
    return [original_words(name) for name in (NO_ADAPTER, *options.kept)]
