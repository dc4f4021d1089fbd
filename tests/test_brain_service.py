"""What a brain's service takes and refuses, without a robot's bus."""

from __future__ import annotations

from collections.abc import Callable

from qi_bus import wait_for

from uservlm.pepper_app.brain_service import BrainService
from uservlm.runtime import UserVLM
from uservlm.runtime.server.brain import Brain


class Slip:
    """A reply that is kept."""

    def __init__(self) -> None:
        self.said: list[object] = []

    def value(self, value: object) -> None:
        self.said.append(value)

    error = value

    def when_cancelled(self, act: Callable[[], None]) -> None: ...


def test_another_number_of_arguments_is_refused_too(vlm: UserVLM) -> None:
    """libqi enforces it among its own; who speaks the bare protocol may send any."""
    brain = Brain(vlm)
    service = BrainService(brain, lambda *_: None)
    for method in service.declare().methods:
        for count in range(8):
            slip = Slip()
            method.handle(slip, *[None] * count)
            wait_for(lambda slip=slip: slip.said)
            right = count == len(method.parameters)
            assert right or method.name == "ping" or str(slip.said[0]).startswith("bad_request: ")
    service.close()
    brain.close()
