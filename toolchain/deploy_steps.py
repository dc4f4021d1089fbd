"""What is done on a board, step by step, each one script for its shell: pure text.

Owns: the board's folders, and the order that leaves what works working until the last moment. Knows
nothing of SSH. `--dry-run` prints exactly these.

    FOLDER/parts/KEY/            a runtime or a bundle, whole
    FOLDER/releases/RELEASE/     runtime -> a part, bundles/NAME -> a part, uservlm
    FOLDER/current               -> releases/RELEASE: the one switch
    FOLDER/previous              -> what was current before, until the next deploy
    FOLDER/incoming/             what is on its way; was, unit: to go back to
    FOLDER/cache, config, data   what the runtime writes

A part and a release appear by a rename and are never changed, so that whatever is cut off leaves
`current` as it was. Nothing goes that a running program has open, and a brain that nobody starts
anew goes on with the files of `previous`. The service: `deploy_service.py`; the end:
`deploy_remove.py`.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from uservlm.toolchain.deploy_parts import KEY_DIGITS, File, Part
from uservlm.toolchain.deploy_unit import launcher

MARK: Final = ".uservlm-deploy"
"""A file in FOLDER: it is ours, and whoever holds its lock deploys."""
OTHERS, HELD = 73, 75
"""Exit statuses: FOLDER holds other things; somebody deploys."""
DEPLOYED: Final = "uservlm: deployed"
DAMAGED: Final = "uservlm: damaged: "
"""Lines that a login's greeting does not have."""
_LET_GO: Final = """let_go() {
    mine=
    for link in "$1"/runtime "$1"/bundles/*; do
        [ -L "$link" ] || continue
        part=$(readlink "$link"); part=${part##*/}; shared=
        for other in releases/*/runtime releases/*/bundles/*; do
            case $other in "$1"/*) continue ;; esac
            [ ! -L "$other" ] || case $(readlink "$other") in */"$part") shared=yes ;; esac
        done
        [ -z "$shared" ] || continue
        ! grep -qsF " $(pwd -P)/parts/$part/" /proc/[0-9]*/maps || return 0
        mine="$mine parts/$part"
    done
    rm -rf -- "$1" $mine
}"""
"""Removes a release and what it alone needs, unless a running program has that open."""


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
    return sh(
        f"mkdir -p -- {_q(folder)}; cd -- {_q(folder)}",
        f'[ -f {MARK} ] || [ -z "$(ls -A)" ] || exit {OTHERS}',
        f"chmod 700 .; exec 9>> {MARK}; flock -n 9 || exit {HELD}",
        "echo held; exec cat > /dev/null",
    )


def ours(folder: str) -> str:
    """Give the script that prints a word where something is deployed."""
    return sh(f"[ ! -f {_q(f'{folder}/{MARK}')} ] || echo {_q(DEPLOYED)}")


def there(folder: str, file: str) -> str:
    """Give the script that says how much of a file has come: its bytes and their SHA-256."""
    at = _q(f"{folder}/incoming/{file}")
    return sh(f"[ -f {at} ] || exit 0", f"wc -c < {at}; sha256sum < {at}")


def drop(folder: str, file: str) -> str:
    """Give the script that takes away what has come of a file."""
    return sh(f"rm -f {_q(f'{folder}/incoming/{file}')}")


def bring(folder: str, part: Part) -> list[Step]:
    """Copy a part, and make it whole there."""
    below = "" if part.top else f"{part.key}/"
    steps = [_copy(folder, one, f"{below}{one.name}") for one in part.files]
    if part.top:
        return [*steps, *_unpack(folder, part)]
    about = f"keep {part.name} as {part.key}"
    return [*steps, Step(about, _keep(folder, part, f"incoming/{part.key}"))]


def sound(folder: str, parts: Sequence[Part]) -> Step:
    """Compare what an earlier deploy has left with its SHA-256; a line `DAMAGED` + key for each."""
    lines = []
    for part in parts:
        at = f"parts/{part.key}"
        told = f"> /dev/null 2>&1 || echo {_q(DAMAGED + part.key)}"
        if part.top:
            lines.append(f"{at}/bin/uservlm-check {at} {told}")
        else:
            sums = "".join(f"{one.sha256}  {one.name}\n" for one in part.files)
            lines.append(f"( cd {at} && sha256sum -c ) << 'END' {told}\n{sums}END")
    return Step("compare what is there already with its SHA-256", sh(f"cd -- {_q(folder)}", *lines))


def damaged(said: str) -> frozenset[str]:
    """Read which parts are not sound."""
    lines = (line for line in said.splitlines() if line.startswith(DAMAGED))
    return frozenset(line.removeprefix(DAMAGED) for line in lines)


def let_go_previous(folder: str) -> Step:
    """Make room: take away what the last deploy has replaced."""
    return Step(
        "take away what the last deploy has replaced",
        sh(
            f"cd -- {_q(folder)}; [ -L previous ] || exit 0",
            f"{_LET_GO}\nwas=$(readlink previous); rm -f previous",
            '[ "$was" = "$(readlink current || true)" ] || let_go "$was"',
        ),
    )


def prepare(release: Release) -> Step:
    """Put a release together, beside what is in use."""
    new, path = "incoming/release", release.path
    links = [
        f"ln -s {_q(f'../../../parts/{part.key}')} {_q(f'{new}/bundles/{part.name}')}"
        for part in release.bundles
    ]
    return Step(
        f"put {path} together",
        sh(
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
        Step("ask it about a drawn person", sh(shlex.join(words))),
    ]


def switch(release: Release) -> Step:
    """Make a release the current one, by one rename, and note what was."""
    return Step(
        "switch to it",
        sh(
            f"cd -- {_q(release.folder)}; rm -f incoming/was incoming/unit",
            '[ ! -L current ] || ln -s "$(readlink current)" incoming/was',
            swap(release, release.path),
        ),
    )


def swap(release: Release, to: str) -> str:
    """Give the line that lets `current` point elsewhere; `to` is one word of a shell."""
    python = f"{release.path}/runtime/bin/python"
    line = _q("import os; os.replace('incoming/current', 'current')")
    return f"rm -f incoming/current; ln -s {to} incoming/current; {python} -c {line}"


def tidy(release: Release) -> Step:
    """Take away what is no longer used, but what was in use until now, and what was on its way."""
    return Step(
        "keep what it replaces as `previous`, and take the rest away",
        sh(
            f"cd -- {_q(release.folder)}\n{_LET_GO}\nwas=$(readlink incoming/was || true)",
            f'[ -z "$was" ] || [ "$was" = {release.path} ] || '
            '{ rm -f previous; ln -s "$was" previous; }',
            f'rm -rf incoming; kept=" $(readlink previous || true) {release.path} "',
            'for one in releases/*; do case $kept in *" $one "*) ;; *) let_go "$one" ;; esac; done',
            "used=' '; for link in releases/*/runtime releases/*/bundles/*; do",
            'at=$(readlink "$link" || true); used="$used${at##*/} "; done',
            'for one in parts/*; do case $used in *" ${one#parts/} "*) ;; '
            '*) rm -rf -- "$one" ;; esac; done',
        ),
    )


def clear(folder: str) -> Step:
    """Take away what was half made; copies stay, so that the next deploy goes on with them."""
    half = " ".join(
        f"incoming/{name}" for name in ("unpacked", "release", "current", "was", "unit")
    )
    script = sh(f"cd -- {_q(folder)}; rm -rf {half}")
    return Step("take away what is half made", script)


def _copy(folder: str, file: File, name: str) -> Step:
    at = f"incoming/{name}"
    place = at.rpartition("/")[0]
    script = sh(
        f"cd -- {_q(folder)}; mkdir -p {_q(place)}",
        f"cat >> {_q(at)}; sha256sum < {_q(at)}",
    )
    return Step(
        f"copy {file.name} ({file.size:,} bytes)",
        script,
        replace(file, name=name),
    )


def _unpack(folder: str, part: Part) -> list[Step]:
    name = part.files[0].name
    opener = {"xz": "xz -dc", "gz": "gzip -dc", "tar": "cat"}[name.rpartition(".")[2]]
    inside = f"incoming/unpacked/{part.top}"
    return [
        Step(
            "unpack it",
            sh(
                f"cd -- {_q(folder)}; rm -rf incoming/unpacked; mkdir incoming/unpacked",
                f"{opener} {_q(f'incoming/{name}')} | tar -xof - -C incoming/unpacked",
            ),
        ),
        Step(
            "compare each file with its SHA-256",
            sh(f"cd -- {_q(folder)}", f"{_q(inside)}/bin/uservlm-check {_q(inside)}"),
        ),
        Step(f"keep it as {part.key}", _keep(folder, part, inside, f"incoming/{name}")),
    ]


def _keep(folder: str, part: Part, inside: str, done: str = "") -> str:
    at = _q(f"parts/{part.key}")
    lines = [f"cd -- {_q(folder)}; mkdir -p parts; rm -rf {at}; mv {_q(inside)} {at}"]
    return sh(*lines, *([f"rm -f {_q(done)}"] if done else []))


def sh(*lines: str) -> str:
    """Give a script that ends at the first line that fails."""
    return "\n".join(("set -eu; umask 077", *lines))


_q = shlex.quote
