"""What is done on a board, step by step, each one script for its shell: pure text.

Owns: the board's folders, and the order that leaves what works working until the last moment. Knows
nothing of SSH. `--dry-run` prints exactly these.

    FOLDER/parts/KEY/            a runtime or a bundle, whole
    FOLDER/releases/RELEASE/     runtime -> a part, bundles/NAME -> a part, uservlm
    FOLDER/current               -> releases/RELEASE: the one switch
    FOLDER/incoming/             what is on its way
    FOLDER/cache, config, data   what the runtime writes

A part and a release appear by a rename and are never changed, so that whatever is cut off leaves
`current` as it was.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from uservlm.toolchain.deploy_parts import KEY_DIGITS, File, Part
from uservlm.toolchain.deploy_unit import KEPT, UNIT, launcher, owner, unit

MARK: Final = ".uservlm-deploy"
"""A file in FOLDER: it is ours, and whoever holds its lock deploys."""
OTHERS, HELD, FOREIGN = 73, 75, 77
"""Exit statuses: FOLDER holds other things; somebody deploys; the unit is another's."""
HEALTH_S: Final = 180
"""A service may take so long until it answers: a large bundle is read and checked first."""
_USER: Final = (
    '[ -n "${XDG_RUNTIME_DIR:-}" ] || export XDG_RUNTIME_DIR="/run/user/$(id -u)"\n'
    'units="$HOME/.config/systemd/user"\n'
)
"""A login by SSH without a session of systemd's does not name its bus."""


@dataclass(frozen=True)
class Step:
    """One script, and what it is for."""

    about: str
    script: str
    sends: File | None = None
    """Goes to the script's standard input, without what is there already."""


@dataclass(frozen=True)
class Release:
    """What is there afterwards: a runtime and bundles, nothing else."""

    folder: str
    """Absolute."""
    runtime: Part
    bundles: tuple[Part, ...]

    @property
    def path(self) -> str:
        """Its folder, below the deploy's."""
        told = [part.key for part in (self.runtime, *self.bundles)]
        told.append(launcher(self.folder, ""))
        return f"releases/{hashlib.sha256(' '.join(told).encode()).hexdigest()[:KEY_DIGITS]}"


def lock(folder: str) -> str:
    """Give the script that keeps other deploys away until its standard input ends.

    The lock ends with the connection, however that ends.
    """
    return _sh(
        f"mkdir -p -- {_q(folder)}; cd -- {_q(folder)}",
        f'[ -f {MARK} ] || [ -z "$(ls -A)" ] || exit {OTHERS}',
        f"chmod 700 .; exec 9>> {MARK}; flock -n 9 || exit {HELD}",
        "echo held; exec cat > /dev/null",
    )


def ours(folder: str) -> str:
    """Give the script that prints a word where something is deployed."""
    return _sh(f"[ ! -f {_q(f'{folder}/{MARK}')} ] || echo deployed")


def there(folder: str, file: str) -> str:
    """Give the script that says how much of a file has come: its bytes and their SHA-256."""
    at = _q(f"{folder}/incoming/{file}")
    return _sh(f"[ -f {at} ] || exit 0", f"wc -c < {at}; sha256sum < {at}")


def drop(folder: str, file: str) -> str:
    """Give the script that takes away what has come of a file."""
    return _sh(f"rm -f {_q(f'{folder}/incoming/{file}')}")


def bring(folder: str, part: Part) -> list[Step]:
    """Copy a part, and make it whole there."""
    below = "" if part.top else f"{part.key}/"
    steps = [_copy(folder, one, f"{below}{one.name}") for one in part.files]
    if part.top:
        return [*steps, *_unpack(folder, part)]
    about = f"keep {part.name} as {part.key}"
    return [*steps, Step(about, _keep(folder, part, f"incoming/{part.key}"))]


def prepare(release: Release) -> Step:
    """Put a release together, beside what is in use."""
    new, path = "incoming/release", release.path
    links = [
        f"ln -s {_q(f'../../../parts/{part.key}')} {_q(f'{new}/bundles/{part.name}')}"
        for part in release.bundles
    ]
    return Step(
        f"put {path} together",
        _sh(
            f"cd -- {_q(release.folder)}; [ ! -d {path} ] || exit 0",
            f"rm -rf {new}; mkdir -p {new}/bundles releases",
            f"ln -s {_q(f'../../parts/{release.runtime.key}')} {new}/runtime",
            *links,
            f"cat > {new}/uservlm << 'END'\n{launcher(release.folder, path)}END",
            f"chmod 700 {new}/uservlm",
            f"mv {new} {path}",
        ),
    )


def ask(release: Release, picture: File, question: str) -> list[Step]:
    """Put a question to the first bundle; the answer is one line of JSON."""
    at = f"{release.folder}/{release.path}"
    words = [f"{at}/uservlm", "ask", f"{at}/bundles/{release.bundles[0].name}", "--json"]
    words += ["--image", f"{release.folder}/incoming/{picture.name}", question]
    return [
        _copy(release.folder, picture, picture.name),
        Step("ask it about a drawn person", _sh(shlex.join(words))),
    ]


def switch(release: Release) -> Step:
    """Make a release the current one, by one rename."""
    swap = "import os; os.replace('incoming/current', 'current')"
    python = f"{release.path}/runtime/bin/python"
    return Step(
        "switch to it",
        _sh(
            f"cd -- {_q(release.folder)}; rm -f incoming/current",
            f"ln -s {release.path} incoming/current",
            f"{python} -c {_q(swap)}",
        ),
    )


def tidy(release: Release) -> Step:
    """Take away what is no longer used, and what was on its way."""
    keys = "|".join(part.key for part in (release.runtime, *release.bundles))
    return Step(
        "take away what it replaces",
        _sh(
            f"cd -- {_q(release.folder)}; rm -rf incoming",
            f"for one in parts/*; do case ${{one#parts/}} in {keys}) ;; "
            '*) rm -rf -- "$one" ;; esac; done',
            f"for one in releases/*; do case $one in {release.path}) ;; "
            '*) rm -rf -- "$one" ;; esac; done',
        ),
    )


def clear(folder: str) -> Step:
    """Take away what was half made; copies stay, so that the next deploy goes on with them."""
    script = _sh(f"cd -- {_q(folder)}; rm -rf incoming/unpacked incoming/release incoming/current")
    return Step("take away what is half made", script)


def serve(release: Release, options: Sequence[str], address: tuple[str, int] | None) -> list[Step]:
    """Install the unit, start it, and wait until it answers.

    Args:
        release: what is served: its first bundle.
        options: of `uservlm serve`.
        address: where it answers HTTP; None: that cannot be known.
    """
    text = unit(release.folder, release.bundles[0].name, options)
    own = f'! [ -f "$units/{UNIT}" ] || grep -qxF {_q(owner(release.folder))} "$units/{UNIT}"'
    return [
        Step(
            f"write ~/.config/systemd/user/{UNIT}",
            _sh(
                f'{_USER}mkdir -p "$units"; {{ {own}; }} || exit {FOREIGN}',
                f"cat > \"$units/{UNIT}.new\" << 'END'\n{text}END",
                f'mv "$units/{UNIT}.new" "$units/{UNIT}"',
                f"systemctl --user daemon-reload; systemctl --user enable {UNIT}",
            ),
        ),
        *restart(release, address),
    ]


def restart(release: Release, address: tuple[str, int] | None) -> list[Step]:
    """Start the service anew, and wait until it answers."""
    probe = (
        "import http.client, sys; c = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), "
        "timeout=5); c.request('GET', '/healthz'); c.getresponse()"
    )
    python = _q(f"{release.folder}/{release.path}/runtime/bin/python")
    answers = "true"
    if address:
        answers = f"{python} -c {_q(probe)} {_q(address[0])} {address[1]} 2> /dev/null"
    wait = _sh(
        f"{_USER}left={HEALTH_S // 2}",
        'while [ "$left" -gt 0 ]; do sleep 2; left=$((left - 1))',
        f"state=$(systemctl --user is-active {UNIT} || true)",
        f'case "$(systemctl --user show -p NRestarts --value {UNIT})" in ""|0) ;; '
        '*) state="ending and started again"; break ;; esac',
        'case "$state" in active) ! ' + answers + " || exit 0 ;; activating) ;; *) break ;; esac",
        "done",
        f'echo "{UNIT} is $state" >&2; journalctl --user -u {UNIT} -n 8 -o cat --no-pager >&2',
        "exit 1",
    )
    return [
        Step("start it", _sh(f"{_USER}systemctl --user restart {UNIT}")),
        Step("wait until it answers", wait),
    ]


def remove(folder: str) -> list[Step]:
    """Take everything away, people who are kept included."""
    ours = " ".join(("parts", "releases", "current", "incoming", *sorted(KEPT.values())))
    own = f'[ -f "$units/{UNIT}" ] && grep -qxF {_q(owner(folder))} "$units/{UNIT}"'
    return [
        Step(
            "stop the service and remove it",
            _sh(
                f"{_USER}if {own}; then systemctl --user disable --now {UNIT}",
                f'rm -f "$units/{UNIT}"; systemctl --user daemon-reload; fi',
            ),
        ),
        Step(
            f"remove {folder}",
            _sh(
                f"cd -- {_q(folder)}; rm -rf {ours}; rm -f {MARK}",
                f"cd; rmdir -- {_q(folder)}",
            ),
        ),
    ]


def _copy(folder: str, file: File, name: str) -> Step:
    at = f"incoming/{name}"
    place = at.rpartition("/")[0]
    script = _sh(
        f"cd -- {_q(folder)}; mkdir -p {_q(place)}",
        f"cat >> {_q(at)}; sha256sum < {_q(at)}",
    )
    return Step(
        f"copy {file.name} ({file.size:,} bytes)",
        script,
        File(file.path, name, file.sha256, file.size),
    )


def _unpack(folder: str, part: Part) -> list[Step]:
    name = part.files[0].name
    opener = {"xz": "xz -dc", "gz": "gzip -dc", "tar": "cat"}[name.rpartition(".")[2]]
    inside = f"incoming/unpacked/{part.top}"
    return [
        Step(
            "unpack it",
            _sh(
                f"cd -- {_q(folder)}; rm -rf incoming/unpacked; mkdir incoming/unpacked",
                f"{opener} {_q(f'incoming/{name}')} | tar -xof - -C incoming/unpacked",
            ),
        ),
        Step(
            "compare each file with its SHA-256",
            _sh(f"cd -- {_q(folder)}", f"{_q(inside)}/bin/uservlm-check {_q(inside)}"),
        ),
        Step(f"keep it as {part.key}", _keep(folder, part, inside, f"incoming/{name}")),
    ]


def _keep(folder: str, part: Part, inside: str, done: str = "") -> str:
    at = _q(f"parts/{part.key}")
    lines = [f"cd -- {_q(folder)}; mkdir -p parts; rm -rf {at}; mv {_q(inside)} {at}"]
    return _sh(*lines, *([f"rm -f {_q(done)}"] if done else []))


def _sh(*lines: str) -> str:
    return "\n".join(("set -eu; umask 077", *lines))


_q = shlex.quote
