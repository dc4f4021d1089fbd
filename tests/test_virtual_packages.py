"""Packages that are really unpacked, and services that really run, over real libqi."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("qi")

from virtual_pepper import Client, Pepper, client, pepper, wait_for, wait_until_back

MANIFEST = """<package uuid="{uuid}" version="{version}"><names/><contents/>
<services>{services}</services>{more}</package>"""
SERVICE = '<service name="{0}" autorun="{1}" execStart="{2}"/>'
GREETER = """
import signal, sys, threading
import qi
class Greeter:
    def greet(self, name):
        return "Hello " + name
session = qi.Session()
session.connect(sys.argv[sys.argv.index("--qi-url") + 1])
session.listen("tcp://127.0.0.1:0")
session.registerService("Greeter", Greeter())
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
ended.wait()
session.close()
"""
DEAF = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("deaf").touch()
time.sleep(60)
"""
MANAGER = "ALServiceManager"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("robot")


@pytest.fixture(scope="module")
def robot(folder: Path) -> Iterator[Pepper]:
    with pepper("--folder", str(folder), "--patience", "0.5") as made:
        yield made


@pytest.fixture
def bus(robot: Pepper) -> Iterator[Client]:
    with client(robot.url) as made:
        yield made
        for uuid, *_ in made.call("PackageManager", "packages2"):
            made.call("PackageManager", "removePkg", uuid)


def package(
    place: Path,
    uuid: str,
    files: dict[str, str],
    *services: tuple[str, str, str],
    version: str = "1.0.0",
    more: str = "",
) -> str:
    told = "".join(SERVICE.format(*service) for service in services)
    manifest = MANIFEST.format(uuid=uuid, version=version, services=told, more=more)
    with zipfile.ZipFile(place / f"{uuid}.pkg", "w") as packed:
        for name, text in {"manifest.xml": manifest, **files}.items():
            packed.writestr(name, text)
    return str(place / f"{uuid}.pkg")


def test_a_package_is_unpacked_replaced_and_removed(
    bus: Client, folder: Path, tmp_path: Path
) -> None:
    manager, removed = "PackageManager", bus.signal("PackageManager", "onPackageRemoved2")
    executable = '<executableFiles><file path="run.sh"/></executableFiles>'
    files = {"html/index.html": "<p>", "run.sh": "#!/bin/sh"}
    file = package(tmp_path, "one-app", files, more=executable)
    assert bus.call(manager, "install", file) is True
    assert bus.call(manager, "hasPackage", "one-app") is True
    [[uuid, version, *rest]] = bus.call(manager, "packages2")
    assert (uuid, version, len(rest)) == ("one-app", "1.0.0", 8)
    place = folder / "apps" / "one-app"
    assert os.access(place / "run.sh", os.X_OK)
    assert bus.call("ALTabletService", "loadApplication", "one-app") is True
    newer = package(tmp_path, "one-app", {"other": ""}, version="2.0.0")
    assert bus.call(manager, "install", newer) is True
    assert bus.call(manager, "package2", "one-app")[1] == "2.0.0"
    assert sorted(path.name for path in place.iterdir()) == ["manifest.xml", "other"]
    bus.call(manager, "removePkg", "one-app")
    assert not place.exists() and bus.call(manager, "hasPackage", "one-app") is False
    assert "no package" in bus.refusal(manager, "removePkg", "one-app")
    wait_for(lambda: removed.heard == ["one-app", "one-app"])


def test_what_is_no_package_is_not_installed(bus: Client, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pkg").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "empty.pkg", "w"):
        pass
    bad = [
        str(tmp_path / "text.pkg"),
        str(tmp_path / "empty.pkg"),
        str(tmp_path / "missing.pkg"),
        "nul\0",
        package(tmp_path, "outside", {"../../escaped": "x"}),
        package(tmp_path, "..", {}),
        package(tmp_path, "lacks", {}, more='<executableFiles><file path="x"/></executableFiles>'),
    ]
    for file in bad:
        assert bus.call("PackageManager", "install", file) is False, file
    assert bus.call("PackageManager", "packages2") == []
    assert not (folder / "escaped").exists() and not list((folder / "apps").iterdir())


def test_an_installed_service_runs_is_called_and_ends_when_asked(
    bus: Client, tmp_path: Path
) -> None:
    started, stopped = bus.signal(MANAGER, "serviceStarted"), bus.signal(MANAGER, "serviceStopped")
    line = ("Main", "true", "/usr/bin/python2 scripts/greeter.py")
    file = package(tmp_path, "greeter", {"scripts/greeter.py": GREETER}, line)
    assert bus.call("PackageManager", "install", file) is True
    wait_for(lambda: started.heard == [("greeter.Main", "asked")])
    assert bus.call(MANAGER, "isServiceRunning", "greeter.Main") is True
    bus.session.waitForService("Greeter")
    assert bus.call("Greeter", "greet", "Sam") == "Hello Sam"
    assert bus.call(MANAGER, "stopService", "greeter.Main") is True
    assert bus.call(MANAGER, "isServiceRunning", "greeter.Main") is False
    wait_for(lambda: stopped.heard == [("greeter.Main", "asked")])
    assert "SIGKILL" not in [deed["what"] for deed in bus.recorded(MANAGER)]
    assert "no service" in bus.refusal(MANAGER, "start", "greeter.Other")


def test_who_does_not_end_is_killed(bus: Client, folder: Path, tmp_path: Path) -> None:
    line = ("Main", "false", "python deaf.py")
    assert bus.call("PackageManager", "install", package(tmp_path, "deaf", {"deaf.py": DEAF}, line))
    assert bus.call(MANAGER, "isServiceRunning", "deaf.Main") is False, "no autorun"
    assert bus.call(MANAGER, "startService", "deaf.Main") is True
    wait_for((folder / "apps" / "deaf" / "deaf").exists)
    bus.call(MANAGER, "stop", "deaf.Main")
    assert bus.values(MANAGER, "SIGKILL") == [["deaf.Main"]]


def test_a_service_that_keeps_crashing_is_started_six_times_and_given_up(
    bus: Client, tmp_path: Path
) -> None:
    line = ("Main", "true", "/bin/sh -c 'exit 3'")
    assert bus.call("PackageManager", "install", package(tmp_path, "crash", {}, line))
    wait_for(lambda: bus.values(MANAGER, "given up") == [["crash.Main"]])
    starts = [reason for name, reason in bus.values(MANAGER, "started") if name == "crash.Main"]
    assert starts == ["asked", *["crashed"] * 5]
    assert ["crash.Main", "exit code 3"] in bus.values(MANAGER, "stopped")


def test_an_installed_service_is_there_again_after_a_restart_of_naoqi(tmp_path: Path) -> None:
    line = ("Main", "true", "/usr/bin/python greeter.py")
    file = package(tmp_path, "greeter", {"greeter.py": GREETER}, line)
    with pepper("--pace", "10", "--folder", str(tmp_path / "robot")) as made:
        with client(made.url) as bus:
            assert bus.call("PackageManager", "install", file) is True
            bus.session.waitForService("Greeter")
            bus.do("restart", seconds=1.0)
            wait_for(lambda: not bus.session.isConnected())
        wait_until_back(made.url)
        with client(made.url) as bus:
            bus.session.waitForService("Greeter")
            assert bus.call("Greeter", "greet", "Sam") == "Hello Sam"
            runs = [what for what in ("started", "stopped") for _ in bus.values(MANAGER, what)]
            assert runs == ["started", "started", "stopped"]
