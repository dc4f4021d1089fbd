"""One person's stay, and one question of theirs: what is known at a moment.

Owns: the state and nothing that changes it. Nothing of it is written anywhere. Knows nobody.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

from binascii import hexlify
from os import urandom

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Text

    from .loop import Timer

REMEMBERED_LINES = 20
"""Of the conversation, for the tablet."""


def fresh(kind):  # type: (Text) -> Text
    """Make an id that says nothing about anybody."""
    return "%s-%s" % (kind, hexlify(urandom(6)).decode("ascii"))


class Turn(object):
    """A question on its way to its answer."""

    def __init__(self, question, heard_at):  # type: (Text, float) -> None
        """Begin.

        Args:
            question: as it was heard.
            heard_at: seconds of the loop's time.
        """
        self.id = fresh("turn")
        self.question = question
        self.times = {"heard": heard_at}  # type: Dict[Text, float]
        self.asked = False
        """Whether the brain has it now."""
        self.tries = 0
        self.sentences = 0
        self.over = False
        """Whether nothing more will come; it may still be being said."""
        self.failed = self.stopped = False
        self.reported = False
        self.told = set()  # type: set[Text]
        """What the robot has said of its own accord meanwhile."""
        self.timers = []  # type: List[Timer]

    def again(self):  # type: () -> Text
        """Begin a try; gives its id: an earlier one may still be in a brain that hung."""
        self.asked = True
        self.tries += 1
        return self.asked_as

    @property
    def asked_as(self):  # type: () -> Text
        """The id of the latest try."""
        return "%s-%d" % (self.id, self.tries)

    def note(self, what, at):  # type: (Text, float) -> None
        """Remember when something happened first."""
        self.times.setdefault(what, at)


class Visit(object):
    """Somebody's stay; `person` is NAOqi's number, or None when they were only heard."""

    def __init__(self, person):  # type: (Optional[int]) -> None
        """Begin; they are a stranger."""
        self.person = person
        self.user = ""
        """The brain's id of them, when it has looked at them."""
        self.kept = False
        """Whether they agreed to be remembered, now or before."""
        self.maybe_kept = False
        """Whether the brain was told to keep them, and may have done it."""
        self.about = {}  # type: Dict[Text, Any]
        """What the brain has told of a kept one."""
        self.looking = False
        self.looks = 0
        self.strange = False
        """Whether they have just been forgotten, and are not to be recognised any more."""
        self.seen_alone = False
        """Whether nobody else was in view when they were looked at."""
        self.wants_known = False
        """Whether they have asked to be recognised."""
        self.compared = False
        """Whether it was tried to recognise them."""
        self.wish = ""
        """What they want as soon as they have been looked at: know, forget, remember or keep."""
        self.how = ""
        """How they have said yes."""
        self.asked_consent = False
        self.asking = False
        """Whether the robot waits for their yes or no."""
        self.answers = 0
        self.over = False
        self._lines = []  # type: List[Dict[Text, Any]]
        self._number = 0

    def line(self, who, text, done=True):  # type: (Text, Text, bool) -> None
        """Add something that was said.

        Args:
            who: person or robot.
            text: what.
            done: whether nothing more of it comes.
        """
        self._number += 1
        self._lines.append({"id": self._number, "who": who, "text": text, "done": done})
        del self._lines[:-REMEMBERED_LINES]

    def more(self, text):  # type: (Text) -> None
        """Add a sentence to the answer that is coming."""
        last = self._lines[-1] if self._lines else None
        if last is None or last["who"] != "robot" or last["done"]:
            self.line("robot", text, done=False)
        else:
            last["text"] += " " + text

    def settle(self):  # type: () -> None
        """Note that nothing more of the answer comes."""
        for line in self._lines:
            line["done"] = True

    def lines(self):  # type: () -> List[Dict[Text, Any]]
        """Give what was said, for the tablet."""
        return [dict(line) for line in self._lines]

    def clear(self):  # type: () -> None
        """Drop what was said."""
        del self._lines[:]
