"""The two texts that a deploy writes on a board: what starts `uservlm`, and systemd's unit.

Owns: their form, how words are quoted in them, and how a unit is read again. Knows nothing of how
they come there.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from uservlm.runtime.errors import RequestError

UNIT: Final = "uservlm.service"
KEPT: Final = {"XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "data"}
"""What the runtime writes, by the variable that says where; all of it below the deploy's folder,
so that removing it leaves nobody's face behind."""


def launcher(folder: str, release: str) -> str:
    """Give the script that starts a release's `uservlm`.

    Args:
        folder: of the deploy, absolute.
        release: its folder below that.
    """
    places = "".join(
        f"export {name}={shlex.quote(f'{folder}/{below}')}\n" for name, below in KEPT.items()
    )
    program = shlex.quote(f"{folder}/{release}/runtime/bin/uservlm")
    return (
        "#!/bin/sh\n"
        "# Who is kept, the token and notes lie beside the program; others cannot read them.\n"
        "# No variable leads elsewhere: what is removed with the program is all there is.\n"
        f"unset USERVLM_USERS\n{places}export ORT_DISABLE_TELEMETRY=1\n"
        f'umask 077\nexec {program} "$@"\n'
    )


def owner(folder: str) -> str:
    """Give the line by which a unit is known as a folder's own."""
    return f"# deployed to {folder}"


def unit(folder: str, bundle: str, options: Sequence[str]) -> str:
    """Give a systemd user unit that serves a bundle.

    Args:
        folder: of the deploy, absolute.
        bundle: the name of one that is deployed.
        options: of `uservlm serve`.

    Raises:
        RequestError: a word has control characters.
    """
    words = [f"{folder}/current/uservlm", "serve", f"{folder}/current/bundles/{bundle}", *options]
    return f"""{owner(folder)}
[Unit]
Description=User-VLM answers about the person in view

[Service]
ExecStart={" ".join(quoted(word) for word in words)}
Restart=on-failure
RestartSec=10
UMask=0077
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""


@dataclass(frozen=True)
class Installed:
    """What a unit on a board says."""

    folder: str
    """Of the deploy that wrote it; empty: no deploy did."""
    bundle: str
    """The name of the bundle that it serves; empty: it starts something else."""
    options: tuple[str, ...]
    """Of `uservlm serve`."""


def read_unit(text: str) -> Installed:
    """Read what `unit` has written; whatever else is there is nobody's."""
    lines, begins = text.splitlines(), owner("")
    folder = next((one.removeprefix(begins) for one in lines if one.startswith(begins)), "")
    command = next((one for one in lines if one.startswith("ExecStart=")), "")
    try:
        words = shlex.split(command.removeprefix("ExecStart="))
    except ValueError:
        words = []
    words = [word.replace("%%", "%").replace("$$", "$") for word in words]
    bundles = f"{folder}/current/bundles/"
    if words[:2] != [f"{folder}/current/uservlm", "serve"] or not "".join(words[2:3]).startswith(
        bundles
    ):
        return Installed(folder, "", ())
    return Installed(folder, words[2].removeprefix(bundles), tuple(words[3:]))


def quoted(word: str) -> str:
    """Quote a word of a command line as systemd reads it (systemd.service, "Command lines").

    Raises:
        RequestError: it has control characters.
    """
    if not word.isprintable():
        raise RequestError(f"{word!r} cannot be written into a unit: it has control characters")
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"'
