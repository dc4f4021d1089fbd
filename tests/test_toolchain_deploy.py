"""The brain brought to another machine over real SSH and a real shell, and what can go wrong.

systemd's part is a script on the far side that records what it is told (`ssh_board.py`); the unit
itself is read by `systemd-analyze` where there is one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytest.importorskip("asyncssh")

from ssh_board import Board, asyncssh_server, board, openssh_server, runtime

from uservlm.toolchain.board import BoardError, form_for, look, read_board, target_for
from uservlm.toolchain.deploy import main
from uservlm.toolchain.deploy_plan import QUESTION
from uservlm.toolchain.deploy_unit import unit

ROOT = Path(__file__).resolve().parents[1]
RUNS = f'exec "{sys.executable}" -m uservlm.runtime "$@"'
SLOW = """#!/bin/sh
[ ! -e "$HOME/slow" ] || [ ! -f /dev/fd/1 ] || { head -c 100000; sleep 60; }
exec /bin/cat "$@"
"""
"""A `cat` to a file, behind which the line is slow for as long as ~/slow is there."""


@dataclass
class Deploy:
    """The command as a person gives it."""

    board: Board
    place: Path
    archive: Path
    bundle: Path
    capsys: pytest.CaptureFixture[str]

    def arguments(self, *options: str) -> list[str]:
        return [
            f"{self.board.user}@127.0.0.1",
            *("--port", str(self.board.port), "--known-hosts", str(self.place / "known_hosts")),
            *("--archive", str(self.archive), "--bundle", str(self.bundle), *options),
        ]

    def __call__(self, *options: str) -> str:
        status = main(self.arguments(*options))
        told = self.capsys.readouterr()
        assert (status, told.err) == (0, ""), told
        return told.out

    def fails(self, *options: str) -> str:
        assert main(self.arguments(*options)) == 2
        told = self.capsys.readouterr().err
        assert told.startswith("deploy: ") and "Traceback" not in told
        return told.removeprefix("deploy: ").strip()

    @property
    def folder(self) -> Path:
        return self.board.home / "uservlm"

    def note(self) -> str:
        """What tells one runtime from another."""
        return (self.folder / "current/runtime/note").read_text()


@pytest.fixture(scope="module")
def archives(
    tmp_path_factory: pytest.TempPathFactory, pocket_bundle: Path, pictures: Path
) -> Callable[..., Path]:
    """Make stand-ins for a runtime; all but the first know their one answer by heart."""
    record = subprocess.run(
        [
            *(sys.executable, "-m", "uservlm.runtime", "ask", str(pocket_bundle), "--json"),
            *("--image", str(pictures / "grace.png"), QUESTION),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    by_heart = f"""case $1 in ask) echo '{record.strip()}' ;; *) {RUNS} ;; esac"""

    def make(note: str = "two", uservlm: str = by_heart) -> Path:
        return runtime(tmp_path_factory.mktemp("runtime"), note, uservlm)

    return make


@contextmanager
def deploys(
    kind: str, folder: Path, archive: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Deploy]:
    made = board(folder)
    (folder / "mine/.ssh").mkdir(parents=True)
    if kind == "openssh":
        sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
        if sshd is None:
            pytest.skip("OPENSSH'S SERVER WAS NOT TRIED: there is no sshd here")
        server = openssh_server(made, sshd, folder / "mine/.ssh/id_ed25519")
    else:
        server = asyncssh_server(made)
    with server:
        yield Deploy(made, folder / "mine", archive, bundle, capsys)


@pytest.fixture(params=["asyncssh"])
def deploy(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    archives: Callable[..., Path],
    pocket_bundle: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Deploy]:
    monkeypatch.setenv("HOME", str(tmp_path / "mine"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with deploys(request.param, tmp_path, archives("one"), pocket_bundle, capsys) as made:
        yield made


@pytest.mark.parametrize("deploy", ["asyncssh", "openssh"], indirect=True)
def test_it_is_brought_there_tried_replaced_and_taken_away(
    deploy: Deploy, archives: Callable[..., Path], pictures: Path
) -> None:
    deploy.archive = archives("one", RUNS)
    out = deploy()
    assert "it answers, as this machine does: " in out
    assert deploy.note() == "one"
    said = deploy.board.run(
        f"{deploy.folder}/current/uservlm", "ask", f"{deploy.folder}/current/bundles/pocket",
        "--image", str(pictures / "sam.png"), "How do I feel?",
    )  # fmt: skip
    assert said.strip()
    kept = sorted(path.name for path in deploy.folder.iterdir())
    assert kept == [".uservlm-deploy", "cache", "current", "parts", "releases"]
    assert deploy.folder.stat().st_mode & 0o777 == 0o700

    deploy.archive = archives("two")
    out = deploy()
    assert deploy.note() == "two" and "copy vision.onnx" not in out
    assert len(list((deploy.folder / "parts").iterdir())) == 2, "the first runtime is gone"

    assert "everything is gone" in deploy("--remove")
    assert not deploy.folder.exists()
    assert "nothing is deployed" in deploy("--remove")


def test_without_xz_it_goes_in_another_form_also_past_a_shell_that_greets(deploy: Deploy) -> None:
    (deploy.board.bin / "xz").unlink(missing_ok=True)
    deploy.board.greeting = "ROS is set up: 4 = 4"
    out = deploy()
    assert ".tar.gz (" in out and deploy.note() == "one"
    deploy("--remove")
    (deploy.board.bin / "gzip").unlink()
    assert ".tar (" in deploy() and deploy.note() == "one"


def test_a_service_runs_what_is_deployed_and_goes_with_it(
    deploy: Deploy, archives: Callable[..., Path]
) -> None:
    port = _free_port()
    out = deploy("--service", "--", "--host", "0.0.0.0", "--port", str(port))
    assert "it ends when pi logs out there" in out and "loginctl enable-linger pi" in out
    text = (deploy.board.home / ".config/systemd/user/uservlm.service").read_text()
    assert f'"serve"  "{deploy.folder}/current/bundles/pocket"'.replace("  ", " ") in text
    asked = [line for line in deploy.board.told() if " is-" not in line and " show " not in line]
    assert asked == [
        "--user daemon-reload",
        "--user enable uservlm.service",
        "--user restart uservlm.service",
    ]
    token = deploy.folder / "config/uservlm/token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert not [
        command for command in deploy.board.commands if token.read_text().strip() in command
    ]
    first = (deploy.board.home / "pid").read_text()

    deploy.archive = archives("two")
    deploy()
    assert (deploy.board.home / "pid").read_text() != first, "the service runs the new one"

    deploy("--remove")
    assert deploy.board.told()[-2:] == [
        "--user disable --now uservlm.service",
        "--user daemon-reload",
    ]
    assert not (deploy.board.home / ".config/systemd/user/uservlm.service").exists()
    assert not deploy.folder.exists()


def test_a_service_that_ends_is_told_with_its_last_words(deploy: Deploy) -> None:
    says = deploy.fails("--service", "--", "--threads", "1", "--hear", "/nowhere/model")
    assert "uservlm.service is failed" in says and "/nowhere/model" in says
    (deploy.board.home / "restarts").write_text("1\n")
    says = deploy.fails("--service", "--", "--port", str(_free_port()))
    assert "uservlm.service is ending and started again" in says


def test_without_systemd_a_service_is_refused_before_anything_is_done(deploy: Deploy) -> None:
    (deploy.board.bin / "systemctl").unlink()
    assert "--service asks for systemd's user services" in deploy.fails("--service")
    assert not (deploy.folder / "parts").exists()


def test_another_answer_than_here_is_refused_and_the_old_one_stays(
    deploy: Deploy, archives: Callable[..., Path]
) -> None:
    deploy()
    deploy.archive = archives(
        "wrong", """echo '{"text": "Call an engineer.", "usage": {"answer_tokens": 4}}'"""
    )
    assert "does not compute what it should" in deploy.fails()
    assert deploy.note() == "one"


def test_a_damaged_file_in_the_runtime_is_found_there(deploy: Deploy, tmp_path: Path) -> None:
    """As a disk that loses a byte: the archive arrives whole, what is unpacked is not."""
    tar = shutil.which("tar")
    deploy.board.program(
        "tar", f'#!/bin/sh\n{tar} "$@"\necho two > incoming/unpacked/uservlm-runtime/note\n'
    )
    says = deploy.fails()
    assert "note: another sha256, size than in the manifest" in says
    assert not (deploy.folder / "current").exists()
    assert not (deploy.folder / "incoming/unpacked").exists()


def test_who_stops_it_keeps_what_works_and_the_next_goes_on(
    deploy: Deploy, archives: Callable[..., Path]
) -> None:
    deploy()
    shutil.rmtree(next((deploy.folder / "parts").glob("pocket-*")))
    deploy.board.program("cat", SLOW.replace("/bin/cat", str(shutil.which("cat"))))
    (deploy.board.home / "slow").touch()
    command = [sys.executable, str(ROOT / "toolchain/deploy.py"), *deploy.arguments()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    incoming = deploy.folder / "incoming"
    _wait(lambda: any(path.stat().st_size for path in incoming.rglob("*") if path.is_file()))
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert (process.returncode, told.count("\n")) == (130, 1), told
    assert told.startswith("deploy: stopped")
    assert deploy.note() == "one"
    (deploy.board.home / "slow").unlink()
    out = deploy()
    assert "bytes of it are there already" in out
    assert not incoming.exists()


def test_what_is_there_of_another_file_is_not_gone_on_with(deploy: Deploy) -> None:
    deploy.folder.mkdir()
    (deploy.folder / ".uservlm-deploy").touch()
    (deploy.folder / "incoming").mkdir()
    key = deploy("--dry-run").partition("sha256sum < incoming/")[2].split("'")[0].split()[0]
    (deploy.folder / "incoming" / key).write_bytes(b"something else")
    out = deploy()
    assert "are there already" not in out and deploy.note() == "one"


def test_two_at_once_are_refused(deploy: Deploy) -> None:
    deploy.folder.mkdir()
    mark = deploy.folder / ".uservlm-deploy"
    mark.touch()
    with subprocess.Popen(["flock", str(mark), "sleep", "60"], start_new_session=True) as holder:
        time.sleep(0.2)
        try:
            assert "somebody else is deploying" in deploy.fails()
        finally:
            os.killpg(holder.pid, signal.SIGKILL)


def test_a_folder_with_other_things_is_left_alone(deploy: Deploy) -> None:
    deploy.folder.mkdir()
    (deploy.folder / "letters").write_text("mine")
    assert "holds other things" in deploy.fails()
    assert "nothing is deployed" in deploy("--remove")
    assert (deploy.folder / "letters").read_text() == "mine"
    assert "at least two levels deep" in deploy.fails("--to", "/")


def test_a_dry_run_shows_every_command_and_changes_nothing(deploy: Deploy) -> None:
    out = deploy("--dry-run", "--service", "--robot", "tcp://127.0.0.1:9559")
    for word in ("uservlm-check", "os.replace", "systemctl --user enable", "--robot", "tar -xof"):
        assert word in out
    assert [path.name for path in deploy.board.home.iterdir()] == ["systemctl.log"], (
        "the stand-in's"
    )
    asked = len(deploy.board.commands)
    seen = deploy("--dry-run", "--target", os.uname().machine)
    assert len(deploy.board.commands) == asked and "/home/pi/uservlm" in seen
    assert f"rmdir -- {deploy.folder}" in deploy("--dry-run", "--remove")


def test_a_board_without_room_or_without_a_program_is_told(deploy: Deploy) -> None:
    deploy.board.program("df", "#!/bin/sh\necho x\necho /dev/sda 9 8 1000 9% /\n")
    assert "MB are needed there and 1 MB are free" in deploy.fails()
    (deploy.board.bin / "flock").unlink()
    assert "it has no flock: install" in deploy.fails()


def test_what_is_wrong_here_is_told(
    deploy: Deploy, tmp_path: Path, archives: Callable[..., Path]
) -> None:
    deploy.archive = tmp_path / "none.tar.xz"
    assert "python toolchain/build.py" in deploy.fails()
    deploy.archive.write_bytes(b"no archive")
    assert "none.tar.xz is " in deploy.fails()
    deploy.archive = archives()
    assert "is for " in deploy.fails("--target", "pepper-i686", "--dry-run")
    assert "control characters" in deploy.fails("--service", "--", "--robot-user", "a\nb")
    assert "give USER@HOST" in _fails_with(deploy, "board")
    assert "there are x86_64, aarch64, pepper-i686" in deploy.fails("--target", "vax")
    with pytest.raises(SystemExit):
        deploy("--service", "--", "--no-such-option")
    with pytest.raises(SystemExit):
        deploy("--robot", "tcp://127.0.0.1")


def _fails_with(deploy: Deploy, host: str) -> str:
    assert main([host]) == 2
    return deploy.capsys.readouterr().err


def test_the_target_is_what_kernel_library_and_shell_agree_on() -> None:
    done = subprocess.run(["sh", "-c", look("uservlm")], capture_output=True, text=True, check=True)
    here = read_board(done.stdout)
    assert here.machine == os.uname().machine and here.free > 0 and here.home
    pi = replace(
        here, machine="aarch64", bits=64, elf_bits=64, elf_machine="aarch64", flags=frozenset()
    )
    head = replace(pi, machine="i686", bits=32, elf_bits=32, elf_machine="x86")
    naoqi29 = replace(pi, machine="x86_64", elf_machine="x86_64")
    assert [target_for(one).name for one in (pi, head, naoqi29)] == [
        "aarch64", "pepper-i686", "x86_64"
    ]  # fmt: skip
    mixed = replace(pi, bits=32, elf_bits=32, elf_machine="arm")
    with pytest.raises(BoardError, match="name it with --target"):
        target_for(mixed)
    assert target_for(mixed, "aarch64").name == "aarch64"
    with pytest.raises(BoardError, match="32 bits"):
        target_for(replace(pi, bits=32))
    with pytest.raises(BoardError, match="has no cx16, popcnt"):
        target_for(replace(naoqi29, flags=frozenset({"sse4_1", "sse4_2", "ssse3"})))
    with pytest.raises(BoardError, match="it has no flock"):
        form_for(replace(pi, programs=frozenset({"tar", "sha256sum"})))
    for text in ("", "Microsoft Windows", "machine=x86_64\nhome=/x\nshell=zz\n"):
        with pytest.raises(BoardError, match="no Linux with a shell"):
            read_board(text)


def test_systemd_reads_the_unit_as_it_is_meant(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("THE UNIT WAS NOT READ BY SYSTEMD: there is no systemd-analyze here")
    folder = tmp_path / "with blanks"
    program = folder / "current/uservlm"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    words = ["--robot", "tcp://[::1]:9559", "50%h $HOME \\ \"x\" 'y'"]
    path = tmp_path / "uservlm.service"
    for text, well in (
        (unit(str(folder), "pocket", words), True),
        ("[Service]\nExecStart=x\n", False),
    ):
        path.write_text(text)
        done = subprocess.run(
            [analyze, "--user", "verify", str(path)], capture_output=True, text=True, check=False,
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        )  # fmt: skip
        mine = [line for line in done.stderr.splitlines() if "uservlm" in line]
        assert (not mine) is well, done.stderr


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _wait(until: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(0.05)
