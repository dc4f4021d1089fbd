"""ALVideoDevice: subscriptions to the camera, and its frames.

Owns: handles, sizes, and the layout of a frame. Knows nothing of how a picture is made.

A frame is a structure of twelve with a raw buffer, or None. On the robot it is a list of twelve;
libqi-python cannot put a raw buffer into a list, and a client indexes both alike. Cameras 0 and 1
see the same; depth (2), stereo (3), HSY and distance are refused. A frame is new at every call,
whatever the rate that was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from uservlm.pepper_app.service import Reply, RobotError, Service, Value
from uservlm.pepper_app.virtual_calls import Calls
from uservlm.pepper_app.virtual_pictures import LAYERS, Pictures, encode
from uservlm.pepper_app.virtual_world import SLOW_FRAME_S, World, stamp

NAME: Final = "ALVideoDevice"
FRAME: Final = "+(iiiiiiriffff)"
SIZES: Final = {
    8: (40, 30),
    7: (80, 60),
    0: (160, 120),
    1: (320, 240),
    2: (640, 480),
    3: (1280, 960),
    4: (2560, 1920),
}
TOP: Final = 0
FIELD: Final = (math.radians(56.3), math.radians(43.7))
MOST_OF_ONE_NAME: Final = 6


@dataclass(frozen=True)
class _Subscription:
    camera: int
    size: int
    space: int
    fps: int


class Camera:
    """See the module."""

    def __init__(
        self, world: World, pictures: Pictures, people: Callable[[], tuple[str, ...]]
    ) -> None:
        """Look.

        Args:
            world: where it is.
            pictures: draws.
            people: names who stands there, the nearest first.
        """
        self._world, self._pictures, self._people = world, pictures, people
        self._subscribed: dict[str, _Subscription] = {}
        self._held: set[str] = set()
        self._asked = 0
        self._calls = Calls(world, NAME)

    def services(self) -> list[Service]:
        """See `Part`."""
        method = self._calls.method
        methods = (
            method("subscribeCamera", "siiii", "s", self._subscribe),
            self._calls.slow("getImageRemote", "s", FRAME, self._image),
            method("releaseImage", "s", "b", self._release),
            method("unsubscribe", "s", "b", self._unsubscribe),
            method("unsubscribeAllInstances", "s", "v", self._unsubscribe_all),
            method("getSubscribers", "", "[s]", lambda: sorted(self._subscribed)),
            method("getActiveCamera", "", "i", lambda: TOP),
            method("setResolution", "si", "b", lambda h, n: self._change(h, size=n)),
            method("setColorSpace", "si", "b", lambda h, n: self._change(h, space=n)),
            method("setFrameRate", "si", "b", lambda h, n: self._change(h, fps=n)),
            method("getAngularPositionFromImagePosition", "i[f]", "[f]", _angles),
        )
        return [Service(NAME, methods)]

    def held(self) -> list[str]:
        """See `Part`."""
        return [f"{NAME} {handle}" for handle in sorted(self._subscribed)]

    def _subscribe(self, name: str, camera: int, size: int, space: int, fps: int) -> str:
        wanted = _checked(_Subscription(camera, size, space, fps))
        taken = [f"{name}_{number}" for number in range(MOST_OF_ONE_NAME)]
        free = [handle for handle in taken if handle not in self._subscribed]
        if not free:
            raise RobotError(f"{MOST_OF_ONE_NAME} subscribers are named {name} already")
        self._subscribed[free[0]] = wanted
        self._world.did(NAME, "subscribeCamera", free[0], camera, size, space, fps)
        return free[0]

    def _image(self, reply: Reply, handle: str) -> None:
        slow = "slow-network" in self._world.misbehaving
        with self._world.lock:
            frame = self._frame(handle)
            self._world.did(NAME, "getImageRemote", handle, frame is not None)
        self._calls.later(SLOW_FRAME_S if slow else 0.0, reply, frame)

    def _frame(self, handle: str) -> tuple[Value, ...] | None:
        wanted = self._subscribed.get(handle)
        self._asked += 1
        if wanted is None or ("none-frames" in self._world.misbehaving and self._asked % 2):
            return None
        width, height = SIZES[wanted.size]
        rgb = self._pictures.see(self._people(), width, height)
        data = bytearray(encode(rgb, wanted.space))
        across, down = FIELD[0] / 2, FIELD[1] / 2
        self._held.add(handle)
        return (
            *(width, height, LAYERS[wanted.space], wanted.space),
            *stamp(),
            *(data, wanted.camera, across, down, -across, -down),
        )

    def _release(self, handle: str) -> bool:
        held = handle in self._held
        self._held.discard(handle)
        return held

    def _unsubscribe(self, handle: str) -> bool:
        self._held.discard(handle)
        known = self._subscribed.pop(handle, None) is not None
        self._world.did(NAME, "unsubscribe", handle, known)
        return known

    def _unsubscribe_all(self, name: str) -> None:
        for handle in [one for one in self._subscribed if one.rpartition("_")[0] == name]:
            self._unsubscribe(handle)

    def _change(self, handle: str, **change: int) -> bool:
        if handle not in self._subscribed:
            return False
        self._subscribed[handle] = _checked(replace(self._subscribed[handle], **change))
        return True


def _checked(wanted: _Subscription) -> _Subscription:
    """Refuse what the camera does not have.

    Raises:
        RobotError: it does not have it.
    """
    if wanted.camera not in (0, 1):
        raise RobotError(f"camera {wanted.camera}: the virtual Pepper has 0 and 1")
    if wanted.size not in SIZES:
        raise RobotError(f"resolution {wanted.size}: there are {', '.join(map(str, SIZES))}")
    if wanted.size == 4 and (wanted.camera != TOP or wanted.fps > 15):
        raise RobotError("resolution 4 is the top camera's alone, up to 15 frames a second")
    if wanted.space not in LAYERS:
        raise RobotError(f"colour space {wanted.space}: there are {', '.join(map(str, LAYERS))}")
    if not 1 <= wanted.fps <= 30:
        raise RobotError(f"{wanted.fps} frames a second: give 1 to 30")
    return wanted


def _angles(_: int, position: list[float]) -> list[float]:
    """Give yaw and pitch of a place in the picture, each 0 to 1 from the top left."""
    if len(position) != 2:
        raise RobotError("give [x, y]")
    return [(0.5 - position[0]) * FIELD[0], (position[1] - 0.5) * FIELD[1]]
