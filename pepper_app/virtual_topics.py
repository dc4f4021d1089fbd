"""Dialog topics, as far as an app's own need: rules and concepts; pure.

Owns: reading a `.top` text, and which rule a sentence matches. Knows nothing of speech or memory.

Understood: `topic: ~name()`, `language:`, `concept:(name) [a "b c"]`, and `u:(pattern) answer` with
words, "quoted words", [choices], {options}, ~concepts, _captures and * for anything. A line of any
other kind (u1:, proposal:, c1: and so on) is refused, not skipped: it would do nothing here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from uservlm.pepper_app.service import RobotError

_TOKEN: Final = re.compile(r'"[^"]*"|~\w+|_|\*|[\[\]{}]|[^\s"\[\]{}_*~]+')
_LINE: Final = re.compile(r"(?:#.*|\s*)\Z")
_RULE: Final = re.compile(r"u:\s*\(([^)]*)\)\s*(.*)")
_CONCEPT: Final = re.compile(r"concept:\s*\((\w+)\)\s*(\[.*\])")
ANYTHING: Final = r"(?:.+?)"


@dataclass(frozen=True)
class Rule:
    """What is answered to what."""

    pattern: re.Pattern[str]
    answer: str
    free: bool
    """Whether it takes words that no recogniser without a licence understands."""


@dataclass(frozen=True)
class Topic:
    """A topic that has been read."""

    name: str
    rules: tuple[Rule, ...]


def read(text: str) -> Topic:
    """Read a topic.

    Raises:
        RobotError: a line is not understood, with its number.
    """
    name, concepts, rules = "", dict[str, str](), list[Rule]()
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if _LINE.match(line) or line.startswith("language:"):
            continue
        if found := re.fullmatch(r"topic:\s*~(\w+)\s*\(\s*\)", line):
            name = found[1]
        elif found := _CONCEPT.fullmatch(line):
            concepts[found[1]] = _pattern(found[2], concepts, number)
        elif found := _RULE.fullmatch(line):
            form = _pattern(found[1], concepts, number)
            pattern = re.compile(rf"\s*{form}\s*", re.IGNORECASE)
            rules.append(Rule(pattern, found[2], "*" in found[1]))
        else:
            raise RobotError(f"topic, line {number}: {line!r} is not understood")
    if not name:
        raise RobotError("a topic begins with topic: ~name()")
    return Topic(name, tuple(rules))


def match(topics: list[Topic], said: str, spoken: bool) -> tuple[Rule, tuple[str, ...]] | None:
    """Find the rule for a sentence, and what it captures.

    Args:
        topics: that are active.
        said: the sentence.
        spoken: heard by a recogniser, which understands no free words.
    """
    sentence = " ".join(re.findall(r"[\w'/-]+", said))
    for topic in topics:
        for rule in topic.rules:
            found = rule.pattern.fullmatch(sentence)
            if found and not (spoken and rule.free):
                return rule, tuple(part.strip() for part in found.groups(default=""))
    return None


def _pattern(text: str, concepts: dict[str, str], line: int) -> str:
    """Make a regular expression; within brackets, of choices."""
    done: list[tuple[str, list[str]]] = [("", [])]
    capture = False
    for token in _TOKEN.findall(text):
        if token == "_":
            capture = True
            continue
        if token in "[{":
            done.append((token + "_" * capture, []))
            capture = False
            continue
        if token in "]}":
            opened, parts = done.pop()
            if not done or opened[:1] != {"]": "[", "}": "{"}[token]:
                raise RobotError(f"topic, line {line}: {token} closes nothing")
            joined = "|".join(parts) if token == "]" else "".join(parts)
            piece = f"(?:{joined})" + ("?" if token == "}" else "")
            piece = f"({piece})" if opened.endswith("_") else piece
        else:
            piece = _piece(token, concepts, line)
            piece = f"({piece})" if capture else piece
        capture = False
        done[-1][1].append(piece)
    if len(done) != 1:
        raise RobotError(f"topic, line {line}: {done[-1][0]} is not closed")
    return "".join(done[0][1])


def _piece(token: str, concepts: dict[str, str], line: int) -> str:
    if token == "*":
        return ANYTHING
    if token.startswith("~"):
        if token[1:] not in concepts:
            raise RobotError(f"topic, line {line}: no concept {token}")
        return concepts[token[1:]]
    words = re.findall(r"[\w'/-]+", token)
    return "".join(rf"\s*\b{re.escape(word)}\b" for word in words)
