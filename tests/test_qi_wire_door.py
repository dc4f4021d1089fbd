"""The doors' own tests once more, with the protocol in plain Python on our side.

What calls the door is libqi still, and so is the directory: only `USERVLM_QI` is another.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("qi")

import test_qi_door
from test_qi_door import *  # noqa: F403

from uservlm.pepper_app.qi_door import IMPLEMENTATION_VARIABLE


@pytest.fixture(scope="module", autouse=True)
def wire() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(IMPLEMENTATION_VARIABLE, "wire")
        yield


def test_the_door_says_what_it_speaks_with(
    door: test_qi_door.QiDoor, brain: test_qi_door.Brain
) -> None:
    assert brain.doors["qi"]["detail"].endswith("(without libqi)")
