"""A run's results as they could have been, with every section filled: the same on each call."""

from __future__ import annotations

from dataclasses import replace

from uservlm.bench.results import (
    SECTIONS,
    Count,
    Curve,
    Duel,
    Flops,
    Machine,
    Measured,
    Missing,
    RatioTable,
    Results,
    Row,
    Spread,
    Subject,
)

MAIN = "50 tokens"
TERA = 10**12
READING = "reading the weights once a token"


def results() -> Results:
    """Give a run of the 3B shape with random weights."""
    return Results(
        "2026-11-21T10:34:05+00:00", "7be3122", 1873.4, 3, machine(), subject(), flops(), limits(),
        latency(), memory(), load(), growth(), fidelity(),
    )  # fmt: skip


def machine() -> Machine:
    return Machine(
        "Intel(R) Xeon(R) Platinum 8488C", 2, 2, 25_276_514_304, "Linux 6.1.0-31-amd64",
        ("avx2", "avx512f", "avx512_vnni", "amx_bf16", "amx_int8"),
        {"python": "3.11.7", "llama-cpp-python": "0.3.36", "onnxruntime": "1.32.0",
         "torch": "2.13.0", "transformers": "4.57.6", "numpy": "2.4.6"},
    )  # fmt: skip


def subject(name: str = "user-vlm-3b") -> Subject:
    files = {"language.gguf": 1_712_000_000, "vision.onnx": 429_300_000, "manifest.json": 9_412}
    return Subject(name, "3B, 448 px", "random", "q4_0", "int8", 1024, files)


def around(value: float, *, by: float = 0.05) -> tuple[float, float, float]:
    """Three samples, one of them `value`."""
    return (value * (1 - by / 2), value, value * (1 + by))


def row(
    side: str, what: str, value: float, unit: str = "s", case: str = MAIN, by: float = 0.05
) -> Row:
    better = "more" if "/" in unit else "less"
    return Row(side, what, case, unit, around(value, by=by), "more" if better == "more" else "less")


def latency() -> Measured:
    first = {"cold": 9.83, "exact": 7.61, "resident": 0.862, "restored": 1.07}
    rows = [
        row(side, "ttft", value * (0.8 + tokens / 250), case=f"{tokens} tokens")
        for tokens in (16, 32, 50, 100)
        for side, value in first.items()
    ]
    rows += [bound(row("cold", "vision", 1.42), 0.52, "int8 products")]
    rows += [bound(row(side, "prefill", value), 0.31 * value, "int8 products")
             for side, value in first.items()]  # fmt: skip
    rows += [row(side, "answer", value + 15.4) for side, value in first.items()]
    rows += [bound(row(side, "decode", 6.41 + index / 50, "tokens/s"), 15.6, READING)
             for index, side in enumerate(first)]  # fmt: skip
    note = "45 of 48 restored from disk, the others were still resident"
    rows += [
        replace(row("resident", "ttft", 0.871, case=f"{n} in turn"), note=note) for n in (4, 16)
    ]
    for peer, (ttft, decode) in PEERS.items():
        rows += [row(peer, "ttft", ttft), row(peer, "decode", decode, "tokens/s"),
                 Row(peer, "peak", "", "bytes", (6.4e9,))]  # fmt: skip
    rows.append(row("llama.cpp", "decode", 6.78, "tokens/s"))
    rows.append(row("restored", "start", 4.21, case=""))
    why = "no wheel for this Python: `No matching distribution for openvino-genai==2026.3.0`"
    missing = (Missing("openvino", why), Missing("energy", "no readable RAPL counter"))
    return Measured(tuple(rows), duels(first), missing)


PEERS = {
    "transformers-bf16": (7.08, 2.2),
    "transformers-f32": (31.4, 1.1),
    "gemma3-llama.cpp": (14.9, 4.4),
    "gemma3-llama.cpp, image cached": (1.71, 4.38),
}
"""Time to first token and tokens a second."""


def bound(one: Row, value: float, by: str) -> Row:
    return replace(one, bound=value, bound_by=by)


def duels(first: dict[str, float]) -> tuple[Duel, ...]:
    found = []
    for peer, (ttft, decode) in PEERS.items():
        for ours in ("cold", "exact", "resident"):
            samples = around(first[ours]), around(ttft, by=0.11)
            found.append(Duel(ours, peer, "ttft", MAIN, "s", *samples))
        rates = around(6.41), around(decode)
        found.append(Duel("resident", peer, "decode", MAIN, "tokens/s", *rates, "more"))
    alone = around(6.41), around(6.48, by=0.11)
    return (*found, Duel("exact", "llama.cpp", "decode", MAIN, "tokens/s", *alone, "more"))


def limits() -> Measured:
    rates = {"read": 24.9e9, "fp32": 0.241e12, "bf16": 1.62e12, "int8": 3.11e12}
    units = {"read": "bytes/s"}
    return Measured(
        tuple(row("machine", what, value, units.get(what, "FLOP/s"), "")
              for what, value in rates.items())
    )  # fmt: skip


def memory() -> Measured:
    peaks = {"loading": 1.92, "a new face": 4.61, "face known, exact": 2.31, "face resident": 2.25,
             "all of it, memory_mb=2500": 2.45}  # fmt: skip
    kept = {"embedding in memory": 9.44, "resident in memory": 117, "state on disk, encrypted": 109}
    rows = [Row("ours", "peak", case, "bytes", (value * 1e9,)) for case, value in peaks.items()]
    rows += [Row("ours", "kept person", tier, "bytes", (n * 1e6,)) for tier, n in kept.items()]
    return Measured(tuple(rows))


def load() -> Measured:
    rows: list[Row] = []
    slower: list[Duel] = []
    for side, ttft, decode in (("resident", 0.862, 6.41), ("transformers-bf16", 7.08, 2.2)):
        for what, unit, value in (("ttft", "s", ttft), ("decode", "tokens/s", decode)):
            beside = value * 1.46 if unit == "s" else value / 1.58
            rows += [row(side, what, value, unit, "alone"),
                     row(side, what, beside, unit, "one core busy")]  # fmt: skip
            samples = rows[-2].samples, rows[-1].samples
            slower.append(Duel(side, "one core busy", what, "", unit, *samples, rows[-1].better))
    return Measured(tuple(rows), tuple(slower))


def growth() -> tuple[Curve, ...]:
    first, whole = "time to first token", "whole answer"
    return (
        curve(first, "tokens computed", (20, 36, 68, 132, 260), (0.42, 0.6, 1.02, 1.9, 3.7), 0.86),
        curve(whole, "tokens of the answer", (8, 16, 32, 64), (2.1, 3.35, 5.85, 10.9), 0.79),
        curve(first, "people resident at once", (1, 2, 4, 8), (0.862, 0.858, 0.871, 0.865), 0.01),
        curve(f"{first}, a new face", "pixels of the picture's side", (224, 448, 896),
              (1.9, 9.8, 61.0), 2.5),
        curve(f"{first}, face resident", "pixels of the picture's side", (224, 448, 896),
              (0.66, 0.86, 1.7), 0.68),
    )  # fmt: skip


def curve(
    what: str, by: str, at: tuple[float, ...], medians: tuple[float, ...], exponent: float
) -> Curve:
    samples = tuple(around(one, by=0.16) for one in medians)
    spread = Spread(exponent, exponent - 0.04, exponent + 0.05)
    note = "50 tokens; the face is resident" if "people" in by else ""
    return Curve(f"{what} by {by}", what, by, "s", at, samples, spread, note)


def fidelity() -> Measured:
    export, ours = "24 cases, measured by the export", "64 cases, with its 95 % interval"
    original, exact = "bundle against its original", "resident against exact"
    return Measured((
        Row(original, "vision_cosine", export, "", (0.99968,), "more"),
        Row(original, "answer_kl", export, "nats", (0.0914,)),
        Row(original, "answer_top1", export, "", (0.958,), "more"),
        Row(exact, "same first token", ours, "", (0.871, 0.953, 0.984), "more"),
        Row(exact, "same greedy answer", ours, "", (0.79, 0.891, 0.946), "more"),
    ))  # fmt: skip


def flops() -> Flops:
    ours = {"cold": (0.98, 4.64), "exact": (0, 4.64), "resident": (0, 0.258)}
    counts = [count("User-VLM 3B", case, tera, 0 if case == "resident" else 1024, 3.03)
              for case, tera in ours.items()]  # fmt: skip
    peers = {
        "Llama-3.2-Vision 11B": ((5.6, 3.1), 1601, 10.7),
        "Pixtral 12B": ((1.5, 28.2), 1024, 12.7),
        "LLaVA-1.6 7B": ((1.95, 46.9), 2880, 7.57),
        "LLaVA-1.5 7B": ((0.39, 9.66), 576, 7.06),
        "PaliGemma 2 3B": ((0.98, 5.09), 1024, 3.03),
    }
    counts += [count(peer, "instruction + question", *rest) for peer, rest in peers.items()]
    counts.append(count("LLaVA-1.5 7B", "instruction + question, image cached", (0, 2.1), 0, 7.06))
    columns = tuple(peers)[:4]
    printed = (("User-VLM 3B", (22.5, 30.0, 17.5, 17.5)), ("User-VLM 10B", (16.5, 9.0, 5.25, 5.25)))
    counted: tuple[tuple[str, tuple[float | None, ...]], ...]
    counted = (("User-VLM 3B, a new face", (1.55, 5.29, 8.69, 1.79)),
               ("User-VLM 3B, face resident", (None, 115.0, 189.0, 39.0)))  # fmt: skip
    tables = (
        RatioTable("paper", "The paper's Table 8, as printed", "No seconds are given there.",
                   columns, printed),
        RatioTable("everything", "Everything counted",
                   "Image tokens and vision encoders too. The paper's 30 does not hold here.",
                   columns, counted),
    )  # fmt: skip
    return Flops(tuple(counts), tables, (Missing("Pixtral 12B, 1280 px", "out of its range"),))


def count(model: str, case: str, tera: tuple[float, float], image: int, billions: float) -> Count:
    vision, language = (round(one * TERA) for one in tera)
    ours = model.startswith("User")
    cached = 1024 if case == "resident" else 576 if "cached" in case else 0
    analytic = round((vision + language) * 1.002) if ours else None
    return Count(model, case, round(billions * 1e9), image, cached, 50 if ours else 150, vision,
                 language, analytic)  # fmt: skip


def nothing() -> Results:
    """A run of which no section was asked for."""
    return replace(results(), **dict.fromkeys(SECTIONS))
