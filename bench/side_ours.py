"""Our engine as a side of a benchmark: `python -m uservlm.bench.side_ours BUNDLE USERS [MB]`.

Owns: which of the engine's ways a turn takes. Everything goes through its public face. A way is
`cold` (a face never seen: vision, then image and question), `exact` (the embedding is kept: image
and question), `resident` (the image's KV cells are kept: the question alone) or `restored` (those
cells were saved, encrypted, and left the memory).
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from uservlm.bench.questions import KNOWN, picture, question_of
from uservlm.bench.serving import Found, peak_memory, serve

if TYPE_CHECKING:
    from uservlm.runtime import UserVLM
    from uservlm.runtime.answers import Attention, Usage

SAVES: Final = "state"
"""What the drawn people agree to have saved: their KV cells too."""
ANY = 1e4
"""A temperature at which every token is as likely as any other."""


ATTENTION: Final[dict[str, Attention]] = {
    "cold": "exact",
    "exact": "exact",
    "resident": "resident",
}
"""By way; `restored` is asked as `resident` is, of somebody who had to leave."""


class Ours:
    """The engine, and how often who was asked."""

    def __init__(self, vlm: UserVLM) -> None:
        self._vlm = vlm
        self._faces, self._seeds = count(), count()
        self._wrapper = len(vlm.prefix_tokens("x")) - 1

    def keep(self, users: int) -> Found:
        """Have so many people known, each asked once so that their cells are computed and saved."""
        from uservlm.runtime import Consent

        known = set(self._vlm.users.names)
        for number in range(users):
            name = f"user {number}"
            if name not in known:
                consent = Consent(datetime.now(timezone.utc), "drawn for a benchmark", SAVES)
                self._vlm.users.keep(name, self._vlm.encode(picture(KNOWN + number)), consent)
                self.turn("resident", 1, 1, number)
        return {}

    def turn(
        self,
        way: str = "cold",
        question_tokens: int = 50,
        answer_tokens: int | None = None,
        user: int = 0,
        wander: bool = False,
    ) -> Found:
        """Put one question; see `serving.py`.

        Args:
            way: one of those this module names.
            question_tokens: of the question alone.
            answer_tokens: at most; None lets the model end its answer.
            user: who of those kept asks; no matter if `cold`.
            wander: draw any token, so that the answer hardly ever ends before `answer_tokens`.
        """
        from uservlm.runtime import GenerationOptions

        asked = question_of(self._length, question_tokens)
        who: dict[str, Any] = {"user": f"user {user}"}
        if way == "cold":
            who = {"image": picture(next(self._faces))}
        attention = ATTENTION[way]
        options = GenerationOptions(answer_tokens, ANY if wander else 0.0, seed=next(self._seeds))
        answer = self._vlm.ask(asked, attention=attention, options=options, **who)
        return {**_found(answer.usage), "question_tokens": float(self._length(asked))}

    def _length(self, question: str) -> int:
        return len(self._vlm.prefix_tokens(question)) - self._wrapper


def _found(usage: Usage) -> Found:
    numbers = {
        name: float(value)
        for name, value in asdict(usage).items()
        if isinstance(value, int | float)
    }
    return {
        **numbers,
        "prompt_tokens": float(usage.prefix_tokens),
        "computed_tokens": float(usage.prefix_computed),
        "restored": float(usage.resident == "restored"),
        "stayed": float(usage.resident == "stayed"),
    }


def reset_peak() -> Found:
    """Begin a new phase: the next `memory` is the peak since now (proc(5), clear_refs 5)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return {}


def main() -> None:
    """Open the bundle, say so, and obey."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle")
    parser.add_argument("users", help="folder in which the drawn people are kept")
    parser.add_argument("--memory-mb", type=int)
    parser.add_argument("--first", action="store_true", help="be ready after an answer to user 0")
    given = parser.parse_args()
    from uservlm.runtime import ShadowPolicy, UserVLM

    with UserVLM.load(
        given.bundle,
        users=given.users,
        attention="resident",
        memory_mb=given.memory_mb,
        shadow=ShadowPolicy(share=0),
    ) as vlm:
        ours = Ours(vlm)
        if given.first:
            ours.turn("resident", answer_tokens=1)
        serve(
            {
                "keep": ours.keep,
                "turn": ours.turn,
                "phase": reset_peak,
                "memory": peak_memory,
            }
        )


if __name__ == "__main__":
    main()
