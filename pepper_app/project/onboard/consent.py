"""Being remembered, and being forgotten.

Owns: that nobody is kept who has not been asked and said yes, that they are asked once a visit at
most unless they want it, and that *forget me* reaches the brain and the robot's own memory. Knows
nothing of questions and answers.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import logging

from .problem import GONE
from .words import HOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional, Text

    from .brain import Brains
    from .debts import Debts
    from .faces import Faces
    from .loop import Loop, Timer
    from .problem import BrainError
    from .settings import Settings
    from .visit import Visit

WAIT_S = 12.0
"""For a yes or no, after the robot has asked; silence is a no."""
_LOG = logging.getLogger("uservlm")


class Consents(object):
    """See the module."""

    def __init__(self, loop, brain, debts, settings, own, changed):
        # type: (Loop, Brains, Debts, Settings, Callable[[Text], Any], Callable[[], Any]) -> None
        """Ask nobody.

        Args:
            loop: where it is done.
            brain: keeps.
            debts: forgets.
            settings: days, keeps and learn_faces.
            own: says a sentence of `words.py`.
            changed: called when there is something new to show.
        """
        self._loop, self._brain, self._debts, self._settings = loop, brain, debts, settings
        self._own, self._changed = own, changed
        self.faces = None  # type: Optional[Faces]
        """Comes when the robot has it."""
        self._timer = None  # type: Optional[Timer]

    def ask(self, visit):  # type: (Visit) -> None
        """Ask somebody whether they want to be remembered."""
        if visit.kept:
            self._own("kept_already")
        elif visit.user:
            visit.asking = visit.asked_consent = True
            self._own("ask_consent")
            self._wait(visit)
        else:
            self._own("unseen")

    def spoken(self, visit):  # type: (Visit) -> None
        """Note that the robot has fallen silent: the time for an answer begins."""
        if visit.asking:
            self._wait(visit)

    def yes(self, visit, way):  # type: (Visit, Text) -> None
        """Keep somebody who was asked.

        Args:
            visit: theirs.
            way: voice or tablet.
        """
        if not visit.asking:
            return
        self.drop(visit)
        user = visit.user

        def kept(_, error):  # type: (Any, Optional[BrainError]) -> None
            if error is not None:
                _LOG.warning("nobody is kept: %s", error)
                if not visit.over:
                    self._own("keep_failed")
            elif visit.over or visit.user != user:
                pass  # they agreed and left: they stay kept
            else:
                visit.kept = True
                self._own("kept")
                self.describe(visit)
            if error is None and self._settings.learn_faces and self.faces is not None:
                if not visit.over:
                    self.faces.learn(user)
            self._changed()

        self._brain.remember(user, HOW[way], self._settings.keeps, self._settings.days, kept)

    def no(self, visit):  # type: (Visit) -> None
        """Take a no for an answer."""
        if visit.asking:
            self.drop(visit)
            self._own("not_kept")

    def drop(self, visit):  # type: (Visit) -> None
        """Wait no longer; nothing was agreed to."""
        visit.asking = False
        if self._timer is not None:
            self._timer.cancel()
        self._changed()

    def forget(self, visit):  # type: (Visit) -> None
        """Forget somebody, at once or as soon as it can be done."""
        self.drop(visit)
        user, was_kept = visit.user, visit.kept
        visit.user, visit.kept, visit.about = "", False, {}
        visit.strange = visit.asked_consent = True
        visit.clear()
        self._changed()
        if not user:
            self._own("nothing_kept")
        elif was_kept:
            self._debts.forget(user, lambda done: self._told(visit, done))
        else:
            self._brain.forget(user, lambda _, error: self._told(visit, _gone(error)))

    def describe(self, visit):  # type: (Visit) -> None
        """Find out what the tablet shows of somebody who is kept."""
        user = visit.user

        def told(about, error):  # type: (Any, Optional[BrainError]) -> None
            if error is None and visit.user == user and isinstance(about, dict):
                visit.about = about
                self._changed()

        self._brain.about(user, told)

    def _told(self, visit, done):  # type: (Visit, bool) -> None
        if not visit.over:
            self._own("forgotten" if done else "forget_later")

    def _wait(self, visit):  # type: (Visit) -> None
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.after(WAIT_S, self._silence, visit)

    def _silence(self, visit):  # type: (Visit) -> None
        if visit.asking:
            self.drop(visit)


def _gone(error):  # type: (Optional[BrainError]) -> bool
    """Tell whether a guest is out of the brain's memory; a brain that has gone has none."""
    return error is None or error.code in ("unknown_user", GONE)
