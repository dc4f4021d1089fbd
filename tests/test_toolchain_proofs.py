"""Proofs under emulation: the machinery that proves, and that it can say no.

What is proven of a built runtime is in `toolchain/proofs/`, by `make proofs`; here one answer is
asked of each runtime that lies in `dist/`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uservlm.runtime import packing
from uservlm.toolchain import (
    empty_root,
    emulators,
    instructions,
    integrity,
    old_kernel,
    proof_answers,
    proof_controls,
    proof_counts,
    proof_inside,
    prove,
    provenance,
)
from uservlm.toolchain.debian import UnavailableError
from uservlm.toolchain.one_instruction import I386, MACHINES, X86_64, write_program
from uservlm.toolchain.one_instruction import instructions as instructions_of
from uservlm.toolchain.proof import try_part
from uservlm.toolchain.proof_answers import Way, cases
from uservlm.toolchain.proof_compare import compare, outside, unpacked
from uservlm.toolchain.proof_controls import instruction_controls, old_kernel_controls
from uservlm.toolchain.proof_errors import CountError, EmptyRootError, SubjectError
from uservlm.toolchain.proof_world import NATIVE, Subject, World
from uservlm.toolchain.targets import TARGETS


def runs(program: Path) -> int:
    return subprocess.run([program], env={}, check=False).returncode


@pytest.fixture
def thirty_two(tmp_path: Path) -> Path:
    """Where programs of 32 bits run."""
    try:
        assert runs(write_program(tmp_path / "nothing", I386, b"")) == 0
    except OSError as error:
        pytest.skip(f"this kernel runs no program of 32 bits: {error}")
    return tmp_path


@pytest.fixture(scope="module")
def qemu() -> emulators.Emulators:
    """Fetched first where they are not there, which takes some seconds and Debian's apt."""
    try:
        return emulators.emulators()
    except UnavailableError as error:
        pytest.skip(f"NOTHING WAS EMULATED, FOR QEMU CANNOT BE HAD: {error}")


def test_a_program_of_one_instruction_ends_with_nothing_or_dies_of_it(tmp_path: Path) -> None:
    machine = MACHINES["x86_64"]
    assert runs(write_program(tmp_path / "nothing", machine, b"")) == 0
    assert runs(write_program(tmp_path / "ud2", machine, b"\x0f\x0b")) == -signal.SIGILL


def test_each_emulated_processor_has_instructions_to_refuse() -> None:
    for target in TARGETS.values():
        for processor in target.emulated:
            wanted = instructions_of(target, processor)
            assert wanted.taken and len(wanted.refused) >= 3, (target.name, processor)


@pytest.mark.parametrize(
    ("target", "processor"),
    [(target, processor) for target in TARGETS.values() for processor in target.emulated],
    ids=lambda one: getattr(one, "name", one),
)
def test_the_emulator_refuses_what_the_processor_lacks(
    target: Any, processor: str, qemu: emulators.Emulators
) -> None:
    part = instruction_controls(qemu, target, processor)
    assert part.held, part.problems


def test_a_processor_that_takes_everything_is_found_out(
    qemu: emulators.Emulators, tmp_path: Path
) -> None:
    """The control of the control: what `-cpu max` does would not be a proof."""

    class Anything(emulators.Emulators):
        def static(self, machine: str) -> Path:
            script = self.place / "anything"
            script.write_text(f'#!/bin/sh\nshift 2\nexec {qemu.static(machine)} -cpu max "$@"\n')
            script.chmod(0o755)
            return script

    part = instruction_controls(Anything(tmp_path), TARGETS["x86_64"], "Nehalem")
    assert not part.held and "AVX2 ends with 0, not -4" in part.problems


def test_calls_and_addresses_are_an_old_kernels(thirty_two: Path) -> None:
    part = old_kernel_controls()
    assert part.held, part.problems
    calls = write_program(thirty_two / "calls", I386, old_kernel.CALLS_ARE_OLD)
    assert runs(calls) == 1, "without the filter the call is there"


def test_an_old_kernel_without_a_program_says_so() -> None:
    done = subprocess.run(
        [*old_kernel.PROGRAM, "/nowhere/to/be/found"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and done.stderr.startswith("old_kernel: ")
    assert len(done.stderr.splitlines()) == 1


OPENS_PASSWD = bytes.fromhex(
    "b802000000 488d3d0f000000 31f6 0f05 89c7 f7df b83c000000 0f05"  # exit(-open("/etc/passwd"))
) + bytes.fromhex("2f6574632f70617373776400")
GIVES_USER = bytes.fromhex("b866000000 0f05 89c7 81f7feff0000 b83c000000 0f05")
"""exit(getuid() ^ 65534)."""


@pytest.fixture
def root(tmp_path: Path) -> empty_root.EmptyRoot:
    try:
        return empty_root.make_root(tmp_path / "root")
    except EmptyRootError as error:
        pytest.skip(f"NOBODY WAS SHUT IN: {error}")


def test_the_root_is_empty_and_its_user_has_no_rights(
    root: empty_root.EmptyRoot, tmp_path: Path
) -> None:
    for name, code, inside in (("passwd", OPENS_PASSWD, 2), ("user", GIVES_USER, 0)):
        program = write_program(tmp_path / name, X86_64, code)
        root.put(program, f"/{name}")
        assert runs(program) != inside, "here it is otherwise"
        done = empty_root.run(root.command(f"/{name}"), root.environment, seconds=20)
        assert (done.returncode, done.stderr) == (inside, ""), name


def test_the_status_of_who_is_shut_in_is_the_callers(
    root: empty_root.EmptyRoot, tmp_path: Path
) -> None:
    root.put(write_program(tmp_path / "ud2", X86_64, b"\x0f\x0b"), "/ud2")
    assert empty_root.run(root.command("/ud2"), {}, seconds=20).returncode == -signal.SIGILL
    done = empty_root.run(root.command("/nothing"), {}, seconds=20)
    assert done.returncode == 2 and "No such file" in done.stderr


def test_what_must_not_be_shown_twice_is_shown_as_it_was_written(
    root: empty_root.EmptyRoot, tmp_path: Path
) -> None:
    """A root's own /proc/cpuinfo hides the host's: its flags decide how vision computes."""
    # exit(the first byte of /proc/cpuinfo)
    code = (
        bytes.fromhex(
            "b802000000 488d3d25000000 31f6 0f05 89c7 31c0 4883ec08 4889e6 ba01000000 0f05"
            "0fb63c24 b83c000000 0f05 90909090"
        )
        + b"/proc/cpuinfo\0"
    )
    program = write_program(tmp_path / "first", X86_64, code)
    root.put(program, "/first")
    assert runs(program) == ord("p")
    (root.folder / empty_root.CPUINFO).write_text("quite another")
    assert empty_root.run(root.command("/first"), {}, seconds=20).returncode == ord("q")


def test_instructions_are_counted_one_by_one(qemu: emulators.Emulators, tmp_path: Path) -> None:
    """A loop of a million turns: one before it, two in it, three to end."""
    loop = write_program(tmp_path / "loop", X86_64, bytes.fromhex("b940420f00 ffc9 75fc"))
    found = instructions.count(
        qemu.counting("x86_64"), "Nehalem", [str(loop)], tmp_path, environment={}, seconds=60
    )
    assert found == {0: 2_000_004}


def test_pictures_are_counted_where_the_counting_qemu_tells_of_the_right_processor(
    qemu: emulators.Emulators, built: World, tmp_path: Path
) -> None:
    """Without a runtime there is nothing to count, and the part says for what it was asked."""
    for name, target in TARGETS.items():
        world = World(built.root, target)
        part = proof_counts.counting(world, target.emulated[0], qemu, tmp_path)
        assert not part.held and ("picture" in part.must) == (name != "aarch64")


def test_a_program_that_fails_is_not_counted(qemu: emulators.Emulators, tmp_path: Path) -> None:
    bad = write_program(tmp_path / "ud2", X86_64, b"\x0f\x0b")
    with pytest.raises(CountError, match="ends with"):
        instructions.count(
            qemu.counting("x86_64"), "Nehalem", [str(bad)], tmp_path, environment={}, seconds=60
        )


def test_counts_are_differences_between_marks() -> None:
    marks = {1: 100, 2: 1_100, 3: 2_700, 4: 2_900, 0: 5_000}
    found = instructions.counts(marks, vision=True, positions=16, tokens=4)
    assert (found.vision, found.prefill, found.decode) == (1_000, 100, 50)
    assert instructions.counts(marks, vision=False, positions=16, tokens=4).vision is None
    with pytest.raises(CountError, match="mark 4"):
        instructions.counts({1: 1, 2: 2, 3: 3}, vision=True, positions=1, tokens=1)


def test_an_estimate_shares_the_work_among_all_cores() -> None:
    least, most = instructions.ATOM.seconds(7.64e9)
    assert least == pytest.approx(1.0) and most == pytest.approx(1.25)


def test_a_few_questions_are_of_everybody_and_attend_in_both_ways() -> None:
    four, every = cases(prove.PEOPLE, 4), cases(prove.PEOPLE, 1000)
    assert {one["picture"] for one in four} == set(prove.PEOPLE)
    assert {one["attention"] for one in four} == {"exact", "resident"}
    assert len({tuple(one.items()) for one in every}) == len(every) == 28


@pytest.fixture(scope="module")
def answered(pocket_bundle: Path, tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Any:
    """What the host prints for two questions, from a process of its own."""
    folder = tmp_path_factory.mktemp("proof")
    request = {
        "bundle": str(pocket_bundle),
        "threads": 1,
        "vision": "onnx",
        "pictures": {name: str(pictures / f"{name}.png") for name in prove.PEOPLE},
        "cases": cases(prove.PEOPLE, 3),
    }

    def ask(given: Any = None) -> Any:
        (folder / "request.json").write_text(json.dumps({**request, "given": given}))
        command: list[str | Path] = [sys.executable, proof_inside.__file__]
        command.append(folder / "request.json")
        done = empty_root.run(command, {"HOME": str(folder)}, seconds=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    first = ask()
    return first, ask([answer["tokens"] for answer in first["answers"]])


def test_who_follows_the_hosts_tokens_agrees_with_it(answered: Any) -> None:
    agreement = compare(*answered)
    assert agreement.problems(bounded=True) == ()
    assert (agreement.questions, agreement.same_tokens, agreement.same_texts) == (3, 3, 3)
    assert agreement.logits < 1e-6 and agreement.vision < 1e-6 and agreement.vision_cosine > 0.999
    assert agreement.positions == sum(len(one["tokens"]) for one in answered[0]["answers"]) > 20


def test_what_differs_is_found(answered: Any) -> None:
    host, target = answered

    def shifted(path: tuple[Any, ...], by: float) -> Any:
        other = deepcopy(target)
        parent = other
        for key in path[:-1]:
            parent = parent[key]
        values = unpacked(parent[path[-1]])
        values.reshape(-1)[7] += by
        parent[path[-1]] = proof_inside._packed(values)
        return compare(host, other)

    assert not shifted(("answers", 1, "logits"), 0.029).problems(bounded=True)
    assert "a logit differs by" in str(
        shifted(("answers", 1, "logits"), 0.031).problems(bounded=True)
    )
    assert "cosine" in str(shifted(("features", "sam"), 1000.0).problems(bounded=True))
    other = deepcopy(target)
    other["answers"][2]["tokens"][-1] += 1
    assert "2 of 3 answers" in str(compare(host, other).problems(bounded=True))
    other = deepcopy(target)
    other["answers"][0]["text"] += "!"
    assert compare(host, other).problems(bounded=True)
    other["answers"].pop()
    with pytest.raises(ValueError, match="argument"):
        compare(host, other)


@pytest.mark.parametrize("bounded", [True, False])
def test_what_is_no_number_is_in_no_bound(answered: Any, bounded: bool) -> None:
    """Whichever answer, position or picture it is in: NaN compares as false with everything."""
    host, target = answered
    for path in (("answers", 0, "logits"), ("answers", 2, "logits"), ("features", "sam")):
        other = deepcopy(target)
        parent = other[path[0]]
        for key in path[1:-1]:
            parent = parent[key]
        values = unpacked(parent[path[-1]])
        values.reshape(-1)[-1] = np.nan
        parent[path[-1]] = proof_inside._packed(values)
        found = str(compare(host, other).problems(bounded=bounded))
        assert "is no finite number" in found, path
        assert ("cosine of nan" in found) == (path[0] == "features")
        assert ("differs by nan" in found) == (bounded and path[0] == "answers")


def test_a_process_tells_what_was_loaded_into_it(answered: Any) -> None:
    saw = answered[0]["saw"]
    assert any("libllama" in path for path in saw["libraries"])
    assert any(path.endswith("language.gguf") for path in saw["mapped"])
    assert saw["bits"] == 64 and saw["address_space_kb"] > saw["peak_kb"] > 50_000
    strangers = outside(saw, ("/lib", "/usr"))
    assert any("libllama" in path for path in strangers)
    inside = {"libraries": ["/runtime/lib/a.so"], "mapped": ["/bundle/b"]}
    assert outside(inside, ("/runtime", "/bundle")) == []


@pytest.fixture
def built(tmp_path: Path) -> World:
    """A root with a runtime that has nothing but a manifest, and with another commit than ours."""
    runtime = tmp_path / "root/runtime"
    runtime.mkdir(parents=True)
    told = provenance.describe(runtime, {}, [], {"commit": "ab" * 20})
    (runtime / integrity.MANIFEST_FILE).write_bytes(told)
    return World(empty_root.EmptyRoot(tmp_path / "root"), TARGETS["x86_64"])


def test_a_record_is_of_the_commit_that_the_archive_was_built_from(
    built: World, tmp_path: Path, pocket_bundle: Path, qemu: emulators.Emulators
) -> None:
    archive = tmp_path / "a.tar.xz"
    archive.write_bytes(b"packed")
    subject = Subject(built.target, archive, {"shipped": pocket_bundle}, {})
    proof = prove._record(built, subject, qemu, [], tmp_path)
    assert proof.commit == "ab" * 20 and proof.runtime["bytes"] == 6
    (built.runtime / integrity.MANIFEST_FILE).write_text("{}")
    with pytest.raises(SubjectError, match="none of a runtime of ours"):
        assert built.commit


def test_another_failure_than_the_wanted_one_shows_nothing() -> None:
    def done(status: int, said: str) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], status, "", said)

    refuses = f"EngineError: /runtime/lib {proof_controls.NO_CODE}: install it anew"
    boards = proof_controls._Spoiling(
        "cortex-a72", "", lambda: nullcontext(), proof_controls.NO_CODE
    )
    pcs = proof_controls._Spoiling("Nehalem", "", lambda: nullcontext(), None)
    assert not boards.problems(done(1, refuses)) and not pcs.problems(done(-signal.SIGILL, ""))
    for spoiling, status, said in (
        (boards, 1, "ImportError: libgomp.so.1: cannot open shared object file"),
        (boards, 0, refuses),
        (boards, -signal.SIGILL, refuses),
        (pcs, 1, "ImportError: libgomp.so.1"),
        (pcs, -signal.SIGSEGV, ""),
        (pcs, 0, ""),
    ):
        (problem,) = spoiling.problems(done(status, said))
        assert f"ends with {status}" in problem and "shows nothing" in problem
    assert proof_controls.NO_CODE in Path(packing.__file__).read_text(encoding="utf-8")


def test_a_face_is_kept_only_of_who_is_drawn(
    built: World, tmp_path: Path, pocket_bundle: Path, pictures: Path
) -> None:
    """Nobody agreed to it: for other pictures the part says so, and no store of people is made."""
    for name in prove.PEOPLE:
        assert proof_answers.is_drawn(pictures / f"{name}.png", name)
    assert not proof_answers.is_drawn(pictures / "sam.png", "grace")
    assert not proof_answers.is_drawn(pictures / "sam.png", "somebody")
    with Image.open(pictures / "grace.png") as drawn:
        drawn.putpixel((5, 5), (1, 2, 3))
        drawn.save(tmp_path / "grace.png")
    subject = Subject(
        built.target, tmp_path, {"shipped": pocket_bundle}, {"grace": tmp_path / "grace.png"}
    )
    part = proof_answers.carried(built, NATIVE, subject, "onnx", Way("shipped", "onnx"))
    assert part.problems == (
        "the picture of grace is not the demo's: of nobody else is a face kept",
    )


def test_a_program_that_prints_no_answers_has_not_held(built: World) -> None:
    part = try_part("answers", "native", "it answers", lambda: json.loads("Killed\n"))
    assert not part.held and "what it printed cannot be used" in part.problems[0]


def test_a_host_that_prints_no_answers_is_named(
    pocket_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "proof_inside.py").write_text("print('Killed')\n")
    monkeypatch.setattr(proof_answers, "HERE", tmp_path)
    subject = Subject(TARGETS["x86_64"], tmp_path, {"shipped": pocket_bundle}, {})
    with pytest.raises(SubjectError, match="printed no answers"):
        proof_answers.host_answers(subject, [], Way("shipped", "onnx"))
    (tmp_path / "proof_inside.py").write_text("import time; time.sleep(60)\n")
    monkeypatch.setattr(proof_answers, "PART_S", 0.2)
    with pytest.raises(SubjectError, match=r"within 0\.2 s"):
        proof_answers.host_answers(subject, [], Way("shipped", "onnx"))


def test_a_part_that_hangs_has_not_held() -> None:
    def work() -> Any:
        subprocess.run(["sleep", "60"], timeout=0.05, check=False)

    part = try_part("answers", "native", "it ends", work)
    assert not part.held and "it took longer than" in part.problems[0]


def test_what_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prove.main(["x86_64", "--runtime", str(tmp_path / "none.tar.xz")]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1 and "python toolchain/build.py x86_64" in told
    with pytest.raises(SystemExit):
        prove.main(["sparc"])


@pytest.mark.parametrize("name", list(TARGETS))
def test_a_built_runtime_answers_on_the_weakest_processor(
    name: str,
    qemu: emulators.Emulators,
    pocket_bundle: Path,
    pictures: Path,
) -> None:
    archive = prove.ARCHIVES / f"uservlm-runtime-{name}.tar.xz"
    if not archive.is_file():
        pytest.skip(f"NOTHING WAS PROVEN OF {name}: {archive.name} is not there; `make proofs`")
    given = ["--bundle", str(pocket_bundle), "--pictures", str(pictures)]
    assert prove.main([name, "--quick", "--questions", "1", *given]) == 0


def test_features_of_another_shape_are_not_compared() -> None:
    one = {"answers": [], "features": {"x": proof_inside._packed(np.ones((2, 3), np.float32))}}
    other = {"answers": [], "features": {"x": proof_inside._packed(np.ones((3, 2), np.float32))}}
    with pytest.raises(ValueError, match="not comparable"):
        compare(one, other)
