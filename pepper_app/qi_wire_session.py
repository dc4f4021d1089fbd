"""A connection to a robot's service directory in plain Python, where libqi has no wheel.

Owns: how one connects, what is written into the directory and read from it, and the address we
listen on. The same forms as `qi_session.py`, which is used where libqi is; the protocol is in the
other `qi_wire_*.py`. Knows nothing of what is offered.

Two things of libqi's decide the code. A caller takes a service whose machine is not its own, on a
loopback address, for unreachable: on loopback we are on the directory's machine, and say so. And
whoever runs the directory calls us over the connection by which we registered.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from threading import Event
from uuid import uuid4

from uservlm.pepper_app.qi_session import LEAVE_S
from uservlm.pepper_app.qi_wire_bus import DIRECTORY, DIRECTORY_NUMBER, Bus
from uservlm.pepper_app.qi_wire_object import WireService
from uservlm.pepper_app.qi_wire_peer import RefusedError
from uservlm.pepper_app.qi_wire_remote import Remote
from uservlm.pepper_app.qi_wire_signature import parse
from uservlm.pepper_app.robot import Robot, facing
from uservlm.pepper_app.service import RobotError, Service, Value


def open_wire_session(robot: Robot, lost: Callable[[], None], closing: Event) -> WireSession:
    """Connect to a robot, and listen where it can reach us.

    Args:
        robot: whose service directory.
        lost: see `service.Connect`.
        closing: likewise.

    Raises:
        RobotError: nobody there, refused, or given up.
    """
    bus = Bus(lost, closing)
    address = facing(robot)
    opened = False
    try:
        listening = socket.create_server((address, 0))
        bus.start(listening)
        made = WireSession(bus, robot, listening.getsockname(), lost, closing)
        opened = True
        return made
    except OSError as error:
        raise RobotError(f"cannot listen at {address}: {error.strerror or error}") from error
    finally:
        if not opened:
            bus.close()


class WireSession:
    """`service.Session` in plain Python."""

    def __init__(
        self,
        bus: Bus,
        robot: Robot,
        listening: tuple[str, int],
        lost: Callable[[], None],
        closing: Event,
    ) -> None:
        """Connect to the directory, and watch it.

        Raises:
            RobotError: nobody there, refused, or given up.
        """
        self._bus, self._lost = bus, lost
        self._endpoint = f"tcp://{listening[0]}:{listening[1]}"
        self.listening = f"{self._endpoint} (without libqi)"
        self._numbers: frozenset[int] = frozenset()
        self._watched = bus.connect(robot)
        self._directory = Remote.of_service(self._watched, DIRECTORY, DIRECTORY_NUMBER, closing)
        here = listening[0].startswith("127.")
        self._machine = str(self._directory.call("machineId")) if here else str(uuid4())
        self._id = str(uuid4())
        self._leaving = Remote(self._watched, DIRECTORY, self._directory.reference, Event())
        """Waits for an answer also while we are being closed."""
        self._directory.listen("serviceRemoved", self._withdrawn)
        self._watched.when_gone(lost)

    def offer(self, service: Service) -> WireService:
        """See `service.Session`."""
        made = WireService(service)
        told = (
            *(service.name, 0, self._machine, os.getpid(), [self._endpoint], self._id),
            "",  # libqi 3 has a seventh: whose object it is
        )
        form = parse(self._directory.takes("registerService"))
        members = len(form.parts[0].parts) if form.parts else len(told)
        try:
            number = self._directory.call("registerService", told[:members])
        except RefusedError as error:
            made.close()
            if "already registered" not in str(error):
                raise
            raise RobotError(
                f"the robot has a service {service.name} already: another brain must leave first"
            ) from error
        if not isinstance(number, int):
            raise RobotError("the robot's directory gives no number: is it one?")
        made.number = number
        self._numbers |= {number}
        self._bus.host.add(made)
        self._directory.call("serviceReady", made.number)
        return made

    def close(self) -> None:
        """See `service.Session`."""
        numbers, self._numbers = self._numbers, frozenset()
        for number in numbers:
            try:
                self._leaving.call("unregisterService", number, seconds=LEAVE_S)
            except RobotError:  # it is away, or does not know us any more
                break
        self._bus.close()

    def _withdrawn(self, number: Value, *_: Value) -> None:
        """Note that an entry is gone from the directory."""
        if number in self._numbers:
            self._lost()
