# -*- coding: utf-8 -*-
"""What somebody agrees to who says yes, in words; pure.

Owns: that the question names what is kept, where, for how long and how it ends, as the settings
have it: in two sentences to be listened to, and whole for the tablet. Every text is of `words.py`.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

from .recognition import ON_SIGHT
from .words import SAYS, SPANS, TERMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Text, Tuple

    from .settings import Settings

YEAR = 365
NUMBERS = ("embedding", "state")
"""What of `keeps` holds numbers by which somebody is known again."""


class Terms(object):
    """Read-only."""

    def __init__(self, settings, language):  # type: (Settings, Text) -> None
        """Word them.

        Args:
            settings: keeps, days, learn_faces and recognise.
            language: en or fr.
        """
        said, self._says = TERMS[language], SAYS[language]
        numbers, face = settings.keeps in NUMBERS, settings.learn_faces
        self._on_sight = settings.recognise == ON_SIGHT
        days = span(settings.days, language)
        kept = [said[one] for one, is_kept in (("numbers", numbers), ("face", face)) if is_kept]
        what = said["and"].join(kept or [said["nothing"]])
        question = (said["aim"] if kept else "") + said["ask"] % (what, days)
        self.question = question[:1].upper() + question[1:]  # type: Text
        """As it is spoken."""
        self.written = [
            text
            for text, wanted in (
                (said["written_aim"], kept),
                (said["written_" + settings.keeps], True),
                (said["written_face"], face),
                (said["written_days"] % days, True),
                (said["written_free"], True),
            )
            if wanted
        ]  # type: List[Text]
        """As the tablet shows it, paragraph by paragraph."""

    def says(self, key):  # type: (Text) -> Tuple[Text, ...]
        """Give the texts of `SAYS`, of which one is said; some depend on the settings."""
        if key == "ask_consent":
            return (self.question,)
        if key == "kept" and not self._on_sight:
            key = "kept_when_asked"
        return self._says[key]


def span(days, language):  # type: (int, Text) -> Text
    """Write a time in the words that are spoken: one year, 30 days.

    Args:
        days: 1 or more.
        language: en or fr.
    """
    one_day, some_days, one_year, some_years = SPANS[language]
    count, left = divmod(days, YEAR)
    one, some = (one_day, some_days) if left else (one_year, some_years)
    number = days if left else count
    return one if number == 1 else some % number
