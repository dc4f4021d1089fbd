"""Questions to a target, and what must hold of its answers: the host's tokens, logits and vision.

Owns: the questions, the host's own answers to them, and what a process may have seen of its
surroundings. Knows nothing of how a world is made.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from uservlm.models import demo
from uservlm.models.drawing import render
from uservlm.runtime.vision_figures import VisionKind
from uservlm.toolchain import integrity
from uservlm.toolchain.empty_root import HOME, NOBODY, run
from uservlm.toolchain.proof import PART_S, Found, Part, try_part
from uservlm.toolchain.proof_compare import Report, compare, outside
from uservlm.toolchain.proof_errors import SubjectError
from uservlm.toolchain.proof_world import (
    BUNDLES,
    HERE,
    INSIDE,
    NATIVE,
    PICTURES,
    Subject,
    Weights,
    World,
    last_words,
)

QUESTIONS: Final = (demo.QUESTIONS[0], *demo.MORE)
ATTENTIONS: Final = ("exact", "resident")
PEOPLE_FOLDER: Final = f"{HOME}/people"
Case = dict[str, str]


def cases(who: Sequence[str], count: int) -> list[Case]:
    """Give questions to ask, `count` at most: each of everybody, then all again.

    Both ways to attend take turns, so that few questions have both, and twice as many each in both.
    """
    every = [
        {"picture": name, "question": question, "attention": ATTENTIONS[(turn + number) % 2]}
        for again in range(2)
        for turn, question in enumerate(QUESTIONS, start=again)
        for number, name in enumerate(who)
    ]
    return every[:count]


@dataclass(frozen=True)
class Way:
    """By what a model computes."""

    weights: Weights
    vision: VisionKind


def host_answers(subject: Subject, asked: Sequence[Case], way: Way, **more: object) -> Report:
    """Have the host answer, by the build that was compiled for its own processor.

    Args:
        subject: whose bundles, and whose pictures are looked at.
        asked: in this order.
        way: see there.
        more: into the request, see `proof_inside.py`.

    Raises:
        SubjectError: it cannot.
    """
    request = {
        "bundle": str(subject.bundles[way.weights].resolve()),
        "threads": 1,
        "vision": way.vision,
        "pictures": {name: str(path.resolve()) for name, path in subject.pictures.items()},
        "cases": list(asked),
        **more,
    }
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        file = Path(folder, "request.json")
        file.write_text(json.dumps(request), encoding="utf-8")
        command: list[str | Path] = [sys.executable, HERE / "proof_inside.py", file]
        try:
            done = run(command, {"HOME": folder}, seconds=PART_S)
        except subprocess.TimeoutExpired as error:
            raise SubjectError(f"the host did not answer within {PART_S:g} s") from error
    if done.returncode != 0:
        raise SubjectError(f"the host cannot answer: {last_words(done)}")
    try:
        report: Report = json.loads(done.stdout)
    except ValueError as error:
        raise SubjectError(f"the host printed no answers: {error}") from error
    return report


def request_of(asked: Sequence[Case], who: Sequence[str], way: Way) -> dict[str, Any]:
    """Give the request for `proof_inside.py` in a world."""
    pictures = {name: f"{PICTURES}/{name}.png" for name in who}
    return {
        "bundle": BUNDLES[way.weights],
        "threads": 1,
        "vision": way.vision,
        "pictures": pictures,
        "cases": list(asked),
    }


def whole(world: World) -> Part:
    """Compare the unpacked runtime with its own manifest."""

    def work() -> Found:
        files = integrity.read(world.runtime)["files"].values()
        size = sum(file.get("size", 0) for file in files)
        return integrity.check(world.runtime), {"files": len(files), "bytes": size}

    return try_part("archive", "here", "every file is as the runtime's manifest says", work)


def answers(world: World, processor: str, asked: Sequence[Case], host: Report, way: Way) -> Part:
    """Ask the questions, and compare with what the host answered."""
    request = request_of(asked, list(host["features"]), way)
    must = {
        "shipped": "alone in an empty root it answers with the host's tokens, and has loaded "
        "nothing from outside",
        "float": "so it does with weights in float, and its logits are the host's",
    }
    return try_part(
        "answers",
        place(processor),
        must[way.weights],
        lambda: _ask(world, processor, request, host),
    )


def carried(world: World, processor: str, subject: Subject, seen_by: VisionKind, way: Way) -> Part:
    """Ask about somebody whom a companion has looked at: what it kept is copied, and no picture.

    Args:
        world: of the target.
        processor: see `World.command`.
        subject: whose pictures the companion, which is the host, looks at.
        seen_by: what the companion sees with.
        way: the target's, if it had to see.
    """
    name, companion = next(iter(subject.pictures)), replace(way, vision=seen_by)
    asked = [{"user": name, "question": QUESTIONS[0], "attention": one} for one in ATTENTIONS]

    def work() -> Found:
        if not is_drawn(subject.pictures[name], name):
            return [f"the picture of {name} is not the demo's: of nobody else is a face kept"], {}
        with tempfile.TemporaryDirectory(prefix="proof-") as folder:
            people = Path(folder, "people")
            host_answers(subject, [], companion, users=str(people), keep=[name])
            world.give(people, PEOPLE_FOLDER)
            blind = replace(subject, pictures={})
            host = host_answers(blind, asked, companion, users=str(people))
        request = {**request_of(asked, [], way), "users": PEOPLE_FOLDER}
        problems, figures = _ask(world, processor, request, host)
        if figures.get("vision_runs"):
            problems.append(f"it looked at {figures['vision_runs']} pictures")
        return problems, figures

    must = (
        "whom a companion has looked at is known by the copied store, and answered about without "
        "a picture, with the companion's tokens"
    )
    return try_part("carried", place(processor), must, work)


def is_drawn(picture: Path, name: str) -> bool:
    """Whether a picture is, pixel by pixel, the demo's drawing of a person.

    Only such a face may be kept: it is nobody's, so nobody had to agree.
    """
    drawn = {name.lower(): scene for name, scene in demo.USERS.items()}
    if name not in drawn:
        return False
    with Image.open(picture) as opened:
        return np.array_equal(np.asarray(opened.convert("RGB")), render(drawn[name]))


def place(processor: str) -> str:
    """Say on what a part runs."""
    return NATIVE if processor == NATIVE else f"qemu {processor}"


def _ask(world: World, processor: str, request: dict[str, Any], host: Report) -> Found:
    """Put a request, following the host's tokens; gives what is wrong with the answers."""
    given = [answer["tokens"] for answer in host["answers"]]
    in_float = request["bundle"] == BUNDLES["float"]
    weights = "float" if in_float else "shipped"
    done = world.ask(processor, {**request, "given": given}, seconds=PART_S)
    if done.returncode != 0:
        return [f"it ends with {done.returncode}: {last_words(done)}"], {"weights": weights}
    report = json.loads(done.stdout)
    agreement, saw = compare(host, report), report["saw"]
    wrong = [*agreement.problems(bounded=in_float), *_surroundings(world, processor, saw)]
    did = {name: report[name] for name in ("vision", "vision_runs")}
    memory = _memory(saw) if processor == NATIVE else {}  # an emulator's is not the program's
    return wrong, {**asdict(agreement), "weights": weights, **did, **_figures(saw), **memory}


def _surroundings(world: World, processor: str, saw: Mapping[str, Any]) -> Iterator[str]:
    """Say what is wrong with the surroundings that a process saw."""
    bits = 32 if world.target.machine == "i686" else 64
    put = {path.name for path in world.root.folder.iterdir()}
    if saw["uid"] != NOBODY:
        yield f"it ran as user {saw['uid']}, not {NOBODY}"
    if saw["bits"] != bits:
        yield f"it ran in {saw['bits']} bits, not {bits}"
    if saw["machine"] != world.target.machine:
        yield f"uname says {saw['machine']}, not {world.target.machine}"
    if set(saw["root"]) != put:
        yield f"its root was not the one made for it: {sorted(set(saw['root']) ^ put)}"
    if strangers := outside(saw, INSIDE):
        yield f"it has loaded {', '.join(strangers)}"
    if not saw["mapped"]:
        yield "it could not see what is mapped into it"


def _figures(saw: Mapping[str, Any]) -> dict[str, Any]:
    """Say which of ggml's builds computed."""
    names = [Path(path).name for path in saw["libraries"]]
    variants = [found[1] for name in names if (found := re.match(r"libggml-cpu-?(.*)\.so", name))]
    return {
        "variant": next(iter(variants), "") or "fixed",
        "python": saw["python"],
        "libraries": len(names),
    }


def _memory(saw: Mapping[str, Any]) -> dict[str, Any]:
    """Say what memory a process took at most, in MB of 10⁶ bytes."""
    return {
        "peak_mb": round(saw["peak_kb"] * 1024 / 1e6),
        "address_space_mb": round(saw["address_space_kb"] * 1024 / 1e6),
    }
