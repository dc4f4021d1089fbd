"""Whether the commands that a page of docs/ names are the code's own.

Owns: how a line is held against `uservlm` and the repository's programs. Knows no page.
"""

from __future__ import annotations

import argparse
import re
from functools import cache
from pathlib import Path

from uservlm.runtime.__main__ import _parser

ROOT = Path(__file__).parent.parent


def options_of(source: Path) -> set[str]:
    """Give the options that a program declares, or takes over from a module beside it."""
    beside = (source, source.with_name("package.py"))
    text = "".join(file.read_text(encoding="utf-8") for file in beside if file.is_file())
    return set(re.findall(r'"(--[a-z][a-z-]+)"', text))


def of_program(words: list[str]) -> bool:
    """Whether a script or module of the repository takes these options."""
    if words[:1] == ["python"]:
        words = words[1:]
    if words[0] == "-m":
        words = [words[1].removeprefix("uservlm.").replace(".", "/") + ".py", *words[2:]]
    source = ROOT / words[0]
    asked = {word for word in words[1:] if word.startswith("--")}
    return source.is_file() and asked <= options_of(source)


def commands(
    parser: argparse.ArgumentParser | None = None,
) -> dict[str, argparse.ArgumentParser]:
    """Give the commands of a parser, or of `uservlm`."""
    parser = parser or _parser()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def of_uservlm(words: list[str]) -> bool:
    """Whether `uservlm` understands this: a command alone, or a whole line."""
    command = commands()[words[1]]
    if len(words) == 2:
        return True
    if words[1] == "users":
        command = commands(command)[words[2]]
        words = words[1:]
    asked = {word.partition("=")[0] for word in words[2:] if word.startswith("--")}
    known = {option for action in command._actions for option in action.option_strings}
    return asked <= known


@cache
def every_option() -> set[str]:
    """Give the options of `uservlm`, and of some programs beside it."""
    found = {
        option
        for command in commands().values()
        for action in command._actions
        for option in action.option_strings
    }
    for source in ("converters/export.py", "bench/quality.py", "pepper_app/deploy.py"):
        found |= options_of(ROOT / source)
    return found
