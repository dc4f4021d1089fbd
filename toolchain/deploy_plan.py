"""From what is ordered and what a board is to the steps that are taken there.

Owns: which parts are missing, whether they fit, and the question by which a release is tried. Knows
nothing of SSH: a plan can be made, and shown, without anybody there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn

from uservlm.runtime import UserVLM, serve_command
from uservlm.runtime.bundle import open_bundle
from uservlm.runtime.errors import RequestError
from uservlm.runtime.vision_figures import VISION_FILES
from uservlm.toolchain import deploy_service, deploy_steps
from uservlm.toolchain.board import Board, BoardError, RoomError, form_for, target_for
from uservlm.toolchain.deploy_parts import Part, bundle_part, file_of, runtime_part
from uservlm.toolchain.deploy_steps import Release, Step
from uservlm.toolchain.deploy_unit import UNIT, Installed, read_unit

ROOT: Final = Path(__file__).resolve().parent.parent
ARCHIVE: Final = "dist/uservlm-runtime-{target}.tar.xz"
POCKET: Final = "pocket"
PICTURE: Final = "bundles/grace.png"
"""As `make demo` leaves it, and as it is drawn for each deploy."""
QUESTION: Final = "How do I make a video call?"
SPARE_BYTES: Final = 50_000_000
"""Left over on the board's disk."""


@dataclass(frozen=True)
class Order:
    """What is to be there."""

    folder: str
    """As given: absolute, or below the home folder."""
    target: str
    """A name, or "auto"."""
    archive: Path | None
    """None: the one that toolchain/build.py makes for the target."""
    bundles: tuple[Path, ...]
    """The first is asked, and served."""
    serve: tuple[str, ...] | None
    """Options of `uservlm serve`; None: no service."""
    address: tuple[str, int] | None = None
    """See `address_of`."""


@dataclass(frozen=True)
class Plan:
    """All steps for one board, in order."""

    release: Release
    sound: Step | None
    """Says which parts that are there already are damaged: a plan without them is needed."""
    bring: tuple[Step, ...]
    """Beside what is in use."""
    ask: tuple[Step, ...]
    """The last one prints the answer."""
    finish: tuple[Step, ...]
    """From the switch on, until it is known to work."""
    back: Step
    """Where one of those fails."""
    tidy: Step
    bundle: Path
    picture: Path

    @property
    def steps(self) -> tuple[Step, ...]:
        """All of them, where none fails."""
        first = (self.sound,) if self.sound else ()
        return (*first, *self.bring, *self.ask, *self.finish, self.tidy)


def make_plan(order: Order, seen: Board, folder: str, scratch: Path) -> Plan:
    """Decide what to do.

    Args:
        order: what is to be there.
        seen: the board.
        folder: of the deploy there, absolute.
        scratch: a folder here, for as long as the plan is used.

    Raises:
        RequestError: something that is named is not there.
        BundleError: a bundle is not whole.
        RoomError: there is too little room.
        BoardError: the board cannot do it.
    """
    check_folder(folder, seen)
    service = check_service(order, seen, folder)
    target, form = target_for(seen, order.target), form_for(seen)
    archive = order.archive or ROOT / ARCHIVE.format(target=target.name)
    bundles = tuple(bundle_part(path) for path in order.bundles)
    _check_eyes(target.name, order.bundles)
    if len({part.name for part in bundles}) < len(bundles):
        raise RequestError("two bundles have one name: rename the folder of one")
    runtime = runtime_part(archive, target.name, form, scratch, seen.parts)
    release = Release(folder, runtime, bundles)
    missing = [part for part in (runtime, *bundles) if part.key not in seen.parts]
    there = [part for part in (runtime, *bundles) if part.key in seen.parts]
    _check_room(seen, missing)
    picture = _drawn(scratch)
    return Plan(
        release,
        deploy_steps.sound(folder, there) if there else None,
        (
            *(step for part in missing for step in deploy_steps.bring(folder, part)),
            deploy_steps.prepare(release),
        ),
        tuple(deploy_steps.ask(release, replace(file_of(picture), by_hand=PICTURE), QUESTION)),
        (deploy_steps.switch(release), *_serve(order, service, release)),
        deploy_service.back(release),
        deploy_steps.tidy(release),
        order.bundles[0],
        picture,
    )


def check_folder(folder: str, seen: Board) -> None:
    """Refuse a folder that the runtime's loader, systemd or a shell reads as something else.

    So is one that others' things are in by its nature: the home, and what it lies in.

    Raises:
        RequestError: with the characters that are allowed, or whose folder it is.
    """
    if not all(sign.isalnum() or sign in "/._-+ " for sign in folder) or ".." in folder.split("/"):
        raise RequestError(f"--to {folder}: use letters, digits, '/', '.', '_', '-', '+' or blanks")
    if len(Path(folder).parts) < 3:
        raise RequestError(f"--to {folder}: name a folder of its own, at least two levels deep")
    for home, place in ((seen.home, folder), (seen.home_itself, seen.folder_itself)):
        if place and Path(home or "/").is_relative_to(place):
            raise RequestError(
                f"--to {folder}: {home} is a home, and --remove takes all away that is deployed: "
                f"name a folder of its own, as {home}/uservlm"
            )


def expected(plan: Plan) -> dict[str, Any] | None:
    """Answer the plan's question here, where it asks the pocket; None for other bundles.

    A large bundle may not run on this machine, and on another processor its answer may differ in a
    word where two are equally likely.
    """
    if open_bundle(plan.bundle).manifest.source.model != POCKET:
        return None
    # It is a small model, and this machine may have other work: threads would wait for each other.
    with UserVLM.load(plan.bundle, threads=1) as vlm:
        answer = vlm.ask(QUESTION, image=plan.picture)
    return {"text": answer.text, "tokens": answer.usage.answer_tokens}


def compare(said: str, wanted: dict[str, Any] | None) -> str:
    """Judge the board's answer and give its text.

    Args:
        said: a line of JSON by `uservlm ask --json`.
        wanted: see `expected`.

    Raises:
        BoardError: there is no answer, or not the same.
    """
    found: dict[str, Any]
    try:
        record = json.loads(said.splitlines()[-1])
        usage = record["usage"]
        found = {"text": str(record["text"]), "tokens": int(usage["answer_tokens"])}
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise BoardError(f"the board gave no answer but {said[-300:]!r}") from error
    if not found["text"].strip():
        raise BoardError("the board gave an empty answer: what was in use there still is")
    if wanted is not None and found != wanted:
        raise BoardError(
            f"the board answers {found}, and this machine {wanted}: its runtime does not compute "
            "what it should. What was in use there still is"
        )
    return str(found["text"])


class _Parser(argparse.ArgumentParser):
    """Raises instead of ending the program."""

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"uservlm serve: {message}")


def address_of(options: Sequence[str]) -> tuple[str, int] | None:
    """Say where `uservlm serve` answers, as its machine sees it; None: at a port that it chooses.

    Raises:
        RequestError: it has no such options, or would keep people where --remove leaves them.
    """
    parser: argparse.ArgumentParser = _Parser(prog="uservlm")
    serve_command.add_parser(parser.add_subparsers())
    given = parser.parse_args(["serve", "BUNDLE", *options])
    if given.users is not None:
        raise RequestError(
            f"--users {given.users}: the service keeps people in data/ of its folder, which "
            "--remove takes away; where they need another disk, bring all of it there with --to"
        )
    host = "127.0.0.1" if given.host in ("0.0.0.0", "") else given.host
    return (host, given.port) if given.port else None


def check_service(order: Order, seen: Board, folder: str) -> Installed | None:
    """Say what serves there from this folder; None: nothing does.

    Raises:
        BoardError: a service is asked for and there is no systemd, or another's unit; or what is
            served there would go, or is not known because somebody has changed the unit.
    """
    found = read_unit(seen.unit) if seen.unit else None
    if order.serve is None:
        if found is None or found.folder != folder:
            return None
        if not found.bundle:
            raise BoardError(
                f"{UNIT} there starts something else than a deploy has written: say what is served "
                "with --service and its options"
            )
        if found.bundle not in [path.resolve().name for path in order.bundles]:
            raise BoardError(
                f"{UNIT} there serves {found.bundle}, which would go: name it too with --bundle, "
                "say with --service what is served from now on, or take all away with --remove"
            )
        return found
    if found is not None and found.folder != folder:
        whose = f"serves {found.folder}" if found.folder else "was not written by a deploy"
        way = f"systemctl --user disable --now {UNIT}, then delete its file"
        way = f"--to {found.folder} --remove" if found.folder else way
        raise BoardError(f"{UNIT} there {whose}: take it away first ({way}); nothing was done")
    if "systemctl" not in seen.programs or seen.systemd in ("", "offline"):
        raise BoardError(
            "--service asks for systemd's user services, and there are none: leave it out, and "
            f"have the board's own way start {folder}/current/uservlm serve"
        )
    return found


def _serve(order: Order, service: Installed | None, release: Release) -> list[Step]:
    if order.serve is not None:
        return deploy_service.serve(release, order.serve, order.address)
    return deploy_service.restart(release, address_of(service.options)) if service else []


def _check_eyes(target: str, bundles: tuple[Path, ...]) -> None:
    """Refuse a bundle that cannot look there: i686 has no onnxruntime."""
    for path in bundles if target == "pepper-i686" else ():
        if VISION_FILES["ggml"] not in open_bundle(path).manifest.files:
            raise RequestError(
                f"{path} has no {VISION_FILES['ggml']}, and {target} has no onnxruntime: export it "
                "again with --vision-gguf q8_0"
            )


def _check_room(seen: Board, missing: list[Part]) -> None:
    travels = sum(file.size for part in missing if part.top for file in part.files)
    needed = travels + sum(part.size for part in missing) + SPARE_BYTES
    if seen.free and missing and seen.free < needed:
        raise RoomError(
            f"{needed / 1e6:,.0f} MB are needed there and {seen.free / 1e6:,.0f} MB are free: "
            "name a folder on another disk with --to, or make room"
        )


def _drawn(scratch: Path) -> Path:
    """Draw the person whom the question is about."""
    from uservlm.models.demo import save_pictures

    save_pictures(scratch)
    return scratch / "grace.png"
