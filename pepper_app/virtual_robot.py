"""The virtual Pepper as a whole: what happens to it, from Python, a scenario or over qi.

Owns: the steps of a scenario, the service `VirtualPepper` by which a test makes them happen, and
naoqi's restart. Knows nothing of how a service does its work.

    VirtualPepper.do(step, values)   as in `virtual_scenario.py`: do("arrive", {"who": "grace"})
    VirtualPepper.recorded(service, what[, since])   what was done, as JSON; "" for all
    VirtualPepper.now()   seconds of its own time
    VirtualPepper.held()   the subscriptions (and topics) that nobody has given back
    VirtualPepper.misbehave([names])   VirtualPepper.people()   VirtualPepper.misbehaviours()
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from threading import Event, Thread
from typing import Final

from uservlm.pepper_app.service import RobotError, Service, Value
from uservlm.pepper_app.virtual_calls import Calls
from uservlm.pepper_app.virtual_naoqi import CONTROL, Naoqi, Setting
from uservlm.pepper_app.virtual_scenario import Step, step
from uservlm.pepper_app.virtual_world import MISBEHAVIOURS, Deed, World

QUESTION: Final = "UserVLM/Question"
"""Where a recogniser of speech from outside puts what it has understood."""
GOING_S: Final = 0.1
"""Before a restart, so that who asked for it gets an answer."""
AWAY_S: Final = 1.0
RESTARTS_S: Final = 20.0
POLL_S: Final = 0.1
TOUCH_S: Final = 0.2
LISTENS_S: Final = 60.0


class VirtualPepper:
    """A robot; use it as a context manager."""

    def __init__(self, setting: Setting, show: Callable[[Deed], None] | None = None) -> None:
        """Make one; entering the context boots it.

        Args:
            setting: see there.
            show: is given each deed, quickly done.

        Raises:
            RobotError: there is no such misbehaviour.
        """
        self._world = World(setting.pace, show)
        self._world.misbehave(setting.misbehave)
        self._setting = setting
        self._learnt: dict[str, str] = {}
        self._naoqi: Naoqi | None = None
        self._restarts: Thread | None = None
        self.ended = Event()
        """Set when the scenario says so."""

    def __enter__(self) -> VirtualPepper:
        """Boot.

        Raises:
            RobotError: the address is taken, or the pictures are not there.
        """
        self._naoqi = Naoqi(self._world, self._setting, self._learnt, self._declare)
        self._setting = replace(self._setting, listen=self._naoqi.url)
        self._world.after(RESTARTS_S, self._misbehave)
        return self

    def __exit__(self, *_: object) -> None:
        """Switch off."""
        if self._restarts is not None:
            self._restarts.join()
        if self._naoqi is not None:
            self._naoqi.close()
        self._world.close()

    @property
    def url(self) -> str:
        """Where its directory is."""
        return self._setting.listen

    def play(self, steps: Iterable[Step]) -> None:
        """Let a scenario happen from now on."""
        for one in steps:
            self._world.after(one.at, lambda one=one: self._do(one))  # type: ignore[misc]

    def do(self, name: str, **values: Value) -> None:
        """Let one thing happen, now.

        Raises:
            RobotError: it cannot.
        """
        self._do(step(name, values))

    def held(self) -> list[str]:
        """Name the subscriptions (and topics) that nobody has given back."""
        with self._world.lock:
            return [] if self._naoqi is None else self._naoqi.held()

    def recorded(self, who: str = "", what: str = "") -> list[Deed]:
        """Give what was done, of one service, of one kind, or all of it."""
        return self._world.recorded(who, what)

    def _do(self, one: Step) -> None:
        values = dict(one.values)
        acts: dict[str, Callable[..., object]] = {
            "restart": self._restart,
            "misbehave": self._world.misbehave,
            "end": self.ended.set,
        }
        with self._world.lock:
            if one.do in acts:
                acts[one.do](**values)
                return
            naoqi = self._naoqi
            if naoqi is None:
                raise RobotError(f"{one.do}: naoqi is away")
            self._act(naoqi, one.do, values)

    def _act(self, naoqi: Naoqi, do: str, values: Mapping[str, Value]) -> None:
        people = naoqi.people
        acts: dict[str, Callable[[], object]] = {
            "arrive": lambda: people.arrive(values["who"], values.get("zone", 1)),
            "approach": lambda: people.move(values["who"], values["zone"]),
            "leave": lambda: people.leave(values["who"]),
            "ask": lambda: self._say(naoqi, values, True),
            "say": lambda: self._say(naoqi, values, False),
            "talk_over": lambda: self._talk_over(naoqi, values, LISTENS_S),
            "touch": lambda: naoqi.body.touch(values["sensor"], values.get("seconds", TOUCH_S)),
            "touch_over": lambda: self._touch_over(naoqi, values, LISTENS_S),
            "tablet": lambda: naoqi.tablet.raise_event(values["event"]),
            "tap": lambda: naoqi.tablet.touch(float(values["x"]), float(values["y"])),
        }
        acts[do]()

    def _say(self, naoqi: Naoqi, values: Mapping[str, Value], asks: bool) -> None:
        """Speak; what has been said is understood at its end.

        A question reaches `QUESTION` too, as if a recogniser from outside had heard it.
        """
        text = values["text"]
        self._world.did("people", "asks" if asks else "says", text)
        seconds = naoqi.audio.voice(len(text.split()), values.get("audio"))

        def heard() -> None:
            naoqi.hearing.hear(text)
            naoqi.dialog.hear(text)
            if asks:
                naoqi.memory.event(QUESTION, text)

        self._world.after(seconds, heard)

    def _talk_over(self, naoqi: Naoqi, values: Mapping[str, Value], patience: float) -> None:
        if naoqi.speech.speaking:
            self._say(naoqi, values, False)
        elif patience <= 0:
            raise RobotError(f"talk_over: the robot has not spoken for {LISTENS_S:g} s")
        else:
            left = patience - POLL_S
            self._world.after(POLL_S, lambda: self._talk_over(naoqi, values, left))

    def _touch_over(self, naoqi: Naoqi, values: Mapping[str, Value], patience: float) -> None:
        if naoqi.speech.preparing.startswith(values["text"]):
            naoqi.body.touch(values["sensor"], TOUCH_S)
        elif patience <= 0:
            raise RobotError(f"touch_over: {values['text']!r} was not prepared in {LISTENS_S:g} s")
        else:
            left = patience - POLL_S
            self._world.after(POLL_S, lambda: self._touch_over(naoqi, values, left))

    def _restart(self, seconds: float = AWAY_S) -> None:
        """Have naoqi go, and come back at the same address.

        Raises:
            RobotError: it is away already.
        """
        naoqi, self._naoqi = self._naoqi, None
        if naoqi is None:
            raise RobotError("naoqi is away already")
        gone = naoqi

        def away() -> None:
            gone.close()
            self._world.did(CONTROL, "naoqi gone")
            pause = Event()
            self._world.after(seconds, pause.set)
            pause.wait()
            self._naoqi = Naoqi(self._world, self._setting, self._learnt, self._declare)

        def go() -> None:
            self._restarts = Thread(target=away, name="virtual-restart", daemon=True)
            self._restarts.start()

        self._world.after(GOING_S, go)

    def _declare(self, naoqi: Naoqi) -> Service:
        """Declare the service by which others make things happen."""
        method = Calls(self._world, CONTROL).method
        methods = (
            method("do", "sm", "v", self._do_over_qi, "step, values"),
            method("recorded", "ss", "s", self._recorded_json, "service, what -> JSON"),
            method("recorded", "ssd", "s", self._recorded_json, "service, what, since -> JSON"),
            method("now", "", "d", self._world.now, "-> seconds of the robot's time"),
            method("misbehave", "[s]", "v", self._world.misbehave, "names"),
            method("misbehaviours", "", "{ss}", lambda: dict(MISBEHAVIOURS)),
            method("held", "", "[s]", naoqi.held, "-> subscriptions nobody has given back"),
            method("people", "", "[s]", lambda: list(naoqi.people.names())),
        )
        return Service(CONTROL, methods)

    def _misbehave(self) -> None:
        self._world.after(RESTARTS_S, self._misbehave)
        if "restarts" in self._world.misbehaving:
            self._restart()

    def _do_over_qi(self, name: str, values: Value) -> None:
        if not isinstance(values, dict):
            raise RobotError("values is a map from names")
        self._do(step(name, values))

    def _recorded_json(self, who: str, what: str, since: float = 0.0) -> str:
        deeds = self._world.recorded(who, what, since)
        return json.dumps([asdict(deed) for deed in deeds], default=str)
