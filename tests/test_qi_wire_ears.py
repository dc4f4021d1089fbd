"""The ears' own tests once more, with the protocol in plain Python on our side."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("qi")

import test_qi_ears
from test_qi_ears import *  # noqa: F403

from uservlm.pepper_app.qi_door import IMPLEMENTATION_VARIABLE
from uservlm.pepper_app.qi_wire_session import open_wire_session


@pytest.fixture(scope="module", autouse=True)
def wire() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(IMPLEMENTATION_VARIABLE, "wire")
        patch.setattr(test_qi_ears, "open_session", open_wire_session)
        yield
