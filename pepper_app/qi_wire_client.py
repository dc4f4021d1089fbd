"""Calls of a robot's services in plain Python, where libqi has no wheel.

Owns: the way from a service's name to the service. As `qi_session.open_client`, and it hears
signals too. Knows nothing of what is called.
"""

from __future__ import annotations

from threading import Event
from typing import Literal
from urllib.parse import urlsplit

from uservlm.pepper_app.qi_session import ANSWER_S
from uservlm.pepper_app.qi_wire_bus import DIRECTORY, DIRECTORY_NUMBER, Bus
from uservlm.pepper_app.qi_wire_peer import Peer, RefusedError
from uservlm.pepper_app.qi_wire_remote import Remote
from uservlm.pepper_app.robot import PORTS, Robot
from uservlm.pepper_app.service import RobotError, Value


def open_wire_client(robot: Robot, closing: Event) -> WireClient:
    """Connect to a robot to call its services, and to offer none.

    Args:
        robot: whose service directory.
        closing: when set, give up.

    Raises:
        RobotError: nobody there, refused, or given up.
    """
    bus = Bus(lambda: None, closing)
    bus.start(None)
    opened = False
    try:
        made = WireClient(bus, robot, closing)
        opened = True
        return made
    finally:
        if not opened:
            bus.close()


class WireClient:
    """Calls what a robot offers."""

    def __init__(self, bus: Bus, robot: Robot, closing: Event) -> None:
        """Connect to the directory.

        Raises:
            RobotError: nobody there, refused, or given up.
        """
        self._bus, self._robot, self._closing = bus, robot, closing
        self._peer = bus.connect(robot)
        self._directory = Remote.of_service(self._peer, DIRECTORY, DIRECTORY_NUMBER, closing)
        self._peers: dict[str, Peer] = {}

    def call(
        self, service: str, method: str, *arguments: Value, seconds: float = ANSWER_S
    ) -> Value:
        """Call a method, and wait for what it answers; an object is a `Remote`.

        Raises:
            RobotError: there is none, it failed, took too long, or we are being closed.
        """
        return self.service(service).call(method, *arguments, seconds=seconds)

    def service(self, name: str) -> Remote:
        """Find a service, to call it more than once or to hear its signals.

        Raises:
            RobotError: there is none, or no way to it.
        """
        try:
            found = self._directory.call("service", name)
        except RefusedError as error:
            why = str(error).removeprefix(f"{DIRECTORY}.service: ")
            raise RobotError(f"{name}: {why}") from error
        told = list(found.values() if isinstance(found, dict) else found)
        number, endpoints = told[1], told[4]
        return Remote.of_service(self._way_to(name, endpoints), name, number, self._closing)

    def close(self) -> None:
        """Leave; returns within a second."""
        self._bus.close()

    def _way_to(self, name: str, endpoints: list[str]) -> Peer:
        """Connect to a service, or to whom we are connected already.

        Raises:
            RobotError: none of its addresses can be reached.
        """
        host = self._peer.connection.socket.getpeername()[0]
        here = host.startswith("127.")
        for endpoint in sorted(endpoints, key=lambda one: f"//{host}:" not in one):
            peer = self._peers.get(endpoint)
            if peer is not None and not peer.connection.ended:
                return peer
            parts = urlsplit(endpoint)
            loopback = (parts.hostname or "").startswith("127.")
            if parts.scheme not in ("tcp", self._robot.scheme) or loopback is not here:
                continue
            scheme: Literal["tcp", "tcps"] = "tcps" if parts.scheme == "tcps" else "tcp"
            login = self._robot.login if scheme == "tcps" else None
            robot = Robot(scheme, parts.hostname or "", parts.port or PORTS[scheme], login)
            try:
                self._peers[endpoint] = self._bus.connect(robot)
            except RobotError:
                continue
            return self._peers[endpoint]
        raise RobotError(f"{name}: no way to {' or '.join(endpoints) or 'it: it has no address'}")
