"""The command `uservlm` as a shell sees it: what it prints where, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uservlm.runtime import UserVLM
from uservlm.runtime.__main__ import main
from uservlm.runtime.manifest import FORMAT

COMMAND = [sys.executable, "-m", "uservlm.runtime"]
QUICK = ["--threads", "1", "--max-new-tokens", "6", "--temperature", "1", "--seed", "5"]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("pictures") / "me.png"
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    return str(file)


def run(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], input=typed, capture_output=True, text=True, timeout=120
    )


def test_ask_streams_the_answer(tiny_bundle: Path, picture: str) -> None:
    done = run("ask", str(tiny_bundle), "--image", picture, "Who am I?", *QUICK)
    assert (done.returncode, done.stderr) == (0, "")
    as_json = run("ask", str(tiny_bundle), "--image", picture, "Who am I?", *QUICK, "--json")
    record = json.loads(as_json.stdout)
    assert done.stdout == record["text"] + "\n"
    assert record["usage"]["prefix_tokens"] > 64
    assert record["usage"]["finish"] in ("stop", "length")


def test_inspect_needs_no_model(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UserVLM, "load", None)
    assert main(["inspect", str(tiny_bundle)]) == 0
    text = capsys.readouterr().out
    assert "language" in text and "attention" in text
    assert main(["inspect", str(tiny_bundle), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["format"] == FORMAT and record["attention"] in ("exact", "resident")


def test_chat_goes_on_after_a_wrong_line(tiny_bundle: Path, picture: str) -> None:
    typed = f"Who am I?\n\n/image /gone\n/what\n/image {picture}\nAnd now?\n/quit\nnever\n"
    done = run("chat", str(tiny_bundle), "--image", picture, "--json", *QUICK, typed=typed)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert [sorted(record)[0] for record in records] == ["text", "error", "error", "text"]
    assert [record.get("kind") for record in records[1:3]] == ["ImageError", "RequestError"]
    looked = [record["usage"]["vision_runs"] for record in (records[0], records[3])]
    assert looked == [0, 0], "the picture was looked at before the first question"


def test_chat_refuses_a_wrong_picture_before_the_first_question(tiny_bundle: Path) -> None:
    done = run("chat", str(tiny_bundle), "--image", "/gone", typed="")
    assert (done.returncode, done.stderr) == (2, "uservlm: no picture at /gone\n")


def test_chat_takes_text_and_ends_with_its_input(tiny_bundle: Path, picture: str) -> None:
    done = run("chat", str(tiny_bundle), "--image", picture, *QUICK, typed="Who?\n/what\nWhy?")
    assert done.returncode == 0
    assert done.stderr.count("uservlm: ") == 1


@pytest.mark.parametrize("command", ["ask", "chat", "inspect"])
def test_errors_are_one_line_and_exit_code_2(command: str, tmp_path: Path, picture: str) -> None:
    more = {"ask": ["--image", picture, "Who?"], "chat": ["--image", picture], "inspect": []}
    done = run(command, str(tmp_path / "nothing"), *more[command])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"uservlm: no {'folder' if command == 'inspect' else 'bundle at'} "
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("wrong", [["--threads", "0"], ["--top-p", "3"], ["--context", "5"]])
def test_wrong_values_are_named(tiny_bundle: Path, picture: str, wrong: list[str]) -> None:
    done = run("ask", str(tiny_bundle), "--image", picture, "Who?", *wrong)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and wrong[1] in done.stderr


def test_a_reader_that_goes_away_is_no_crash(tiny_bundle: Path, picture: str) -> None:
    words = " ".join(COMMAND)
    line = f"{words} ask {tiny_bundle} --image {picture} Who? --threads 1 --temperature 1 | true"
    done = subprocess.run(
        ["bash", "-c", f"{line}; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr) == ("141", "")


def test_ctrl_c_is_no_crash(tiny_bundle: Path, picture: str) -> None:
    arguments = ["chat", str(tiny_bundle), "--image", picture, *QUICK]
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *arguments], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"Who?\n")
        process.stdin.flush()
        process.stdout.read(1)  # it is up and answering
        os.kill(process.pid, signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    assert (process.returncode, complaint) == (130, b"")


@pytest.mark.parametrize("arguments", [["--help"], ["ask", "--help"], ["chat", "--help"]])
def test_help_is_there(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 0 and "usage: uservlm" in done.stdout


def test_who_agreed_is_asked_about_by_name_later(
    tiny_bundle: Path, picture: str, tmp_path: Path
) -> None:
    kept = ["--users", str(tmp_path / "users"), *QUICK, "--json", "--attention", "resident"]
    agreed = ["--remember", "Ada", "--consent", "said yes"]
    first = run("ask", str(tiny_bundle), "--image", picture, *agreed, "Who?", *kept)
    again = run("ask", str(tiny_bundle), "--user", "Ada", "Who?", *kept)
    assert (first.returncode, again.returncode) == (0, 0)
    told, retold = (json.loads(done.stdout) for done in (first, again))
    assert retold["text"] == told["text"]
    assert (retold["usage"]["vision_runs"], retold["usage"]["resident"]) == (0, "restored")
    stranger = run("ask", str(tiny_bundle), "--user", "Bob", "Who?", *kept)
    assert (stranger.returncode, stranger.stderr) == (
        2,
        "uservlm: no user 'Bob' is kept; known: Ada\n",
    )


@pytest.mark.parametrize("half", [["--remember", "Ada"], ["--consent", "said yes"]])
def test_nobody_is_remembered_without_consent(
    tiny_bundle: Path, picture: str, tmp_path: Path, half: list[str]
) -> None:
    users = ["--users", str(tmp_path / "users")]
    done = run("ask", str(tiny_bundle), "--image", picture, "Who?", *half, *users, *QUICK)
    assert done.returncode == 2 and "--consent HOW" in done.stderr
    assert not any(path.is_file() and path.stat().st_size > 200 for path in tmp_path.rglob("*"))
