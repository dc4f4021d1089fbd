"""The session's own tests once more, with the protocol in plain Python on our side."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

pytest.importorskip("qi")

import test_qi_session
from qi_bus import Client, wait_for
from test_qi_session import *  # noqa: F403

from uservlm.pepper_app.qi_wire_client import open_wire_client
from uservlm.pepper_app.qi_wire_session import WireSession, open_wire_session
from uservlm.pepper_app.robot import robot_at


@pytest.fixture(scope="module", autouse=True)
def wire() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_qi_session, "open_session", open_wire_session)
        patch.setattr(test_qi_session, "open_client", open_wire_client)
        yield


@pytest.fixture
def session(url: str) -> Iterator[WireSession]:
    made = open_wire_session(robot_at(url, None), lambda: None, threading.Event())
    yield made
    made.close()


def test_a_cancel_is_heard_however_early_it_comes(
    client: Client, probe: test_qi_session.Probe
) -> None:
    for early in (True, False):
        probe.replies.clear()
        future, heard = client.begin("keep"), threading.Event()
        wait_for(lambda: probe.replies)
        reply = probe.replies[0]
        if early:
            future.cancel()
            wait_for(lambda reply=reply: reply._cancelled)
            reply.when_cancelled(heard.set)
        else:
            reply.when_cancelled(heard.set)
            future.cancel()
        assert heard.wait(5)
        reply.error("code: sentence")
        wait_for(future.isCanceled)
