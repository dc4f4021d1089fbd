"""The command line `uservlm`: its commands, and how each of them ends.

Owns: the list of commands, `inspect` and `verify`, and exit codes: 0, 1 for an audit that did not
pass, 2 for an error the user can mend, 130 for Ctrl-C, 141 for a reader that went away. What is
asked for goes to stdout, everything else to stderr. Each other command has a file of its own.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from uservlm.runtime import audit_command, serve_command, tune, users_command
from uservlm.runtime.ask_command import add_options, ask, chat, complain
from uservlm.runtime.bundle import is_bundle, open_bundle
from uservlm.runtime.errors import BundleError, RequestError, UserVLMError
from uservlm.runtime.extras import way_to
from uservlm.runtime.inspect_bundle import description as describe_bundle
from uservlm.runtime.manifest import MANIFEST_FILE
from uservlm.runtime.request import resolve
from uservlm.runtime.telemetry import silence_telemetry
from uservlm.runtime.vision_choice import VisionChoice, possible_vision

Facts = tuple[dict[str, Any], Iterator[tuple[str, str]]]
"""What a program reads, and headings and texts for a person."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code."""
    silence_telemetry()
    options = _parser().parse_args(arguments)
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    try:
        code: int | None = options.run(options)
        sys.stdout.flush()
    except UserVLMError as error:
        complain(error)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Python flushes stdout once more at its end; there is nobody left to read it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code or 0


def inspect(options: argparse.Namespace) -> None:
    """Say what a bundle, a checkpoint or an adapter is, without loading its models."""
    path = Path(options.bundle)
    told = _bundle_facts if is_bundle(path) else _checkpoint_facts
    record, lines = told(options)
    if options.json:
        print(json.dumps(record, ensure_ascii=False))
    else:
        print("\n".join(f"{name:12} {text}" for name, text in lines))


def verify(options: argparse.Namespace) -> None:
    """Prove a bundle again: with --reference against the original, else against its own record."""
    if options.reference is None:
        given = (options.record, options.cases, options.adapters, options.kept, options.revision)
        if any(given):
            raise RequestError(
                "--cases, --record, --revision, --adapter and --keep-adapter are about the "
                "original: give it with --reference"
            )
    elif options.vision != "auto":
        raise RequestError(
            "--vision says which encoder is held against the bundle's own record: leave out "
            "--reference, or --vision"
        )
    try:
        from uservlm.converters.verify_command import verify as prove
    except ModuleNotFoundError as error:
        raise RequestError(
            f"{error}: {way_to('draw' if options.reference is None else 'convert')}"
        ) from error
    prove(options)


def _bundle_facts(options: argparse.Namespace) -> Facts:
    if options.revision is not None:
        raise RequestError(
            f"--revision {options.revision} chooses in a hub repository, and {options.bundle} is a "
            "bundle: leave it out"
        )
    manifest = open_bundle(options.bundle, verify=options.verify).manifest
    attention, sees = resolve("auto", manifest), possible_vision(manifest)
    record = {**asdict(manifest), "attention": attention, "sees_with": sees[0] if sees else None}
    return record, describe_bundle(manifest, attention, sees)


def _checkpoint_facts(options: argparse.Namespace) -> Facts:
    try:
        from uservlm.converters.inspect_checkpoint import description, inspect_checkpoint

        facts = inspect_checkpoint(options.bundle, options.revision)
    except ModuleNotFoundError as error:
        raise BundleError(
            f"no bundle at {options.bundle}: {MANIFEST_FILE} is missing; to look at a checkpoint "
            f"have what reads it ({error}): {way_to('convert')}"
        ) from error
    return asdict(facts), description(facts)


def _parser() -> argparse.ArgumentParser:
    about_it = "Ask a User-VLM bundle about the person in view. Each command has --help."
    parser = argparse.ArgumentParser(prog="uservlm", description=about_it)
    parser.add_argument("--version", action="version", version=f"uservlm {version('uservlm')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("ask", help="answer one question", description=ask.__doc__)
    _add_bundle(one)
    one.add_argument("question")
    add_options(one)
    one.set_defaults(run=ask)
    many = commands.add_parser("chat", help="answer questions from stdin", description=chat.__doc__)
    _add_bundle(many)
    add_options(many)
    many.set_defaults(run=chat)
    serve_command.add_parser(commands)
    users_command.add_parser(commands)
    tune.add_parser(commands)
    audit_command.add_parser(commands)
    about = commands.add_parser(
        "inspect", help="describe a bundle or a checkpoint", description=inspect.__doc__
    )
    _add_bundle(about, "BUNDLE_OR_CHECKPOINT", "folder, or OWNER/NAME in the hub's cache")
    about.add_argument("--revision", help="branch, tag or commit of the hub repository")
    about.set_defaults(run=inspect)
    again = commands.add_parser("verify", help="prove a bundle again", description=verify.__doc__)
    again.add_argument("bundle", metavar="BUNDLE", help="folder made by converters/export.py")
    again.add_argument("--json", action="store_true", help="print JSON: one list")
    again.add_argument("--vision", default="auto", choices=get_args(VisionChoice))
    _add_original(again)
    again.set_defaults(run=verify)
    return parser


def _add_bundle(
    parser: argparse.ArgumentParser,
    metavar: str = "BUNDLE",
    what: str = "folder made by converters/export.py",
) -> None:
    parser.add_argument("bundle", metavar=metavar, help=what)
    parser.add_argument("--json", action="store_true", help="print JSON: one object, or one a line")
    parser.add_argument(
        "--no-verify", dest="verify", action="store_false", help="skip the SHA-256 of the files"
    )


def _add_original(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--reference", metavar="CHECKPOINT", help="the original: a folder or OWNER/NAME")
    add("--revision", help="branch, tag or commit of it")
    add(
        "--adapter", dest="adapters", action="append", default=[], metavar="ADAPTER",
        help="what was merged into it; repeat for several, in order",
    )  # fmt: skip
    add(
        "--keep-adapter", dest="kept", action="append", default=[],
        metavar="NAME=ADAPTER", help="one that the bundle keeps apart, to be checked too",
    )  # fmt: skip
    add("--cases", type=int, metavar="N", help="1 to 32, with --reference; default: 4")
    add("--record", action="store_true", help="write the figures into the manifest")


if __name__ == "__main__":
    sys.exit(main())
