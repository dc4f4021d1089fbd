"""A conversation of a target's brain with a virtual Pepper, over the robot's own bus.

Owns: the robot beside, the brain in the empty root, and what a program of the robot's asks it. The
two share nothing but the network. Knows nothing of how a world is made.

The program is ours, in plain Python; the directory and the robot's services are real libqi's.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Final

from PIL import Image

from uservlm.pepper_app.qi_wire_client import WireClient, open_wire_client
from uservlm.pepper_app.robot import robot_at
from uservlm.pepper_app.service import RobotError
from uservlm.toolchain.proof import PART_S, Found, Part, try_part
from uservlm.toolchain.proof_answers import PEOPLE_FOLDER, Way, host_answers, place
from uservlm.toolchain.proof_errors import SubjectError
from uservlm.toolchain.proof_world import BUNDLES, Subject, World

SAID: Final = (("grace", "How do I make a video call?"), ("grace", "How do I feel?"),
               ("sam", "How do I make a video call?"))  # fmt: skip
"""Who stands before the robot, and what they ask."""
AWAITS_S: Final = 240.0
"""An emulated brain needs a while to start, and for each answer."""
ENDS_S: Final = 60.0
CAMERA: Final = (0, 1, 11, 5)
"""Top camera, 320 x 240, RGB, five pictures a second, as ALVideoDevice numbers them."""
Frame = tuple[int, int, int, bytes]
"""Width, height, colour space, pixels."""


def conversation(world: World, processor: str, subject: Subject, way: Way) -> Part:
    """Let people come to a virtual Pepper and ask the target's brain."""

    def work() -> Found:
        begun = time.monotonic()
        with _robot() as url, _program(url) as robot:
            frames = {who: _look(robot, who) for who in dict.fromkeys(who for who, _ in SAID)}
            with _brain(world, processor, url, way) as brain:
                if not _comes(robot, brain):
                    return [f"the brain does not come to the robot: {_log(world)[-300:]}"], {}
                ready = time.monotonic() - begun
                try:
                    heard = [_ask(robot, who, question, frames[who]) for who, question in SAID]
                except RobotError as error:
                    return [f"the brain does not answer: {error}"], {}
        problems = _differing(heard, _expected(subject, frames, way))
        if brain.returncode != 0:
            problems.append(f"the brain ends with {brain.returncode} when it is asked to end")
        return problems, {"questions": len(SAID), "ready_s": round(ready, 1)}

    must = (
        "people who come to a virtual Pepper ask over its bus, and the brain in the empty root "
        "answers what the host answers to the same frames of its camera"
    )
    return try_part("conversation", place(processor), must, work)


def _differing(heard: Sequence[str], wanted: Sequence[str]) -> list[str]:
    return [
        f"{question!r} of {who} was answered {got!r}, not {right!r}"
        for (who, question), got, right in zip(SAID, heard, wanted, strict=True)
        if got != right
    ]


@contextmanager
def _robot() -> Iterator[str]:
    """Have a virtual Pepper in a process of its own; gives its address.

    Raises:
        SubjectError: it does not start.
    """
    command = [sys.executable, "-m", "uservlm.pepper_app.virtual", "--quiet"]
    with subprocess.Popen(
        [*command, "--listen", "tcp://127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip().rpartition(" ")[2]
            if not url.startswith("tcp://"):
                raise SubjectError(
                    "the virtual Pepper does not start: pip install 'uservlm[pepper]'"
                )
            yield url
        finally:
            process.terminate()


@contextmanager
def _program(url: str) -> Iterator[WireClient]:
    """Have one of the robot's programs."""
    client = open_wire_client(robot_at(url, None), Event())
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _brain(world: World, processor: str, url: str, way: Way) -> Iterator[subprocess.Popen[bytes]]:
    """Have the target's brain at the robot's door; it has ended behind the context."""
    people = f"{PEOPLE_FOLDER}-of-the-brain"
    serve = ("serve", BUNDLES[way.weights], "--port", "0", "--robot", url, "--users", people)
    command = world.command(processor, *serve, program="uservlm")
    with _log_file(world).open("wb") as sink:
        process = subprocess.Popen(
            command, env=world.root.environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
        )
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            process.wait(ENDS_S)
        finally:
            process.kill()
            process.wait()


def _log_file(world: World) -> Path:
    """Say where the brain's log lies: outside, so that the root holds what it should."""
    return world.root.folder.with_name(f"{world.root.folder.name}.log")


def _log(world: World) -> str:
    return " ".join(_log_file(world).read_text(encoding="utf-8", errors="replace").split())


def _comes(robot: WireClient, brain: subprocess.Popen[bytes]) -> bool:
    """Wait until the brain is in the robot's directory; False if it does not come to that."""
    end = time.monotonic() + AWAITS_S
    while brain.poll() is None and time.monotonic() < end:
        try:
            robot.call("UserVLM", "ping")
        except RobotError:
            time.sleep(0.2)
        else:
            return True
    return False


def _look(robot: WireClient, who: str) -> Frame:
    """Have somebody alone before the robot, and take a picture with its camera."""
    robot.call("VirtualPepper", "do", "arrive", {"who": who})
    handle = robot.call("ALVideoDevice", "subscribeCamera", "proof", *CAMERA)
    try:
        found = robot.call("ALVideoDevice", "getImageRemote", handle)
    finally:
        robot.call("ALVideoDevice", "unsubscribe", handle)
        robot.call("VirtualPepper", "do", "leave", {"who": who})
    return int(found[0]), int(found[1]), int(found[3]), bytes(found[6])


def _ask(robot: WireClient, who: str, question: str, frame: Frame) -> str:
    """Ask as the app on the robot does: prepare who is seen, then ask by their name."""
    user = robot.call("UserVLM", "prepareAs", who, *frame, seconds=PART_S)
    answer = robot.call("UserVLM", "ask", question, user, seconds=PART_S)
    return str(answer)


def _expected(subject: Subject, frames: dict[str, Frame], way: Way) -> Sequence[str]:
    """Have the host answer the same questions about the same frames."""
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        pictures = {}
        for who, (width, height, _, pixels) in frames.items():
            pictures[who] = Path(folder, f"{who}.png")
            Image.frombytes("RGB", (width, height), pixels).save(pictures[who])
        asked = [
            {"picture": who, "question": question, "attention": "auto"} for who, question in SAID
        ]
        report = host_answers(replace(subject, pictures=pictures), asked, way)
    return [answer["text"] for answer in report["answers"]]
