"""Whom the robot still has to forget, since it could not when they said so.

Owns: the promise: it is written down (an id that says nothing about anybody, no more) before it is
kept, and kept as soon as that can be, also after a restart. Knows nothing of why.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import io
import json
import logging
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional, Set, Text

    from .brain import Brains
    from .faces import Faces
    from .loop import Loop

    Kept = Callable[[bool], Any]

AGAIN_S = 10.0
_LOG = logging.getLogger("uservlm")


class Debts(object):
    """See the module."""

    def __init__(self, loop, brain, path):  # type: (Loop, Brains, Text) -> None
        """Remember what is owed.

        Args:
            loop: where it is done.
            brain: forgets.
            path: of the file; its folder is made when there is something to write.
        """
        self._loop, self._brain, self._path = loop, brain, path
        self.faces = None  # type: Optional[Faces]
        """Comes when the robot has it."""
        self._brains, self._robots = set(), set()  # type: Set[Text], Set[Text]
        self._guests = set()  # type: Set[Text]
        self._read()
        self._loop.after(0.0, self._again)

    def forget(self, user, kept):  # type: (Text, Kept) -> None
        """Forget somebody everywhere.

        Args:
            user: their id.
            kept: gets whether the brain has done it; if not, it will.
        """
        self._brains.add(user)
        self._robots.add(user)
        self._write()
        self._pay_brain(user, kept)
        self._pay_robot(user)

    def drop(self, user):  # type: (Text) -> None
        """Have the brain let go of a guest: of that nothing is written, a new brain knows none."""
        self._guests.add(user)

        def answered(_, error):  # type: (Any, Optional[Any]) -> None
            if error is None or error.code == "unknown_user":
                self._guests.discard(user)

        self._brain.forget(user, answered)

    def _again(self):  # type: () -> None
        if self._brain.there:
            for user in list(self._brains):
                self._pay_brain(user, lambda _: None)
            for user in list(self._guests):
                self.drop(user)
        for user in list(self._robots):
            self._pay_robot(user)
        self._loop.after(AGAIN_S, self._again)

    def _pay_brain(self, user, kept):  # type: (Text, Kept) -> None
        def answered(_, error):  # type: (Any, Optional[Any]) -> None
            done = error is None or error.code == "unknown_user"
            if done:
                self._brains.discard(user)
                self._write()
            else:
                _LOG.warning("somebody is still to be forgotten: %s", error)
            kept(done)

        self._brain.forget(user, answered)

    def _pay_robot(self, user):  # type: (Text) -> None
        def answered(_, error):  # type: (Any, Optional[Any]) -> None
            if error is None:
                self._robots.discard(user)
                self._write()

        if self.faces is not None:
            self.faces.forget(user, answered)

    def _read(self):  # type: () -> None
        try:
            with io.open(self._path, encoding="ascii") as file:
                owed = json.load(file)
            self._brains.update(owed["brain"])
            self._robots.update(owed["robot"])
        except (IOError, OSError) as error:
            if error.errno != 2:  # there, but not to be read
                _LOG.error("%s: %s", self._path, error)
        except (ValueError, KeyError, TypeError) as error:
            _LOG.error("%s is damaged: %s", self._path, error)

    def _write(self):  # type: () -> None
        """Write what is owed, whole or not at all."""
        owed = {"brain": sorted(self._brains), "robot": sorted(self._robots)}
        try:
            if not os.path.isdir(os.path.dirname(self._path)):
                os.makedirs(os.path.dirname(self._path), 0o700)
            with io.open(self._path + ".new", "wb") as file:
                file.write(json.dumps(owed).encode("ascii"))
            os.rename(self._path + ".new", self._path)
        except (IOError, OSError) as error:
            _LOG.error("%s cannot be written: %s", self._path, error)
