"""What happens to the virtual Pepper, as a TOML file tells it.

Owns: the steps there are and their form. Knows nothing of what follows from one.

    [[step]]
    at = 2.0                 # seconds after the robot is up
    do = "arrive"            # who = "grace", zone = 1
                             # approach: who, zone     leave: who
                             # ask, say: text, [audio = "question.wav"]
                             # talk_over: text, [audio]: as say, once the robot speaks
                             # touch: sensor = "FrontTactilTouched", [seconds = 0.2]
                             # touch_over: sensor, text: as touch, once the robot prepares to say
                             #     something that begins with this
                             # tablet: event = "..."   tap: x, y
                             # restart: [seconds = 1.0]
                             # misbehave: names = ["flicker"]      end
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uservlm.models.toml import tomllib
from uservlm.pepper_app.service import RobotError, Value

_SPOKEN: Final[dict[str, type]] = {"text": str, "audio": str}
STEPS: Final[dict[str, tuple[dict[str, type], tuple[str, ...]]]] = {
    "arrive": ({"who": str, "zone": int}, ("who",)),
    "approach": ({"who": str, "zone": int}, ("who", "zone")),
    "leave": ({"who": str}, ("who",)),
    "ask": (_SPOKEN, ("text",)),
    "say": (_SPOKEN, ("text",)),
    "talk_over": (_SPOKEN, ("text",)),
    "touch": ({"sensor": str, "seconds": float}, ("sensor",)),
    "touch_over": ({"sensor": str, "text": str}, ("sensor", "text")),
    "tablet": ({"event": str}, ("event",)),
    "tap": ({"x": float, "y": float}, ("x", "y")),
    "restart": ({"seconds": float}, ()),
    "misbehave": ({"names": list}, ("names",)),
    "end": ({}, ()),
}
"""The values each step takes, and which of them it needs."""


@dataclass(frozen=True)
class Step:
    """Something that happens."""

    at: float
    do: str
    values: Mapping[str, Value]


def step(do: str, values: Mapping[str, Value], at: float = 0.0) -> Step:
    """Check one step.

    Raises:
        RobotError: there is none such, or a value is missing, unknown or of another type.
    """
    if do not in STEPS:
        raise RobotError(f"no step {do!r}; there are {', '.join(STEPS)}")
    known, needed = STEPS[do]
    for name in needed:
        if name not in values:
            raise RobotError(f"{do} needs {name}")
    for name, value in values.items():
        if name not in known:
            raise RobotError(f"{do} takes {', '.join(known) or 'nothing'}, not {name}")
        kind = known[name]
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (isinstance(value, kind) or (kind is float and whole)):
            raise RobotError(f"{do}: {name} is a {kind.__name__}, not {value!r}")
    return Step(at, do, dict(values))


def read(file: Path) -> list[Step]:
    """Read a scenario.

    Raises:
        RobotError: it cannot be read, or has another form; says which step.
    """
    try:
        with file.open("rb") as opened:
            found = tomllib.load(opened)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise RobotError(f"{file}: {error}") from error
    steps = []
    told = found.pop("step", [])
    if found or not isinstance(told, list):
        raise RobotError(f"{file}: a scenario has [[step]] and nothing else")
    for number, one in enumerate(told, 1):
        try:
            steps.append(_step(one))
        except RobotError as error:
            raise RobotError(f"{file}, step {number}: {error}") from error
    return steps


def _step(found: Value) -> Step:
    if not isinstance(found, dict):
        raise RobotError("a step is a table")
    values = dict(found)
    at, do = values.pop("at", None), values.pop("do", None)
    if not isinstance(at, int | float) or isinstance(at, bool) or not 0 <= at < float("inf"):
        raise RobotError(f"at is seconds, not {at!r}")
    return step(str(do), values, float(at))
