"""From pieces of an answer to its sentences, each as soon as it is whole, for whoever speaks them.

Owns: where a sentence ends. Knows nothing of voices or of how an answer is made.

A full stop may be an abbreviation, a decimal or an ellipsis, so the character behind it decides:
one token more, as a rule. Text is read character by character: how it was cut into pieces makes no
difference. What `sentence-stream` (Home Assistant's) does was tried first: it takes every short
capitalised word for an abbreviation ("Yes." waits for the next sentence), and has no longest one.
"""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 240
"""Characters without an end that are held back; a voice takes some 15 a second."""
_SHORTEST_CUT: Final = 80

_CLOSERS: Final = "'\"’”»)\\]}*_"
_ENDED: Final = re.compile(rf"([.!?…؟।॥]+)[{_CLOSERS}]*\s+[»]?\s*$|\s»\s+$")
"""Spaced scripts: the end, what closes around it, and white space; French spaces its guillemets."""
_WIDE_END: Final = re.compile(r"[。！？｡][”’」』）》】〕]*$")
_WIDE_MORE: Final = "。！？｡”’」』）》】〕…"
_OPEN_END: Final = "»)]}’”"
"""Behind white space these still belong to what was said."""
_ABBREVIATION: Final = re.compile(
    r"(?:^|[\s(\"'“‘«])(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Mme|Mlle|Mgr|Hr|Fr|Sra|Dra|vs|etc|cf|ca|bzw|approx"
    r"|e\.\s?g|i\.\s?e|z\.\s?B|d\.\s?h|u\.\s?a|p\.\s?ex|[A-HJ-Z]|\d{1,2}|(?:\w\.)+\w)$"
)
"""Also initials, and the number of a list or a German date."""
_PAUSE: Final = re.compile(r".*[,;:—–](?=\s)|.*[，、；：]", re.DOTALL)
