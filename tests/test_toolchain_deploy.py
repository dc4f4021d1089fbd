"""The brain brought to another machine over real SSH and a real shell, and what can go wrong.

systemd's part is a script on the far side that records what it is told (`ssh_board.py`); the unit
itself is read by `systemd-analyze` where there is one.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytest.importorskip("asyncssh")

from ssh_board import Board, asyncssh_server, board, openssh_server, runtime

from uservlm.pepper_app import ssh_login
from uservlm.pepper_app.ssh_login import Host, login
from uservlm.runtime.errors import RequestError
from uservlm.toolchain import deploy_far
from uservlm.toolchain.board import BoardError, form_for, look, read_board, target_for
from uservlm.toolchain.deploy import main
from uservlm.toolchain.deploy_far import Far
from uservlm.toolchain.deploy_parts import File, Part
from uservlm.toolchain.deploy_plan import QUESTION
from uservlm.toolchain.deploy_service import restart
from uservlm.toolchain.deploy_steps import Release, Step, let_go_previous
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
    deploy.archive = archives("three").parent / "none.tar.xz"
    deploy.archive.write_bytes(b"no archive")
    assert "damaged" in deploy.fails()
    assert (deploy.folder / "previous/runtime/note").read_text() == "one", "until the next deploy"
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
    asked_before = len(deploy.board.commands)
    deploy()
    second = (deploy.board.home / "pid").read_text()
    assert second != first, "the service runs the new one"
    since = deploy.board.commands[asked_before:]
    assert [f"127.0.0.1 {port} " in one for one in since if "NRestarts" in one] == [True]

    (deploy.board.home / "restarts").touch()  # from now on there are more, whenever one asks
    deploy.archive = archives("three")
    says = deploy.fails("--service", "--", "--port", str(_free_port()))
    assert "uservlm.service is ending and started again" in says
    assert says.endswith("what was in use before is in use again")
    assert deploy.note() == "two"
    assert (deploy.board.home / ".config/systemd/user/uservlm.service").read_text() == text
    assert deploy.board.run("systemctl", "--user", "is-active") == "active\n"

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
    assert says.endswith("nothing was in use before: it is deployed, and nothing serves")
    assert not (deploy.board.home / ".config/systemd/user/uservlm.service").exists()


def test_a_service_that_would_lose_its_bundle_or_is_anothers_is_refused_first(
    deploy: Deploy, tmp_path: Path
) -> None:
    path = deploy.board.home / ".config/systemd/user/uservlm.service"
    path.parent.mkdir(parents=True)
    path.write_text(unit(str(deploy.folder), "pocket", ["--port", "1"]))
    deploy.bundle = shutil.copytree(deploy.bundle, tmp_path / "other")
    assert "serves pocket, which would go: name it too" in deploy.fails()
    assert f"serves {deploy.folder}: take it" in deploy.fails("--service", "--to", "~/second")
    assert "restart uservlm" not in deploy("--dry-run", "--to", "~/second"), "it is another's"
    assert "restart uservlm" in deploy("--dry-run", "--service")
    path.write_text(path.read_text().replace("current", "elsewhere"))
    assert "starts something else" in deploy.fails()
    path.write_text("[Service]\nExecStart=/bin/true\n")
    assert "was not written by a deploy" in deploy.fails("--service")
    assert not deploy.folder.exists() and not (deploy.board.home / "second").exists()


def test_a_service_without_a_known_port_must_run_for_a_while(deploy: Deploy) -> None:
    deploy.board.program("sleep", "#!/bin/sh\n")
    release = Release("/nowhere", Part("runtime", "runtime-1", (), 0), ())
    command = ["sh", "-c", restart(release, None)[-1].script]
    log = deploy.board.home / "service.log"
    log.write_text("its last words\n")
    asked = """#!/bin/sh
case $2 in show) echo 7 ;; is-active) echo >> ~/asked
    if [ "$(wc -l < ~/asked)" -gt {} ]; then echo failed; exit 3; else echo active; fi ;; esac
"""
    deploy.board.program("systemctl", asked.format(10))
    done = subprocess.run(
        command, env=deploy.board.environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "its last words" in done.stderr) == (1, True)
    deploy.board.program("systemctl", asked.format(99))
    deploy.board.run(*command)


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


def test_what_is_damaged_there_is_brought_again(deploy: Deploy) -> None:
    deploy()
    part = next((deploy.folder / "parts").glob("pocket-*")) / "language.gguf"
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 255]))
    assert f"brought again: {part.parent.name}\n" in deploy()
    assert part.read_bytes() == whole


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
    (deploy.folder / "letters").unlink()
    deploy.board.greeting = "welcome"
    assert "nothing is deployed" in deploy("--remove") and deploy.folder.exists()


def test_a_home_is_no_folder_for_it(deploy: Deploy, tmp_path: Path) -> None:
    home = deploy.board.home
    home.chmod(0o755)
    (tmp_path / "link").symlink_to(home)
    for folder in (str(home), str(tmp_path), "~/", str(tmp_path / "link")):
        for more in ((), ("--remove",)):
            assert f"{home} is a home" in deploy.fails("--to", folder, *more)
    assert home.stat().st_mode & 0o777 == 0o755


def test_removing_leaves_what_no_deploy_made_and_says_so(deploy: Deploy, tmp_path: Path) -> None:
    """People go also from behind a link."""
    for link, behind, people in (
        ("data", "disk", "disk/uservlm/users"),
        ("data/uservlm", "disk", "disk/users"),
        ("data/uservlm/users", "disk", "disk"),
    ):
        (tmp_path / people).mkdir(parents=True)
        for name in ("key", "check", "0f.profile", "0f.state.a1", "thesis"):
            (tmp_path / people / name).write_text("x")
        (deploy.folder / link).parent.mkdir(parents=True)
        (deploy.folder / link).symlink_to(tmp_path / behind)
        for name in (".uservlm-deploy", "notes"):
            (deploy.folder / name).touch()
        out = deploy("--remove")
        kept = [path.name for path in tmp_path.glob("disk/**/*") if path.is_file()]
        assert kept == ([] if link == "data" else ["thesis"]), "what is not ours"
        assert ("disk stays" in out, "users stays" in out) == {
            "data": (False, False),
            "data/uservlm": (True, True),
            "data/uservlm/users": (True, False),
        }[link]
        assert "what was deployed is gone" in out and "but notes stays" in out
        assert [path.name for path in deploy.folder.iterdir()] == ["notes"]
        assert "nothing is deployed" in deploy("--remove")
        shutil.rmtree(tmp_path / "disk")
        shutil.rmtree(deploy.folder)
    (deploy.folder / "data/mine").mkdir(parents=True)
    (deploy.folder / ".uservlm-deploy").touch()
    assert "but data stays" in deploy("--remove")
    assert (deploy.folder / "data/mine").exists()


def test_what_a_program_uses_stays_there(deploy: Deploy) -> None:
    folder = deploy.folder
    for name in ("parts/a", "parts/b", "releases/1", "releases/2"):
        (folder / name).mkdir(parents=True)
    for release, part in (("1", "a"), ("2", "b")):
        (folder / "releases" / release / "runtime").symlink_to(f"../../parts/{part}")
    (folder / "current").symlink_to("releases/2")
    (folder / "previous").symlink_to("releases/1")
    (folder / ".uservlm-deploy").touch()
    shutil.copy(str(shutil.which("sleep")), folder / "parts/a/sleep")
    script = let_go_previous(str(folder)).script
    with subprocess.Popen([folder / "parts/a/sleep", "60"]) as brain:
        try:
            _wait(lambda: "parts/a/sleep" in Path(f"/proc/{brain.pid}/maps").read_text())
            says = deploy.fails("--remove")
            assert f"programs run from {folder} (processes {brain.pid}): end them" in says
            deploy.board.run("sh", "-c", script)
            assert (folder / "releases/1/runtime/sleep").exists()
        finally:
            brain.kill()
    (folder / "previous").symlink_to("releases/1")
    deploy.board.run("sh", "-c", script)
    assert [path.name for path in folder.glob("parts/*")] == ["b"]
    assert [path.name for path in folder.glob("releases/*")] == ["2"]
    deploy("--remove")
    assert not folder.exists()


def test_a_file_that_cannot_be_read_here_ends_it(deploy: Deploy, tmp_path: Path) -> None:
    host = Host("127.0.0.1", "pi", None, tmp_path / "known", deploy.board.port)
    step = Step("copy it", "cat > /dev/null", File(tmp_path / "gone", "it", "0" * 64, 9))

    async def send() -> None:
        async with login(host, print) as connection:
            far = Far(host, connection, str(deploy.folder), print)
            await asyncio.wait_for(far.do(step), 20)

    with pytest.raises(RequestError, match="gone cannot be read: No such file"):
        asyncio.run(send())


@pytest.mark.parametrize("given", [False, True])
def test_the_port_is_ssh_s_own_configuration_s_unless_given(
    deploy: Deploy, tmp_path: Path, given: bool
) -> None:
    """A board that `ssh` finds by a name of the user's is found by the same name here."""
    port = deploy.board.port
    (deploy.place / ".ssh/config").write_text(
        f"Host shelf\n  HostName 127.0.0.1\n  Port {1 if given else port}\n"
    )
    host = Host("shelf", "pi", None, tmp_path / "known", port if given else None)

    async def look_there() -> str:
        async with login(host, print) as connection:
            return await Far(host, connection, str(deploy.folder), print).look("echo here")

    assert asyncio.run(look_there()) == "here\n"


def test_a_port_that_was_not_given_is_not_asked_for(
    deploy: Deploy, capsys: pytest.CaptureFixture[str]
) -> None:
    configured = deploy.arguments("--dry-run", "--target", "x86_64")
    at = configured.index("--port")
    assert main([*configured[:at], *configured[at + 2 :]]) == 0
    assert f"ssh {deploy.board.user}@127.0.0.1" in capsys.readouterr().out
    assert main(configured) == 0
    assert f"ssh -p {deploy.board.port} {deploy.board.user}@" in capsys.readouterr().out


def test_a_lock_that_takes_too_long_is_told(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy_far, "LOOK_S", 3.0)
    deploy.board.program("flock", "#!/bin/sh\nsleep 30\n")
    assert f"did not lock {deploy.folder} within 3 s" in deploy.fails()


def test_the_robots_password_is_not_given_to_a_board(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Host] = []

    @asynccontextmanager
    async def refuse(host: Host, say: Callable[[str], None]) -> AsyncIterator[None]:
        given.append(host)
        raise BoardError("nobody logs in here")
        yield

    monkeypatch.setattr(ssh_login, "login", refuse)
    monkeypatch.setenv("USERVLM_ROBOT_PASSWORD", "the robot's")
    deploy.fails()
    monkeypatch.setenv("USERVLM_BOARD_PASSWORD", "the board's")
    deploy.fails()
    assert [host.password for host in given] == [None, "the board's"]
    assert {host.variable for host in given} == {"USERVLM_BOARD_PASSWORD"}


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
    assert " < bundles/grace.png\n" in seen
    assert f"cd -- {deploy.folder}" in deploy("--dry-run", "--remove")
    (deploy.board.bin / "xz").unlink(missing_ok=True)
    assert f" < <(xz -dc {deploy.archive} | gzip -nc)\n" in deploy("--dry-run")


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
    deploy.archive.write_bytes(archives().read_bytes()[:-8])
    assert "none.tar.xz is damaged" in deploy.fails()
    (deploy.board.bin / "xz").unlink(missing_ok=True)
    assert "none.tar.xz is damaged" in deploy.fails()
    deploy.archive = archives()
    assert "is for " in deploy.fails("--target", "pepper-i686", "--dry-run")
    assert "control characters" in deploy.fails("--service", "--", "--robot-user", "a\nb")
    assert "give USER@HOST" in _fails_with(deploy, "board")
    assert "there are x86_64, aarch64, pepper-i686" in deploy.fails("--target", "vax")
    assert "no-such-option" in deploy.fails("--service", "--", "--no-such-option")
    assert "keeps people in data/" in deploy.fails("--service", "--", "--users", "people")
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
    assert target_for(naoqi29, "pepper-i686").name == "pepper-i686", "64 bits run 32"
    for one, name in ((naoqi29, "aarch64"), (head, "x86_64"), (pi, "pepper-i686")):
        with pytest.raises(BoardError, match=f"runs nothing for {name}"):
            target_for(one, name)
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
