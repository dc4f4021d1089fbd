"""Measured tables of README and docs: written from committed results, never at odds with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bench_results import nothing, results

from uservlm.bench import readme
from uservlm.bench.results import Results, save
from uservlm.runtime.errors import UserVLMError


@pytest.mark.parametrize("page", readme.PAGES, ids=lambda page: page.name)
def test_pages_agree_with_the_committed_results(page: Path) -> None:
    """Every marker there is; `python bench/readme.py` mends it."""
    assert "<!-- bench:" in page.read_text(encoding="utf-8")
    assert readme.agrees(page, readme.RESULTS)


def test_no_other_page_has_measured_tables() -> None:
    """Nobody would write them, and nothing would hold them."""
    pages = [readme.ROOT / "README.md", *(readme.ROOT / "docs").rglob("*.md")]
    marked = {page for page in pages if "<!-- bench:" in page.read_text(encoding="utf-8")}
    assert marked == set(readme.PAGES)


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    file = tmp_path / "README.md"
    file.write_text("before\n<!-- bench:run -->\nold\n<!-- /bench -->\nbehind\n", encoding="utf-8")
    save(results(), tmp_path / "run.json")
    return file


def test_the_table_is_written_between_its_markers(marked: Path) -> None:
    given = ["--page", str(marked), "--results", str(marked.parent)]
    assert readme.main([*given, "--check"]) == 1
    assert readme.main(given) == 0
    text = marked.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- bench:run -->\n| |") and text.endswith(
        "<!-- /bench -->\nbehind\n"
    )
    assert readme.main([*given, "--check"]) == 0
    marked.write_text(text.replace("862 ms", "861 ms"), encoding="utf-8")
    assert readme.main([*given, "--check"]) == 1


def test_the_table_tells_what_a_deployer_asks() -> None:
    text = readme.table(results())
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(lines) <= 14
    for told in ("a new face | 9.83 s (9.58 to 10.3 s)", "face restored from disk | 1.07 s",
                 "as long as ours, a new face; 8.21 times (7.96 to 8.68) as long as ours, face",
                 "memory_mb=2500 | 2.45 GB", "process start to first token",
                 "decoding 1.58 times slower", "Random weights", "Xeon", "commit 7be3122",
                 "21 November 2026"):  # fmt: skip
        assert told in text, told


def test_a_short_table_has_the_chosen_lines_of_the_whole_one(marked: Path) -> None:
    marked.write_text("<!-- bench:run#short -->\n<!-- /bench -->\n", encoding="utf-8")
    save(measured_with_openvino(), marked.parent / "run.json")
    text = readme.render(marked.read_text(encoding="utf-8"), marked.parent)
    _, *short, _ = text.splitlines()
    whole = readme.table(measured_with_openvino()).splitlines()
    assert [line for line in whole if line in short] == short
    assert len(short) == len(readme.TELLING) + 4 < len(whole)
    for told in ("a new face | 9.83 s", "memory_mb=2500", "OpenVINO", "Random weights"):
        assert told in text, told


def test_a_short_table_does_without_no_line(marked: Path) -> None:
    with pytest.raises(readme.ReadmeError, match="no line openvino for a short table"):
        readme.render("<!-- bench:run#short -->\n<!-- /bench -->\n", marked.parent)


def measured_with_openvino() -> Results:
    found = results()
    assert found.latency is not None
    duels = found.latency.duels
    peer = [replace(duel, peer="openvino") for duel in duels if duel.peer == "transformers-f32"]
    return replace(found, latency=replace(found.latency, duels=(*duels, *peer)))


def test_counted_operations_have_a_table_of_their_own(marked: Path) -> None:
    marked.write_text("<!-- bench:run#flops -->\n<!-- /bench -->\n", encoding="utf-8")
    assert readme.main(["--page", str(marked), "--results", str(marked.parent)]) == 0
    _, head, _, *lines, _ = marked.read_text(encoding="utf-8").splitlines()
    found = results().flops
    assert found is not None
    assert head.split(" | ")[1:] == [
        *found.tables[0].columns[:-1],
        found.tables[0].columns[-1] + " |",
    ]
    assert len(lines) == len(found.tables)
    assert f"{found.tables[0].lines[0][1][0]:.3g}" in lines[0]
    save(replace(results(), flops=None), marked.parent / "run.json")
    assert readme.main(["--page", str(marked), "--results", str(marked.parent)]) == 2


def test_a_table_without_measurements_is_no_error() -> None:
    empty = nothing()
    assert readme.table(empty).count("\n| ") == 0


@pytest.mark.parametrize(
    "text",
    ["<!-- bench:run -->\n", "<!-- /bench -->", "<!-- bench:nothing -->\n<!-- /bench -->",
     "<!-- bench:run#long -->\n<!-- /bench -->",
     "<!-- bench:run -->\n<!-- bench:run -->\n<!-- /bench -->"],
)  # fmt: skip
def test_markers_that_cannot_be_right_are_refused(marked: Path, text: str) -> None:
    with pytest.raises(UserVLMError):
        readme.render(text, marked.parent)
