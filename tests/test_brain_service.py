"""What a brain's service takes and refuses, without a robot's bus."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event

import pytest
from qi_bus import wait_for

from uservlm.pepper_app.brain_service import BrainService
from uservlm.pepper_app.qi_keeper import Keeper
from uservlm.pepper_app.service import Service, Session
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


def test_a_call_that_comes_when_the_door_is_closed_is_answered(vlm: UserVLM) -> None:
    brain = Brain(vlm)
    service = BrainService(brain, lambda *_: None)
    forget = next(one for one in service.declare().methods if one.name == "forget")
    service.close()
    slip = Slip()
    forget.handle(slip, "grace")
    assert str(slip.said[0]).startswith("draining: ")
    brain.close()


def test_what_a_library_raises_costs_a_try_and_not_the_door(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tries = []

    def connect(lost: Callable[[], None], closing: Event) -> Session:
        tries.append(closing)
        raise RuntimeError("deep inside")

    said: list[tuple[str, str]] = []
    keeper = Keeper(
        [Service("UserVLM")], connect, lambda *state: said.append(state), first_pause_s=0.01
    )
    with caplog.at_level(logging.ERROR):
        keeper.start()
        wait_for(lambda: len(tries) > 2)
        keeper.close()
    assert {state for state, _ in said} == {"connecting", "off"}
    assert "deep inside" in caplog.text
    assert not any("deep inside" in detail for _, detail in said)
