"""The body's small services: lights, life, awareness, touch, posture and the system.

Owns: ALLeds, ALAutonomousLife, ALBasicAwareness, ALTouch, ALMotion, ALRobotPosture, ALSystem, as
far as an app of ours needs each: the state is kept, and every change is recorded. Knows nothing of
people or speech. Nothing moves: no joints, no walking, no batteries. Life starts no activity.
"""

from __future__ import annotations

from typing import Final

from uservlm.pepper_app.service import Method, RobotError, Service, Value
from uservlm.pepper_app.virtual_calls import Bus, Calls
from uservlm.pepper_app.virtual_memory import Memory
from uservlm.pepper_app.virtual_world import World

LED_GROUPS: Final = ("AllLeds", "BrainLeds", "ChestLeds", "EarLeds", "FaceLeds", "ShoulderLeds")
STATES: Final = ("solitary", "interactive", "safeguard", "disabled")
ABILITIES: Final = (
    "AutonomousBlinking",
    "BackgroundMovement",
    "BasicAwareness",
    "ListeningMovement",
    "SpeakingMovement",
)
ENGAGEMENT: Final = ("Unengaged", "FullyEngaged", "SemiEngaged")
TRACKING: Final = ("Head", "BodyRotation", "WholeBody", "MoveContextually")
SENSORS: Final = (
    "FrontTactilTouched",
    "MiddleTactilTouched",
    "RearTactilTouched",
    "HandRightBackTouched",
    "HandLeftBackTouched",
    "LeftBumperPressed",
    "RightBumperPressed",
    "BackBumperPressed",
)
TOUCH_S: Final = 0.2
POSTURE_S: Final = 1.5


class Body:
    """See the module."""

    def __init__(self, world: World, bus: Bus, memory: Memory) -> None:
        self._world, self._bus, self._memory = world, bus, memory
        self._life, self._activity, self._awake, self._posture = "solitary", "", True, "Stand"
        self._abilities = dict.fromkeys(ABILITIES, True)
        self._awareness: dict[str, Value] = {"enabled": True, "paused": False}
        self._modes = {"Engagement": "Unengaged", "Tracking": "Head"}
        self._touched = dict.fromkeys(SENSORS, False)
        memory.insert("AutonomousLife/State", self._life)
        for sensor in SENSORS:
            memory.insert(sensor, 0.0)

    def services(self) -> list[Service]:
        """See `Part`."""
        return [
            self._leds(),
            self._autonomous_life(),
            self._basic_awareness(),
            self._touch(),
            self._motion(),
            self._robot_posture(),
            self._system(),
        ]

    def held(self) -> list[str]:
        """See `Part`."""
        return []

    def touch(self, sensor: str, seconds: float = TOUCH_S) -> None:
        """Have somebody touch a sensor, and let go again.

        Raises:
            RobotError: there is none.
        """
        if sensor not in SENSORS:
            raise RobotError(f"no sensor {sensor}; there are {', '.join(SENSORS)}")
        self._world.did("ALTouch", "touched", sensor)
        self._feel(sensor, True)
        self._world.after(seconds, lambda: self._feel(sensor, False))

    def _feel(self, sensor: str, touched: bool) -> None:
        self._touched[sensor] = touched
        self._memory.event("TouchChanged", [[sensor, touched, []]])
        self._memory.event(sensor, float(touched))

    def _leds(self) -> Service:
        calls = Calls(self._world, "ALLeds")

        def recorded(name: str, parameters: str) -> Method:
            def work(group: str, *values: Value) -> None:
                if group not in LED_GROUPS:
                    raise RobotError(f"no group of LEDs {group}")
                self._world.did("ALLeds", name, group, *values)

            return calls.method(name, parameters, "v", work)

        return Service(
            "ALLeds",
            (
                recorded("fadeRGB", "smf"),
                recorded("fadeRGB", "sffff"),
                recorded("fade", "sff"),
                recorded("setIntensity", "sf"),
                recorded("on", "s"),
                recorded("off", "s"),
                recorded("reset", "s"),
                calls.did("rotateEyes", "iff"),
                calls.did("randomEyes", "f"),
                calls.method("listGroups", "", "[s]", lambda: list(LED_GROUPS)),
            ),
        )

    def _autonomous_life(self) -> Service:
        method = Calls(self._world, "ALAutonomousLife").method
        ability = self._ability
        return Service(
            "ALAutonomousLife",
            (
                method("getState", "", "s", lambda: self._life),
                method("setState", "s", "v", self._set_life),
                method("focusedActivity", "", "s", lambda: self._activity),
                method("switchFocus", "s", "v", self._focus),
                method("switchFocus", "si", "v", lambda name, _: self._focus(name)),
                method("stopFocus", "", "v", lambda: self._focus("")),
                method("setAutonomousAbilityEnabled", "sb", "v", self._set_ability),
                method(
                    "getAutonomousAbilityEnabled", "s", "b", lambda x: self._abilities[ability(x)]
                ),
            ),
        )

    def _set_life(self, state: str) -> None:
        if state not in STATES:
            raise RobotError(f"no state {state}")
        if (self._life, state) == ("interactive", "solitary"):
            raise RobotError("interactive does not become solitary")
        self._world.did("ALAutonomousLife", "setState", state)
        self._life = state
        self._awake = self._awake and state != "disabled"
        self._memory.event("AutonomousLife/State", state)

    def _focus(self, activity: str) -> None:
        self._world.did("ALAutonomousLife", "focus", activity or "nothing")
        self._activity = activity
        self._memory.event("AutonomousLife/FocusedActivity", activity)

    def _ability(self, name: str) -> str:
        if name not in ABILITIES:
            raise RobotError(f"no ability {name}")
        return name

    def _set_ability(self, name: str, on: bool) -> None:
        self._abilities[self._ability(name)] = on
        self._world.did("ALAutonomousLife", "ability", name, on)

    def _basic_awareness(self) -> Service:
        calls = Calls(self._world, "ALBasicAwareness")
        method = calls.method
        return Service(
            "ALBasicAwareness",
            (
                method("setEnabled", "b", "v", lambda on: self._aware("enabled", on)),
                method("isEnabled", "", "b", lambda: self._awareness["enabled"]),
                method("pauseAwareness", "", "v", lambda: self._aware("paused", True)),
                method("resumeAwareness", "", "v", lambda: self._aware("paused", False)),
                method("isAwarenessPaused", "", "b", lambda: self._awareness["paused"]),
                method("setEngagementMode", "s", "v", lambda m: self._mode("Engagement", m)),
                method("getEngagementMode", "", "s", lambda: self._modes["Engagement"]),
                method("setTrackingMode", "s", "v", lambda m: self._mode("Tracking", m)),
                method("getTrackingMode", "", "s", lambda: self._modes["Tracking"]),
                method("engagePerson", "i", "b", self._engage),
            ),
        )

    def _aware(self, what: str, on: bool) -> None:
        self._awareness[what] = bool(on)
        self._world.did("ALBasicAwareness", what, bool(on))

    def _mode(self, what: str, mode: str) -> None:
        if mode not in {"Engagement": ENGAGEMENT, "Tracking": TRACKING}[what]:
            raise RobotError(f"no mode {mode}")
        self._modes[what] = mode
        self._world.did("ALBasicAwareness", f"set{what}Mode", mode)

    def _engage(self, person: int) -> bool:
        """Track a person who is there."""
        there = f"PeoplePerception/Person/{person}/Distance"
        known = self._memory.known(there)
        if known:
            self._memory.event("ALBasicAwareness/HumanTracked", person)
        return known

    def _touch(self) -> Service:
        method = Calls(self._world, "ALTouch").method
        return Service(
            "ALTouch",
            (
                method("getSensorList", "", "[s]", lambda: list(SENSORS)),
                method("getStatus", "", "m", self._touch_status),
            ),
        )

    def _touch_status(self) -> list[Value]:
        return [[sensor, touched, []] for sensor, touched in self._touched.items()]

    def _motion(self) -> Service:
        method = Calls(self._world, "ALMotion").method
        return Service(
            "ALMotion",
            (
                method("wakeUp", "", "v", lambda: self._wake(True)),
                method("rest", "", "v", lambda: self._wake(False)),
                method("robotIsWakeUp", "", "b", lambda: self._awake),
            ),
        )

    def _wake(self, awake: bool) -> None:
        self._world.did("ALMotion", "wakeUp" if awake else "rest")
        self._awake, self._posture = awake, "Stand" if awake else "Crouch"

    def _robot_posture(self) -> Service:
        calls = Calls(self._world, "ALRobotPosture")

        def work(reply: Value, name: str, _: float) -> None:
            with self._world.lock:
                known = name in ("Stand", "StandInit", "StandZero", "Crouch")
                self._world.did("ALRobotPosture", "goToPosture", name)
                self._posture = name if known and self._awake else self._posture
            calls.later(POSTURE_S / self._world.pace, reply, known and self._awake)

        return Service(
            "ALRobotPosture",
            (
                calls.slow("goToPosture", "sf", "b", work),
                calls.method("getPosture", "", "s", lambda: self._posture),
            ),
        )

    def _version(self) -> str:
        return "2.9.5.172" if "naoqi-2.9" in self._world.misbehaving else "2.5.10.7"

    def _system(self) -> Service:
        method = Calls(self._world, "ALSystem").method
        return Service(
            "ALSystem",
            (
                method("systemVersion", "", "s", self._version),
                method("robotName", "", "s", lambda: "VirtualPepper"),
            ),
        )
