"""What is asked of NAOqi to install a package and to run its services.

Owns: in which order PackageManager and ALServiceManager are asked, and that what they answer is
checked against what is so afterwards. Knows nothing of how a package comes to the robot.
"""

from __future__ import annotations

import socket
from threading import Event
from time import monotonic
from typing import Final, Protocol

from uservlm.pepper_app.package import Package
from uservlm.pepper_app.project.onboard.faces import FACES, ours
from uservlm.pepper_app.robot import PORTS, Robot
from uservlm.pepper_app.service import RobotError, Value

PACKAGES, SERVICES = "PackageManager", "ALServiceManager"
INSTALL_S: Final = 120.0
"""How long PackageManager may take."""
STOP_S: Final = 25.0
"""ALServiceManager waits 15 s before it kills."""
KNOWN_S: Final = 4.0
"""After an installation ALServiceManager may take a while to hear of the services."""
START_S: Final = 15.0
STEADY_S: Final = 3.0
"""Who still runs after that has not failed at its start."""
STEP_S: Final = 0.2
PROBE_S: Final = 3.0
FOREIGN: Final = "2.9"
INSTEAD: Final = (
    "{host} has NAOqi 2.9, which takes no Choregraphe packages; the app needs a Pepper with 2.5. "
    "The brain can be offered to programs of your own there: uservlm serve BUNDLE --robot "
    "tcps://{host}:9503"
)


class EndedError(RobotError):
    """A service was started and does not run; its log may say why."""


class Caller(Protocol):
    """Calls services; `qi_session.LibqiClient` is one."""

    def call(self, service: str, method: str, *arguments: Value, seconds: float = ...) -> Value:
        """Call, and wait.

        Raises:
            RobotError: it failed or took too long.
        """


class Managers:
    """PackageManager and ALServiceManager of one robot."""

    def __init__(self, caller: Caller, host: str, closing: Event, patience: float) -> None:
        """Ask nothing yet.

        Args:
            caller: how.
            host: its name, for messages.
            closing: when set, wait no longer.
            patience: seconds an installation may take.
        """
        self._call, self._host = caller.call, host
        self._closing, self._patience = closing, patience

    def version(self) -> str:
        """Give NAOqi's version; nothing where it does not say.

        Raises:
            RobotError: it takes no packages.
        """
        try:
            version = str(self._call("ALSystem", "systemVersion"))
        except RobotError:
            return ""
        if version.startswith(FOREIGN):
            raise RobotError(INSTEAD.format(host=self._host))
        return version

    def install(self, path: str, package: Package) -> None:
        """Install what lies on the robot, in place of an older one.

        Raises:
            RobotError: it is not there afterwards.
        """
        for service in package.services:
            self._stop(service)
        try:
            answer = self._call(PACKAGES, "install", path, seconds=self._patience)
        except RobotError as error:
            raise RobotError(
                f"{self._host} installs nothing: {error}; it may be busy or its disk full. Try "
                "again in a minute, then after a restart of the robot"
            ) from error
        if answer is not True:
            raise RobotError(
                f"{self._host} refuses the package (install answered {answer!r}): is its disk "
                "full? Its /var/log/naoqi/ says more"
            )
        there = self._version_of(package.uuid)
        if there != package.version:
            raise RobotError(
                f"{self._host} says that it has installed {package.uuid} {package.version}, but "
                f"has {there or 'none'}: try again after a restart of the robot"
            )

    def start(self, service: str) -> None:
        """Start a service, and see that it stays.

        Raises:
            EndedError: it does not.
            RobotError: it is not started at all.
        """
        if not self._asked_to_start(service) or not self._becomes(service, True, START_S):
            raise EndedError(f"{service} does not run on {self._host}")
        if self._becomes(service, False, STEADY_S):
            raise EndedError(f"{service} has ended at once on {self._host}")

    def remove(self, package: Package) -> bool:
        """Stop the services and remove the package; False: it is not there.

        The faces that NAOqi has learnt for the app go first.

        Raises:
            RobotError: something of it is still there.
        """
        if not self._call(PACKAGES, "hasPackage", package.uuid):
            return False
        for service in package.services:
            self._stop(service)
        self._forget_faces()
        self._call(PACKAGES, "removePkg", package.uuid, seconds=self._patience)
        if self._call(PACKAGES, "hasPackage", package.uuid):
            raise RobotError(f"{self._host} still has {package.uuid}: restart it, and try again")
        return True

    def _forget_faces(self) -> None:
        """Have NAOqi forget the faces of people who had agreed.

        Raises:
            RobotError: it still knows one.
        """
        for label in filter(ours, self._call(FACES, "getLearnedFacesList") or []):
            if self._call(FACES, "forgetPerson", label) is False:
                raise RobotError(f"{self._host} does not forget the face {label}: try again")

    def _version_of(self, uuid: str) -> str:
        if not self._call(PACKAGES, "hasPackage", uuid):
            return ""
        told = self._call(PACKAGES, "package2", uuid)
        return str(told["version"] if isinstance(told, dict) else told[1])

    def _stop(self, service: str) -> None:
        if self._runs(service):
            self._call(SERVICES, "stopService", service, seconds=STOP_S)
            if not self._becomes(service, False, STOP_S):
                raise RobotError(f"{service} still runs: restart the robot, and try again")

    def _asked_to_start(self, service: str) -> bool:
        """Ask to start a service, again while a new package's may not be known yet.

        Raises:
            RobotError: it cannot be started.
        """
        last = monotonic() + KNOWN_S
        while True:
            try:
                return self._call(SERVICES, "startService", service, seconds=START_S) is not False
            except RobotError as error:
                if self._closing.wait(STEP_S) or monotonic() > last:
                    what = f"{self._host} does not start {service}: {error}"
                    raise RobotError(what) from error

    def _runs(self, service: str) -> bool:
        try:
            return bool(self._call(SERVICES, "isServiceRunning", service))
        except RobotError:  # of a package that is not there
            return False

    def _becomes(self, service: str, running: bool, seconds: float) -> bool:
        """Wait until a service runs, or does not."""
        last = monotonic() + seconds
        while self._runs(service) is not running:
            if self._closing.wait(STEP_S) or monotonic() > last:
                return False
        return True


def takes_logins_only(robot: Robot) -> bool:
    """Tell whether a robot that has nothing at 9559 answers where NAOqi 2.9 does."""
    if robot.scheme != "tcp":
        return False
    try:
        socket.create_connection((robot.host, PORTS["tcps"]), PROBE_S).close()
    except OSError:
        return False
    return True
