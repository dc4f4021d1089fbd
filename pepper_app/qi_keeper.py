"""Services that are there whenever the robot is.

Owns: the thread that connects, registers and watches, and that builds all of it anew when the robot
was away: after a restart of naoqi nothing old works, not even a session that connects again. Knows
nothing of libqi or of what is offered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from threading import Event, Thread
from typing import Final, Literal, TypeAlias

from uservlm.pepper_app.service import (
    Connect,
    NoLibraryError,
    Offered,
    RobotError,
    Service,
)

_LOG = logging.getLogger("uservlm.qi")

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 10.0
CLOSE_S: Final = 2.0
SHOWN_S: Final = 0.02
"""A property stays as it is for so long: what follows sooner may overtake it on the way."""

State: TypeAlias = Literal["off", "connecting", "open", "lost", "unavailable"]


class Keeper:
    """Keeps services offered, until it is closed."""

    def __init__(
        self,
        services: Sequence[Service],
        connect: Connect,
        report: Callable[[State, str], None],
        ended: Callable[[], None] = lambda: None,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        """Note what is kept; `start` begins.

        Args:
            services: to offer, in this order.
            connect: opens a session.
            report: told the state, and a sentence about it, whenever either changes.
            ended: called whenever callers have been cut off.
            first_pause_s: before the second try; doubled from one to the next.
        """
        self._services, self._connect = services, connect
        self._report, self._ended = report, ended
        self._first_pause_s = first_pause_s
        self._offered: dict[str, Offered] = {}
        self._said: tuple[State, str] = ("connecting", "looking for the robot")
        self._closing, self._wake = Event(), Event()
        self._thread = Thread(target=self._run, name="qi-keeper", daemon=True)

    def start(self) -> None:
        """Look for the robot from now on; waits for nothing."""
        self._thread.start()

    def emit(self, service: str, signal: str, *texts: str) -> None:
        """Tell whoever listens to a service; while the robot is away nobody does."""
        offered = self._offered.get(service)
        if offered is not None:
            offered.emit(signal, *texts)

    def refresh(self) -> None:
        """Show the properties as they are, soon."""
        self._wake.set()

    def close(self) -> None:
        """Withdraw the services and leave; returns within two seconds."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        self._report(*self._said)
        pause = self._first_pause_s
        try:
            while not self._closing.is_set():
                try:
                    self._serve()
                    pause = self._first_pause_s
                except NoLibraryError as error:
                    self._say("unavailable", str(error))
                    return
                except RobotError as error:
                    self._away(str(error))
                except RuntimeError as error:  # what a library raises for anything; not for good
                    _LOG.error("the robot's door: %s", error, exc_info=error)
                    self._away("the connection failed: the log says how; trying again")
                self._closing.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
        finally:
            if self._said[0] != "unavailable":
                self._say("off", "closed")

    def _serve(self) -> None:
        """Connect, offer, and return when that is over.

        Raises:
            RobotError: it did not come to that.
        """
        lost = Event()

        def on_lost() -> None:
            lost.set()
            self._wake.set()

        with closing(self._connect(on_lost, self._closing)) as session:
            try:
                for service in self._services:
                    self._offered = {**self._offered, service.name: session.offer(service)}
                self._say("open", f"{' and '.join(self._offered)} at {session.listening}")
                self._watch(lost)
            finally:
                self._offered = {}
                self._ended()
        if not self._closing.is_set():
            self._say("lost", "the robot has gone: waiting until it is back")

    def _watch(self, lost: Event) -> None:
        while not (lost.is_set() or self._closing.is_set()):
            self._wake.wait()
            self._wake.clear()
            for offered in self._offered.values():
                offered.refresh()
            self._closing.wait(SHOWN_S)

    def _away(self, why: str) -> None:
        self._say("lost" if self._said[0] in ("lost", "open") else "connecting", why)

    def _say(self, state: State, detail: str) -> None:
        if (state, detail) != self._said:
            self._said = state, detail
            level = logging.INFO if state in ("open", "off") else logging.WARNING
            _LOG.log(level, "qi door %s: %s", state, detail)
            self._report(state, detail)
