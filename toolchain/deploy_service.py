"""The service on a board: its unit installed, started anew, and what was before brought back.

Owns: what systemd is told, and when a service counts as running. Knows nothing of the unit's text
(`deploy_unit.py`) nor of SSH; like `deploy_steps.py`, it is pure text.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from uservlm.toolchain.deploy_steps import Release, Step, sh, swap
from uservlm.toolchain.deploy_unit import UNIT, owner, unit

FOREIGN: Final = 77
"""Exit status: the unit is another's."""
HEALTH_S: Final = 180
"""A service may take so long until it answers: a large bundle is read and checked first."""
SETTLED_S: Final = 30
"""Where it is not known where it answers it must run so long, without being started again; a unit
of ours is started again after 10 s."""
BACK_S: Final = 120.0
"""systemd gives a program 90 s to end."""
AGAIN: Final = "uservlm: what was in use before is in use again"
USER: Final = (
    '[ -n "${XDG_RUNTIME_DIR:-}" ] || export XDG_RUNTIME_DIR="/run/user/$(id -u)"\n'
    'units="$HOME/.config/systemd/user"'
)
"""A login by SSH without a session of systemd's does not name its bus."""


def own(folder: str) -> str:
    """Give the condition that a unit is installed, and this folder's."""
    return f'[ -f "$units/{UNIT}" ] && grep -qxF {_q(owner(folder))} "$units/{UNIT}"'


def serve(release: Release, options: Sequence[str], address: tuple[str, int] | None) -> list[Step]:
    """Install the unit, start it, and wait until it answers.

    Args:
        release: what is served: its first bundle.
        options: of `uservlm serve`.
        address: where it answers HTTP; None: that cannot be known.
    """
    text = unit(release.folder, release.bundles[0].name, options)
    return [
        Step(
            f"write ~/.config/systemd/user/{UNIT}",
            sh(
                f'{USER}; mkdir -p "$units"; cd -- {_q(release.folder)}',
                f'if [ -f "$units/{UNIT}" ]; then {{ {own(release.folder)}; }} || exit {FOREIGN}',
                f'cat "$units/{UNIT}" > incoming/unit; fi',
                f"cat > \"$units/{UNIT}.new\" << 'END'\n{text}END",
                f'mv "$units/{UNIT}.new" "$units/{UNIT}"',
                f"systemctl --user daemon-reload; systemctl --user enable {UNIT}",
            ),
        ),
        *_start(release, address),
    ]


def restart(release: Release, address: tuple[str, int] | None) -> list[Step]:
    """Start the service that is installed anew, and wait until it answers."""
    note = f'{USER}; cd -- {_q(release.folder)}; cat "$units/{UNIT}" > incoming/unit'
    return [Step(f"note ~/.config/systemd/user/{UNIT}", sh(note)), *_start(release, address)]


def back(release: Release) -> Step:
    """Undo a switch and what the service was told; says `AGAIN` where something was in use."""
    return Step(
        "go back to what was in use before",
        sh(
            f"{USER}; cd -- {_q(release.folder)}; serves=",
            f'if [ -f incoming/unit ]; then cat incoming/unit > "$units/{UNIT}"; serves=yes',
            f"elif {own(release.folder)}; then systemctl --user disable --now {UNIT}",
            f'rm -f "$units/{UNIT}"; systemctl --user daemon-reload; fi',
            "if [ -L incoming/was ]; then",
            swap(release, '"$(readlink incoming/was)"'),
            f"echo {_q(AGAIN)}; fi",
            f'[ -z "$serves" ] || {{ systemctl --user daemon-reload; '
            f"systemctl --user restart {UNIT}; }}",
        ),
    )


def _start(release: Release, address: tuple[str, int] | None) -> list[Step]:
    probe = (
        "import http.client, sys; c = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), "
        "timeout=5); c.request('GET', '/healthz'); c.getresponse()"
    )
    python = _q(f"{release.folder}/{release.path}/runtime/bin/python")
    well = f'[ "$ran" -ge {SETTLED_S // 2} ]'
    if address:
        well = f"{python} -c {_q(probe)} {_q(address[0])} {address[1]} 2> /dev/null"
    wait = sh(
        f"{USER}; left={HEALTH_S // 2}; ran=0",
        # Not 0 where it has been started again before it was started anew.
        f"restarts() {{ systemctl --user show -p NRestarts {UNIT} || true; }}; first=$(restarts)",
        'while [ "$left" -gt 0 ]; do sleep 2; left=$((left - 1)); ran=$((ran + 1))',
        f"state=$(systemctl --user is-active {UNIT} || true)",
        '[ "$(restarts)" = "$first" ] || { state="ending and started again"; break; }',
        f'case "$state" in active) ! {well} || exit 0 ;; activating) ran=0 ;; *) break ;; esac',
        "done",
        f"journalctl --user -u {UNIT} -n 7 -o cat --no-pager >&2 || true",
        f'echo "{UNIT} is $state" >&2; exit 1',
    )
    return [
        Step("start it", sh(f"{USER}; systemctl --user restart {UNIT}")),
        Step("wait until it answers", wait),
    ]


_q = shlex.quote
