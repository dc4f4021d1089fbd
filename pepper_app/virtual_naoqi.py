"""One life of naoqi on the virtual Pepper, from boot to crash: its directory and all services.

Owns: which services there are, when they come, and what carries their signals. Knows nothing of
scenarios or of what came before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uservlm.pepper_app.qi_directory import LibqiDirectory
from uservlm.pepper_app.qi_object import LibqiService
from uservlm.pepper_app.service import Service, Value
from uservlm.pepper_app.virtual_audio import Audio
from uservlm.pepper_app.virtual_body import Body
from uservlm.pepper_app.virtual_calls import Part
from uservlm.pepper_app.virtual_camera import Camera
from uservlm.pepper_app.virtual_dialog import Dialog
from uservlm.pepper_app.virtual_faces import Faces
from uservlm.pepper_app.virtual_hearing import Hearing
from uservlm.pepper_app.virtual_memory import Memory
from uservlm.pepper_app.virtual_packages import Packages
from uservlm.pepper_app.virtual_people import TICK_S, People
from uservlm.pepper_app.virtual_pictures import DRAWN, Pictures
from uservlm.pepper_app.virtual_services import PATIENCE_S, Running, Services
from uservlm.pepper_app.virtual_speech import Speech
from uservlm.pepper_app.virtual_tablet import Tablet
from uservlm.pepper_app.virtual_world import World

CONTROL: Final = "VirtualPepper"
LATE_S: Final = 2.0
LACKS: Final = {"no-camera": "ALVideoDevice", "no-tablet": "ALTabletService"}
"""What a misbehaviour takes away at the boot."""
ADDRESS: Final = "tcp://127.0.0.1:9559"


@dataclass(frozen=True)
class Setting:
    """What a virtual Pepper is made with."""

    folder: Path
    """Where packages and their logs lie."""
    listen: str = ADDRESS
    pictures: str = DRAWN
    """"drawn", or a folder; see `Pictures`."""
    pace: float = 1.0
    """How much faster than a robot's its time runs."""
    misbehave: tuple[str, ...] = ()
    python: tuple[str, ...] = (sys.executable,)
    """The command that stands for the robot's Python 2.7."""
    patience_s: float = PATIENCE_S
    """Between a service's SIGTERM and SIGKILL."""


class Naoqi:
    """Alive until it is closed; also the `Bus` of its services."""

    def __init__(
        self,
        world: World,
        setting: Setting,
        learnt: dict[str, str],
        control: Callable[[Naoqi], Service],
    ) -> None:
        """Boot.

        Args:
            world: where it is.
            setting: see there.
            learnt: the faces it knows.
            control: declares the service that lets a test make things happen.

        Raises:
            RobotError: the address is taken, or the pictures are not there.
        """
        self._world, self._alive = world, True
        self._offered: dict[str, LibqiService] = {}
        pictures = Pictures(setting.pictures)
        self._directory = LibqiDirectory(setting.listen, self._refused)
        self.url = self._directory.url
        self.memory = Memory(world, self)
        self.people = People(world, self, self.memory)
        self.speech = Speech(world, self.memory)
        self.hearing = Hearing(world, self.memory)
        self.dialog = Dialog(world, self.memory, self.speech)
        self.audio = Audio(world, self, lambda: self.speech.speaking)
        self.body = Body(world, self, self.memory)
        self._faces = Faces(world, self.memory, self.people, learnt)
        packages = Packages(world, self, setting.folder / "apps")
        self.tablet = Tablet(world, self, packages.folder_of)
        running = Running(setting.python, setting.folder / "logs", setting.patience_s)
        self._services = Services(world, self, packages, self.url, running)
        self.people.changed = self._faces.tick
        parts: list[Part] = [
            self.memory,
            self.people,
            self._faces,
            Camera(world, pictures, self.people.names),
            self.speech,
            self.hearing,
            self.dialog,
            self.audio,
            self.body,
            self.tablet,
            packages,
            self._services,
        ]
        self._parts = parts
        self._offer([*self.memory.services(), control(self)])
        missing = [name for lack, name in LACKS.items() if lack in world.misbehaving]
        rest = [
            service
            for part in parts[1:]
            for service in part.services()
            if service.name not in missing
        ]
        if "late-services" in world.misbehaving:
            world.after(LATE_S, lambda: self._rest(rest))
        else:
            self._rest(rest)
        world.after(TICK_S, self._tick)

    def tell(self, service: str, signal: str, *values: Value) -> None:
        """See `Bus`."""
        if self._alive and service in self._offered:
            self._offered[service].tell(signal, *values)

    def call(self, service: str, method: str, *arguments: Value) -> None:
        """See `Bus`."""
        if self._alive:
            self._directory.call(service, method, *arguments)

    def make(self, service: Service) -> LibqiService:
        """See `Bus`."""
        return self._directory.make(service)

    def held(self) -> list[str]:
        """Name the subscriptions that nobody has given back, and topics that are loaded."""
        return [one for part in self._parts for one in part.held()]

    def close(self) -> None:
        """Hang up on everybody, with the services of all packages."""
        self._services.close()
        self._alive = False
        self._directory.close()

    def _offer(self, services: list[Service]) -> None:
        for service in services:
            self._offered[service.name] = self._directory.offer(service)

    def _rest(self, services: list[Service]) -> None:
        if self._alive:
            self._offer(services)
            self._world.did(CONTROL, "up", self.url)
            self._services.autorun()

    def _tick(self) -> None:
        if self._alive:
            self.people.tick()
            self._faces.tick()
            self._world.after(TICK_S, self._tick)

    def _refused(self, service: str, method: str, why: str) -> None:
        """Record that somebody's service did not take a call."""
        with self._world.lock:
            self._world.did(CONTROL, "refused", f"{service}.{method}: {why}")
            if method == "processRemote":
                self.audio.refused(service)
