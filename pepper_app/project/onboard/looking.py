"""From somebody in front of the robot to an id that the brain knows them by.

Owns: in which order that is found out: NAOqi's own recognition of a face it was allowed to learn,
then the brain's comparison, and else they are a stranger who is looked at and not kept. Whether
anybody is compared at all is `recognition.py`'s to say. Knows nothing of questions. A picture goes
to the brain and nowhere else.
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
    from .recognition import Recognition
    from .visit import Visit

    Found = Callable[[Visit, Optional[Text]], Any]

AGAIN_S, SLOWLY_S, LOOKS = 1.5, 10.0, 4
LONGEST_S = 60.0
"""For one look; a vision encoder of 896 pixels takes half of that on a slow laptop."""
_BLIND = ("identity_not_measured", "identity_off")
"""The brain cannot compare, since its bundle was not measured for that, or it may not."""
_LATER = (GONE, "draining", "busy")
_LOG = logging.getLogger("uservlm")


class Looking(object):
    """See the module."""

    def __init__(self, loop, brain, debts, recognition, found):
        # type: (Loop, Brains, Debts, Recognition, Found) -> None
        """Look at nobody.

        Args:
            loop: where it is done.
            brain: looks.
            debts: forgets who has left meanwhile.
            recognition: says who may be compared.
            found: gets the visit, and None, or why nobody could be seen; the visit has its `user`
                then, and `kept` if they were known.
        """
        self.loop, self.brain, self.debts, self.found = loop, brain, debts, found
        self.recognition = recognition
        self.camera = None  # type: Optional[Camera]
        self.faces = None  # type: Optional[Faces]
        """Both come when the robot has them."""
        self.alone = lambda: True  # type: Callable[[], bool]
        """Whether nobody but the one who is talked to is in view."""
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
        self._guest = ""
        self._timer = looking.loop.after_real(LONGEST_S, self._later, "it takes too long")

    def begin(self):  # type: () -> None
        """Take a picture."""
        if self._all.camera is None:
            self._later("no camera yet")
        else:
            self._all.camera.take(self._taken)

    def _taken(self, frame, error):  # type: (Optional[Frame], Optional[RobotError]) -> None
        """Recognise who may be recognised."""
        if self._ended():
            return
        faces, visit = self._all.faces, self._visit
        visit.seen_alone = self._all.alone()
        visit.compared = self._all.recognition.compares(visit)
        if frame is None:
            self._later("%s" % (error,))
        elif not visit.compared:
            self._stranger(frame)
        elif faces is None:
            self._compare(frame)
        else:
            seen = frame
            faces.who(lambda label: self._recognised(seen, label))

    def _recognised(self, frame, label):  # type: (Frame, Text) -> None
        """Wake somebody whose face NAOqi knows."""
        if self._ended():
            return
        if not self._all.alone():  # somebody has come: it may be their face
            self._visit.seen_alone = self._visit.compared = False
            self._stranger(frame)
        elif label and not self._all.debts.owes(label):
            self._wake(frame, label, self._compare)
        else:
            self._compare(frame)

    def _compare(self, frame):  # type: (Frame) -> None
        """Let the brain compare them with those it keeps."""
        if not self._all.compares:
            self._stranger(frame)
            return

        def compared(name, error):  # type: (Text, Optional[BrainError]) -> None
            if self._ended():
                return
            if error is not None and error.code in _LATER:
                self._later("%s" % (error,))
            elif error is None and name and not self._all.debts.owes(name):
                self._wake(frame, name, self._stranger)
            else:
                self._all.compares = error is None or error.code not in _BLIND
                self._stranger(frame)

        self._all.brain.identify(frame, compared)

    def _wake(self, frame, user, otherwise):
        # type: (Frame, Text, Callable[[Frame], Any]) -> None
        """Have the brain prepare for somebody it keeps; what it lacks is a picture at most."""

        def shown(_, error):  # type: (Any, Optional[BrainError]) -> None
            if self._ended():
                return
            if error is None:
                self._visit.user, self._visit.kept = user, True
                self._end(None)
            elif error.code in _LATER:
                self._later("%s" % (error,))
            else:
                otherwise(frame)

        def woken(_, error):  # type: (Any, Optional[BrainError]) -> None
            if error is not None and error.code == "picture_needed" and not self._ended():
                self._all.brain.look(frame, user, shown)  # under the consent there is
            else:
                shown(None, error)

        self._all.brain.wake(user, woken)

    def _stranger(self, frame):  # type: (Frame) -> None
        """Have somebody looked at whom nobody knows."""
        user = self._guest = fresh("visitor")

        def looked(_, error):  # type: (Any, Optional[BrainError]) -> None
            if self._ended():
                self._all.debts.drop(user)
            elif error is None:
                self._guest, self._visit.user = "", user
                self._end(None)
            else:
                self._later("%s" % (error,))

        self._all.brain.look(frame, user, looked)

    def _ended(self):  # type: () -> bool
        return self._over or self._visit.over

    def _later(self, why):  # type: (Text) -> None
        """Try again in a while; after some tries whoever waits is told, and it goes on slower."""
        if self._ended():
            return
        _LOG.info("not seen: %s", why)
        self._close()
        tired = self._visit.looks % LOOKS == 0
        wait = SLOWLY_S if tired else AGAIN_S
        self._all.loop.after(wait, self._all.begin, self._visit)
        if tired:
            self._all.found(self._visit, why)

    def _end(self, why):  # type: (Optional[Text]) -> None
        self._close()
        self._visit.looks = 0
        self._all.found(self._visit, why)

    def _close(self):  # type: () -> None
        self._over, self._visit.looking = True, False
        self._timer.cancel()
        if self._guest:  # asked for, and nothing was heard of it
            self._all.debts.drop(self._guest)
