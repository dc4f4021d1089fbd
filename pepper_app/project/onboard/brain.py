"""The brain that answers, wherever it is found.

Owns: the search for one, in the robot's directory first and over HTTP then, and what is done when
it goes: it is looked for again until there is one. Knows nothing of how each is spoken to
(`brain_qi.py`, `brain_http.py`, which have the methods below) or of conversations.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import logging

from .problem import GONE, BrainError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, List, Optional, Text

    from .camera import Frame
    from .loop import Loop

    Done = Callable[[Any, Optional[BrainError]], Any]
    Said = Callable[[Text], Any]

AGAIN_S = 1.5
WATCH_S = 5.0
PATIENCE_S = 6.0
"""Of the world's, for a sign of life; a brain that is but busy gives one at once."""
_LOG = logging.getLogger("uservlm")


class Door(object):
    """One way to a brain. `done` gets the answer and None, or None and the error, on the loop."""

    name = ""

    def open(self, done):  # type: (Done) -> None
        """Find out whether it answers; everything else comes after that."""
        raise NotImplementedError

    def look(self, frame, user, done):  # type: (Frame, Text, Done) -> None
        """Have somebody looked at and prepared for; gives their id.

        Args:
            frame: of them.
            user: whom to keep them as; nothing: a guest's id is made.
            done: see the class.
        """
        raise NotImplementedError

    def identify(self, frame, done):  # type: (Frame, Done) -> None
        """Find out who is seen; gives the id of somebody who is kept, or nothing."""
        raise NotImplementedError

    def wake(self, user, done):  # type: (Text, Done) -> None
        """Prepare for somebody who is kept."""
        raise NotImplementedError

    def ask(self, question, user, turn, said, done):
        # type: (Text, Text, Text, Said, Done) -> None
        """Ask about somebody; gives the whole answer.

        Args:
            question: theirs.
            user: their id.
            turn: an id for `cancel`.
            said: gets each sentence as soon as it is there, in their order, before `done`.
            done: see the class.
        """
        raise NotImplementedError

    def cancel(self, turn):  # type: (Text) -> None
        """End a turn, if it is under way; its `done` may or may not be called."""
        raise NotImplementedError

    def remember(self, user, how, keeps, days, done):
        # type: (Text, Text, Text, int, Done) -> None
        """Write down that somebody agreed to be kept."""
        raise NotImplementedError

    def about(self, user, done):  # type: (Text, Done) -> None
        """Give what is known of somebody: a map, see docs/serving.md, GET /v1/users/ID."""
        raise NotImplementedError

    def forget(self, user, done):  # type: (Text, Done) -> None
        """Erase somebody."""
        raise NotImplementedError

    def close(self):  # type: () -> None
        """Speak to it no more."""


class Brains(Door):
    """The one that was found; when there is none, everything ends with the code `gone`."""

    def __init__(self, loop, doors, changed):
        # type: (Loop, List[Door], Callable[[bool], Any]) -> None
        """Begin to look.

        Args:
            loop: where it is done.
            doors: the one to be preferred first.
            changed: gets whether there is a brain, when that changes.
        """
        self._loop, self._doors, self._changed = loop, doors, changed
        self._door = None  # type: Optional[Door]
        self._calls = []  # type: List[_Call]
        self._open = True
        self._search(0)

    @property
    def there(self):  # type: () -> bool
        """Whether there is one."""
        return self._door is not None

    def left(self, name):  # type: (Text) -> None
        """Note that a service has left the robot's directory."""
        if self._door is not None and self._door.name == name:
            self._lost()

    def look(self, frame, user, done):  # type: (Frame, Text, Done) -> None
        """See `Door`."""
        self._on("look", _Call(done), frame, user)

    def identify(self, frame, done):  # type: (Frame, Done) -> None
        """See `Door`."""
        self._on("identify", _Call(done), frame)

    def wake(self, user, done):  # type: (Text, Done) -> None
        """See `Door`."""
        self._on("wake", _Call(done), user)

    def ask(self, question, user, turn, said, done):
        # type: (Text, Text, Text, Said, Done) -> None
        """See `Door`."""
        call = _Call(done, turn)

        def heard(sentence):  # type: (Text) -> None
            if call in self._calls:
                said(sentence)

        self._on("ask", call, question, user, turn, heard)

    def cancel(self, turn):  # type: (Text) -> None
        """See `Door`."""
        if self._door is not None:
            self._door.cancel(turn)

    def remember(self, user, how, keeps, days, done):
        # type: (Text, Text, Text, int, Done) -> None
        """See `Door`."""
        self._on("remember", _Call(done), user, how, keeps, days)

    def about(self, user, done):  # type: (Text, Done) -> None
        """See `Door`."""
        self._on("about", _Call(done), user)

    def forget(self, user, done):  # type: (Text, Done) -> None
        """See `Door`."""
        self._on("forget", _Call(done), user)

    def close(self):  # type: () -> None
        """See `Door`."""
        self._open = False
        for door in self._doors:
            door.close()

    def _on(self, method, call, *values):  # type: (Text, _Call, *Any) -> None
        door = self._door
        if door is None:
            self._loop.post(call.done, None, _gone())
            return
        self._calls.append(call)

        def answered(value, error):  # type: (Any, Optional[BrainError]) -> None
            if call not in self._calls:
                return  # given up
            self._calls.remove(call)
            if error is not None and error.code == GONE and self._door is door:
                self._lost()
            call.done(value, error)

        getattr(door, method)(*values + (answered,))

    def _search(self, number):  # type: (int) -> None
        """Try one door, and the next when it stays shut."""
        if not self._open:
            return
        if number == len(self._doors):
            self._loop.after(AGAIN_S, self._search, 0)
            return
        door = self._doors[number]

        def opened(error):  # type: (Optional[BrainError]) -> None
            if error is not None:
                self._search(number + 1)
            elif self._open:
                _LOG.info("the brain answers: %s", door.name)
                self._door = door
                self._loop.after(WATCH_S, self._watch, door)
                self._changed(True)

        self._knock(door, opened)

    def _watch(self, door):  # type: (Door) -> None
        """Ask now and then whether it is still there."""
        if self._door is not door or not self._open:
            return

        def answered(error):  # type: (Optional[BrainError]) -> None
            if self._door is not door:
                return
            if error is None:
                self._loop.after(WATCH_S, self._watch, door)
            else:
                self._give_up(door)

        self._knock(door, answered)

    def _knock(self, door, done):
        # type: (Door, Callable[[Optional[BrainError]], Any]) -> None
        """Find out whether a brain lives; one that hangs says neither yes nor no."""
        waits = [True]

        def answered(_, error):  # type: (Any, Optional[BrainError]) -> None
            if waits:
                del waits[:]
                late.cancel()
                done(error)

        late = self._loop.after_real(PATIENCE_S, answered, None, _gone())
        door.open(answered)

    def _give_up(self, door):  # type: (Door) -> None
        """End what a brain that hangs will not answer; when it wakes, it is to drop it."""
        calls, self._calls = self._calls, []
        self._lost()
        for call in calls:
            if call.turn:
                door.cancel(call.turn)
            call.done(None, _gone())

    def _lost(self):  # type: () -> None
        _LOG.warning("the brain does not answer any more")
        self._door = None
        self._changed(False)
        self._loop.after(0.0, self._search, 0)


class _Call(object):
    """Something asked of a brain; `turn` is nothing but for a question."""

    def __init__(self, done, turn=""):  # type: (Done, Text) -> None
        self.done, self.turn = done, turn


def _gone():  # type: () -> BrainError
    return BrainError(GONE, "no brain answers")
