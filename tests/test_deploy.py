"""The app brought to a virtual Pepper over real SSH and libqi, and everything that can go wrong."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("qi")
pytest.importorskip("asyncssh")

from deploying import TOKEN, Deploy, robot_with
from ssh_robot import OLD, PASSWORD, SshRobot, ssh_robot
from virtual_pepper import Client, Pepper, client, wait_for

from uservlm.pepper_app.package import pack

UUID, SERVICE = "uservlm", "uservlm.App"
VERSION = pack({}).version
PACKAGES, SERVICES = "PackageManager", "ALServiceManager"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("robot")


@pytest.fixture(scope="module")
def robot(folder: Path) -> Iterator[Pepper]:
    with robot_with(folder) as made:
        yield made


@pytest.fixture
def bus(robot: Pepper) -> Iterator[Client]:
    """The robot, without the app before and after."""
    with client(robot.url) as made:
        yield made
        made.call("VirtualPepper", "misbehave", [])
        if made.call(PACKAGES, "hasPackage", UUID):
            made.call(PACKAGES, "removePkg", UUID)


@pytest.fixture
def ssh(tmp_path: Path, folder: Path) -> Iterator[SshRobot]:
    with ssh_robot(tmp_path / "home", folder / "logs") as made:
        yield made
        assert made.keeps or not list(made.home.iterdir()), "nothing is left on the robot"


@pytest.fixture
def deploy(
    tmp_path: Path,
    robot: Pepper,
    ssh: SshRobot,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Deploy:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return Deploy(tmp_path, robot.url, ssh.port, capsys)


def running(bus: Client) -> bool:
    return bool(bus.call(SERVICES, "isServiceRunning", SERVICE))


def test_the_app_is_installed_and_runs_and_nothing_else_is_left(
    deploy: Deploy, bus: Client, ssh: SshRobot, folder: Path
) -> None:
    token = deploy.secret("token", TOKEN)
    brain = "http://192.0.2.7:8080"
    told = deploy("--brain", brain, "--token-file", token, "--listen", "words")
    assert (told.status, told.err) == (0, ""), told
    assert "127.0.0.1 has NAOqi 2.5.10.7" in told.out
    assert f"{UUID} {VERSION} is installed\n{SERVICE} runs\n" in told.out
    assert running(bus) and bus.call(PACKAGES, "package2", UUID)[1] == VERSION
    settings = json.loads((folder / "apps" / UUID / "settings.json").read_text())
    assert settings == {"brain": brain, "token": TOKEN, "listen": ["words"]}
    assert ssh.modes == [0o600]


def test_a_newer_one_takes_the_place_of_what_runs(deploy: Deploy, bus: Client) -> None:
    assert deploy("--language", "fr").status == 0
    began = len(bus.recorded(SERVICES, "started"))
    assert deploy().status == 0
    assert len(bus.recorded(SERVICES, "started")) == began + 1 and running(bus)
    stopped, installed = (
        bus.recorded(SERVICES, "stopped")[-1],
        bus.recorded(PACKAGES, "install")[-1],
    )
    assert stopped["values"] == [SERVICE, "asked"]
    removed = bus.recorded(PACKAGES, "removePkg")[-1]
    assert stopped["at"] < removed["at"] < installed["at"], (
        "it has ended before anything is changed"
    )
    assert bus.values(SERVICES, "SIGKILL") == []


def test_a_robot_that_hears_late_of_a_new_service_is_asked_again(
    deploy: Deploy, bus: Client
) -> None:
    bus.call("VirtualPepper", "misbehave", ["services-late"])
    assert deploy().status == 0 and running(bus)
    assert any("no service" in what for [what] in bus.values(SERVICES, "refused"))


def test_it_is_taken_away_again_with_the_faces_it_had_learnt(
    deploy: Deploy, bus: Client, folder: Path
) -> None:
    assert deploy().status == 0
    for who, label in (("grace", "visitor-0123456789ab"), ("sam", "Bob")):
        bus.do("arrive", who=who)
        assert bus.call("ALFaceDetection", "learnFace", label) is True
        bus.do("leave", who=who)
    told = deploy("--remove")
    assert bus.call("ALFaceDetection", "getLearnedFacesList") == ["Bob"]
    assert (told.status, told.err) == (0, "")
    assert told.out.endswith(f"{UUID} is removed\n")
    assert bus.call(PACKAGES, "hasPackage", UUID) is False
    assert not (folder / "apps" / UUID).exists()
    assert deploy("--remove").out.endswith(f"{UUID} is not installed\n")


def test_a_robot_with_an_old_ssh_can_be_reached(
    deploy: Deploy, bus: Client, tmp_path: Path, folder: Path
) -> None:
    with ssh_robot(tmp_path / "old", folder / "logs", **OLD) as old:
        deploy.port = old.port
        assert deploy().status == 0
    assert running(bus)


def test_the_first_key_is_believed_and_no_other_after_it(
    deploy: Deploy, bus: Client, tmp_path: Path, folder: Path
) -> None:
    first = deploy()
    assert "127.0.0.1 is new; its key SHA256:" in first.out
    [line] = deploy.known.read_text().splitlines()
    assert line.startswith(f"[127.0.0.1]:{deploy.port} ssh-rsa AAAA")
    assert deploy.known.stat().st_mode & 0o777 == 0o600
    assert "is new" not in deploy().out
    with ssh_robot(tmp_path / "other", folder / "logs") as other:
        entry = line.replace(f":{deploy.port} ", f":{other.port} ")
        deploy.known.write_text(f"# mine\n{entry}")
        deploy.port = other.port
        says = deploy.fails()
        assert says.startswith("127.0.0.1 has another key than before (SHA256:")
        assert f"ssh-keygen -f {deploy.known} -R '[127.0.0.1]:{other.port}'" in says
        assert deploy.known.read_text() == f"# mine\n{entry}"
        deploy.known.write_text("# mine")
        assert deploy().status == 0
        assert deploy.known.read_text().startswith("# mine\n[127.0.0.1]:")


def test_known_hosts_that_cannot_be_read_is_told(deploy: Deploy, bus: Client) -> None:
    deploy.known.parent.mkdir()
    deploy.known.write_bytes(b"\xff\n")
    assert deploy.fails().startswith(f"{deploy.known} cannot be read: ")


def test_a_key_of_its_own_is_not_believed_where_an_authority_signs(
    deploy: Deploy, bus: Client
) -> None:
    import asyncssh

    deploy.known.parent.mkdir()
    authority = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    known = f"@cert-authority [127.0.0.1]:{deploy.port} {authority}"
    deploy.known.write_text(known)
    assert "host key" in deploy.fails()
    assert deploy.known.read_text() == known


def test_a_key_that_cannot_be_written_down_is_not_believed(deploy: Deploy, bus: Client) -> None:
    deploy.known = Path("/proc/uservlm/known_hosts")
    assert "is new, and /proc/uservlm/known_hosts cannot be written" in deploy.fails()


def test_a_wrong_or_missing_password_is_told(
    deploy: Deploy, bus: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = deploy.fails(password="guessed")
    assert wrong.startswith("127.0.0.1 refuses the password of nao: set USERVLM_ROBOT_PASSWORD")
    monkeypatch.delenv("USERVLM_ROBOT_PASSWORD", raising=False)
    missing = deploy.fails(password=None)
    assert missing.startswith(
        "127.0.0.1 takes no key of yours for nao, and no password was given: set "
    )
    monkeypatch.setenv("USERVLM_ROBOT_PASSWORD", PASSWORD)
    assert deploy(password=None).status == 0


def test_a_robot_without_ssh_is_told(deploy: Deploy, bus: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        deploy.port = free.getsockname()[1]
    says = deploy.fails()
    assert says.startswith(f"127.0.0.1 takes no SSH connection at port {deploy.port}: ")
    assert not bus.call(PACKAGES, "hasPackage", UUID)


def test_a_full_disk_is_told(deploy: Deploy, bus: Client, ssh: SshRobot) -> None:
    ssh.full = True
    says = deploy.fails()
    assert says == "127.0.0.1 does not take the file; is its disk full? (Failure)"
    assert not bus.call(PACKAGES, "hasPackage", UUID)


def test_a_copy_that_stays_behind_is_told(deploy: Deploy, bus: Client, ssh: SshRobot) -> None:
    ssh.keeps = True
    told = deploy()
    [left] = ssh.home.iterdir()
    assert told.status == 0
    assert f"take it away: ssh nao@127.0.0.1 rm {left}" in told.out


def test_a_package_that_is_refused_is_told(deploy: Deploy, bus: Client, ssh: SshRobot) -> None:
    ssh.chroot = True
    says = deploy.fails()
    assert says.startswith("127.0.0.1 refuses the package (install answered False): is its disk")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("packages-busy", "another package is being installed; it may be busy"),
        ("packages-hang", "PackageManager.install: no answer within 1 s; it may be busy"),
        ("packages-lose", f"says that it has installed uservlm {VERSION}, but has none: try again"),
    ],
)
def test_a_busy_robot_is_told(deploy: Deploy, bus: Client, how: str, says: str) -> None:
    bus.call("VirtualPepper", "misbehave", [how])
    assert says in deploy.fails("--patience", "1")


def test_who_stops_it_leaves_nothing_behind(deploy: Deploy, bus: Client, ssh: SshRobot) -> None:
    bus.call("VirtualPepper", "misbehave", ["packages-hang"])
    hung = len(bus.recorded(PACKAGES, "install hangs"))
    command = [sys.executable, "-m", "uservlm.pepper_app.deploy", *deploy.arguments()]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(bus.recorded(PACKAGES, "install hangs")) > hung)
    assert list(ssh.home.iterdir())
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1] == "deploy: stopped\n"
    assert process.returncode == 130


def test_an_app_that_ends_at_once_is_told_with_its_last_words(
    deploy: Deploy, bus: Client, tmp_path: Path
) -> None:
    script = "echo line {1,2,3,4,5,6,7,8}$'\\n'; echo 'no module named \033[1mqi' >&2; sleep 1"
    python = f"bash -c {shlex.quote(script + '; exit 3')}"
    with robot_with(tmp_path / "broken", python) as broken:
        deploy.url = broken.url
        with ssh_robot(tmp_path / "home2", tmp_path / "broken/logs") as ssh:
            deploy.port = ssh.port
            says = deploy.fails()
        assert says.startswith(
            f"{SERVICE} has ended at once on 127.0.0.1; /var/log/naoqi/servicemanager/"
        )
        lines = says.splitlines()
        assert lines[-1] == "no module named  [1mqi" and len(lines) == 9
        with client(broken.url) as there:
            assert there.call(PACKAGES, "hasPackage", UUID) is True


def test_an_app_that_cannot_be_started_is_told(deploy: Deploy, bus: Client, tmp_path: Path) -> None:
    with robot_with(tmp_path / "without", "/nowhere/python2") as without:
        deploy.url = without.url
        says = deploy.fails()
    assert says.startswith(f"127.0.0.1 does not start {SERVICE}: ")
    assert says.endswith("/nowhere/python2 cannot be run: No such file or directory")


def test_naoqi_2_9_is_told_what_to_do_instead(deploy: Deploy, bus: Client) -> None:
    bus.call("VirtualPepper", "misbehave", ["naoqi-2.9"])
    says = deploy.fails()
    assert says.startswith("127.0.0.1 has NAOqi 2.9, which takes no Choregraphe packages; the")
    assert "the app needs a Pepper with 2.5" in says


def test_naoqi_2_9_is_known_by_its_port(deploy: Deploy) -> None:
    """Another address of this machine, where nothing is at 9559."""
    deploy.host, deploy.url = "127.0.0.9", "tcp://127.0.0.9:9559"
    with socket.create_server(("127.0.0.9", 9503)):
        assert deploy.fails().startswith("127.0.0.9 has NAOqi 2.9, which takes no Choregraphe")
    says = deploy.fails()
    assert says.startswith("no NAOqi there: tcp://127.0.0.9:9559: ")
    assert says.endswith("is the robot on, and on this network?")


def test_a_host_that_nobody_knows_is_told(deploy: Deploy) -> None:
    for name in ("pepper.invalid", "pepper..local"):
        deploy.host, deploy.url = name, f"tcp://{name}:9559"
        assert deploy.fails().startswith(f"no way to {name}: ")


def test_without_libqi_it_says_what_to_do_by_hand(deploy: Deploy, tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without/qi.py").write_text("raise ImportError('no wheel for this machine')")
    token = deploy.secret("token", TOKEN)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "uservlm.pepper_app.deploy"),
            *deploy.arguments("--token-file", token, "--language", "fr"),
        ],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "without")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2 and TOKEN not in done.stderr
    first, scp, ssh = done.stderr.splitlines()
    assert first.startswith("deploy: libqi is not here (no wheel for this machine)")
    name = f"{UUID}-{VERSION}.pkg"
    assert first.endswith(f"package --out {name} --token-file {token} --language fr:")
    assert scp == f"  scp {name} nao@127.0.0.1:"
    assert f"qicli call PackageManager.install /home/nao/{name}; rm {name}" in ssh
    assert f"qicli call ALServiceManager.startService {SERVICE}'" in ssh


def test_what_cannot_be_is_refused_before_anything_is_done(deploy: Deploy, bus: Client) -> None:
    assert "brain is http://HOST:PORT" in deploy.fails("--brain", "192.0.2.7")
    assert "token cannot be read" in deploy.fails("--token-file", "/nowhere/token")
    deploy.url = "http://127.0.0.1"
    assert "give tcp://HOST:9559" in deploy.fails()
