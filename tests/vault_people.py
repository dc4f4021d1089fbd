"""People for the vault's tests, and what child processes do to a store before they die.

Child processes come from a fork server, so that they hold none of the tests' locks and threads.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import random
import resource
import signal
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from uservlm.runtime.errors import ConsentError, StoreError
from uservlm.runtime.profiles import Consent, Keeps, Profile
from uservlm.runtime.vault import Vault

NOW = datetime.now(timezone.utc)
ADA = "Ada Lovelace, Countess, of Ockham Park"
GRACE = "Grace Brewster Murray Hopper of Arlington"
HOW = "said yes aloud to the robot in the hall"
KEY = bytes(range(32))
FIT = "bundle 1, llama.cpp 2"
OLD, NEW, KEPT = b"old state of a person" * 20, b"new state, longer" * 40, b"Grace stays" * 30


def profile(
    name: str = ADA, keeps: Keeps = "state", days: float | None = 365, ago: float = 0
) -> Profile:
    given = NOW - timedelta(days=ago)
    return Profile(name, Consent(given, HOW, keeps, days), created=given, seen=given)


def store(folder: Path) -> Vault:
    """Two people with everything."""
    vault = Vault.open(folder, KEY)
    for name, payload in ((ADA, OLD), (GRACE, KEPT)):
        vault.keep(profile(name))
        vault.write(name, "embedding", FIT, payload)
        vault.write(name, "state", FIT, payload)
    return vault


def child(work: Callable[..., None], *arguments: Any) -> int:
    """Run in a process of its own; gives its exit code, negative for a signal."""
    process = begin(work, *arguments)
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def begin(work: Callable[..., None], *arguments: Any) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "uservlm.runtime.vault"])
    process = context.Process(target=work, args=arguments)
    process.start()
    return process


# What a child does, by name.


def write_new(folder: Path) -> None:
    Vault.open(folder, KEY).write(ADA, "state", FIT, NEW)


def keep_less(folder: Path) -> None:
    Vault.open(folder, KEY).keep(profile(keeps="profile"))


def forget(folder: Path) -> None:
    Vault.open(folder, KEY).forget(ADA)


def purge(folder: Path) -> None:
    Vault.open(folder, KEY).purge(NOW + timedelta(days=366))


def make(folder: Path) -> None:
    Vault.open(folder)


ACTIONS = {work.__name__: work for work in (write_new, keep_less, forget, purge, make)}


def dies_at(moment: int, action: str, folder: Path) -> None:
    """Do something, and be killed before the `moment`th call that the disk could notice."""
    count = 0
    write = os.write
    sync = os.fsync
    watched = {"open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "fcntl.flock"}

    def step() -> None:
        nonlocal count
        count += 1
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def half_written(handle: int, data: memoryview) -> int:
        if count + 1 == moment:
            write(handle, data[: len(data) // 2])
        step()
        return write(handle, data)

    def synced(handle: int) -> None:
        step()
        sync(handle)

    os.write, os.fsync = half_written, synced  # type: ignore[assignment]
    sys.addaudithook(lambda event, _: step() if event in watched else None)
    ACTIONS[action](folder)
    os._exit(0)


def writes_for_ever(folder: Path, ready: Any) -> None:
    vault = Vault.open(folder, KEY)
    ready.set()
    while True:
        vault.write(ADA, "state", FIT, NEW * 2000)
        vault.touch(ADA)


def hammers(folder: Path, seed: int) -> None:
    """Keep, write, read and forget at random; whatever is read must be what somebody wrote."""
    vault, draw = Vault.open(folder, KEY), random.Random(seed)
    for _ in range(120):
        name = draw.choice([ADA, "Alan", "Edsger"])
        what = draw.choice(["keep", "write", "write", "read", "read", "touch", "forget", "list"])
        if what == "keep":
            vault.keep(profile(name))
        elif what == "write":
            try:
                vault.write(name, "state", FIT, name.encode() * draw.randint(1, 20000))
            except ConsentError:
                pass
        elif what == "read":
            found = vault.read(name, "state", FIT)
            assert found in (None, OLD) or found == name.encode() * (len(found) // len(name))
        elif what == "touch":
            vault.touch(name)
        elif what == "forget":
            vault.forget(name)
        else:
            assert GRACE in [one.name for one in vault.profiles()]
        assert vault.read(GRACE, "state", FIT) == KEPT
    assert vault.refused == ()
    os._exit(0)


def has_no_space(folder: Path) -> None:
    """As on a full disk: a file that grows beyond 4 kB is refused by the system."""
    vault = Vault.open(folder, KEY)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        vault.write(ADA, "state", FIT, bytes(100_000))
    except StoreError as error:
        assert "cannot be kept" in str(error)
        assert vault.read(ADA, "state", FIT) == OLD
        os._exit(0)


def may_not_write(folder: Path) -> None:
    """A folder that turned read-only, and a file that may not be read, seen by no superuser."""
    vault = Vault.open(folder, KEY)
    if os.geteuid() == 0:
        for path in (folder, *folder.iterdir()):
            os.chown(path, 65534, 65534)
        os.setuid(65534)
    folder.chmod(0o500)
    for refused in (lambda: vault.keep(profile(keeps="profile")), lambda: vault.forget(ADA)):
        try:
            refused()
        except StoreError:
            assert vault.read(ADA, "state", FIT) == OLD
        else:
            os._exit(1)
    folder.chmod(0o700)
    for path in folder.glob("*.state"):
        path.chmod(0)
    assert vault.read(ADA, "state", FIT) is None
    assert [one.reason for one in vault.refused] == ["it may not be read"]
    assert vault.read(ADA, "embedding", FIT) == OLD
    os._exit(0)


def holds_the_folder(folder: Path, ready: Any) -> None:
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    ready.set()
    signal.pause()
