r"""From what a model writes to what a robot may say; pure.

Owns: which characters ALAnimatedSpeech would execute instead of speaking, and that none gets
there: `^call(...)`, `^start(...)`, `$event=value` and `\tag=value\` (reference: NAOqi 2.5,
"ALAnimatedSpeech" and "ALTextToSpeech: using tags"). Knows nothing of speech.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Text

_COMMAND = re.compile(r"\^+\s*\w*\s*(?:\([^)]*\)*)?")
_EVENT = re.compile(r"\$+\s*[\w/]*\s*(?:=\s*\S+)?")
_TAG = re.compile(r"\\+\s*\w+\s*(?:=[^\\]*)?\\+")
_MARKUP = re.compile(r"[\^$\\*_#`~|<>{}\[\]\x00-\x1f\x7f\u2028\u2029]+")
_MONEY = re.compile(r"\$\s?(\d[\d.,]*)")


def speakable(text):  # type: (Text) -> Text
    """Give what can be said aloud; nothing when nothing is left.

    Money keeps its meaning (`$5` becomes `5 dollars`); what is written to be executed is dropped
    with its arguments, and the rest of the markup is dropped by its characters.
    """
    text = _MONEY.sub(_dollars, text)
    for pattern in (_TAG, _COMMAND, _EVENT, _MARKUP):
        text = pattern.sub(" ", text)
    text = re.sub(r"\s+([.,;:!?])", r"\1", " ".join(text.split()))
    return text if re.search(r"\w", text, re.UNICODE) else ""


def _dollars(found):  # type: (re.Match[Text]) -> Text
    amount = found.group(1)
    end = amount[len(amount.rstrip(".,")) :]
    return amount.rstrip(".,") + " dollars" + end
