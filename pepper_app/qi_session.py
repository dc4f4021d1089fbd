"""libqi: the one file that imports it.

Owns: a connection to a robot's service directory, and the address we listen on. Knows nothing of
what is offered. Nothing of libqi leaves this file, `qi_object.py` and `qi_directory.py`: its
futures, promises, buffers and errors end here.

libqi is imported when a session is opened, not with this module: its wheels are for x86-64 alone.

What was measured with libqi 3.1.5, and decides the code (reference/naoqi.md, sections 2.0 and 5):
a service on the default address cannot be called from the robot, so we listen on the one that faces
it; whoever reaches that may send 4 GB in one message, unless an environment variable of libqi's
says no; any client may take our entry out of the directory, so we watch for that. libqi keeps an id
of this machine in ~/.config/qimessaging: programs of another home count as another machine's, and
find no way to a loopback address of ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Final

from uservlm.pepper_app.qi_object import LibqiService, Library
from uservlm.pepper_app.robot import Robot, facing
from uservlm.pepper_app.service import NoLibraryError, RobotError, Service, Value

if TYPE_CHECKING:
    import qi

CONNECT_S: Final = 10.0
ANSWER_S: Final = 5.0
LEAVE_S: Final = 0.5
_STEP_MS: Final = 50
MESSAGE_BYTES: Final = 32 * 2**20
"""The largest that is taken; Pepper's largest frame has 15 MB."""


def open_session(robot: Robot, lost: Callable[[], None], closing: Event) -> LibqiSession:
    """Connect to a robot, and listen where it can reach us.

    Args:
        robot: whose service directory.
        lost: see `service.Connect`.
        closing: likewise.

    Raises:
        NoLibraryError: no libqi here.
        RobotError: nobody there, refused, or given up.
    """
    library = load_library()
    address = facing(robot)
    session = library.Session()
    opened = False
    try:
        _connect(session, robot, closing)
        await_answer(
            session.listen(f"tcp://{address}:0", _async=True), ANSWER_S, "listening", closing
        )
        made = LibqiSession(session, library, lost, closing)
        opened = True
        return made
    finally:
        if not opened:
            session.close(_async=True).wait(int(LEAVE_S * 1000))


def open_client(robot: Robot, closing: Event) -> LibqiClient:
    """Connect to a robot to call its services, and to offer none.

    Args:
        robot: whose service directory.
        closing: when set, give up.

    Raises:
        NoLibraryError: no libqi here.
        RobotError: nobody there, refused, or given up.
    """
    session = load_library().Session()
    made = LibqiClient(session, closing)
    try:
        _connect(session, robot, closing)
    except RobotError:
        made.close()
        raise
    return made


class LibqiClient:
    """Calls what a robot offers."""

    def __init__(self, session: qi.Session, closing: Event) -> None:
        self._session, self._closing = session, closing

    def call(
        self, service: str, method: str, *arguments: Value, seconds: float = ANSWER_S
    ) -> Value:
        """Call a method, and wait for what it answers.

        Raises:
            RobotError: there is none, it failed, took too long, or we are being closed.
        """
        future = self._session.service(service, _async=True)
        proxy = await_answer(future, ANSWER_S, service, self._closing)
        name = f"{service}.{method}"
        try:
            future = getattr(proxy, method)(*arguments, _async=True)
        except AttributeError as error:
            raise RobotError(f"the robot has no {name}") from error
        return await_answer(future, seconds, name, self._closing)

    def close(self) -> None:
        """Leave; returns within a second."""
        self._session.close(_async=True).wait(int(LEAVE_S * 1000))


class LibqiSession:
    """`service.Session` with libqi."""

    def __init__(
        self, session: qi.Session, library: Library, lost: Callable[[], None], closing: Event
    ) -> None:
        """Watch a session that is connected and listens."""
        self._session, self._library = session, library
        self._lost, self._closing = lost, closing
        self._offered: dict[str, int] = {}
        self.listening = str(self._answer(session.endpoints(_async=True))[0])
        self._answer(session.disconnected.connect(lambda _: lost(), _async=True))
        self._answer(session.serviceUnregistered.connect(self._withdrawn, _async=True))
        if not session.isConnected():
            lost()

    def offer(self, service: Service) -> LibqiService:
        """See `service.Session`."""
        made = LibqiService(service, self._library)
        future = self._session.registerService(service.name, made.object, _async=True)
        try:
            number = self._answer(future)
        except RobotError as error:
            if "already registered" not in str(error):
                raise
            raise RobotError(
                f"the robot has a service {service.name} already: another brain must leave first"
            ) from error
        self._offered[service.name] = number
        return made

    def close(self) -> None:
        """See `service.Session`."""
        leaving = int(LEAVE_S * 1000)
        for number in self._offered.values():
            self._session.unregisterService(number, _async=True).wait(leaving)
        self._session.close(_async=True).wait(leaving)

    def _answer(self, future: qi.Future) -> Value:
        return await_answer(future, ANSWER_S, "the robot", self._closing)

    def _withdrawn(self, number: int, _: str) -> None:
        """Note that an entry is gone from the directory."""
        if number in self._offered.values():
            self._lost()


class _Logins:
    """The factory that libqi asks for an authenticator, and the authenticator itself."""

    def __init__(self, user: str, password: str | None) -> None:
        self._data = {"user": user, "token": password or ""}

    def newAuthenticator(self) -> _Logins:  # libqi's name
        """Give what answers for one connection."""
        return self

    def initialAuthData(self) -> dict[str, str]:  # likewise
        """Give what is sent first."""
        return self._data


def load_library() -> Library:
    """Import libqi.

    Raises:
        NoLibraryError: it is not here.
    """
    os.environ.setdefault("QI_MAX_MESSAGE_PAYLOAD", str(MESSAGE_BYTES))
    try:
        import qi
    except ImportError as error:
        raise NoLibraryError(
            f"libqi is not here ({error}): pip install 'uservlm[pepper]' brings it on x86-64 Linux "
            "with Python 3.10 to 3.12, and there are no wheels for other machines"
        ) from error
    qi.logging.setLevel(qi.logging.FATAL)  # it writes to stdout; what matters comes as an error
    return qi


def _connect(session: qi.Session, robot: Robot, closing: Event) -> None:
    """Connect, and log in where there is a login.

    Raises:
        RobotError: nobody there, refused, or given up.
    """
    login = robot.login
    if login is not None:
        session.setClientAuthenticatorFactory(_Logins(login.user, login.password))
    try:
        await_answer(session.connect(robot.url, _async=True), CONNECT_S, robot.url, closing)
    except RobotError as error:
        if login is None or "disconnected" not in str(error):
            raise
        raise RobotError(  # all that libqi says of a refused login is that
            f"{robot.url} hangs up: it refuses the password of {login.user}, or is no robot"
        ) from error


def await_answer(future: qi.Future, seconds: float, what: str, closing: Event) -> Value:
    """Wait for libqi, but not while we are being closed.

    Raises:
        RobotError: it failed, took too long, or we are being closed.
    """
    last = monotonic() + seconds
    while future.isRunning():
        future.wait(_STEP_MS)
        if closing.is_set() or monotonic() > last:
            future.cancel()
            raise RobotError(f"{what}: no answer within {seconds:g} s")
    if future.hasError(0):
        raise RobotError(f"{what}: {_short(future.error(0))}")
    return future.value(0)


def _short(text: str) -> str:
    """Give what libqi says without where in its sources it says so."""
    return text.partition("\n")[0].partition(" [")[0].strip() or "refused"
