"""What a visitor and the robot have to say to each other, and what is right, for tests.

Owns: the whole conversation that must go well whatever the robot does, and what the brain itself
says of somebody, asked over its HTTP door with the picture that the robot's camera gives.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image
from serving import Serving, data_url
from stage import OWN, Stage

from uservlm.pepper_app.project.onboard.clean import speakable
from uservlm.pepper_app.virtual_pictures import Pictures

CALL = "How do I make a video call?"
FEEL = "How do I feel?"
STOPS_S = 0.5
"""Of the robot's time, from the touch to silence, as the app promises."""
IDS = re.compile(r"visitor-[0-9a-f]{12}")


class Truth:
    """What the brain says of each person; asked once."""

    def __init__(self, mind: Serving) -> None:
        self._mind, self._pictures = mind, Pictures()
        self._known: dict[tuple[str, ...], str] = {}

    def of(self, question: str, *people: str) -> str:
        """Give what should be said to the first of these people, who are all in view."""
        key = (question, *people)
        if key not in self._known:
            written = io.BytesIO()
            Image.fromarray(self._pictures.see(people, 640, 480)).save(written, "PNG")
            shown = self._mind.client.post(
                "/v1/users/encode", json={"image": data_url(written.getvalue())}
            ).json()
            told = self._mind.ask(question, user=shown["id"]).json()
            self._known[key] = speakable(told["choices"][0]["message"]["content"])
            self._mind.client.delete(f"/v1/users/{shown['id']}")
        return self._known[key]


def known(mind: Serving) -> list[str]:
    """Whom the brain knows, guests too."""
    return [user["id"] for user in mind.client.get("/v1/users").json()["data"]]


def agreed(mind: Serving) -> set[str]:
    """Whom the brain keeps."""
    return {user["id"] for user in mind.client.get("/v1/users").json()["data"] if user["consent"]}


def converses(robot: Stage, mind: Serving, who: str = "grace") -> None:
    """Come, be greeted, ask, be asked, say yes, ask and touch, be forgotten, and go."""
    truth = Truth(mind).of(CALL, who)
    since = robot.arrives(who)
    assert set(robot.said(since)) <= OWN, "greeted"
    since = robot.now()
    told = robot.asks(CALL)
    assert (told["outcome"], told["said"]) == ("answered", truth), robot.told()
    robot.hears("shall I remember you", since)
    robot.state("asking", since)
    robot.quiet()
    robot.do("say", text="yes")
    robot.hears("When you come back", since)
    robot.until(lambda: len(known(mind)) == 1, "not kept")
    assert IDS.fullmatch(known(mind)[0])
    robot.quiet(0.3)
    stops(robot)
    since = robot.now()
    robot.do("say", text="forget me")
    robot.hears("I have forgotten you", since)
    robot.until(lambda: robot.bus.call("ALFaceDetection", "getLearnedFacesList") == [], "a face")
    robot.quiet(0.2)
    robot.leaves(who)
    robot.until(lambda: not known(mind), "somebody is kept")


def stops(robot: Stage) -> None:
    """Ask, and touch the head while the robot answers."""
    since = robot.now()
    robot.do("ask", text=CALL)
    robot.state("speaking", since)
    robot.until(lambda: set(robot.said(since)) - OWN, "no answer")
    robot.do("touch", sensor="FrontTactilTouched")
    took = robot.touched(since)
    assert took < STOPS_S, "seconds of the robot's time"
    assert robot.report(since)["outcome"] == "stopped"
    since += took
    robot.quiet(1.0)


def leaves_nothing(robot: Stage, *texts: str) -> None:
    """Look at the files that the app and the robot have left for what nobody may keep."""
    rows = [Pictures().see((who,), 640, 480)[240].tobytes()[600:900] for who in ("grace", "sam")]
    secrets = [text.encode() for text in texts] + rows
    home = robot.folder.parent
    places = [robot.folder / "logs", home / "home", home / "data", robot.folder / "apps"]
    shipped = {CALL.encode()}  # the tablet offers it
    for file in (one for place in places for one in place.rglob("*") if one.is_file()):
        written, package = file.read_bytes(), robot.folder / "apps" in file.parents
        for secret in secrets:
            assert secret not in written or (package and secret in shipped), (file, secret[:40])
        assert package or b"\x89PNG" not in written and b"\xff\xd8\xff" not in written, file


VERSIONS = ["2.7"]
"""Of Python, for what does not depend on it; USERVLM_BOTH_PYTHONS=1 adds 3, as does a machine on
which 2.7 cannot be had."""
if os.environ.get("USERVLM_BOTH_PYTHONS") or not shutil.which("apt-get"):
    VERSIONS.append("3")


def command_of(request: pytest.FixtureRequest, version: str) -> str:
    """Give the command of a Python, 2.7 or 3, for the app."""
    return shlex.join(request.getfixturevalue("python27")) if version == "2.7" else sys.executable


def owed(folder: Path) -> str:
    """Give the file of whom the robot has still to forget."""
    files = list((folder / "home").rglob("forget.json")) + list(folder.glob("data/forget.json"))
    return files[0].read_text() if files else ""
