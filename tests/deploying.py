"""The command `deploy` as a person gives it to a virtual Pepper, for tests.

Owns: the robot's and the command's options, and that no secret is ever shown.
"""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from ssh_robot import PASSWORD
from virtual_pepper import Pepper, pepper

from uservlm.pepper_app.deploy import main

TOKEN = "the-token-of-the-brain"


def robot_with(folder: Path, python: str = sys.executable) -> AbstractContextManager[Pepper]:
    """Make a robot whose Python is this command."""
    home = {**os.environ, "HOME": str(folder)}
    return pepper("--folder", str(folder), "--python", python, "--patience", "5", env=home)


@dataclass(frozen=True)
class Told:
    """What the command did."""

    status: int
    out: str
    err: str


class Deploy:
    """The command as a person gives it, for this robot."""

    def __init__(
        self, place: Path, url: str, port: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.place, self.url, self.port, self._capsys = place, url, port, capsys
        self.host = "127.0.0.1"
        self.known = place / "ssh/known_hosts"

    def secret(self, name: str, text: str) -> str:
        path = self.place / name
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    def arguments(self, *options: str, password: str | None = PASSWORD) -> list[str]:
        file = [] if password is None else ["--password-file", self.secret("password", password)]
        return [
            *(self.host, "--robot", self.url, "--port-ssh", str(self.port)),
            *("--known-hosts", str(self.known)),
            *file,
            *options,
        ]

    def __call__(self, *options: str, password: str | None = PASSWORD) -> Told:
        status = main(self.arguments(*options, password=password))
        told = self._capsys.readouterr()
        assert PASSWORD not in told.out + told.err and TOKEN not in told.out + told.err
        return Told(status, told.out, told.err)

    def fails(self, *options: str, password: str | None = PASSWORD) -> str:
        """Give the one sentence that a person gets, and nothing else."""
        told = self(*options, password=password)
        assert told.status == 2, told
        assert told.err.startswith("deploy: ") and "Traceback" not in told.err
        return told.err.removeprefix("deploy: ").strip()
