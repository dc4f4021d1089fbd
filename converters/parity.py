"""The proof: an exported bundle, run by the runtime, against its checkpoint, run by transformers.

Owns: which figures are measured and how good they must be for each precision. Knows nothing of
how a bundle is made; a bundle that fails is not handed out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from uservlm.converters.cases import Case, calibration_cases, calibration_pictures
from uservlm.converters.checkpoint import Checkpoint
from uservlm.converters.errors import ParityError
from uservlm.converters.reference import Logits, Reference
from uservlm.converters.vision_onnx import Features, mean_token_cosine
from uservlm.runtime.bundle import Agreement, Manifest, Parity
from uservlm.runtime.image import to_pixels

if TYPE_CHECKING:
    from uservlm.runtime import UserEmbedding, UserVLM
    from uservlm.runtime.request import Mode

ANSWER_TOKENS = 40
"""Longest answer that is compared; the whole of a short one, the beginning of a long one."""
FAITHFUL = 0.95
"""Agreement at which `attention="auto"` may take resident."""

COSINE: dict[str, float] = {"fp32": 0.9999, "int8": 0.99}
"""Lowest mean-token cosine of a user embedding, by the vision encoder's precision."""
LANGUAGE: dict[str, tuple[float, float]] = {
    "f32": (0.001, 0.95),
    "f16": (0.001, 0.95),
    "q8_0": (0.01, 0.9),
    "q4_k_m": (0.1, 0.6),
    "q4_0": (0.15, 0.5),
}
"""Highest mean KL of the first answer token (nats), lowest share of agreeing first tokens.

Random weights are the hardest to round: over five random shapes q4_k_m gave KL 0.011 to 0.033 and
top-1 down to 0.69, q4_0 0.042 and 0.56, q8_0 0.0004, f16 3e-6. One matrix with its sign turned gave
0.4 to 0.8, one of queries 0.003 to 0.04: a wrong structure shows in f16, coarse faults in 4 bits.
First tokens of random models are near ties, so KL is the figure that decides.
"""
INT8_KL, INT8_TOP1 = 0.02, 0.1
"""What an int8 vision encoder may add to the one and take from the other."""

Done = Callable[[int], None]


@dataclass(frozen=True)
class Reply:
    """What one side says to one case."""

    logits: Logits
    answer: str


def run_reference(
    checkpoint: Checkpoint, manifest: Manifest, count: int, done: Done
) -> tuple[list[Features], list[Reply]]:
    """Ask the checkpoint: a user embedding per picture, logits and answer per case."""
    reference = Reference(checkpoint)
    pixels = [to_pixels(picture, manifest.pixels) for picture in calibration_pictures()]
    expected = []
    for case in calibration_cases(count):
        ids = reference.prompt_ids(manifest.prompt.fill(case.question))
        logits = reference.exact_logits(pixels[case.picture], ids)
        answer = reference.text(reference.greedy(pixels[case.picture], ids, ANSWER_TOKENS))
        expected.append(Reply(logits, answer))
        done(1)
    return [reference.embed(one) for one in pixels], expected


def measure(
    bundle: Path,
    features: list[Features],
    expected: list[Reply],
    manifest: Manifest,
    done: Done,
    threads: int | None = None,
) -> tuple[Parity, Agreement]:
    """Ask the bundle the same, exactly and resident, and compare.

    Args:
        bundle: folder with a manifest.
        features: the checkpoint's, per calibration picture.
        expected: the checkpoint's, per calibration case.
        manifest: of the bundle; its precision decides the thresholds.
        done: called with 1 after each case.
        threads: the runtime computes with; None lets it choose.
    """
    from uservlm.runtime import UserVLM

    cases = calibration_cases(len(expected))
    # Resident has room for both; the hashes in the manifest were taken a moment ago.
    with UserVLM.load(bundle, attention="resident", threads=threads, verify=False) as vlm:
        users = [vlm.encode(picture) for picture in calibration_pictures()]
        cosine = min(
            mean_token_cosine(ours, user.features)
            for ours, user in zip(features, users, strict=True)
        )
        exact = [_ask(vlm, case, users[case.picture], "exact", done) for case in cases]
        resident = [_ask(vlm, case, users[case.picture], "resident", done) for case in cases]
    parity = Parity(
        cases=len(cases),
        vision_cosine=cosine,
        first_token_kl=_mean_kl(expected, exact),
        first_token_top1=_same_first(expected, exact),
        answer_positions=len(cases),
        answer_kl=_mean_kl(expected, exact),
        answer_top1=_same_first(expected, exact),
        greedy_agreement=_mean(
            first.answer == second.answer for first, second in zip(expected, exact, strict=True)
        ),
        threshold=thresholds(manifest.precision.language, manifest.precision.vision),
    )
    agreement = Agreement(
        cases=len(cases),
        first_token_top1=_same_first(exact, resident),
        first_token_kl=_mean_kl(exact, resident),
        rouge1=_mean(
            rouge1(second.answer, first.answer)
            for first, second in zip(exact, resident, strict=True)
        ),
        threshold=FAITHFUL,
    )
    return parity, agreement


def thresholds(language: str, vision: str) -> dict[str, float]:
    """Give what each figure must reach: first_token_kl at most, the others at least."""
    kl, top1 = LANGUAGE[language]
    rough = vision == "int8"
    return {
        "vision_cosine": COSINE[vision],
        "first_token_kl": kl + INT8_KL * rough,
        "first_token_top1": round(top1 - INT8_TOP1 * rough, 4),
    }


def check(parity: Parity) -> None:
    """Stop a bundle that is not good enough.

    Raises:
        ParityError: names every figure that misses its threshold.
    """
    faults = []
    for figure, limit in parity.threshold.items():
        value = float(getattr(parity, figure))
        highest = figure == "first_token_kl"
        # Written so that a NaN fails.
        if not (value <= limit if highest else value >= limit):
            wanted = "at most" if highest else "at least"
            faults.append(f"{figure} is {value:.4g}, needed {wanted} {limit:g}")
    if faults:
        raise ParityError(
            f"the bundle does not answer like the checkpoint over {parity.cases} cases: "
            f"{'; '.join(faults)}. Try a finer --quant or --vision fp32"
        )


def kl_divergence(reference: Logits, other: Logits) -> float:
    """Give KL(reference ‖ other) of the two distributions, in nats."""
    first, second = _log_softmax(reference), _log_softmax(other)
    return float(max(0.0, np.sum(np.exp(first) * (first - second))))


def rouge1(answer: str, reference: str) -> float:
    """Give the F1 of the words two texts share; 1 when neither has any."""
    ours, theirs = (Counter(re.findall(r"\w+", text.lower())) for text in (answer, reference))
    if not ours and not theirs:
        return 1.0
    shared = sum((ours & theirs).values())
    return 2 * shared / (sum(ours.values()) + sum(theirs.values()))


def _ask(vlm: UserVLM, case: Case, user: UserEmbedding, attention: Mode, done: Done) -> Reply:
    from uservlm.runtime import GenerationOptions

    logits = vlm.first_logits(case.question, image=user, attention=attention)
    options = GenerationOptions(max_new_tokens=ANSWER_TOKENS)
    answer = vlm.ask(case.question, image=user, attention=attention, options=options)
    done(1)
    return Reply(logits, answer.text)


def _log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - float(logits.max())
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def _mean_kl(first: list[Reply], second: list[Reply]) -> float:
    return _mean(
        kl_divergence(one.logits, other.logits) for one, other in zip(first, second, strict=True)
    )


def _same_first(first: list[Reply], second: list[Reply]) -> float:
    return _mean(
        one.logits.argmax() == other.logits.argmax()
        for one, other in zip(first, second, strict=True)
    )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean([float(value) for value in values]))
