"""Prove that a target's runtime does what it must: `python toolchain/prove.py TARGET ...`.

Owns: the command, the order of the parts, and that what was found is written to
`toolchain/proofs/TARGET.json`, if others can build that archive again. The runtimes are made by
`toolchain/build.py`; nothing is installed here, and none of it takes a robot (docs/decisions/0019
says what that leaves open).

    python toolchain/prove.py                     everything, of every target
    python toolchain/prove.py x86_64 --questions 1 --quick     one answer on the weakest processor
    python toolchain/prove.py pepper-i686 --count DIR          a larger bundle's instructions
    python toolchain/prove.py --readme            the pages' tables from the records, nothing else

Ends with 0 if all of it is shown, with 1 if something is not, with 2 if it cannot be tried.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from uservlm.bench.machine import this_machine
from uservlm.runtime.bundle import open_bundle, sha256
from uservlm.runtime.errors import UserVLMError
from uservlm.runtime.manifest import MANIFEST_FILE
from uservlm.runtime.vision_figures import VisionKind
from uservlm.toolchain import proof_table
from uservlm.toolchain.debian import UnavailableError
from uservlm.toolchain.emulators import Emulators, emulators
from uservlm.toolchain.instructions import ATOM
from uservlm.toolchain.proof import (
    RECORDS,
    Part,
    Proof,
    is_committed,
    load,
    path_of,
    save,
)
from uservlm.toolchain.proof_answers import (
    Way,
    answers,
    carried,
    cases,
    host_answers,
    request_of,
    whole,
)
from uservlm.toolchain.proof_controls import (
    instruction_controls,
    old_kernel_controls,
    wrong_build,
)
from uservlm.toolchain.proof_conversation import conversation
from uservlm.toolchain.proof_counts import (
    count_bundle,
    counting,
    estimate,
    memory_within_3_gb,
)
from uservlm.toolchain.proof_errors import ProofError
from uservlm.toolchain.proof_world import NATIVE, Subject, Weights, World, furnish
from uservlm.toolchain.targets import TARGETS, Target

ROOT: Final = Path(__file__).resolve().parents[1]
ARCHIVES: Final = ROOT / "dist"
WORK: Final = ROOT / "build/proofs"
BUNDLES: Final = ROOT / "bundles"
FLOAT: Final = ROOT / "build/pocket-float"
PEOPLE: Final = ("grace", "sam")
FEWER: Final = 4
"""Questions with weights in float."""
QUESTIONS: Final = 14
"""Each once of everybody; an emulated answer takes seconds."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prove, and give the status."""
    options = _options(arguments)
    try:
        if options.readme:
            changed = [proof_table.update(page) for page in proof_table.PAGES]
            print("written" if any(changed) else "nothing to change")
            return 0
        held = [_prove(TARGETS[name], options) for name in options.targets]
    except (ProofError, UnavailableError, UserVLMError, OSError) as error:
        print(f"prove: {error}", file=sys.stderr)
        return 2
    return 0 if all(held) else 1


def _prove(target: Target, options: argparse.Namespace) -> bool:
    """Prove one target, or count a bundle on it; gives whether all of it is shown."""
    archive = options.runtime or ARCHIVES / f"uservlm-runtime-{target.name}.tar.xz"
    pictures = {name: options.pictures / f"{name}.png" for name in PEOPLE}
    bundles: dict[Weights, Path] = {"shipped": options.bundle}
    if not options.quick and options.count is None:
        bundles["float"] = options.float_bundle
    subject = Subject(target, archive, bundles, pictures)
    subject.check()
    tools = emulators()
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK, prefix=f"{target.name}-") as folder:
        world = furnish(subject, tools, Path(folder, "root"))
        why = unrecorded(world.commit, options.records)
        if why and not options.quick:
            print(f"{target.name}: nothing will be recorded: {why}", file=sys.stderr)
        if options.count is not None:
            return _count(world, tools, options)
        parts = []
        for part in _parts(world, subject, tools, options):
            parts.append(part)
            print(f"{target.name}: {_line(part)}", flush=True)
        proof = _record(world, subject, tools, parts, options.records)
        print(f"{target.name}: {'shown' if proof.held else 'NOT SHOWN'}", flush=True)
        if not options.quick:
            _keep(proof, world.commit, options.records)
        return proof.held


def unrecorded(commit: str, records: Path) -> str | None:
    """Say why what is found of an archive is not recorded there; None if it is.

    What lies in `RECORDS` is published, so others must be able to build that archive again.

    Args:
        commit: of the archive.
        records: the folder.
    """
    if is_committed(commit) or records.resolve() != RECORDS.resolve():
        return None
    return (
        f"the archive was built from {commit}, which nobody else has; commit, build and prove "
        "again, or give another folder to --records"
    )


def _keep(proof: Proof, commit: str, records: Path) -> None:
    """Write a record, if what it is of can be published there."""
    if why := unrecorded(commit, records):
        print(f"{proof.target}: not recorded: {why}", file=sys.stderr)
    else:
        save(proof, records)


def _parts(
    world: World, subject: Subject, tools: Emulators, options: argparse.Namespace
) -> Iterator[Part]:
    """Run the parts, the cheapest first."""
    target = world.target
    weakest, native = target.emulated[0], target.machine in ("x86_64", "i686")
    processors = (weakest,) if options.quick else target.emulated
    asked, fewer = cases(PEOPLE, options.questions), cases(PEOPLE, min(options.questions, FEWER))
    kinds: tuple[VisionKind, ...] = ("ggml",) if target.machine == "i686" else ("onnx", "ggml")
    shipped = Way("shipped", kinds[0])
    ways = {shipped: asked}
    if "float" in subject.bundles:
        ways |= {Way("float", kind): fewer for kind in kinds}
    host = {way: host_answers(subject, questions, way) for way, questions in ways.items()}
    yield whole(world)
    for processor in processors:
        yield instruction_controls(tools, target, processor)
    if target.machine == "i686":
        yield old_kernel_controls()
    yield wrong_build(world, request_of(asked[:1], PEOPLE, shipped))
    for processor in (*processors, *((NATIVE,) if native else ())):
        for way, questions in ways.items():
            yield answers(world, processor, questions, host[way], way)
    if not options.quick:
        yield carried(world, weakest, subject, "onnx", shipped)
        yield conversation(world, weakest, subject, shipped)
        yield counting(world, weakest, tools, subject.bundles["shipped"])


def _count(world: World, tools: Emulators, options: argparse.Namespace) -> bool:
    """Count a bundle and add it to the record, instead of what was counted of it before."""
    target, bundle = world.target, options.count
    limits = {"vision": not options.without_vision, "seconds": options.seconds}
    with tempfile.TemporaryDirectory(prefix="proof-") as name:
        folder = Path(name)
        memory = {}
        if target.machine == "i686":
            memory = memory_within_3_gb(world, bundle, folder, **limits)
        found = count_bundle(world, target.emulated[-1], tools, bundle, folder, **limits)
    new = estimate(bundle, found, ATOM, memory, world.commit)
    proof = load(target.name, options.records)
    same = ("bundle", "image_size", "language")
    others = [one for one in proof.estimates if any(one[key] != new[key] for key in same)]
    print(f"{target.name}: {new}", flush=True)
    _keep(replace(proof, estimates=(*others, new)), world.commit, options.records)
    return True


def _record(
    world: World, subject: Subject, tools: Emulators, parts: Sequence[Part], records: Path
) -> Proof:
    """Put a record together; what was estimated before stays, for it is counted apart."""
    name, archive, shipped = subject.target.name, subject.archive, subject.bundles["shipped"]
    before = load(name, records).estimates if path_of(name, records).is_file() else ()
    return Proof(
        target=name,
        when=datetime.now(timezone.utc).isoformat(timespec="minutes"),
        commit=world.commit,
        processor=this_machine(1).processor,
        runtime={
            "file": archive.name,
            "sha256": sha256(archive),
            "bytes": archive.stat().st_size,
        },
        bundle={
            "name": open_bundle(shipped, verify=False).manifest.name,
            "manifest_sha256": sha256(shipped / MANIFEST_FILE),
        },
        qemu=tools.versions(subject.target.machine),
        parts=tuple(parts),
        estimates=before,
    )


def _line(part: Part) -> str:
    """Say in a line what came of a part."""
    told = "; ".join(part.problems) if part.problems else part.must
    mark = "shown" if part.held else "NOT SHOWN"
    return f"{mark:9} {part.kind:12} {part.where:28} {part.seconds:6.1f} s  {told}"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="prove.py", description="Prove what a runtime does.")
    add = parser.add_argument
    add("targets", nargs="*", default=list(TARGETS), metavar="TARGET", help=", ".join(TARGETS))
    add("--runtime", type=Path, metavar="FILE", help="default: dist/uservlm-runtime-TARGET.tar.xz")
    add("--bundle", type=Path, default=BUNDLES / "pocket", metavar="DIR")
    add("--float-bundle", type=Path, default=FLOAT, metavar="DIR", help="the same in f16 and fp32")
    add("--pictures", type=Path, default=BUNDLES, metavar="DIR", help="of grace.png and sam.png")
    add("--records", type=Path, default=RECORDS, metavar="DIR", help="default: %(default)s")
    add("--questions", type=int, default=QUESTIONS, metavar="N", help="default: %(default)s")
    add(
        "--quick",
        action="store_true",
        help="the weakest processor, weights as shipped, no robot; nothing is recorded",
    )
    add("--count", type=Path, metavar="DIR", help="count this bundle's instructions, no more")
    add("--without-vision", action="store_true", help="with --count: language only")
    add("--seconds", type=float, default=3600.0, metavar="S", help="with --count, at most")
    add("--readme", action="store_true", help="write the tables of README and docs/boards.md")
    options = parser.parse_args(arguments)
    for name in options.targets:
        if name not in TARGETS:
            parser.error(f"no target {name!r}: there are {', '.join(TARGETS)}")
    if options.questions < 1:
        parser.error(f"--questions {options.questions}: at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
