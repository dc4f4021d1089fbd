"""Proofs under emulation: the machinery that proves, and that it can say no.

What is proven of a built runtime is in `toolchain/proofs/`, by `make proofs`; here one answer is
asked of each runtime that lies in `dist/`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uservlm.toolchain import (
    empty_root,
    emulators,
    instructions,
    old_kernel,
    proof_inside,
    proof_table,
    prove,
)
from uservlm.toolchain.one_instruction import I386, MACHINES, X86_64, write_program
from uservlm.toolchain.one_instruction import instructions as instructions_of
from uservlm.toolchain.proof import Part, Proof, load, path_of, save, try_part
from uservlm.toolchain.proof_answers import cases
from uservlm.toolchain.proof_compare import compare, outside, unpacked
from uservlm.toolchain.proof_controls import instruction_controls, old_kernel_controls
from uservlm.toolchain.proof_counts import estimate
from uservlm.toolchain.proof_errors import CountError, EmptyRootError, RecordError
from uservlm.toolchain.targets import TARGETS

MISSING = "NOTHING WAS EMULATED: .cache/emulators is not there; `make proofs` fetches qemu"


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
    found = emulators.fetched()
    return found or pytest.skip(MISSING)


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


def test_an_estimate_says_that_it_is_one(pocket_bundle: Path, tmp_path: Path) -> None:
    counted = instructions.Counts(vision=7_640_000_000, prefill=1e9, decode=7.64e9)
    found = estimate(pocket_bundle, counted, instructions.ATOM, {"address_space_mb": 1840})
    assert found["estimated_seconds"] == {
        "token": [1.0, 1.2],
        "image_tokens": [8.4, 10.0],
        "vision": [1.0, 1.2],
    }
    assert "not measured" in found["how"]
    save(replace(PROOF, estimates=(found,)), tmp_path)
    text = proof_table.render("<!-- proofs:estimated -->\n<!-- /proofs -->\n", tmp_path)
    assert "7.6 G a token | 1 to 1.2 s | 8.4 to 10 s | 1 to 1.2 s | 1840 MB |" in text
    assert "nobody measured them" in text


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


def test_a_process_tells_what_was_loaded_into_it(answered: Any) -> None:
    saw = answered[0]["saw"]
    assert any("libllama" in path for path in saw["libraries"])
    assert any(path.endswith("language.gguf") for path in saw["mapped"])
    assert saw["bits"] == 64 and saw["address_space_kb"] > saw["peak_kb"] > 50_000
    strangers = outside(saw, ("/lib", "/usr"))
    assert any("libllama" in path for path in strangers)
    inside = {"libraries": ["/runtime/lib/a.so"], "mapped": ["/bundle/b"]}
    assert outside(inside, ("/runtime", "/bundle")) == []


PROOF = Proof(
    target="x86_64",
    when="2026-11-27T21:00+00:00",
    commit="0123456789",
    processor="some processor",
    runtime={"file": "a.tar.xz", "sha256": "ab" * 32, "bytes": 64_000_000},
    bundle={"name": "pocket", "manifest_sha256": "cd" * 32},
    qemu={"proving": "10.0", "counting": "7.2"},
    parts=(
        Part("controls", "qemu Nehalem", "refuses", (), {"refuses": ["AVX", "FMA"]}, 1.0),
        Part(
            "answers", "qemu Nehalem", "answers", (),
            {"weights": "shipped", "same_tokens": 28, "questions": 28, "logits": 0.0123,
             "logits_spread": 4.5, "vision_cosine": 0.99999, "vision": "onnx", "variant": "sse42",
             "libraries": 70, "address_space_mb": 900},
            9.0,
        ),
    ),
)  # fmt: skip


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert save(PROOF, tmp_path) == path_of("x86_64", tmp_path)
    assert load("x86_64", tmp_path) == PROOF
    with pytest.raises(RecordError, match=r"prove\.py aarch64"):
        load("aarch64", tmp_path)
    path_of("x86_64", tmp_path).write_text('{"format": 1}')
    with pytest.raises(RecordError, match="damaged"):
        load("x86_64", tmp_path)


def test_the_table_says_what_was_shown_and_what_was_not(tmp_path: Path) -> None:
    save(PROOF, tmp_path)
    text = "".join(
        f"<!-- proofs:{name} -->\n<!-- /proofs -->\n" for name in ("emulated", "estimated")
    )
    told = proof_table.render(text, tmp_path)
    for cell in ("28 of 28", "0.012 of a standard deviation of 4.5", "SIGILL: AVX, FMA", "sse42",
                 "64 MB", "nothing, of 70 libraries", "not tried",
                 "commit 0123456789"):  # fmt: skip
        assert cell in told, cell
    assert proof_table.render(told, tmp_path) == told
    failed = replace(PROOF.parts[1], problems=("27 of 28 answers have the same tokens",))
    save(replace(PROOF, parts=(PROOF.parts[0], failed)), tmp_path)
    assert "NOT SHOWN: 27 of 28 answers" in proof_table.render(text, tmp_path)
    with pytest.raises(RecordError, match="emulated, estimated"):
        proof_table.render("<!-- proofs:other -->\n<!-- /proofs -->\n", tmp_path)


def test_readme_agrees_with_the_committed_records() -> None:
    """`python toolchain/prove.py --readme` mends it."""
    text = proof_table.README.read_text(encoding="utf-8")
    assert proof_table.render(text) == text


def test_the_committed_records_are_of_proofs_that_held() -> None:
    for name in TARGETS:
        if path_of(name).is_file():
            proof = load(name)
            assert proof.held, [part for part in proof.parts if not part.held]
            assert not proof.commit.endswith("unknown")


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
