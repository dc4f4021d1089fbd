"""`python bench/run.py` as somebody runs it, on a tiny bundle and in few rounds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bench_results import results

from uservlm.bench import run
from uservlm.bench.results import load, save
from uservlm.converters.export import POCKET, ROOT


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, ROOT / "bench" / "run.py", *arguments]
    return subprocess.run([str(one) for one in line], capture_output=True, text=True, cwd="/")


@pytest.fixture(scope="module")
def measured(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("out") / "new"
    only = "latency,memory,load,growth,fidelity"
    done = command(
        "--bundle",
        tiny_bundle,
        "--only",
        only,
        "--repeat",
        "2",
        "--peers",
        "llama.cpp",
        "--out",
        out,
    )
    assert done.returncode == 0, done.stderr
    return out, done


def test_everything_is_in_the_results(
    measured: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    found = load(measured[0] / "results.json")
    assert found.flops is None
    assert found.subject.weights == "given"
    assert {"limits", "latency", "memory", "load", "fidelity"} == set(found.measured)
    assert found.latency is not None and found.growth is not None
    keys = {row.key for row in found.latency.rows}
    ways = ("cold", "exact", "resident", "restored")
    assert {f"{way}/ttft/{n} tokens" for way in ways for n in (16, 32, 50, 100)} <= keys
    assert {f"resident/ttft/{people} in turn" for people in (1, 4, 16)} <= keys
    assert "restored/start" in keys and "cold/vision/50 tokens" in keys
    fought = {(duel.peer, duel.ours) for duel in found.latency.duels}
    assert fought == {("llama.cpp", "exact"), ("llama.cpp, image cached", "resident")}
    assert all(len(row.samples) >= 1 and min(row.samples) >= 0 for row in found.latency.rows)
    assert len(found.growth) == 3  # of a bundle of one's own no other picture size can be made


def test_the_last_line_is_one_json_object(
    measured: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, done = measured
    (line,) = done.stdout.splitlines()
    told = json.loads(line)
    assert told["latency"]["cold/ttft/50 tokens"] > 0
    assert set(told["latency_ratios"]["llama.cpp/exact/decode/50 tokens"]) and told["growth"]
    assert str(out / "report.html") in done.stderr


def test_progress_is_told_also_where_there_is_no_terminal(
    measured: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    assert "loading llama.cpp" in measured[1].stderr


def test_nothing_is_left_of_the_people_it_drew(
    measured: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    kept = {path.suffix for path in measured[0].rglob("*") if path.is_file()}
    assert kept <= {".json", ".html", ".svg", ".png"}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (["--only", "speed"], "speed"),
        (["--repeat", "0"], "1 or more"),
        (["--shape", "llama"], "'llama'"),
        (["--bundle", "nowhere"], "nowhere"),
        (["--peers", "ollama"], "'ollama'"),
        (["--checkpoint", "nowhere"], "--bundle"),
        (["--bundle", str(POCKET), "--checkpoint", "nowhere"], "config.json"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(
    wrong: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    pocket_bundle: Path,
) -> None:  # fmt: skip
    more = ["--bundle", str(pocket_bundle)] if wrong[0] == "--peers" else []
    try:
        code = run.main([*wrong, *more, "--only", "latency", "--out", str(tmp_path / "out")])
    except SystemExit as refused:  # argparse's way
        code = int(str(refused.code))
    assert code == 2
    said = capsys.readouterr().err
    assert named in said and "Traceback" not in said
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("place", ["/proc/here", "results.json"])
def test_where_nothing_can_be_written_is_found_out_first(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results.json").write_text("a file")
    assert run.main(["--only", "flops", "--out", str(tmp_path / place)]) == 2
    said = capsys.readouterr().err
    assert "cannot be written" in said and "Llama" not in said


def test_a_python_without_the_project_is_told_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-I", str(ROOT / "bench" / "run.py"), "--help"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "make bootstrap" in done.stderr and "Traceback" not in done.stderr


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    found = results()
    save(found, tmp_path / "results.json")
    assert load(tmp_path / "results.json") == found
