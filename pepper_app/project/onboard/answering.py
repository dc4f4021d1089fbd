"""From a question to its answer, spoken sentence by sentence.

Owns: the one turn there is, what is said while it takes long, when it is tried again, and which
words stand for which failure. Knows nothing of who is there, nor of consent.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import logging

from .problem import GONE
from .visit import Turn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Text

    from .brain import Brains
    from .loop import Loop
    from .problem import BrainError
    from .speaker import Speaker
    from .visit import Visit

FILLER_S, FILLER_LONG_S = 1.5, 8.0
"""After the question, as long as no sentence has come."""
AWAY_S = 30.0
"""How long a question waits for a brain to come back."""
LONGEST_S = 90.0
"""From the question to the end of its answer; then it is given up."""
BUSY_S, TRIES = 2.0, 5
_AGAIN = ("user_gone", "unknown_user", "picture_needed")
"""The brain has lost sight of them: they are shown to it again."""
_LATER = ("busy",)
_AWAY = (GONE, "draining")
_TOO_LONG = ("deadline_exceeded", "request_too_slow")
_LOG = logging.getLogger("uservlm")


class Host(object):
    """What a turn needs of the conversation it belongs to."""

    def own(self, key):  # type: (Text) -> None
        """Say a sentence of `words.py`."""
        raise NotImplementedError

    def look(self):  # type: () -> None
        """Have the brain look at who is there; `go_on` or `unseen` follows."""
        raise NotImplementedError

    def lost_sight(self):  # type: () -> None
        """Note that the brain does not know who is there any more."""
        raise NotImplementedError

    def changed(self):  # type: () -> None
        """Show how things are now."""
        raise NotImplementedError

    def ended(self, turn):  # type: (Turn) -> None
        """Note that nothing more of a turn comes."""
        raise NotImplementedError


class Answering(object):
    """See the module."""

    def __init__(self, loop, brain, speaker, host):
        # type: (Loop, Brains, Speaker, Host) -> None
        """Have no question.

        Args:
            loop: where it is done.
            brain: answers.
            speaker: says it.
            host: see there.
        """
        self._loop, self._brain, self._speaker, self._host = loop, brain, speaker, host
        self.turn = None  # type: Optional[Turn]
        """The one whose answer is awaited, or is being said."""
        self._visit = None  # type: Optional[Visit]

    @property
    def waiting(self):  # type: () -> bool
        """Whether there is a question of which nothing has been said yet."""
        return self.turn is not None and not self.turn.over and not self.turn.sentences

    def begin(self, visit, question):  # type: (Visit, Text) -> None
        """Answer a question; what was being answered ends."""
        self.stop()
        turn = self.turn = Turn(question, self._loop.now())
        self._visit = visit
        turn.timers = [
            self._loop.after(FILLER_S, self._fill, turn, "filler"),
            self._loop.after(FILLER_LONG_S, self._fill, turn, "filler_long"),
            self._loop.after(LONGEST_S, self._fail, turn, "too_long"),
        ]
        self.go_on()

    def go_on(self):  # type: () -> None
        """Ask the brain, if there is a question, somebody to ask about, and a brain."""
        turn, visit = self.turn, self._visit
        if turn is None or visit is None or turn.asked or turn.over:
            return
        if not self._brain.there:
            self._wait_for_brain(turn)
        elif not visit.user:
            self._host.look()
        else:
            id_ = turn.again()
            turn.note("asked", self._loop.now())
            self._brain.ask(
                turn.question,
                visit.user,
                id_,
                lambda sentence: self._said(turn, sentence),
                lambda text, error: self._done(turn, text, error),
            )

    def unseen(self):  # type: () -> None
        """Give up: there is nobody to be seen."""
        if self.turn is not None and not self.turn.over and not self.turn.asked:
            self._fail(self.turn, "unseen")

    def stop(self):  # type: () -> None
        """End the turn and the robot's speech, at once."""
        turn, self.turn = self.turn, None
        self._speaker.stop()
        if turn is not None:
            if turn.asked and not turn.over:
                self._brain.cancel(turn.asked_as)
            turn.stopped = True
            self._end(turn)
            self._host.ended(turn)  # its answer may have been complete, and still being said

    def leave(self):  # type: () -> None
        """Know nothing of the visit any more."""
        self._visit = None

    def _said(self, turn, sentence):  # type: (Turn, Text) -> None
        if turn is not self.turn or turn.over or self._visit is None:
            return
        now = self._loop.now()
        turn.note("sentence", now)

        def begins():  # type: () -> None
            turn.note("voice", self._loop.now())

        if self._speaker.say(sentence, begins):
            turn.sentences += 1
            self._visit.more(sentence)
            self._host.changed()

    def _done(self, turn, _, error):  # type: (Turn, Any, Optional[BrainError]) -> None
        if turn is not self.turn or turn.over:
            return
        if error is None:
            if turn.sentences:
                self._end(turn)
            else:
                self._fail(turn, "nothing")
            return
        _LOG.info("a turn ended with %s", error.code)
        turn.asked = False
        again = turn.tries < TRIES and not turn.sentences
        if error.code == "cancelled":
            self._end(turn)
        elif again and error.code in _AGAIN and self._visit is not None:
            self._host.lost_sight()
            self.go_on()
        elif again and error.code in _LATER:
            self._tell(turn, "busy")
            turn.timers.append(self._loop.after(BUSY_S, self.go_on))
        elif again and error.code in _AWAY:
            self._wait_for_brain(turn)
        else:
            self._fail(turn, "too_long" if error.code in _TOO_LONG else "broken")

    def _wait_for_brain(self, turn):  # type: (Turn) -> None
        """Say so once; `go_on` follows when there is one again."""
        if self._brain.there:
            turn.timers.append(self._loop.after(BUSY_S, self.go_on))
        elif "away" not in turn.told:
            self._tell(turn, "away")
            turn.timers.append(self._loop.after(AWAY_S, self._give_up, turn))

    def _give_up(self, turn):  # type: (Turn) -> None
        if not turn.asked and not turn.sentences:
            self._fail(turn, "away_still")

    def _fill(self, turn, key):  # type: (Turn, Text) -> None
        thinks = turn.asked or self._brain.there  # or somebody is being looked at
        if turn is self.turn and thinks and not turn.sentences and not self._speaker.speaking:
            self._tell(turn, key)

    def _tell(self, turn, key):  # type: (Turn, Text) -> None
        """Say something of our own once a turn."""
        if key not in turn.told:
            turn.told.add(key)
            self._host.own(key)

    def _fail(self, turn, key):  # type: (Turn, Text) -> None
        if turn is not self.turn or turn.over:
            return
        if turn.asked:
            self._brain.cancel(turn.asked_as)
        self._tell(turn, key)
        turn.failed = True
        self._end(turn)

    def _end(self, turn):  # type: (Turn) -> None
        if turn.over:
            return
        turn.over = True
        for timer in turn.timers:
            timer.cancel()
        if self._visit is not None:
            self._visit.settle()
        self._host.ended(turn)
