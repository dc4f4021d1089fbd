"""The proof: an exported bundle, run by the runtime, against its checkpoint, run by transformers.

Owns: which figures are measured and how good they must be for each precision. Knows nothing of
how a bundle is made; a bundle that fails is not handed out.

The bundle answers first. The checkpoint is then given those answers token by token, which takes one
pass over its weights instead of one for each token, and decides the same: up to the first token on
which they differ, both have seen the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from uservlm.converters.cases import Case
from uservlm.converters.errors import ParityError
from uservlm.converters.vision_onnx import Features, mean_token_cosine
from uservlm.runtime.agreement import FAITHFUL, Scores, kl_divergence, mean, rouge1
from uservlm.runtime.errors import BundleError
from uservlm.runtime.manifest import MANIFEST_FILE, Agreement, Parity, Precision

if TYPE_CHECKING:
    from uservlm.runtime import UserEmbedding, UserVLM
    from uservlm.runtime.request import Mode

Logits = npt.NDArray[np.float32]
"""float32 [rows of the embedding table], before the softmax."""

COSINE: dict[str, float] = {"fp32": 0.9999, "int8": 0.99, "f32": 0.9999, "q8_0": 0.99}
"""Lowest mean-token cosine of a user embedding, by the vision encoder's precision."""
LANGUAGE: dict[str, tuple[float, float]] = {
    "f32": (0.001, 0.95),
    "f16": (0.001, 0.95),
    "q8_0": (0.01, 0.9),
    "q4_k_m": (0.25, 0.55),
    "q4_0": (0.35, 0.45),
}
"""Highest mean KL of an answer token (nats), lowest share of agreeing tokens.

Random weights are the hardest to round, and deep ones amplify it. q4_k_m gave 0.011 to 0.033 over
five random shapes of 3 or 4 layers and 0.09 on a random 3B/448 (26 layers), where q8_0 gave 0.0016
and int8 vision added 0.05; the trained pocket gives 0.0003. One matrix with its sign turned gave
0.4 to 0.8, one of queries 0.003 to 0.04: a wrong structure shows in f16 and q8_0. What 4 bits would
hide is found in the weights themselves (`stored.py`), so this bound is for how a bundle answers.
"""
INT8_KL, INT8_TOP1 = 0.1, 0.1
"""What a vision encoder in 8 bits may add to the one and take from the other."""

Done = Callable[[int], None]


@dataclass(frozen=True)
class Reply:
    """What the bundle says to one case."""

    tokens: tuple[int, ...]
    """Of the answer, as far as it was followed; without the one that ends it."""
    text: str
    logits: Logits
    """float32 [positions, rows]: before the first token, behind the first, …"""

    @property
    def followed(self) -> tuple[int, ...]:
        """The tokens that stand before the positions, so one fewer than there are logits."""
        return self.tokens[: len(self.logits) - 1]


def ask(
    vlm: UserVLM,
    cases: Sequence[Case],
    users: Sequence[UserEmbedding],
    attention: Mode,
    done: Done,
    adapter: str,
    limit: int,
) -> list[Reply]:
    """Let the bundle answer, greedily, and keep the logits of every position.

    Args:
        vlm: with room for `attention`.
        cases: what is asked.
        users: by the number of the case's picture.
        attention: exact or resident.
        done: called with 1 after each case.
        adapter: a kept one, by name, or NO_ADAPTER.
        limit: positions looked at, at most.
    """
    replies = []
    for case in cases:
        trace = vlm.trace(
            case.question, image=users[case.picture], attention=attention, adapter=adapter
        )
        with closing(trace):
            logits = np.stack(list(islice(trace, limit)))
        drawn = tuple(int(one.argmax()) for one in logits)
        # Shorter than the limit means that the last token drawn ended the answer.
        tokens = drawn if len(drawn) == limit else drawn[:-1]
        replies.append(Reply(tokens, vlm.spell(tokens), logits))
        done(1)
    return replies


def compare(
    original: Sequence[Logits],
    replies: Sequence[Reply],
    vision_cosine: float,
    threshold: dict[str, float],
) -> Parity:
    """Give the figures of a bundle.

    Args:
        original: the checkpoint's logits for each reply, float32 [positions, rows].
        replies: the bundle's under exact attention.
        vision_cosine: see `lowest_cosine`.
        threshold: see `thresholds`.
    """
    pairs = [
        (theirs, ours)
        for logits, reply in zip(original, replies, strict=True)
        for theirs, ours in zip(logits, reply.logits, strict=True)
    ]
    first = [(logits[0], reply.logits[0]) for logits, reply in zip(original, replies, strict=True)]
    same = [
        bool((logits.argmax(1) == reply.logits.argmax(1)).all())
        for logits, reply in zip(original, replies, strict=True)
    ]
    return Parity(
        cases=len(replies),
        vision_cosine=vision_cosine,
        first_token_kl=_mean_kl(first),
        first_token_top1=_same(first),
        answer_positions=len(pairs),
        answer_kl=_mean_kl(pairs),
        answer_top1=_same(pairs),
        greedy_agreement=mean(same),
        threshold=threshold,
    )


@dataclass(frozen=True)
class Pair:
    """One case answered by one bundle in both ways."""

    scores: Scores
    first_token_kl: float
    """KL(exact ‖ resident) in nats."""


def pair(exact: Reply, resident: Reply) -> Pair:
    """Compare two answers to one case."""
    one, two = exact.logits[0], resident.logits[0]
    scores = Scores(
        same_first=bool(one.argmax() == two.argmax()),
        same_answer=exact.tokens == resident.tokens,
        rouge1=rouge1(resident.text, exact.text),
    )
    return Pair(scores, kl_divergence(one, two))


def agreement(pairs: Sequence[Pair]) -> Agreement:
    """Give what a manifest keeps of the pairs."""
    return Agreement(
        cases=len(pairs),
        first_token_top1=mean(one.scores.same_first for one in pairs),
        first_token_kl=mean(one.first_token_kl for one in pairs),
        rouge1=mean(one.scores.rouge1 for one in pairs),
        threshold=FAITHFUL,
    )


def agree(exact: Sequence[Reply], resident: Sequence[Reply]) -> Agreement:
    """Compare the bundle with itself: resident attention with exact."""
    return agreement([pair(one, two) for one, two in zip(exact, resident, strict=True)])


def lowest_cosine(original: Sequence[Features], users: Sequence[UserEmbedding]) -> float:
    """Give the worst picture's mean-token cosine between the checkpoint's and the bundle's."""
    return min(
        mean_token_cosine(theirs, user.features)
        for theirs, user in zip(original, users, strict=True)
    )


def thresholds(precision: Precision) -> dict[str, float]:
    """Give what each figure must reach: answer_kl at most, the others at least.

    Raises:
        BundleError: a precision that no export makes.
    """
    known: dict[str, tuple[str, Collection[str]]] = {
        "language": (precision.language, LANGUAGE),
        "vision": (precision.vision, COSINE),
    }
    for part, (said, all_) in known.items():
        if said not in all_:
            raise BundleError(
                f"{MANIFEST_FILE}: precision.{part} is {said!r}, not one of {', '.join(all_)}; "
                "export the bundle again"
            )
    kl, top1 = LANGUAGE[precision.language]
    rough = precision.vision in ("int8", "q8_0")
    return {
        "vision_cosine": COSINE[precision.vision],
        "answer_kl": round(kl + INT8_KL * rough, 4),
        "answer_top1": round(top1 - INT8_TOP1 * rough, 4),
    }


def check(parity: Parity, what: str = "the bundle") -> None:
    """Stop a bundle that is not good enough.

    Raises:
        ParityError: names every figure that misses its threshold.
    """
    faults = []
    for figure, limit in parity.threshold.items():
        value = float(getattr(parity, figure))
        highest = figure.endswith("_kl")
        # Written so that a NaN fails.
        if not (value <= limit if highest else value >= limit):
            wanted = "at most" if highest else "at least"
            faults.append(f"{figure} is {value:.4g}, needed {wanted} {limit:g}")
    if faults:
        raise ParityError(
            f"{what} does not answer like the checkpoint over {parity.cases} cases: "
            f"{'; '.join(faults)}. Try a finer --quant or --vision fp32"
        )


def _mean_kl(pairs: Sequence[tuple[Logits, Logits]]) -> float:
    return mean(kl_divergence(one, two) for one, two in pairs)


def _same(pairs: Sequence[tuple[Logits, Logits]]) -> float:
    return mean(one.argmax() == two.argmax() for one, two in pairs)
