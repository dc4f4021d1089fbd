"""Build a runtime for another machine: `python toolchain/build.py TARGET…`, or all of them.

Owns: the options and the exit code. The work is `wheels.wheel_for` and `runtime_image.build`. What
is fetched and compiled is kept in `.cache/toolchain/`; the newest of each target lies unpacked in
`build/runtime/TARGET`.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"


def main(arguments: Sequence[str] | None = None) -> int:
    """Build as the arguments say; 0 when all is there, 2 when something could not be had."""
    try:
        from uservlm.runtime.errors import UserVLMError
        from uservlm.toolchain import runtime_image
        from uservlm.toolchain.bootstrap import Refusal
        from uservlm.toolchain.debian import UnavailableError
        from uservlm.toolchain.targets import TARGETS
        from uservlm.toolchain.wheels import wheel_for
    except ModuleNotFoundError as error:
        print(f"{error}: run `make bootstrap` and use .venv/bin/python", file=sys.stderr)
        return 2
    parser = _parser(list(TARGETS))
    given = parser.parse_args(arguments)
    if unknown := set(given.targets) - set(TARGETS):
        parser.error(f"{', '.join(sorted(unknown))}: no target; choose from {', '.join(TARGETS)}")
    if given.list:
        print("\n".join(f"{name:12} {target.about}" for name, target in TARGETS.items()))
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):  # children and scratch go then too
        signal.signal(number, signal.default_int_handler)
    try:
        given.out.mkdir(parents=True, exist_ok=True)
        for target in (TARGETS[name] for name in given.targets or TARGETS):
            wheel = wheel_for(target, only=given.variants)
            if given.wheel_only:
                made = Path(shutil.copy(wheel, given.out))
            else:
                told = _teller(target.name)
                made = runtime_image.build(target, wheel, given.out, told, refresh=given.refresh)
            print(f"{made}  {made.stat().st_size / 1e6:.1f} MB", flush=True)
    except (Refusal, UnavailableError, UserVLMError) as error:
        print(f"build stopped: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"build stopped: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("build interrupted: the same command goes on", file=sys.stderr)
        return 130
    return 0


def _teller(name: str) -> Callable[[str], None]:
    """Give what shows a step, and how long it has been since the first."""
    began = time.monotonic()

    def tell(step: str) -> None:
        print(f"build: {name}: {time.monotonic() - began:4.0f} s  {step}", file=sys.stderr)

    return tell


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _parser(targets: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python toolchain/build.py", description=main.__doc__)
    add = parser.add_argument
    add("targets", nargs="*", metavar="TARGET", help=f"{', '.join(targets)}; default: all")
    add("--list", action="store_true", help="name the targets, and stop")
    add("--wheel-only", action="store_true", help="llama-cpp-python's wheel, and nothing else")
    add("--variants", type=_names, default=(), metavar="NAME,…", help="of ggml's, not all of them")
    add("--out", type=Path, default=DIST, metavar="DIR", help="default: dist")
    add("--refresh", action="store_true", help="ask Debian's servers again for newer packages")
    return parser


if __name__ == "__main__":
    sys.exit(main())
