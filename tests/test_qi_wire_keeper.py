"""The keeper's own tests once more, with the protocol in plain Python on our side."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

pytest.importorskip("qi")

import qi_bus
import test_qi_keeper
from qi_bus import wait_for
from test_qi_keeper import *  # noqa: F403

from uservlm.pepper_app.qi_door import IMPLEMENTATION_VARIABLE, open_qi_door
from uservlm.pepper_app.qi_wire_session import open_wire_session
from uservlm.runtime.errors import RequestError
from uservlm.runtime.server.brain import Brain


@pytest.fixture(scope="module", autouse=True)
def wire() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(IMPLEMENTATION_VARIABLE, "wire")
        patch.setattr(test_qi_keeper, "open_session", open_wire_session)
        yield


def test_without_libqi_the_door_says_so_and_stays_shut(
    brain: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not any more: it opens, and says with what."""
    monkeypatch.delenv(IMPLEMENTATION_VARIABLE)
    with qi_bus.directory() as robot:
        with monkeypatch.context() as missing:
            missing.setitem(sys.modules, "qi", None)
            door = open_qi_door(brain, robot.url)
            wait_for(lambda: test_qi_keeper.state(brain) == "open")
        assert test_qi_keeper.detail(brain).endswith("(without libqi)")
        assert test_qi_keeper.answers(robot.url)
        door.close()
        door = open_qi_door(brain, robot.url)
        wait_for(lambda: test_qi_keeper.state(brain) == "open")
        assert "without" not in test_qi_keeper.detail(brain), "libqi where it is"
        door.close()


def test_another_implementation_than_the_two_is_refused_at_once(
    brain: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(IMPLEMENTATION_VARIABLE, "libqi4")
    with pytest.raises(RequestError, match="USERVLM_QI=libqi4: set it to libqi or wire"):
        open_qi_door(brain, "tcp://127.0.0.1:9")
