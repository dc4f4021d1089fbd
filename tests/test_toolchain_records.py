"""What a proof found, written down: the records, the pages' tables of them, what is published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from uservlm.toolchain import instructions, proof_counts, proof_table, prove
from uservlm.toolchain.proof import RECORDS, Part, Proof, is_committed, load, path_of, save
from uservlm.toolchain.proof_counts import estimate
from uservlm.toolchain.proof_errors import RecordError
from uservlm.toolchain.targets import TARGETS

PROOF = Proof(
    target="x86_64",
    when="2026-11-27T21:00+00:00",
    commit="0123456789" * 4,
    processor="some processor",
    runtime={"file": "a.tar.xz", "sha256": "ab" * 32, "bytes": 64_000_000},
    bundle={"name": "pocket", "manifest_sha256": "cd" * 32},
    qemu={"proving": "10.0", "counting": "7.2"},
    parts=(
        Part("archive", "here", "whole", (), {"files": 3}, 1.0),
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


def test_an_estimate_says_that_it_is_one(pocket_bundle: Path, tmp_path: Path) -> None:
    counted = instructions.Counts(vision=7_640_000_000, prefill=1e9, decode=7.64e9)
    memory = {"address_space_mb": 1840}
    found = estimate(pocket_bundle, counted, instructions.ATOM, memory, "ab" * 20)
    assert found["commit"] == "ab" * 20
    assert found["estimated_seconds"] == {
        "token": [1.0, 1.2],
        "image_tokens": [8.4, 10.0],
        "vision": [1.0, 1.2],
    }
    assert "not measured" in found["how"]
    save(replace(PROOF, estimates=(found,)), tmp_path)
    text = proof_table.render("<!-- proofs:estimated -->\n<!-- /proofs -->\n", tmp_path)
    assert f" a position (of {proof_counts.POSITIONS}), " in text
    assert f"7.6 G a token (of {proof_counts.TOKENS}) | 1 to 1.2 s | 8.4 to 10 s |" in text
    assert " | 1 to 1.2 s | 1840 MB |" in text
    assert "nobody measured them" in text


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
                 "commit 0123456789,"):  # fmt: skip
        assert cell in told, cell
    assert proof_table.render(told, tmp_path) == told
    failed = replace(PROOF.parts[-1], problems=("27 of 28 answers have the same tokens",))
    save(replace(PROOF, parts=(*PROOF.parts[:-1], failed)), tmp_path)
    assert "NOT SHOWN: 27 of 28 answers" in proof_table.render(text, tmp_path)
    save(replace(PROOF, commit="ab" * 20 + "+changes"), tmp_path)
    assert "commit ababababab+changes," in proof_table.render(text, tmp_path)
    with pytest.raises(RecordError, match="emulated, emulated#short, estimated"):
        proof_table.render("<!-- proofs:other -->\n<!-- /proofs -->\n", tmp_path)


@pytest.mark.parametrize(
    ("kind", "figures", "rows"),
    [
        ("archive", {}, 1),
        ("controls", {}, 1),
        ("control", {"status": 1}, 1),
        ("answers", {}, 7),
        ("answers", {"weights": "shipped"}, 6),
        ("answers", {"weights": "float"}, 5),
        ("carried", {"weights": "shipped"}, 1),
        ("conversation", {}, 1),
        ("instructions", {}, 1),
    ],
)
def test_what_did_not_come_to_figures_is_not_left_out(
    kind: str, figures: dict[str, Any], rows: int
) -> None:
    """Beside a part that held, one that crashed: neither does "14 of 14" stay nor any other."""
    crashed = Part(kind, "native", "it does", ("it ends with -11",), figures, 1.0)
    proof = replace(PROOF, target="pepper-i686", parts=(*PROOF.parts, crashed))
    told = proof_table.emulated([proof])
    assert told.count("NOT SHOWN: it ends with -11 (native)") == rows, told
    if figures.get("weights", "shipped") == "shipped" and kind == "answers":
        assert "28 of 28" not in told


@pytest.mark.parametrize("page", proof_table.PAGES, ids=lambda page: page.name)
def test_pages_agree_with_the_committed_records(page: Path) -> None:
    """`python toolchain/prove.py --readme` mends it."""
    text = page.read_text(encoding="utf-8")
    assert "<!-- proofs:" in text
    assert proof_table.render(text) == text


def test_no_other_page_has_tables_of_proofs() -> None:
    """Nobody would write them, and nothing would hold them."""
    pages = [proof_table.ROOT / "README.md", *(proof_table.ROOT / "docs").rglob("*.md")]
    marked = {page for page in pages if "<!-- proofs:" in page.read_text(encoding="utf-8")}
    assert marked == set(proof_table.PAGES)


def test_the_short_table_has_the_chosen_lines_of_the_whole_one() -> None:
    whole, short = proof_table.emulated([PROOF]), proof_table.shortened([PROOF])
    chosen = [line for line in whole.splitlines() if line in short.splitlines()]
    assert chosen == short.splitlines()
    assert len(chosen) == len(proof_table.TELLING) + 2


def test_the_committed_records_are_of_proofs_that_held() -> None:
    for name in TARGETS:
        if path_of(name).is_file():
            proof = load(name)
            assert proof.held, [part for part in proof.parts if not part.held]
            assert is_committed(proof.commit), f"others cannot build it again: {proof.commit}"
            for one in proof.estimates:
                assert is_committed(one.get("commit", proof.commit))


@pytest.mark.parametrize("commit", ["ab" * 20 + "+changes", "a8807c9adf+", "unknown", ""])
def test_what_nobody_else_can_build_is_not_published(
    commit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published, elsewhere = tmp_path / "published", tmp_path / "elsewhere"
    monkeypatch.setattr(prove, "RECORDS", published)
    for folder in (published, elsewhere):
        prove._keep(replace(PROOF, commit=commit), commit, folder)
    assert not published.exists() and load("x86_64", elsewhere).commit == commit
    told = capsys.readouterr().err
    assert told.startswith("x86_64: not recorded: ") and "--records" in told
    prove._keep(PROOF, PROOF.commit, published)
    assert load("x86_64", published) == PROOF


def test_records_are_published_where_the_table_looks_for_them() -> None:
    options = prove._options(["x86_64"])
    assert options.records == RECORDS
    assert prove.unrecorded("unknown", Path(RECORDS, "../proofs"))
