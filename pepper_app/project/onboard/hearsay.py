"""What was heard, and whether the robot has heard itself; pure.

Owns: how alike two texts are to a microphone. Knows nothing of microphones.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, List, Text

ALIKE = 0.7
"""Of its words, in their order, in what the robot says: then it was the robot."""


def own_voice(heard, said):  # type: (Text, Text) -> bool
    """Tell whether a text may be the robot's own voice.

    Args:
        heard: by a recogniser.
        said: by the robot at that time; nothing when it was silent.
    """
    ours, theirs = _words(said), _words(heard)
    if not ours or not theirs:
        return False
    return _common(theirs, ours) >= ALIKE * len(theirs)


def alike(first, second):  # type: (Text, Text) -> bool
    """Tell whether two recognisers have heard the same."""
    return own_voice(first, second) and own_voice(second, first)


def contains(said, phrases):  # type: (Text, Iterable[Text]) -> bool
    """Tell whether one of these phrases is being said."""
    words = " %s " % " ".join(_words(said))
    return any(" %s " % " ".join(_words(phrase)) in words for phrase in phrases)


def _words(text):  # type: (Text) -> List[Text]
    return re.findall(r"\w+", text.lower(), re.UNICODE)


def _common(first, second):  # type: (List[Text], List[Text]) -> int
    """Give the length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for word in first:
        before = 0
        for place, other in enumerate(second, 1):
            above = row[place]
            row[place] = before + 1 if word == other else max(above, row[place - 1])
            before = above
    return row[-1]
