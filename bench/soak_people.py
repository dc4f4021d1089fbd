"""The drawn people of the soak, what is asked about them, and what a fresh process answers.

Owns: who takes part and what they agreed to, the questions, the right answers, and the rule by
which an answer counts as the right one. Knows nothing of stores, kills or threads.

An answer is right when it is the fresh process's, letter for letter. One exception is counted and
printed: where KV cells lie changes the order of sums by the last bit, so an answer may leave the
right one at a token that was a tie, the two likeliest within `TIE` of a logit.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from uservlm.runtime import UserVLM
    from uservlm.runtime.profiles import Keeps
    from uservlm.runtime.request import Mode

SEED: Final = 4242
"""Of the drawn people; no other set of the project has it."""
QUESTIONS: Final = (
    "Describe me.",
    "What colour is my top?",
    "What is my hair like?",
    "How do I feel?",
    "How do I make a video call?",
)
"""Each answer depends on the person; the first tells all people apart, and is asked most."""
WEIGHTS: Final = (6, 2, 2, 1, 1)
MODES: Final[tuple[Mode, ...]] = ("exact", "resident")
AGREED: Final[tuple[Keeps | None, ...]] = ("state", "embedding", "state", None, "profile", "state")
"""What people agree to, in turn; None: to nothing."""
TIE: Final = 0.02
"""Logits closer than this may change places; the pocket's are about 10 apart."""

Pictures: TypeAlias = dict[str, npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Right:
    """A right answer, token by token; the last token ends it."""

    texts: tuple[str, ...]
    """What is said after each token, from the beginning."""
    gaps: tuple[float, ...]
    """Logits between the likeliest token there and the next."""

    @property
    def text(self) -> str:
        """The whole of it."""
        return self.texts[-1]


Answers: TypeAlias = dict[str, dict[str, Right]]
"""Of one person: mode -> question -> answer."""


def names(count: int) -> tuple[str, ...]:
    """Name the people."""
    return tuple(f"person {number:02d}" for number in range(count))


def agreed(name: str) -> Keeps | None:
    """Say what a person agrees to when first asked."""
    return AGREED[int(name.rpartition(" ")[2]) % len(AGREED)]


def gap(said: str, right: Right, whole: bool = True) -> float | None:
    """Compare an answer with the right one.

    Args:
        said: the answer.
        right: what a fresh process said.
        whole: False when the answer was cut short on purpose.

    Returns:
        None for the same; else the gap in logits at the token where they part.
    """
    if said == right.text or (not whole and right.text.startswith(said)):
        return None
    parted = (at for at, text in enumerate(right.texts) if not said.startswith(text))
    return right.gaps[next(parted, len(right.gaps) - 1)]


def draw_pictures(count: int) -> Pictures:
    """Photograph the people: uint8 [height, width, 3] each."""
    from uservlm.models.pictures import picture_at

    return {name: picture_at(SEED, index) for index, name in enumerate(names(count))}


def answers_of(vlm: UserVLM, picture: npt.NDArray[np.uint8]) -> Answers:
    """Ask everything about one person."""
    return {
        mode: {question: _right(vlm, question, picture, mode) for question in QUESTIONS}
        for mode in MODES
    }


def to_json(answers: Answers) -> str:
    """Write the answers on one line."""
    plain = {m: {q: asdict(right) for q, right in found.items()} for m, found in answers.items()}
    return json.dumps(plain)


def from_json(line: str) -> Answers:
    """Read them back."""
    return {
        mode: {q: Right(tuple(one["texts"]), tuple(one["gaps"])) for q, one in found.items()}
        for mode, found in json.loads(line).items()
    }


def save_pictures(pictures: Pictures, file: Path) -> None:
    """Write what is read by `load_pictures`; drawn people only."""
    np.savez(file, allow_pickle=False, **pictures)


def load_pictures(file: Path) -> Pictures:
    """Read all pictures into memory."""
    with np.load(file) as found:
        return {name: found[name] for name in found.files}


def _right(vlm: UserVLM, question: str, picture: npt.NDArray[np.uint8], mode: Mode) -> Right:
    text = vlm.ask(question, image=picture, attention=mode).text
    tokens, gaps = list[int](), list[float]()
    for logits in vlm.trace(question, image=picture, attention=mode):
        second, first = np.partition(logits, -2)[-2:]
        tokens.append(int(logits.argmax()))
        gaps.append(float(first - second))
    right = Right(tuple(vlm.spell(tokens[: n + 1]) for n in range(len(tokens))), tuple(gaps))
    if right.text != text:
        raise RuntimeError(f"{question!r} answered {text!r}, and token by token {right.text!r}")
    return right
