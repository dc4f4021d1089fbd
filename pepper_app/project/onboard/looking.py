"""From somebody in front of the robot to an id that the brain knows them by.

Owns: in which order that is found out: NAOqi's own recognition of a face it was allowed to learn,
then the brain's comparison, and else they are a stranger who is looked at and not kept. Knows
nothing of questions. A picture goes to the brain and nowhere else.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import logging

from .problem import GONE
from .visit import fresh

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional, Text

    from .brain import Brains
    from .camera import Camera, Frame
    from .debts import Debts
    from .faces import Faces
    from .loop import Loop
    from .problem import BrainError, RobotError
    from .visit import Visit

    Found = Callable[[Visit, Optional[Text]], Any]

AGAIN_S, LOOKS = 1.5, 4
LONGEST_S = 60.0
"""For one look; a vision encoder of 896 pixels takes half of that on a slow laptop."""
_BLIND = ("identity_not_measured",)
"""The brain's bundle does not say how alike two pictures of one person are."""
_LATER = (GONE, "draining", "busy")
_LOG = logging.getLogger("uservlm")


class Looking(object):
    """See the module."""

    def __init__(self, loop, brain, debts, found):
        # type: (Loop, Brains, Debts, Found) -> None
        """Look at nobody.

        Args:
            loop: where it is done.
            brain: looks.
            debts: forgets who has left meanwhile.
            found: gets the visit, and None, or why nobody could be seen; the visit has its `user`
                then, and `kept` if they were known.
        """
        self.loop, self.brain, self.debts, self.found = loop, brain, debts, found
        self.camera = None  # type: Optional[Camera]
        self.faces = None  # type: Optional[Faces]
        """Both come when the robot has them."""
        self.compares = True
        """Whether the brain can tell people apart."""

    def begin(self, visit):  # type: (Visit) -> None
        """Look at who is there, unless that is being done, or has been."""
        if not (visit.looking or visit.over or visit.user) and self.brain.there:
            visit.looking = True
            visit.looks += 1
            _Look(self, visit).begin()


class _Look(object):
    """One try; nothing that comes back after its end counts."""

    def __init__(self, looking, visit):  # type: (Looking, Visit) -> None
        self._all, self._visit = looking, visit
        self._over = False
        self._timer = looking.loop.after(LONGEST_S, self._later, "it takes too long")

    def begin(self):  # type: () -> None
        """Take a picture."""
        if self._all.camera is None:
            self._later("no camera yet")
        else:
            self._all.camera.take(self._taken)

    def _taken(self, frame, error):  # type: (Optional[Frame], Optional[RobotError]) -> None
        faces = self._all.faces
        if self._ended():
            return
        if frame is None:
            self._later(str(error))
        elif self._visit.strange or faces is None:
            self._compare(frame)
        else:
            seen = frame
            faces.who(lambda label: self._recognised(seen, label))

    def _recognised(self, frame, label):  # type: (Frame, Text) -> None
        """Wake somebody whose face NAOqi knows."""
        if self._ended():
            return
        if not label:
            self._compare(frame)
            return

        def woken(_, error):  # type: (Any, Optional[BrainError]) -> None
            if self._ended():
                return
            if error is None:
                self._known(label)
            elif error.code in _LATER:
                self._later(str(error))
            else:
                if error.code == "unknown_user" and self._all.faces is not None:
                    self._all.faces.forget(label)  # as the brain has done
                self._compare(frame)

        self._all.brain.wake(label, woken)

    def _compare(self, frame):  # type: (Frame) -> None
        """Let the brain compare them with those it keeps."""
        if self._visit.strange or not self._all.compares:
            self._stranger(frame)
            return

        def compared(name, error):  # type: (Text, Optional[BrainError]) -> None
            if self._ended():
                return
            if error is not None and error.code in _LATER:
                self._later(str(error))
            elif error is None and name:
                self._all.brain.wake(name, lambda _, __: self._known(name))
            else:
                self._all.compares = error is None or error.code not in _BLIND
                self._stranger(frame)

        self._all.brain.identify(frame, compared)

    def _stranger(self, frame):  # type: (Frame) -> None
        """Have somebody looked at whom nobody knows."""
        user = fresh("visitor")

        def looked(_, error):  # type: (Any, Optional[BrainError]) -> None
            if self._ended():
                self._all.debts.drop(user)
            elif error is None:
                self._visit.user = user
                self._end(None)
            else:
                self._later(str(error))

        self._all.brain.look(frame, user, looked)

    def _known(self, user):  # type: (Text) -> None
        if not self._ended():
            self._visit.user, self._visit.kept = user, True
            self._end(None)

    def _ended(self):  # type: () -> bool
        return self._over or self._visit.over

    def _later(self, why):  # type: (Text) -> None
        """Try again in a while, but not for ever."""
        if self._ended():
            return
        _LOG.info("not seen: %s", why)
        if self._visit.looks % LOOKS:
            self._close()
            self._all.loop.after(AGAIN_S, self._all.begin, self._visit)
        else:
            self._end(why)

    def _end(self, why):  # type: (Optional[Text]) -> None
        self._close()
        if why is None:
            self._visit.looks = 0
        self._all.found(self._visit, why)

    def _close(self):  # type: () -> None
        self._over, self._visit.looking = True, False
        self._timer.cancel()
