"""How a figure is written for people: three digits, a unit that fits, names in words.

Owns: rounding, units, names and dates. Knows nothing of pages, terminals or of what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from math import floor, isfinite, log10
from typing import Final

from uservlm.bench.results import Duel, Row, Spread

DIGITS: Final = 3
THIN: Final = "\u202f"
"""Narrow space that never breaks: between thousands."""
SPACE: Final = "\u00a0"
"""Between a number and its unit."""
MINUTE: Final = 60.0
SMALLEST: Final = 1e-4
"""What is smaller is written with a power of ten."""

_BYTES: Final = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_FLOPS: Final = ((1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP"), (1.0, "FLOP"))
SCALES: Final[Mapping[str, tuple[tuple[float, str], ...]]] = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "J": ((1e3, "kJ"), (1.0, "J"), (1e-3, "mJ")),
    "bytes": _BYTES,
    "bytes/s": tuple((factor, f"{name}/s") for factor, name in _BYTES),
    "FLOP": _FLOPS,
    "FLOP/s": tuple((factor, f"{name}/s") for factor, name in _FLOPS),
    "": ((1e-2, "%"),),  # a share
}
"""Of each unit of results.json, the units people read, the greatest first."""
WORDS: Final[Mapping[str, str]] = {
    "vision": "vision encoder",
    "prefill": "prefill",
    "ttft": "time to first token",
    "decode": "decoding",
    "answer": "whole answer",
    "start": "process start to first token",
    "load": "loading",
    "peak": "peak memory of the process",
    "kept person": "what is kept of one person",
    "energy": "energy of one answer",
    "read": "reading memory",
    "fp32": "matrix product in float32",
    "bf16": "matrix product in bfloat16",
    "int8": "matrix product in int8",
    "vision_cosine": "cosine of the image's features",
    "answer_kl": "KL of the answer's tokens, nats",
    "answer_top1": "same most likely token",
    "greedy_agreement": "same greedy answer",
}
"""Names of quantities for people; one that is missing here is its own name."""
SIDES: Final[Mapping[str, str]] = {
    "cold": "ours, a new face",
    "exact": "ours, face known (exact)",
    "resident": "ours, face resident",
    "restored": "ours, face restored from disk",
    "machine": "this machine",
    "transformers-bf16": "transformers in bfloat16",
    "transformers-f32": "transformers in float32",
    "llama.cpp": "llama.cpp, as many tokens of text",
    "llama.cpp, image cached": "llama.cpp, a picture's worth of text cached",
    "gemma3-llama.cpp": "Gemma 3 4B on llama.cpp",
    "gemma3-llama.cpp, image cached": "Gemma 3 4B on llama.cpp, image cached",
    "openvino": "Qwen2.5-VL 3B on OpenVINO",
}
"""Names of sides for people."""


def scale(value: float, unit: str) -> tuple[float, str]:
    """Choose the unit in which `value` reads best: what one of it is in `unit`, and its name."""
    scales = SCALES.get(unit, ((1.0, unit),))
    if value == 0:
        return next((one for one in scales if one[0] == 1.0), scales[-1])
    return next((one for one in scales if abs(value) >= one[0]), scales[-1])


def number(value: float) -> str:
    """Write with three significant digits; thousands are kept apart by a narrow space."""
    if value == 0 or not isfinite(value):
        return "0" if value == 0 else "∞"
    if abs(value) < SMALLEST:
        return f"{value:.{DIGITS - 1}e}"
    rounded = round(value, _places(value))
    return f"{rounded:,.{max(0, _places(rounded))}f}".replace(",", THIN)


def short(value: float) -> str:
    """Write a whole number with every digit, another without zeros at its end: along an axis."""
    text = f"{value:,.0f}" if value == round(value) else f"{value:.{DIGITS}g}"
    return text.replace(",", THIN)


def quantity(value: float, unit: str) -> str:
    """Write a value with its unit, as `20.5 ms`."""
    if not unit:
        return percent(value)
    factor, name = scale(value, unit)
    return f"{number(value / factor)}{SPACE}{name}"


def around(spread: Spread, unit: str) -> str:
    """Write least and greatest in the unit of the median; nothing where all are the same."""
    if spread.least == spread.greatest:
        return ""
    if not unit:
        return f"{_hundredths(spread.least)} to {percent(spread.greatest)}"
    factor, name = scale(spread.value, unit)
    return f"{number(spread.least / factor)} to {number(spread.greatest / factor)}{SPACE}{name}"


def times(spread: Spread) -> str:
    """Write a ratio with its spread, as `11.6 times (10.7 to 11.6)`."""
    least, greatest = number(spread.least), number(spread.greatest)
    known = f" ({least} to {greatest})" if least != greatest else ""
    return f"{number(spread.value)} times{known}"


def exponent(found: Spread) -> str:
    """Write an exponent with its spread, as `0.93 (0.90 to 0.97)`."""
    text = f"{found.value:.2f} ({found.least:.2f} to {found.greatest:.2f})"
    return text.replace("-", "−")


def percent(share: float) -> str:
    """Write a share as `41 %`; near to 0 and to 1 with more digits, as `99.97 %`."""
    return f"{_hundredths(share)}{SPACE}%"


def what(name: str) -> str:
    """A quantity's name for people."""
    return WORDS.get(name, name)


def side(name: str) -> str:
    """A side's name for people."""
    return SIDES.get(name, name)


def title(row: Row) -> str:
    """Name a row: side, quantity and case."""
    return ", ".join(part for part in (side(row.side), what(row.what), row.case) if part)


def rivals(duel: Duel) -> str:
    """Name a duel: both sides, quantity and case."""
    names = f"{side(duel.peer)} against {side(duel.ours)}"
    return ", ".join(part for part in (names, what(duel.what), duel.case) if part)


def capital(text: str) -> str:
    """Begin with a capital letter and leave the rest as it is."""
    return text[:1].upper() + text[1:]


def duration(seconds: float) -> str:
    """Write how long something took, as `4 min 51 s`."""
    if seconds < MINUTE:
        return f"{number(seconds)}{SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}{SPACE}min {rest}{SPACE}s"


def date(when: str) -> str:
    """Write an ISO 8601 moment as `21 November 2026, 10:34 UTC`; another text stays."""
    try:
        moment = datetime.fromisoformat(when.replace("Z", "+00:00"))
    except ValueError:
        return when
    moment = moment.replace(tzinfo=moment.tzinfo or timezone.utc).astimezone(timezone.utc)
    return f"{moment.day} {MONTHS[moment.month - 1]} {moment:%Y, %H:%M} UTC"


MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
"""In English whatever the locale is."""


def _hundredths(share: float) -> str:
    near = min(abs(share), abs(1 - share))
    if near >= 0.1 or near == 0:
        return f"{share * 100:.0f}"
    digits = -floor(log10(near)) - (1 if share < 0.5 else 2)
    return f"{share * 100:.{min(4, max(1, digits))}f}"


def _places(value: float) -> int:
    return DIGITS - 1 - floor(log10(abs(value)))
