"""Being remembered, and being forgotten.

Owns: that nobody is kept who has not been asked and said yes while they were alone in view, that
they are asked once a visit at most unless they want it, and that *forget me* reaches the brain and
the robot's own memory. Who asks to be known or to be forgotten, or says yes, has asked to be
compared with those who are kept: how else could they be found, or not be kept twice? Knows nothing
of questions and answers.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import logging

from .words import HOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional, Text

    from .brain import Brains
    from .debts import Debts
    from .faces import Faces
    from .loop import Loop, Timer
    from .problem import BrainError
    from .recognition import Recognition
    from .settings import Settings
    from .visit import Visit

WAIT_S = 12.0
"""For a yes or no, after the robot has asked; silence is a no."""
_LOG = logging.getLogger("uservlm")


class Asker(object):
    """What this needs of the conversation it belongs to."""

    def own(self, key):  # type: (Text) -> None
        """Say a sentence of `words.py`."""
        raise NotImplementedError

    def changed(self):  # type: () -> None
        """Show how things are now."""
        raise NotImplementedError

    def alone(self):  # type: () -> bool
        """Tell whether nobody else is in view."""
        raise NotImplementedError

    def talking(self):  # type: () -> bool
        """Tell whether the robot is speaking."""
        raise NotImplementedError

    def look_again(self):  # type: () -> None
        """Look anew at who is there; what they wish is done then."""
        raise NotImplementedError


class Consents(object):
    """See the module."""

    def __init__(self, loop, brain, debts, settings, recognition, host):
        # type: (Loop, Brains, Debts, Settings, Recognition, Asker) -> None
        """Ask nobody.

        Args:
            loop: where it is done.
            brain: keeps.
            debts: forgets.
            settings: days and keeps.
            recognition: says whether anybody is kept, and who may be compared.
            host: see there.
        """
        self._loop, self._brain, self._debts, self._settings = loop, brain, debts, settings
        self._recognition, self._host = recognition, host
        self.faces = None  # type: Optional[Faces]
        """Comes when the robot has it."""
        self._timer = None  # type: Optional[Timer]

    def may_ask(self, visit):  # type: (Visit) -> bool
        """Tell whether somebody can be asked: a stranger, alone, and seen alone."""
        ready = visit.person is not None and visit.user and visit.seen_alone
        ready = ready and self._recognition.anybody
        return bool(ready) and not visit.kept and self._host.alone()

    def ask(self, visit):  # type: (Visit) -> None
        """Ask somebody whether they want to be remembered."""
        if visit.kept:
            self._host.own("kept_already")
        elif not self._recognition.anybody:
            self._host.own("nobody_known")
        elif visit.asking:
            self._wait(visit)  # the question is being said, or has just been
        elif self.may_ask(visit):
            visit.asking = visit.asked_consent = True
            self._host.own("ask_consent")
            self._wait(visit)
        elif visit.person is None or not self._host.alone():
            self._host.own("alone_first")
        else:
            visit.wish = "remember"
            self._host.look_again()

    def know(self, visit):  # type: (Visit) -> None
        """Recognise somebody who asks for it."""
        self.drop(visit)
        if visit.kept:
            self._host.own("again")
        elif not self._recognition.anybody:
            self._host.own("nobody_known")
        elif visit.strange or (visit.user and visit.compared):
            self._host.own("not_known")
        elif visit.person is None or not self._host.alone():
            self._host.own("alone_first")
        else:
            if not self._brain.there:
                self._host.own("away")
            self._compare(visit, "know")

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
        if not self.may_ask(visit):  # whose yes was it?
            self._host.own("alone_first")
            return
        visit.how = HOW[way]
        if visit.compared or visit.strange:
            self._keep(visit)
        else:  # they may have been kept before, and are not to be kept twice
            self._compare(visit, "keep")

    def no(self, visit):  # type: (Visit) -> None
        """Take a no for an answer."""
        if visit.asking:
            self.drop(visit)
            self._host.own("not_kept")

    def drop(self, visit):  # type: (Visit) -> None
        """Wait no longer; nothing was agreed to."""
        visit.asking = False
        if self._timer is not None:
            self._timer.cancel()
        self._host.changed()

    def forget(self, visit):  # type: (Visit) -> None
        """Forget somebody, at once or as soon as it can be done."""
        self.drop(visit)
        visit.clear()
        user, known = visit.user, visit.kept or visit.maybe_kept
        label = self._lone_face()
        if label and label != user:
            self._debts.forget(label, lambda done: None if known else self._told(visit, done))
        if known:
            self._debts.forget(user, lambda done: self._told(visit, done))
        elif user and visit.compared and not label:
            self._debts.drop(user, lambda done: self._told(visit, done))
        elif user:
            self._debts.drop(user)
        self._unknown(visit)
        if known or label or (user and visit.compared):
            visit.strange = True
        elif not self._recognition.anybody:
            self._host.own("nobody_known")
        elif visit.strange:
            self._host.own("nothing_kept")
        elif not self._host.alone():
            self._host.own("alone_first")
        else:  # who they are is found out first
            if not self._brain.there:
                self._host.own("forget_later")
                self._owe(visit)
            self._compare(visit, "forget")

    def recognised(self, visit):  # type: (Visit) -> None
        """Do what somebody wished, now that it is known who they are."""
        wish, visit.wish = visit.wish, ""
        if wish == "remember":
            self.ask(visit)
        elif not visit.compared and visit.seen_alone and not visit.strange:
            self._compare(visit, wish)  # they had not asked for it yet when they were looked at
        elif not visit.compared:
            self._host.own("alone_first")
        elif wish == "keep":
            self._keep(visit)
        elif wish == "know":
            self._host.own("again" if visit.kept else "not_known")
        elif wish == "forget" and visit.kept:
            self.forget(visit)
        elif wish == "forget":
            visit.strange = visit.asked_consent = True
            self._host.own("nothing_kept")

    def crowded(self):  # type: () -> None
        """Note that somebody else is in view: no face is learnt with them there."""
        if self.faces is not None:
            self.faces.disturb()

    def describe(self, visit):  # type: (Visit) -> None
        """Find out what the tablet shows of somebody who is kept."""
        user = visit.user

        def told(about, error):  # type: (Any, Optional[BrainError]) -> None
            same = visit.kept and visit.user == user
            if error is None and same and isinstance(about, dict):
                visit.about = about
                self._host.changed()

        self._brain.about(user, told)

    def _compare(self, visit, wish):  # type: (Visit, Text) -> None
        """Find out first who somebody is; `recognised` follows."""
        visit.wish, visit.wants_known = wish, True
        self._host.look_again()

    def _keep(self, visit):  # type: (Visit) -> None
        user, visit.maybe_kept = visit.user, True
        settings = self._settings
        self._brain.remember(
            user,
            visit.how,
            settings.keeps,
            settings.days,
            lambda _, error: self._remembered(visit, user, error),
        )

    def _remembered(self, visit, user, error):
        # type: (Visit, Text, Optional[BrainError]) -> None
        """Go on when the brain has kept somebody, or may not have."""
        same = visit.user == user and visit.maybe_kept
        if error is not None:
            _LOG.warning("nobody is kept: %s", error.code)
            self._debts.forget(user, lambda _: None)  # it may have, and only its answer was lost
            if same:
                self._unknown(visit)
                if not visit.over:
                    self._host.own("keep_failed")
                    self._host.look_again()
        elif same and not visit.over:
            visit.kept = True
            self._host.own("kept")
            self.describe(visit)
            if self.faces is not None and self._host.alone():
                self.faces.learn(user)
        self._host.changed()

    def _owe(self, visit):  # type: (Visit) -> None
        """Find out who is to be forgotten without the brain, so that they need not wait for it."""

        def seen(label):  # type: (Text) -> None
            if label and not visit.over and self._host.alone():
                visit.wish, visit.strange = "", True
                self._debts.forget(label, lambda _: None)

        if self.faces is not None:
            self.faces.who(seen)

    def _lone_face(self):  # type: () -> Text
        alone = self.faces is not None and self._host.alone()
        return self.faces.lone() if alone and self.faces is not None else ""

    def _unknown(self, visit):  # type: (Visit) -> None
        visit.user, visit.kept, visit.maybe_kept, visit.about = "", False, False, {}
        visit.asked_consent = True
        self._host.changed()

    def _told(self, visit, done):  # type: (Visit, bool) -> None
        if not visit.over:
            self._host.own("forgotten" if done else "forget_later")

    def _wait(self, visit):  # type: (Visit) -> None
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.after(WAIT_S, self._silence, visit)

    def _silence(self, visit):  # type: (Visit) -> None
        if visit.asking and self._host.talking():
            self._wait(visit)  # the question itself takes longer
        elif visit.asking:
            self.drop(visit)
