"""A service directory of our own with libqi, as a robot has one: for the virtual Pepper.

Owns: the directory, what it offers, objects that methods return, and the calls to services that
others have registered, in order. Knows nothing of any service. Like all
`qi_*.py`, nothing of libqi leaves it.

A directory lets everybody in: keep it on loopback. libqi sends a raw buffer as text unless the
receiver's method declares it ("r"), so `call` reaches no undeclared one with bytes (naoqi.md, 5.1).
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from typing import Final

from uservlm.pepper_app.qi_object import LibqiService
from uservlm.pepper_app.qi_session import await_answer, load_library
from uservlm.pepper_app.service import RobotError, Service, Value

CALL_S: Final = 5.0
ANSWERED_S: Final = 60.0
"""For a service that is called to answer: it may speak before it does."""
CLOSE_S: Final = 2.0
MOST_WAITING: Final = 500
_STEP_S: Final = 0.05

Refused = Callable[[str, str, str], None]
"""Told the service, the method and why a call did not come through."""


class LibqiDirectory:
    """Open until it is closed; a new one may come at the same address after that."""

    def __init__(self, address: str, refused: Refused) -> None:
        """Listen.

        Args:
            address: tcp://HOST:PORT; port 0 takes a free one.
            refused: see `Refused`.

        Raises:
            NoLibraryError: no libqi here.
            RobotError: the address is taken.
        """
        self._library = load_library()
        self._session = self._library.Session()
        self._closing = Event()
        future = self._session.listenStandalone(address, _async=True)
        await_answer(future, CALL_S, address, self._closing)
        self.url = str(self._session.url())
        self._refused = refused
        self._numbers: dict[str, int] = {}
        self._lanes: dict[str, SimpleQueue[tuple[str, tuple[Value, ...]]]] = {}
        self._threads: list[Thread] = []
        self._lock = Lock()

    def offer(self, service: Service) -> LibqiService:
        """Register a service.

        Raises:
            RobotError: its name is taken.
        """
        made = self.make(service)
        future = self._session.registerService(service.name, made.object, _async=True)
        number = await_answer(future, CALL_S, service.name, self._closing)
        self._numbers[service.name] = number
        return made

    def make(self, service: Service) -> LibqiService:
        """Make an object that is in no directory: a method that `returns` "o" may answer it."""
        return LibqiService(service, self._library)

    def call(self, service: str, method: str, *arguments: Value) -> None:
        """Call what somebody has registered, some time soon; waits for nothing.

        Calls to one service come one after the other, and hold up no other service.
        """
        with self._lock:
            if service not in self._lanes:
                self._lanes[service] = SimpleQueue()
                thread = Thread(target=self._send, args=(service,), name=service, daemon=True)
                self._threads.append(thread)
                thread.start()
            lane = self._lanes[service]
        if lane.qsize() >= MOST_WAITING:
            self._refused(service, method, "too slow: too many calls wait for it")
        else:
            lane.put((method, arguments))

    def close(self) -> None:
        """Hang up on everybody."""
        self._closing.set()
        for thread in self._threads:
            thread.join(CLOSE_S)
        self._session.close(_async=True).wait(int(CLOSE_S * 1000))

    def _send(self, service: str) -> None:
        lane = self._lanes[service]
        while not self._closing.is_set():
            try:
                method, arguments = lane.get(timeout=_STEP_S)
            except Empty:
                continue
            try:
                self._call(service, method, arguments)
            except RobotError as error:
                if not self._closing.is_set():
                    self._refused(service, method, str(error))

    def _call(self, service: str, method: str, arguments: tuple[Value, ...]) -> None:
        """Call, and wait for the answer.

        Raises:
            RobotError: no such service or method, or it refuses.
        """
        found = self._session.service(service, _async=True)
        proxy = await_answer(found, CALL_S, service, self._closing)
        raw = any(isinstance(argument, bytes | bytearray) for argument in arguments)
        if raw and not _takes_raw(proxy, method, len(arguments)):
            raise RobotError(f"{method} does not declare its buffer as raw (qi.Buffer)")
        try:
            future = getattr(proxy, method)(*arguments, _async=True)
        except AttributeError as error:
            raise RobotError(f"{service} has no method {method}") from error
        await_answer(future, ANSWERED_S, service, self._closing)


def _takes_raw(proxy: Value, method: str, count: int) -> bool:
    """Tell whether a method declares a raw buffer as its last parameter."""
    forms = (
        known["parametersSignature"]
        for known in proxy.metaObject()["methods"].values()
        if known["name"] == method
    )
    return any(form.endswith("r)") and len(form) >= count + 2 for form in forms)
