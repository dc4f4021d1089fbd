"""Who is there: ALPeoplePerception and ALEngagementZones.

Owns: the people, their ids (new at each visit) and zones, and what the two extractors say of them,
which they do while somebody has subscribed to them and not otherwise. Knows nothing of faces.

Not there: heights, shirt colours, world positions, gaze, age or mood. The names of the signals of
ALEngagementZones are inferred from those of its events; no public source shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

from uservlm.pepper_app.service import Method, RobotError, Service, Value
from uservlm.pepper_app.virtual_calls import Bus, Calls
from uservlm.pepper_app.virtual_memory import Memory
from uservlm.pepper_app.virtual_world import World, stamp

PEOPLE: Final = "ALPeoplePerception"
ZONES: Final = "ALEngagementZones"
DISTANCES: Final = {1: 1.0, 2: 2.0, 3: 3.0}
"""Metres; the zones end at 1.5 and 2.5."""
TICK_S: Final = 0.5
FLICKER_S: Final = 0.15
POSE: Final = [0.0, 0.0, 1.1, 0.0, 0.0, 0.0]


@dataclass(frozen=True)
class Visitor:
    """Somebody who is there."""

    id: int
    name: str
    zone: int


class Extractor:
    """Who has subscribed to one; it sees while anybody has."""

    def __init__(self, world: World, service: str, changed: Callable[[], None]) -> None:
        self._world, self._service, self._changed = world, service, changed
        self.subscribers: set[str] = set()

    def methods(self) -> list[Method]:
        """Declare what all extractors have."""
        method = Calls(self._world, self._service).method
        return [
            method("subscribe", "s", "v", self._subscribe),
            method("subscribe", "sif", "v", lambda name, _, __: self._subscribe(name)),
            method("unsubscribe", "s", "v", self._unsubscribe),
            method("getSubscribersInfo", "", "m", lambda: sorted(self.subscribers)),
            method("isProcessing", "", "b", lambda: bool(self.subscribers)),
        ]

    def held(self) -> list[str]:
        """Name who has subscribed."""
        return [f"{self._service} {name}" for name in sorted(self.subscribers)]

    def _subscribe(self, name: str) -> None:
        self._world.did(self._service, "subscribe", name)
        first = not self.subscribers
        self.subscribers.add(name)
        if first:
            self._changed()

    def _unsubscribe(self, name: str) -> None:
        self._world.did(self._service, "unsubscribe", name)
        if name not in self.subscribers:
            raise RobotError(f"{name} has not subscribed")
        self.subscribers.discard(name)


class People:
    """See the module; call `tick` all `TICK_S`."""

    def __init__(self, world: World, bus: Bus, memory: Memory) -> None:
        self._world, self._bus, self._memory = world, bus, memory
        self._ids = count(1001)
        self._there: list[Visitor] = []
        self._told: dict[int, int] = {}
        self._perception = Extractor(world, PEOPLE, self._see)
        self._zones = Extractor(world, ZONES, self._see)
        self.changed: Callable[[], None] = lambda: None
        """Called when people have come, moved or gone."""

    def services(self) -> list[Service]:
        """See `Part`."""
        method = Calls(self._world, PEOPLE).method
        perception = [*self._perception.methods(), method("resetPopulation", "", "v", self._reset)]
        zones = {f"personEnteredZone{zone}": "i" for zone in DISTANCES}
        return [
            Service(PEOPLE, tuple(perception), {"justArrived": "i", "justLeft": "i"}),
            Service(
                ZONES,
                tuple(self._zones.methods()),
                {**zones, "personApproached": "i", "personMovedAway": "i"},
            ),
        ]

    def held(self) -> list[str]:
        """See `Part`."""
        return [*self._perception.held(), *self._zones.held()]

    def names(self) -> tuple[str, ...]:
        """Name who is there, the nearest first."""
        return tuple(visitor.name for visitor in self.nearest())

    def nearest(self) -> list[Visitor]:
        """Give who is there, the nearest first."""
        return sorted(self._there, key=lambda visitor: visitor.zone)

    def arrive(self, name: str, zone: int = 1) -> int:
        """Have somebody come; gives the id of this visit.

        Raises:
            RobotError: they are there already, or there is no such zone.
        """
        if any(visitor.name == name for visitor in self._there):
            raise RobotError(f"{name} is there already")
        visitor = Visitor(next(self._ids), name, _zone(zone))
        self._there.append(visitor)
        self._world.did("people", "arrive", name, zone, visitor.id)
        self._after_change()
        return visitor.id

    def move(self, name: str, zone: int) -> None:
        """Have somebody step into another zone.

        Raises:
            RobotError: they are not there, or there is no such zone.
        """
        before = self.find(name)
        self._there[self._there.index(before)] = replace(before, zone=_zone(zone))
        self._world.did("people", "move", name, zone)
        self._after_change()

    def leave(self, name: str) -> None:
        """Have somebody go.

        Raises:
            RobotError: they are not there.
        """
        self._there.remove(self.find(name))
        self._world.did("people", "leave", name)
        self._after_change()

    def find(self, name: str) -> Visitor:
        """Give somebody who is there.

        Raises:
            RobotError: they are not.
        """
        for visitor in self._there:
            if visitor.name == name:
                return visitor
        raise RobotError(f"{name} is not there")

    def tick(self) -> None:
        """Say again who is there, as the robot does all the time."""
        if self._perception.subscribers and self._told:
            self._list()
            if "flicker" in self._world.misbehaving:
                self._memory.event("PeoplePerception/PeopleList", [])
                self._memory.event("PeoplePerception/VisiblePeopleList", [])
                self._world.after(FLICKER_S, self._list)

    def _after_change(self) -> None:
        self._see()
        self.changed()

    def _see(self) -> None:
        """Tell what has changed since it was last told."""
        if not (self._perception.subscribers or self._zones.subscribers):
            return
        now = {visitor.id: visitor.zone for visitor in self._there}
        for person in [person for person in self._told if person not in now]:
            del self._told[person]
            self._say(PEOPLE, "justLeft", "PeoplePerception/JustLeft", person)
            self._memory.forget(f"PeoplePerception/Person/{person}/")
        for person, zone in now.items():
            before = self._told.get(person)
            self._told[person] = zone
            if before is None:
                self._say(PEOPLE, "justArrived", "PeoplePerception/JustArrived", person)
            if before != zone:
                self._enter(person, before, zone)
        self._list()

    def _enter(self, person: int, before: int | None, zone: int) -> None:
        signal = f"ersonEnteredZone{zone}"
        self._say(ZONES, f"p{signal}", f"EngagementZones/P{signal}", person)
        if before is not None:
            moved = "ersonApproached" if zone < before else "ersonMovedAway"
            self._say(ZONES, f"p{moved}", f"EngagementZones/P{moved}", person)

    def _say(self, service: str, signal: str, event: str, person: int) -> None:
        extractor = self._perception if service == PEOPLE else self._zones
        if extractor.subscribers:
            self._memory.event(event, person)
            self._bus.tell(service, signal, person)

    def _list(self) -> None:
        if not self._perception.subscribers:
            return
        ids = list(self._told)
        for key in ("PeopleList", "VisiblePeopleList"):
            self._memory.event(f"PeoplePerception/{key}", ids)
        self._memory.event("PeoplePerception/NonVisiblePeopleList", [])
        detected: list[Value] = []
        for person, zone in self._told.items():
            distance = DISTANCES[zone]
            key = f"PeoplePerception/Person/{person}"
            self._memory.insert(f"{key}/Distance", distance)
            self._memory.insert(f"{key}/AnglesYawPitch", [0.0, 0.0])
            self._memory.insert(f"{key}/IsFaceDetected", 1)
            self._memory.insert(f"{key}/IsVisible", 1)
            self._memory.insert(f"{key}/EngagementZone", zone)
            detected.append([person, distance, 0.0, 0.0])
        if detected:
            self._memory.event(
                "PeoplePerception/PeopleDetected", [stamp(), detected, POSE, POSE, 0]
            )

    def _reset(self) -> None:
        """Forget all ids: whoever is there has just arrived."""
        self._told.clear()
        self._there = [replace(visitor, id=next(self._ids)) for visitor in self._there]
        self._see()


def _zone(zone: int) -> int:
    """Check a zone.

    Raises:
        RobotError: there is none.
    """
    if zone not in DISTANCES:
        raise RobotError(f"zone {zone}: there are 1, 2 and 3")
    return zone
