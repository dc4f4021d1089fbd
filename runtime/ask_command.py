"""`uservlm ask` and `uservlm chat`: questions about somebody, on the command line.

Owns: their options and what they print. Answers go to stdout, everything else to stderr. Knows
nothing of how an answer is made.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any, TypedDict, get_args

from uservlm.runtime.answers import Answer, GenerationOptions, join
from uservlm.runtime.engine import UserVLM
from uservlm.runtime.engine_options import add_engine_options, load
from uservlm.runtime.errors import RequestError, UserVLMError
from uservlm.runtime.image import Picture
from uservlm.runtime.profiles import YEAR, Consent, Keeps
from uservlm.runtime.vault import users_folder


class Who(TypedDict, total=False):
    """Whom a question is about, as `UserVLM.stream` takes it."""

    image: Picture
    user: str


@dataclass(frozen=True)
class Face:
    """How a command asks about whom its options name."""

    vlm: UserVLM
    options: argparse.Namespace
    who: Who

    def answer(self, question: str) -> None:
        """Print the answer as it comes, or as one line of JSON."""
        chunks = self.vlm.stream(question, **self.who, options=_generation(self.options))
        if self.options.json:
            print(json.dumps(_record(join(chunks)), ensure_ascii=False), flush=True)
            return
        for chunk in chunks:
            print(chunk.text, end="", flush=True)
        print(flush=True)


def ask(options: argparse.Namespace) -> None:
    """Answer one question about a picture, or about a user who is kept."""
    with _load(options) as vlm:
        face = Face(vlm, options, _who(options))
        _remember(face)
        face.answer(options.question)


def chat(options: argparse.Namespace) -> None:
    """Answer the questions on stdin, one a line, each for itself; also /image PATH and /quit."""
    with _load(options) as vlm:
        face = Face(vlm, options, _who(options))
        _look(face)  # now, so that a wrong path or name shows before the first question
        _remember(face)
        if sys.stdin.isatty():
            print("ask something; /image PATH changes the user, /quit ends", file=sys.stderr)
        for line in _lines():
            try:
                if line.startswith("/"):
                    face = Face(vlm, options, _command(face, line))
                elif line:
                    face.answer(line)
            except UserVLMError as error:
                complain(error, options.json)


def complain(error: UserVLMError, as_json: bool = False) -> None:
    """Say what is wrong in one line; JSON readers find it among the answers."""
    text = " ".join(str(error).split())
    if as_json:
        print(json.dumps({"error": text, "kind": type(error).__name__}), flush=True)
    else:
        print(f"uservlm: {text}", file=sys.stderr, flush=True)


def _load(options: argparse.Namespace) -> UserVLM:
    keeps = options.user is not None or options.remember is not None
    return load(options, users_folder(options.users) if keeps else None)


def _who(options: argparse.Namespace) -> Who:
    return {"user": options.user} if options.user is not None else {"image": options.image}


def _look(face: Face) -> None:
    if "user" in face.who:
        face.vlm.users.find(face.who["user"])
    else:
        face.vlm.encode(face.who["image"])


def _remember(face: Face) -> None:
    """Keep whom the picture shows, when the options say so and how they agreed to it."""
    options = face.options
    if (options.remember is None) != (options.consent is None):
        raise RequestError("--remember NAME needs --consent HOW, and the other way round")
    if options.remember is None:
        return
    if "user" in face.who:
        raise RequestError("--remember takes a picture: give --image instead of --user")
    now = datetime.now(timezone.utc)
    consent = Consent(now, options.consent, options.keeps, options.days or None)
    face.vlm.users.keep(options.remember, face.vlm.encode(face.who["image"]), consent)
    face.who.pop("image")
    face.who["user"] = options.remember


def _command(face: Face, line: str) -> Who:
    """Do what a line that begins with a slash says; gives whom to go on with."""
    name, _, argument = line.partition(" ")
    if name != "/image" or not argument.strip():
        raise RequestError(f"{line!r}: give a question, /image PATH or /quit")
    face.vlm.encode(argument.strip())  # looked at now, so that a wrong path shows now
    return {"image": argument.strip()}


def _record(answer: Answer) -> dict[str, Any]:
    usage = answer.usage
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


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add whom to ask about, and how to compute and draw the answer."""
    draw = GenerationOptions()
    add = parser.add_argument
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--image", metavar="PICTURE", help="the user's picture")
    who.add_argument("--user", metavar="NAME", help="or a user who is kept")
    add_engine_options(parser)
    add("--remember", metavar="NAME", help="keep whom the picture shows; needs --consent")
    add("--consent", metavar="HOW", help="how they agreed, in words: it is recorded")
    add("--keeps", default="state", choices=get_args(Keeps), help="the most to keep")
    add("--days", type=float, default=YEAR, help="until it expires; 0: when they are forgotten")
    add("--max-new-tokens", type=int, metavar="N", help="default: as the bundle says")
    add("--temperature", type=float, default=draw.temperature, metavar="T", help="0 is greedy")
    add("--top-k", type=int, default=draw.top_k, metavar="K")
    add("--top-p", type=float, default=draw.top_p, metavar="P")
    add("--min-p", type=float, default=draw.min_p, metavar="P")
    add("--repeat-penalty", type=float, default=draw.repeat_penalty, metavar="R")
    add("--seed", type=int, metavar="N", help="same seed, same answer")
