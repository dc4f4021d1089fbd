"""Whether somebody may be compared with the people who are kept; pure.

Owns: that decision, for NAOqi's memory of faces and the brain's alike, and what the tablet offers
accordingly. Comparing a face in order to know whose it is needs that person's consent (GDPR, art.
9), so it is for them to ask for it, unless the deployer has decided otherwise. Knows nothing of how
people are compared.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Text, Tuple

    from .visit import Visit

WHEN_ASKED, ON_SIGHT, NEVER = "when_asked", "on_sight", "never"
RECOGNISE = (WHEN_ASKED, ON_SIGHT, NEVER)
"""Nobody but who asks for it; whoever comes near alone; nobody, and nobody is kept."""


class Recognition(object):
    """What the deployer has decided; read-only."""

    def __init__(self, when):  # type: (Text) -> None
        """Decide by one of `RECOGNISE`."""
        self.anybody = when != NEVER
        """Whether people are kept and recognised at all."""
        self.on_sight = when == ON_SIGHT
        """Whether that takes no word of theirs."""

    def compares(self, visit):  # type: (Visit) -> bool
        """Tell whether who has just been seen may be compared with those who are kept.

        With somebody else in view the known one may be the other.
        """
        if visit.strange or not visit.seen_alone:
            return False
        return self.on_sight or (self.anybody and visit.wants_known)

    def offers(self, visit):  # type: (Visit) -> Tuple[Text, ...]
        """Give what the tablet has buttons for: some of know, remember and forget."""
        if visit.kept:
            return ("forget",)
        if not self.anybody:
            return ()
        asked = self.on_sight or visit.wants_known or visit.strange
        return ("remember",) if asked else ("know", "remember")
