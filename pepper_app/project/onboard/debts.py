"""Whom the robot still has to forget, since it could not when they said so.

Owns: the promise: it is written down (an id that says nothing about anybody, no more) before it is
kept, and kept as soon as that can be, also after a restart; and that the robot's memory of faces
holds nobody whom the brain does not know any more. Knows nothing of why.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import io
import json
import logging
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, List, Optional, Set, Text

    from .brain import Brains
    from .faces import Faces
    from .loop import Loop

    Kept = Callable[[bool], Any]

AGAIN_S, COMPARE_S = 10.0, 3600.0
UNKNOWN = "unknown_user"
_LOG = logging.getLogger("uservlm")


class Debts(object):
    """See the module."""

    def __init__(self, loop, brain, path, guests):
        # type: (Loop, Brains, Text, Set[Text]) -> None
        """Remember what is owed.

        Args:
            loop: where it is done.
            brain: forgets.
            path: of the file; its folder is made when there is something to write.
            guests: of whom nothing is written; outlives a lost connection to the robot.
        """
        self._loop, self._brain, self._path = loop, brain, path
        self._faces = None  # type: Optional[Faces]
        self._brains, self._robots = set(), set()  # type: Set[Text], Set[Text]
        self._guests = guests
        self.keeps_nobody = False
        """Whether whoever was kept before is to be forgotten, as far as the robot knows them."""
        self._read()
        self._loop.after(AGAIN_S, self._again)
        self._loop.after(COMPARE_S, self._compare_again)

    def owes(self, user):  # type: (Text) -> bool
        """Tell whether somebody is to be forgotten, and therefore not to be recognised."""
        return user in self._brains or user in self._robots

    def seen_by(self, faces):  # type: (Faces) -> None
        """Have the robot's memory of faces from now on."""
        self._faces = faces
        self.pay()

    def forget(self, user, kept):  # type: (Text, Kept) -> None
        """Forget somebody everywhere.

        Args:
            user: their id.
            kept: gets whether the brain has done it; if not, it will.
        """
        self._guests.discard(user)
        self._brains.add(user)
        self._robots.add(user)
        self._write()
        self._pay_brain(user, kept)
        self._pay_robot(user)

    def drop(self, user, kept=None):  # type: (Text, Optional[Kept]) -> None
        """Have the brain let go of a guest, now or when it is back; of that nothing is written.

        A brain that has restarted knows no guests, and lets go of them after an hour by itself.
        """
        self._guests.add(user)

        def answered(_, error):  # type: (Any, Optional[Any]) -> None
            done = error is None or error.code == UNKNOWN
            if done:
                self._guests.discard(user)
            if kept is not None:
                kept(done)

        self._brain.forget(user, answered)

    def pay(self):  # type: () -> None
        """Do what can be done now."""
        if self._brain.there:
            for user in list(self._brains):
                self._pay_brain(user, lambda _: None)
            for user in list(self._guests):
                self.drop(user)
            self._compare()
        for user in list(self._robots):
            self._pay_robot(user)

    def _again(self):  # type: () -> None
        self._loop.after(AGAIN_S, self._again)
        if self._brains or self._robots or self._guests:
            self.pay()

    def _compare_again(self):  # type: () -> None
        self._loop.after(COMPARE_S, self._compare_again)
        self._compare()

    def _compare(self):  # type: () -> None
        """Forget faces of people whom the brain has forgotten: their time had run out.

        Where nobody is to be kept, forget all of them, in the brain too.
        """
        faces = self._faces
        if faces is None or not self._brain.there:
            return

        def ask(label):  # type: (Text) -> None
            def told(_, error):  # type: (Any, Optional[Any]) -> None
                if error is not None and error.code == UNKNOWN:
                    self._robots.add(label)
                    self._pay_robot(label)

            self._brain.about(label, told)

        def compare(labels):  # type: (List[Text]) -> None
            for label in labels:
                if self.keeps_nobody:
                    self.forget(label, lambda _: None)
                else:
                    ask(label)

        faces.labels(compare)

    def _pay_brain(self, user, kept):  # type: (Text, Kept) -> None
        def answered(_, error):  # type: (Any, Optional[Any]) -> None
            done = error is None or error.code == UNKNOWN
            if done:
                self._brains.discard(user)
                self._write()
            elif error is not None:
                _LOG.warning("somebody is still to be forgotten: %s", error.code)
            kept(done)

        self._brain.forget(user, answered)

    def _pay_robot(self, user):  # type: (Text) -> None
        def answered(_, error):  # type: (Any, Optional[Any]) -> None
            if error is None:
                self._robots.discard(user)
                self._write()

        if self._faces is not None:
            self._faces.forget(user, answered)

    def _read(self):  # type: () -> None
        try:
            with io.open(self._path, encoding="ascii") as file:
                owed = json.load(file)
            self._brains.update(owed["brain"])
            self._robots.update(owed["robot"])
        except (IOError, OSError) as error:
            if error.errno != 2:  # there, but not to be read
                _LOG.error("%s: %s", self._path, error.strerror)
        except (ValueError, KeyError, TypeError):
            _LOG.error("%s is damaged", self._path)

    def _write(self):  # type: () -> None
        """Write what is owed, whole or not at all."""
        owed = {"brain": sorted(self._brains), "robot": sorted(self._robots)}
        try:
            if not os.path.isdir(os.path.dirname(self._path)):
                os.makedirs(os.path.dirname(self._path), 0o700)
            with io.open(self._path + ".new", "wb") as file:
                file.write(json.dumps(owed).encode("ascii"))
                file.flush()
                os.fsync(file.fileno())
            os.rename(self._path + ".new", self._path)
        except (IOError, OSError) as error:
            _LOG.error("%s cannot be written: %s", self._path, error.strerror)
