"""From pieces of an answer to its sentences, each as soon as it is whole, for whoever speaks them.

Owns: where a sentence ends. Knows nothing of voices, or of how an answer is made.

A full stop may be an abbreviation, a decimal or an ellipsis, so the character behind it decides:
one token more, as a rule. Text is read character by character, so how it was cut into pieces makes
no difference. `sentence-stream` (Home Assistant's) was tried first: it takes every short word with
a capital for an abbreviation ("Yes." waits for the next sentence), and knows no longest one.
"""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 240
"""Characters without an end that are held back; a voice takes some 15 a second."""

_END: Final = re.compile(r"([.!?…؟।॥]+)['\"“”’»)\]}*_]*\s+(?:»\s+)?\Z")
"""Where words are spaced: the end, what closes around it, and white space; French spaces its »."""
_BEHIND: Final = "»)]}’”"
"""Behind white space these still belong to what was said."""
_WIDE_END: Final = re.compile(r"[。！？｡][”’」』）》】〕]*\Z")
_WIDE_BEHIND: Final = "。！？｡…”’」』）》】〕"
_ABBREVIATION: Final = re.compile(
    r"\A\d{1,3}\Z"  # the number in a list
    r"|(?<!\w)(?:Mr|Mrs|Ms|Dr|Prof|St|Mme|Mlle|Mgr|Hr|Fr|Sr|Sra|Dra|vs|cf|ca|bzw|approx"
    r"|[^\W\d_I]|(?:\w\.)+\w)\Z"  # initials, z. B., e.g., U.S.
)
_NUMBERED: Final = re.compile(r"(?<!\w)(?:[Nn]o|[Nn]r|Fig|Vol|Bd|pp?)\Z")
_PAUSE: Final = re.compile(r".*(?:[,;:–—](?=\s)|[，、；：])", re.DOTALL)


class Sentences:
    """Takes the pieces of one answer, and gives its sentences without the space around them."""

    def __init__(self, longest: int = LONGEST) -> None:
        """Hold nothing yet.

        Args:
            longest: characters; what has no end by then is cut at a comma, or between words.
        """
        self._longest = longest
        self._held = ""

    def add(self, piece: str) -> list[str]:
        """Take a piece; gives the sentences that are whole by it."""
        whole = []
        for character in piece:
            if _ends(self._held, character):
                whole.append(self._held.strip())
                self._held = ""
            self._held = (self._held + character).lstrip()
            if len(self._held) > self._longest:
                whole.append(self._cut())
        return whole

    def finish(self) -> list[str]:
        """Give what is left when the answer has ended."""
        rest, self._held = self._held.strip(), ""
        return [rest] if rest else []

    def _cut(self) -> str:
        """Take what can be said of a sentence without an end."""
        least = self._longest // 3
        pause = _PAUSE.match(self._held, 0, self._longest)
        end = pause.end() if pause else 0
        if end < least:
            end = self._held.rfind(" ")
        if end < least:
            end = self._longest
        head, self._held = self._held[:end].strip(), self._held[end:].lstrip()
        return head


def _ends(held: str, behind: str) -> bool:
    """Say whether a sentence is whole.

    Args:
        held: so far.
        behind: the character that comes next.
    """
    if not any(character.isalnum() for character in held):
        return False
    if behind == "\n":
        return True
    if behind not in _WIDE_BEHIND and _WIDE_END.search(held):
        return True
    end = _END.search(held)
    if end is None or behind.isspace() or behind.islower() or behind in _BEHIND:
        return False
    before = held[: end.start()]
    if end[1] != ".":
        return True
    return not (_ABBREVIATION.search(before) or (behind.isdigit() and _NUMBERED.search(before)))
