"""Text between markers of a Markdown file, written anew: `<!-- WORD:NAME -->` … `<!-- /WORD -->`.

Owns: the form of the markers, and that each has its other end. Knows nothing of what stands between
them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from uservlm.runtime.errors import UserVLMError


class MarkerError(UserVLMError):
    """A marker without its other end."""


def fill(text: str, word: str, content: Callable[[str], str]) -> str:
    """Give a text with what `content` makes of each marker's NAME between the marker and its end.

    Args:
        text: the file's.
        word: of the markers.
        content: gives whole lines.

    Raises:
        MarkerError: a marker has no end, or an end no marker.
    """
    block = rf"(<!-- {word}:([\w.#-]+) -->\n)(.*?)(<!-- /{word} -->)"
    found = re.findall(block, text, re.DOTALL)
    if len(re.findall(rf"<!-- (?:{word}:|/{word})", text)) != 2 * len(found):
        raise MarkerError(
            f"each <!-- {word}:NAME --> needs a <!-- /{word} --> of its own behind it"
        )
    return re.sub(block, lambda one: f"{one[1]}{content(one[2])}{one[4]}", text, flags=re.DOTALL)
