"""The end of a deploy: what it has made goes, and nothing else.

Owns: the order of it, and what is said of what stays. Knows nothing of SSH; pure text, as
`deploy_steps.py`. People are kept in files that the vault names (`runtime/shelf.py`): where
somebody has put a link in place of a folder those go behind it too, and the rest is somebody's.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from uservlm.toolchain.deploy_service import USER, own
from uservlm.toolchain.deploy_steps import MARK, Step, sh
from uservlm.toolchain.deploy_unit import KEPT, UNIT

BUSY: Final = 78
"""Exit status: a program runs from there."""
LEFT: Final = "uservlm: left: "
_FORGET: Final = """forget() {
    at=$(cd -P -- "$1" && pwd -P)
    rm -f -- "$at/key" "$at/check" "$at"/*.profile "$at"/.*.partial
    rm -f -- "$at"/*.embedding "$at"/*.embedding.* "$at"/*.state "$at"/*.state.*
    if [ -L "$1" ]; then rm -f -- "$1"; fi
    rmdir -- "$at" 2> /dev/null || told "$at"
}"""


def remove(folder: str) -> list[Step]:
    """Take everything away, people who are kept included; a line `LEFT` + path for what stays."""
    beside = 'while IFS= read -r one; do told "$one"; done'
    return [
        Step(
            "look whether a program runs from there",
            sh(
                f"cd -- {_q(folder)}; at=$(pwd -P); pids=",
                'for one in $(grep -lsF " $at/" /proc/[0-9]*/maps || true); do one=${one%/maps}',
                # The service's own are ended with it.
                f'grep -qs "/{UNIT}\\$" "$one/cgroup" || pids="$pids ${{one##*/}}"; done',
                f'[ -z "$pids" ] || {{ echo $pids >&2; exit {BUSY}; }}',
            ),
        ),
        Step(
            "stop the service and remove it",
            sh(
                f"{USER}; if {own(folder)}; then systemctl --user disable --now {UNIT}",
                f'rm -f "$units/{UNIT}"; systemctl --user daemon-reload; fi',
            ),
        ),
        Step(
            f"remove {folder}",
            sh(
                f'cd -- {_q(folder)}; at=$(pwd -P); told() {{ echo {_q(LEFT)}"$1"; }}',
                _FORGET,
                "rm -f config/uservlm/token",
                "for link in data/uservlm data/uservlm/users; do",
                'if [ -L "$link" ] && [ -d data/uservlm/users ]; then',
                "forget data/uservlm/users; fi; done",
                *(_kept(name) for name in sorted(KEPT.values())),
                "rm -rf parts releases current previous incoming",
                # Last: until here the same command goes on.
                f"rest=$(ls -A | grep -vxF {MARK} || true)",
                f'if [ -n "$rest" ]; then rm -f {MARK}',
                f"printf '%s\\n' \"$rest\" | {beside}; exit 0; fi",
                f'cd; rm -f "$at/{MARK}"; [ ! -L {_q(folder)} ] || rm -f -- {_q(folder)}',
                'rmdir -- "$at" 2> /dev/null || told "$at"',
            ),
        ),
    ]


def left(said: str) -> Sequence[str]:
    """Read what stays."""
    return [line.removeprefix(LEFT) for line in said.splitlines() if line.startswith(LEFT)]


def _kept(name: str) -> str:
    """Remove what the runtime writes below one of its folders; a link goes, not what is behind."""
    below = f"{name}/uservlm"
    return (
        f"if [ -L {below} ]; then other=$(cd -P {below} 2> /dev/null && pwd -P || true)\n"
        f'rm -f {below}; [ ! -d "$other" ] || rmdir "$other" 2> /dev/null || told "$other"\n'
        f"else rm -rf {below}; fi\n"
        f"if [ -L {name} ]; then rm -f {name}; else rmdir {name} 2> /dev/null || true; fi"
    )


_q = shlex.quote
