"""The command line `uservlm`: ask one question, chat, or say what a bundle or checkpoint is.

Owns: options, what is printed where, and exit codes: 0, 2 for an error the user can mend, 130 for
Ctrl-C, 141 for a reader that went away. Answers go to stdout, everything else to stderr. Knows
nothing of how an answer is made.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from uservlm.runtime.answers import Answer, Chunk, GenerationOptions, Usage
from uservlm.runtime.bundle import open_bundle
from uservlm.runtime.engine import UserVLM
from uservlm.runtime.errors import BundleError, RequestError, UserVLMError
from uservlm.runtime.inspect_bundle import description as describe_bundle
from uservlm.runtime.manifest import MANIFEST_FILE
from uservlm.runtime.request import resolve

Facts = tuple[dict[str, Any], Iterator[tuple[str, str]]]
"""What a program reads, and headings and texts for a person."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code."""
    options = _parser().parse_args(arguments)
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    try:
        options.run(options)
        sys.stdout.flush()
    except UserVLMError as error:
        _complain(error)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Python flushes stdout once more at its end; there is nobody left to read it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def ask(options: argparse.Namespace) -> None:
    """Answer one question."""
    with _load(options) as vlm:
        _answer(vlm, options.question, options.image, options)


def chat(options: argparse.Namespace) -> None:
    """Answer the questions on stdin, one a line, each for itself; also /image PATH and /quit."""
    image = options.image
    with _load(options) as vlm:
        vlm.encode(image)  # looked at now, so that a wrong path shows before the first question
        if sys.stdin.isatty():
            print("ask something; /image PATH changes the user, /quit ends", file=sys.stderr)
        for line in _lines():
            try:
                if line.startswith("/"):
                    image = _command(vlm, line)
                elif line:
                    _answer(vlm, line, image, options)
            except UserVLMError as error:
                _complain(error, options.json)


def inspect(options: argparse.Namespace) -> None:
    """Say what a bundle, a checkpoint or an adapter is, without loading its models."""
    path = Path(options.bundle)
    told = _bundle_facts if (path / MANIFEST_FILE).is_file() else _checkpoint_facts
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
    try:
        from uservlm.converters.verify_command import verify as prove
    except ModuleNotFoundError as error:
        raise RequestError(
            f"{error}: pip install 'uservlm[draw]', or 'uservlm[convert]' with --reference"
        ) from error
    prove(options)


def _bundle_facts(options: argparse.Namespace) -> Facts:
    manifest = open_bundle(options.bundle, verify=options.verify).manifest
    attention = resolve("auto", manifest)
    return {**asdict(manifest), "attention": attention}, describe_bundle(manifest, attention)


def _checkpoint_facts(options: argparse.Namespace) -> Facts:
    try:
        from uservlm.converters.inspect_checkpoint import description, inspect_checkpoint

        facts = inspect_checkpoint(options.bundle)
    except ModuleNotFoundError as error:
        raise BundleError(
            f"no bundle at {options.bundle}: {MANIFEST_FILE} is missing; to look at a checkpoint "
            f"install what reads it, pip install 'uservlm[convert]' ({error})"
        ) from error
    return asdict(facts), description(facts)


def _load(options: argparse.Namespace) -> UserVLM:
    return UserVLM.load(
        options.bundle,
        attention=options.attention,
        adapter=options.adapter,
        threads=options.threads,
        context=options.context,
        verify=options.verify,
    )


def _answer(vlm: UserVLM, question: str, image: str, options: argparse.Namespace) -> None:
    chunks = vlm.stream(question, image=image, options=_generation(options))
    if options.json:
        print(json.dumps(_record(_join(chunks)), ensure_ascii=False), flush=True)
        return
    for chunk in chunks:
        print(chunk.text, end="", flush=True)
    print(flush=True)


def _join(chunks: Iterator[Chunk]) -> Answer:
    parts = list(chunks)
    usage = parts[-1].usage
    assert usage is not None  # the last chunk has it
    return Answer("".join(part.text for part in parts), usage)


def _record(answer: Answer) -> dict[str, Any]:
    usage: Usage = answer.usage
    more = {"prefix_tokens": usage.prefix_tokens, "tokens_per_s": usage.tokens_per_s}
    return {"text": answer.text, "usage": {**asdict(usage), **more}}


def _lines() -> Iterator[str]:
    """Read stdin to its end or to /quit, with a prompt where somebody types."""
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line or line.strip() == "/quit":
            return
        yield line.strip()


def _command(vlm: UserVLM, line: str) -> str:
    """Do what a line that begins with a slash says; gives the picture to go on with."""
    name, _, argument = line.partition(" ")
    if name != "/image" or not argument.strip():
        raise RequestError(f"{line!r}: give a question, /image PATH or /quit")
    vlm.encode(argument.strip())  # looked at now, so that a wrong path shows now
    return argument.strip()


def _complain(error: UserVLMError, as_json: bool = False) -> None:
    """Say what is wrong in one line; JSON readers find it among the answers."""
    text = " ".join(str(error).split())
    if as_json:
        print(json.dumps({"error": text, "kind": type(error).__name__}), flush=True)
    else:
        print(f"uservlm: {text}", file=sys.stderr, flush=True)


def _generation(options: argparse.Namespace) -> GenerationOptions:
    return GenerationOptions(
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        repeat_penalty=options.repeat_penalty,
        seed=options.seed,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="uservlm", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="ask|chat|inspect|verify")
    one = commands.add_parser("ask", help="answer one question", description=ask.__doc__)
    _add_bundle(one)
    one.add_argument("question")
    _add_model(one)
    one.set_defaults(run=ask)
    many = commands.add_parser("chat", help="answer questions from stdin", description=chat.__doc__)
    _add_bundle(many)
    _add_model(many)
    many.set_defaults(run=chat)
    about = commands.add_parser(
        "inspect", help="describe a bundle or a checkpoint", description=inspect.__doc__
    )
    _add_bundle(about, "BUNDLE_OR_CHECKPOINT", "folder, or OWNER/NAME in the hub's cache")
    about.set_defaults(run=inspect)
    again = commands.add_parser("verify", help="prove a bundle again", description=verify.__doc__)
    again.add_argument("bundle", metavar="BUNDLE", help="folder made by converters/export.py")
    again.add_argument("--json", action="store_true", help="print JSON: one list")
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
        "--keep-adapter", dest="kept", action="append", default=[], type=_named,
        metavar="NAME=ADAPTER", help="one that the bundle keeps apart, to be checked too",
    )  # fmt: skip
    add("--cases", type=int, metavar="N", help="1 to 32, with --reference; default: 4")
    add("--record", action="store_true", help="write the figures into the manifest")


def _named(text: str) -> tuple[str, str]:
    name, separator, place = text.partition("=")
    if not (name and separator and place):
        raise argparse.ArgumentTypeError(f"{text!r}: give NAME=ADAPTER")
    return name, place


def _add_model(parser: argparse.ArgumentParser) -> None:
    draw = GenerationOptions()
    add = parser.add_argument
    add("--image", required=True, metavar="PICTURE", help="the user's picture")
    add("--attention", default="auto", choices=("auto", "exact", "resident"))
    add("--adapter", metavar="NAME", help="one that the bundle keeps apart; default: none")
    add("--threads", type=int, metavar="N", help="default: one for each physical core")
    add("--context", type=int, metavar="N", help="KV cells; default: enough for a long question")
    add("--max-new-tokens", type=int, metavar="N", help="default: as the bundle says")
    add("--temperature", type=float, default=draw.temperature, metavar="T", help="0 is greedy")
    add("--top-k", type=int, default=draw.top_k, metavar="K")
    add("--top-p", type=float, default=draw.top_p, metavar="P")
    add("--min-p", type=float, default=draw.min_p, metavar="P")
    add("--repeat-penalty", type=float, default=draw.repeat_penalty, metavar="R")
    add("--seed", type=int, metavar="N", help="same seed, same answer")


if __name__ == "__main__":
    sys.exit(main())
