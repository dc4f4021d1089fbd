"""Free speech: the robot's microphone, and the brain's ears wherever those are.

Owns: the choice between the brain's ears on the robot's bus and over HTTP, that they are looked for
until they are there and again when they have gone, and that they hear nothing while the robot
speaks. There is no echo cancellation, so who talks over the robot is not heard either: a touch, the
tablet, or a phrase that the robot recognises itself stops it. Knows nothing of what follows.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import logging

from .crossing import text
from .problem import RobotError
from .visit import fresh
from .way import Way

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional, Text, Union

    from .brain_http import HttpDoor
    from .loop import Loop, Timer
    from .naoqi import Robot
    from .problem import BrainError

    Heard = Callable[[Text], Any]

AUDIO = "ALAudioDevice"
EARS = "UserVLMEars"
RATE, FRONT = 16000, 3
SEND_BYTES = RATE * 2 * 3 // 10
"""0.3 s of sound are sent at once over HTTP."""
MOST_BYTES = 64 * 1024
"""That a brain takes at once."""
ECHO_S = 0.6
"""For so long after its last word the robot's voice may be in the room."""
AGAIN_S = 2.0
_LOG = logging.getLogger("uservlm")


class Free(Way):
    """See the module."""

    def __init__(self, loop, robot, door, heard):
        # type: (Loop, Robot, Optional[HttpDoor], Heard) -> None
        """Begin to look for ears.

        Args:
            loop: where it is done.
            robot: whose microphone.
            door: of a brain over HTTP, if there is one.
            heard: gets each sentence.
        """
        self._loop, self._robot, self._door, self._heard = loop, robot, door, heard
        self._microphone = _Microphone(robot)
        self._ears = None  # type: Optional[Union[_BusEars, _HttpEars]]
        self._muted, self._open, self._told = False, True, False
        self._timer = None  # type: Optional[Timer]
        self._seek()

    def speaking(self, speaks):  # type: (bool) -> None
        """See `Way`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if speaks and not self._muted:
            self._mute(True)
        elif not speaks and self._muted:
            self._timer = self._loop.after(ECHO_S, self._mute, False)

    def left(self, service):  # type: (Text) -> None
        """See `Way`."""
        if service == EARS and isinstance(self._ears, _BusEars):
            self._lost("%s has gone" % service)

    def close(self):  # type: () -> None
        """See `Way`."""
        self._open = False
        if self._ears is not None:
            self._ears.close()

    def _mute(self, muted):  # type: (bool) -> None
        self._muted = muted
        if self._ears is not None:
            self._ears.mute(muted)

    def _seek(self):  # type: () -> None
        if not self._open:
            return
        try:
            if self._robot.has(EARS):
                self._found(_BusEars(self._robot, self._heard), EARS)
                return
        except RobotError as error:
            self._later(error)
            return
        door = self._door
        if door is None:
            self._later("no %s on the robot's bus" % EARS)
            return

        def answered(_, error):  # type: (Any, Optional[BrainError]) -> None
            if error is not None:
                self._later(error)
            elif self._open:
                self._stream(door)

        door.hear(fresh("ears"), b"", answered)

    def _stream(self, door):  # type: (HttpDoor) -> None
        try:
            ears = _HttpEars(self._microphone, door, self._heard, self._lost)
        except RobotError as error:
            self._later(error)
        else:
            self._found(ears, door.name)

    def _found(self, ears, where):  # type: (Union[_BusEars, _HttpEars], Text) -> None
        _LOG.info("the brain hears: %s", where)
        self._ears, self._told = ears, False
        if self._muted:
            ears.mute(True)

    def _lost(self, why):  # type: (object) -> None
        if self._ears is not None and self._open:
            self._ears.close()
            self._ears = None
            self._later(why)

    def _later(self, why):  # type: (object) -> None
        if not self._told:
            self._told = True
            _LOG.info("no ears (yet): %s", why)
        self._loop.after(AGAIN_S, self._seek)


class _BusEars(object):
    """The robot's microphone streams to the brain's own service; what it understands comes back."""

    def __init__(self, robot, heard):  # type: (Robot, Heard) -> None
        """Connect the two.

        Raises:
            RobotError: the brain has no ears (yet), or there is no microphone.
        """
        self._robot, self._heard = robot, heard
        robot.call(AUDIO, "setClientPreferences", EARS, RATE, FRONT, 0)
        self._ear = robot.hear(EARS, "heard", self._hear)
        try:
            robot.call(AUDIO, "subscribe", EARS)
        except RobotError:
            self._ear.close()
            raise

    def mute(self, muted):  # type: (bool) -> None
        """Hear nothing for now."""
        self._robot.begin(None, EARS, "mute", muted)

    def close(self):  # type: () -> None
        """Give the microphone back; it may have noticed itself that the ears have gone."""
        self._ear.close()
        self._robot.begin(_ignore, AUDIO, "unsubscribe", EARS)

    def _hear(self, *values):  # type: (*Any) -> None
        """Take a sentence; whoever is on the bus may send anything in its place."""
        if len(values) == 1 and text(values[0]):
            self._heard(values[0])


class _Microphone(object):
    """Ours, for ALAudioDevice to stream to; registered once, as that cannot be undone."""

    def __init__(self, robot):  # type: (Robot) -> None
        self._robot = robot
        self._name = ""
        self._act = _ignore  # type: Callable[[bytes], Any]

    def open(self, act):  # type: (Callable[[bytes], Any]) -> None
        """Have each buffer.

        Raises:
            RobotError: no microphone (yet), or it cannot reach us.
        """
        if not self._name:
            name = fresh("UserVLMMicrophone")
            self._robot.microphone(name, self._sound)
            self._name = name
        self._robot.call(AUDIO, "setClientPreferences", self._name, RATE, FRONT, 0)
        self._robot.call(AUDIO, "subscribe", self._name)
        self._act = act

    def close(self):  # type: () -> None
        """Have no more."""
        self._act = _ignore
        self._robot.begin(None, AUDIO, "unsubscribe", self._name)

    def _sound(self, buffer):  # type: (bytes) -> None
        """Take int16, little-endian, one channel; half a sample would spoil all that follow."""
        if len(buffer) % 2 == 0:
            self._act(buffer)


class _HttpEars(object):
    """The robot's microphone comes here, and goes to the brain over HTTP, piece after piece."""

    def __init__(self, microphone, door, heard, lost):
        # type: (_Microphone, HttpDoor, Heard, Callable[[object], Any]) -> None
        """Listen.

        Args:
            microphone: ours.
            door: of a brain that hears.
            heard: gets each sentence.
            lost: called when it hears no more.

        Raises:
            RobotError: see `_Microphone.open`.
        """
        self._microphone, self._door, self._heard, self._lost = microphone, door, heard, lost
        self._session = fresh("ears")
        self._held, self._muted, self._sending, self._open = bytearray(), False, False, True
        microphone.open(self._sound)

    def mute(self, muted):  # type: (bool) -> None
        """Hear nothing for now; what has been said so far is not gone on with."""
        self._muted = muted
        if muted:
            self._drop()

    def close(self):  # type: () -> None
        """Give the microphone back."""
        self._open = False
        self._microphone.close()
        self._drop()

    def _drop(self):  # type: () -> None
        """Begin anew, when what is on its way has arrived."""
        before, self._session, self._held = self._session, fresh("ears"), bytearray()
        if not self._sending:
            self._door.drop(before)

    def _sound(self, buffer):  # type: (bytes) -> None
        if self._muted:
            return
        self._held += buffer
        if len(self._held) < SEND_BYTES or self._sending:
            return
        sound, self._held = bytes(self._held[-MOST_BYTES:]), bytearray()
        self._sending = True
        session = self._session

        def answered(sentences, error):  # type: (Any, Optional[BrainError]) -> None
            self._sending = False
            if session != self._session:
                self._door.drop(session)
            elif error is None:
                for sentence in sentences:
                    self._heard(sentence)
            elif error.code != "busy":  # that cost a piece
                self._lost(error)

        self._door.hear(session, sound, answered)


def _ignore(*_):  # type: (*Any) -> None
    pass
